"""The stored forms, byte for byte, as a twin made them that shares no line with the product."""

import base64
import json

import pytest

from proxy.core.secret import Secret
from proxy.keyring import envelope, sealed_answer
from proxy.keyring.dek import Dek, WrappedDek, context_of
from proxy.keyring.envelope import Place
from proxy.keyring.local_kek import LocalKek
from tests import keyring_twin

ENVELOPES = json.loads((keyring_twin.FOLDER / "envelopes.json").read_text())
ANSWERS = json.loads((keyring_twin.FOLDER / "answers.json").read_text())
WRAPS = json.loads((keyring_twin.FOLDER / "wraps.json").read_text())


def place(row):
    names = ("tenant_id", "provider", "user", "origin", "credential_id", "version")
    return Place(*(row[name] for name in names))


@pytest.mark.parametrize("row", ENVELOPES, ids=range(len(ENVELOPES)))
def test_an_envelope_is_sealed_as_the_twin_does(row):
    dek, nonce = Dek(bytes.fromhex(row["dek"])), bytes.fromhex(row["nonce"])
    sealed = envelope.seal(dek, row["dek_id"], row["kek_id"], nonce, place(row), row["secret"].encode())
    assert sealed.hex() == row["envelope"]


@pytest.mark.parametrize("row", ENVELOPES, ids=range(len(ENVELOPES)))
def test_an_envelope_of_the_twins_is_opened(row):
    parsed = envelope.parse(bytes.fromhex(row["envelope"]))
    assert (parsed.dek_id, parsed.kek_id) == (row["dek_id"], row["kek_id"])
    assert envelope.unseal(parsed, Dek(bytes.fromhex(row["dek"])), place(row)).decode() == row["secret"]


@pytest.mark.parametrize("row", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_is_sealed_as_the_twin_does_and_opened(row):
    dek, nonce, aad = (bytes.fromhex(row[name]) for name in ("dek", "nonce", "aad"))
    sealed = sealed_answer.seal(Dek(dek), row["dek_id"], nonce, row["tenant_id"], aad, row["answer"].encode())
    assert sealed.hex() == row["sealed"]
    parsed = sealed_answer.parse(sealed)
    assert parsed.dek_id == row["dek_id"]
    assert sealed_answer.unseal(parsed, Dek(dek), row["tenant_id"], aad).decode() == row["answer"]


@pytest.mark.parametrize("row", WRAPS, ids=range(len(WRAPS)))
async def test_a_data_key_that_the_twin_wrapped_is_unwrapped(row):
    kek = LocalKek(Secret(base64.b64encode(bytes.fromhex(row["kek"])).decode()))
    assert kek.kek_id == row["kek_id"]
    wrapped = WrappedDek(row["kek_id"], bytes.fromhex(row["wrapped"]))
    assert (await kek.unwrap(wrapped, context_of(row["tenant_id"]))).reveal().hex() == row["dek"]


@pytest.mark.parametrize("name", keyring_twin.FILES)
def test_the_files_are_what_the_twin_writes(name):
    assert (keyring_twin.FOLDER / name).read_text() == keyring_twin.written(keyring_twin.FILES[name]())


def test_hkdf_of_the_twin_is_that_of_the_rfc():
    """RFC 5869, A.1."""
    salt, info = bytes(range(13)), bytes(range(0xF0, 0xFA))
    assert keyring_twin.hkdf(b"\x0b" * 22, salt, info, 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
