"""AES-256-GCM under a sub-key of its own for every blob, with a commitment to the data key.

Pure: the nonce is handed in. GCM alone commits to nothing: one ciphertext can be made to open under two keys. So
the data key, with the nonce as salt, gives a sub-key that seals and a commitment that is compared first, in
constant time. No sub-key is ever used twice, so a data key may seal as much as it likes; each is of one purpose, so
that what was sealed for one opens for no other.
"""

import hmac
from enum import Enum
from typing import TYPE_CHECKING, Final

from proxy.keyring.dek import DEK_BYTES, Dek

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 32
COMMITMENT_BYTES: Final = 32
TAG_BYTES: Final = 16
WRAP_NONCE_BYTES: Final = 12

_IV_BYTES: Final = 12  # the nonce's first ones: with a sub-key of its own, any would do
_FINGERPRINT: Final = b"tollway/provider-keys/v1/fingerprint"


class Purpose(Enum):
    """What a sub-key seals: the info of HKDF."""

    PROVIDER_KEY = b"tollway/provider-keys/v1/seal"
    ANSWER = b"tollway/answers/v1/seal"


class CommitmentMismatch(Exception):
    """Another data key sealed this, or its nonce or commitment was changed."""


class NotAuthentic(Exception):
    """The ciphertext was changed, or its AAD is not the one that it was sealed with."""


def load() -> None:
    """Load what seals: 7 MB and 60 ms, spent at start, and only where there is a keyring."""
    _expand(Dek(bytes(DEK_BYTES)), b"", b"")
    _cipher(bytes(DEK_BYTES))


def seal(dek: Dek, purpose: Purpose, nonce: bytes, plaintext: bytes, aad: bytes) -> tuple[bytes, bytes]:
    """The commitment, and the ciphertext with its tag. A nonce is 32 random bytes, used once."""
    commitment, cipher = _derive(dek, purpose, nonce)
    return commitment, cipher.encrypt(nonce[:_IV_BYTES], plaintext, aad)


def unseal(dek: Dek, purpose: Purpose, nonce: bytes, commitment: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    """The plaintext.

    Raises:
        CommitmentMismatch, NotAuthentic.
    """
    expected, cipher = _derive(dek, purpose, nonce)
    if not hmac.compare_digest(expected, commitment):
        raise CommitmentMismatch
    return _decrypted(cipher, nonce[:_IV_BYTES], ciphertext, aad)


def fingerprint(dek: Dek, secret: bytes) -> str:
    """12 hex digits that are the same for the same secret under one data key. Keyed: without it nobody can try
    guesses, nor see that two tenants stored the same."""
    return hmac.digest(_expand(dek, b"", _FINGERPRINT), secret, "sha256").hex()[:12]


def wrap(kek: bytes, nonce: bytes, dek: Dek, aad: bytes) -> bytes:
    """A data key, sealed by a local KEK of 32 bytes under a nonce of 12: ciphertext and tag."""
    return _cipher(kek).encrypt(nonce, dek.reveal(), aad)


def unwrap(kek: bytes, nonce: bytes, ciphertext: bytes, aad: bytes) -> Dek:
    """The data key again. Raises NotAuthentic."""
    return Dek(_decrypted(_cipher(kek), nonce, ciphertext, aad))


def kek_name(kek: bytes) -> str:
    """16 hex digits that name a local KEK and say nothing of it."""
    return hmac.digest(kek, b"tollway/kek/v1/name", "sha256").hex()[:16]


def _derive(dek: Dek, purpose: Purpose, nonce: bytes) -> "tuple[bytes, AESGCM]":
    assert len(nonce) == NONCE_BYTES
    derived = _expand(dek, nonce, purpose.value, COMMITMENT_BYTES + DEK_BYTES)
    return derived[:COMMITMENT_BYTES], _cipher(derived[COMMITMENT_BYTES:])


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _decrypted(cipher: "AESGCM", nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):  # ValueError: shorter than a tag
        raise NotAuthentic from None


def _expand(dek: Dek, salt: bytes, info: bytes, length: int = DEK_BYTES) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt or None, info=info).derive(dek.reveal())
