"""The envelope, the sealed answer and the local wrap once more, from their description alone: nothing of the product
is imported.

HKDF is written out over hmac; AES-GCM is put together from the cipher and its mode.

    python -m tests.keyring_twin     # writes tests/vectors/keyring/
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

FOLDER = Path(__file__).parent / "vectors" / "keyring"
INFO = b"tollway/provider-keys/v1/seal"
ANSWER_INFO = b"tollway/answers/v1/seal"


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869."""
    pseudorandom = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(pseudorandom, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def gcm(key: bytes, iv: bytes, plaintext: bytes, aad: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
    encryptor.authenticate_additional_data(aad)
    return encryptor.update(plaintext) + encryptor.finalize() + encryptor.tag


def listed(*fields: bytes) -> bytes:
    out = b""
    for field in [str(len(fields)).encode(), *fields]:
        out += len(field).to_bytes(4, "big") + field
    return out


def envelope(row: dict[str, Any]) -> bytes:
    dek_id, kek_id, nonce = row["dek_id"].encode(), row["kek_id"].encode(), bytes.fromhex(row["nonce"])
    fields = [b"tollway provider-key envelope", b"\x01\x01"]
    fields += [row[name].encode() for name in ("tenant_id", "provider", "origin", "credential_id")]
    fields += [str(row["version"]).encode(), dek_id, kek_id]
    if row["user"] is not None:
        fields.append(row["user"].encode())
    derived = hkdf(bytes.fromhex(row["dek"]), nonce, INFO, 64)
    sealed = gcm(derived[32:], nonce[:12], row["secret"].encode(), listed(*fields))
    head = b"TWPK\x01\x01" + bytes([len(dek_id)]) + dek_id + len(kek_id).to_bytes(2, "big") + kek_id
    return head + nonce + derived[:32] + sealed


def sealed_answer(row: dict[str, Any]) -> bytes:
    dek_id, nonce = row["dek_id"].encode(), bytes.fromhex(row["nonce"])
    fields = [b"tollway sealed answer", b"\x01", row["tenant_id"].encode(), dek_id, bytes.fromhex(row["aad"])]
    derived = hkdf(bytes.fromhex(row["dek"]), nonce, ANSWER_INFO, 64)
    sealed = gcm(derived[32:], nonce[:12], row["answer"].encode(), listed(*fields))
    return b"\x01" + bytes([len(dek_id)]) + dek_id + nonce + derived[:32] + sealed


def local_kek_id(kek: bytes) -> str:
    return "local:" + hmac.new(kek, b"tollway/kek/v1/name", hashlib.sha256).hexdigest()[:16]


def wrapped(row: dict[str, Any]) -> bytes:
    kek, nonce = bytes.fromhex(row["kek"]), bytes.fromhex(row["nonce"])
    pairs = sorted({"tenant": row["tenant_id"], "purpose": "tollway/provider-keys"}.items())
    context = listed(*[part.encode() for pair in pairs for part in pair])
    aad = listed(b"tollway wrapped data key", b"TWLK\x01", local_kek_id(kek).encode(), context)
    return b"TWLK\x01" + nonce + gcm(kek, nonce, bytes.fromhex(row["dek"]), aad)


def digits(label: str, length: int) -> str:
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(label.encode()).hexdigest(length)


def envelopes() -> list[dict[str, Any]]:
    plain = {
        "tenant_id": "acme",
        "provider": "openai",
        "user": None,
        "origin": "https://api.openai.com",
        "credential_id": "pk_1",
        "version": 1,
        "dek_id": "dek_1",
        "kek_id": "local:0123456789abcdef",
        "secret": "sk-proj-0123456789abcdef0123456789",
    }
    changes: list[dict[str, Any]] = [
        {},
        {"user": "Zoë 🙂"},
        {"user": ""},
        {"origin": "http://127.0.0.1:8000", "version": 4_294_967_296},
        {"kek_id": "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "secret": "x" * 8192},
        {"tenant_id": "a", "provider": "b" * 64, "secret": "12345678"},
    ]
    rows = []
    for number, change in enumerate(changes):
        row = {**plain, **change, "dek": digits(f"dek {number}", 32), "nonce": digits(f"nonce {number}", 32)}
        rows.append({**row, "envelope": envelope(row).hex()})
    return rows


def answers() -> list[dict[str, Any]]:
    plain = {"tenant_id": "acme", "dek_id": "dek_1", "aad": b"0123456789abcdef\0head".hex(), "answer": '{"choices":[]}'}
    changes: list[dict[str, Any]] = [
        {},
        {"aad": ""},
        {"answer": ""},
        {"answer": "Zoë 🙂 " * 500, "aad": bytes(range(256)).hex()},
        {"tenant_id": "a" * 64, "dek_id": "d" * 255},
    ]
    rows = []
    for number, change in enumerate(changes):
        row = {**plain, **change, "dek": digits(f"answer's dek {number}", 32)}
        row["nonce"] = digits(f"answer's nonce {number}", 32)
        rows.append({**row, "sealed": sealed_answer(row).hex()})
    return rows


def wraps() -> list[dict[str, Any]]:
    rows = []
    for number, tenant_id in enumerate(("acme", "a" * 64)):
        row = {"tenant_id": tenant_id, "kek": digits(f"kek {number}", 32), "dek": digits(f"dek {number}", 32)}
        row["nonce"] = digits(f"wrap {number}", 12)
        rows.append({**row, "kek_id": local_kek_id(bytes.fromhex(row["kek"])), "wrapped": wrapped(row).hex()})
    return rows


def written(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2) + "\n"


FILES = {"envelopes.json": envelopes, "answers.json": answers, "wraps.json": wraps}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, rows in FILES.items():
        (FOLDER / name).write_text(written(rows()))
