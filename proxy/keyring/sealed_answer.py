"""The sealed form of a kept answer: what a store of them holds where there is a keyring.

Pure. Byte by byte:

    1    format, 1           1+n  DEK id
    32   nonce               32   commitment to the data key
    …    ciphertext, and its tag of 16

A length stands before the id. Authenticated with it are whose it is, where it lies (the caller's own word), and the
id; and its sub-key is derived for answers alone, so that it opens as no provider key, and none opens as an answer.
"""

from typing import Final, NamedTuple

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead
from proxy.keyring.dek import Dek, canonical

FORMAT: Final = 1

_LABEL: Final = b"tollway sealed answer"
_PURPOSE: Final = b"answer"


class SealedAnswer(NamedTuple):
    """Its parts."""

    dek_id: str
    nonce: bytes
    commitment: bytes
    ciphertext: bytes


def seal(dek: Dek, dek_id: str, nonce: bytes, tenant_id: str, aad: bytes, plaintext: bytes) -> bytes:
    """The sealed form. `nonce`: 32 random bytes."""
    commitment, ciphertext = aead.seal(dek, nonce, plaintext, _bound(tenant_id, dek_id, aad), purpose=_PURPOSE)
    name = dek_id.encode("ascii")
    return b"".join((bytes((FORMAT, len(name))), name, nonce, commitment, ciphertext))


def parse(data: bytes) -> SealedAnswer:
    """The parts of what `seal` made. Raises ProviderKeyUnreadable for anything else."""
    if len(data) < 2 or data[0] != FORMAT:
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    nonce_at = 2 + data[1]
    commitment_at = nonce_at + aead.NONCE_BYTES
    content_at = commitment_at + aead.COMMITMENT_BYTES
    if len(data) < content_at + aead.TAG_BYTES or not data[2:nonce_at].isascii():
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    dek_id = data[2:nonce_at].decode("ascii")
    return SealedAnswer(dek_id, data[nonce_at:commitment_at], data[commitment_at:content_at], data[content_at:])


def unseal(sealed: SealedAnswer, dek: Dek, tenant_id: str, aad: bytes) -> bytes:
    """The answer again. Raises ProviderKeyUnreadable."""
    bound = _bound(tenant_id, sealed.dek_id, aad)
    try:
        return aead.unseal(dek, sealed.nonce, sealed.commitment, sealed.ciphertext, bound, purpose=_PURPOSE)
    except aead.CommitmentMismatch:
        raise ProviderKeyUnreadable(UnreadableReason.COMMITMENT) from None
    except aead.NotAuthentic:
        raise ProviderKeyUnreadable(UnreadableReason.CONTENT) from None


def _bound(tenant_id: str, dek_id: str, aad: bytes) -> bytes:
    return canonical(_LABEL, bytes((FORMAT,)), tenant_id.encode(), dek_id.encode(), aad)
