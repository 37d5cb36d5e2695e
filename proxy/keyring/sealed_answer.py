"""The sealed form of a kept answer; the one place that reads and writes it.

Pure. Byte by byte (docs/provider-keys.md draws it):

    1    format, 1           1+n  DEK id
    32   nonce               32   commitment to the data key
    …    ciphertext, and its tag of 16

A length stands before the id. What is not in these bytes is authenticated with them all the same: whose answer it is,
and what the caller binds it to. Its sub-key is derived for answers alone, so it opens as no provider key, and no
provider key opens as an answer.
"""

from typing import Final, NamedTuple

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead
from proxy.keyring.aead import Purpose
from proxy.keyring.dek import Dek, canonical

FORMAT: Final = 1  # AES-256-GCM, sub-key and commitment by HKDF-SHA-256; an envelope begins with another byte

_LABEL: Final = b"tollway sealed answer"


class SealedAnswer(NamedTuple):
    """The parts of a sealed answer."""

    dek_id: str
    nonce: bytes
    commitment: bytes
    ciphertext: bytes


def parse(data: bytes) -> SealedAnswer:
    """The parts of what `seal` made. Raises ProviderKeyUnreadable for anything else."""
    if len(data) < 2 or data[0] != FORMAT:
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    id_end = 2 + data[1]
    nonce_end = id_end + aead.NONCE_BYTES
    commitment_end = nonce_end + aead.COMMITMENT_BYTES
    dek_id = data[2:id_end]
    if len(data) < commitment_end + aead.TAG_BYTES or not dek_id.isascii():
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    nonce, commitment = data[id_end:nonce_end], data[nonce_end:commitment_end]
    return SealedAnswer(dek_id.decode("ascii"), nonce, commitment, data[commitment_end:])


def seal(dek: Dek, dek_id: str, nonce: bytes, tenant_id: str, aad: bytes, plaintext: bytes) -> bytes:
    """An answer's sealed form. `nonce`: 32 random bytes."""
    commitment, ciphertext = aead.seal(dek, Purpose.ANSWER, nonce, plaintext, _aad(tenant_id, dek_id, aad))
    name = dek_id.encode("ascii")
    return b"".join((bytes((FORMAT, len(name))), name, nonce, commitment, ciphertext))


def unseal(sealed: SealedAnswer, dek: Dek, tenant_id: str, aad: bytes) -> bytes:
    """The answer. Raises ProviderKeyUnreadable."""
    bound = _aad(tenant_id, sealed.dek_id, aad)
    try:
        return aead.unseal(dek, Purpose.ANSWER, sealed.nonce, sealed.commitment, sealed.ciphertext, bound)
    except aead.CommitmentMismatch:
        raise ProviderKeyUnreadable(UnreadableReason.COMMITMENT) from None
    except aead.NotAuthentic:
        raise ProviderKeyUnreadable(UnreadableReason.CONTENT) from None


def _aad(tenant_id: str, dek_id: str, aad: bytes) -> bytes:
    return canonical(_LABEL, bytes((FORMAT,)), tenant_id.encode(), dek_id.encode(), aad)
