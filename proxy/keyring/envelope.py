"""The stored, sealed form of a provider key; the one place that reads and writes it.

Pure. Byte by byte (docs/provider-keys.md draws it):

    4   magic "TWPK"        1   format, 1          1   algorithm, 1
    1+n DEK id              2+n KEK id             32  nonce
    32  commitment to the data key                 …   ciphertext, and its tag of 16

A length stands before each id. What is not in these bytes is authenticated with them all the same: whose the key
is, for which provider, user and origin, and which version of which credential. So an envelope opens in its own
place, and nowhere else.
"""

from dataclasses import dataclass
from typing import Final

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead
from proxy.keyring.aead import Purpose
from proxy.keyring.dek import Dek, canonical

MAGIC: Final = b"TWPK"
FORMAT: Final = 1
ALGORITHM: Final = 1  # AES-256-GCM, sub-key and commitment by HKDF-SHA-256
ENVELOPE_BYTES_MAX: Final = 65_536

_LABEL: Final = b"tollway provider-key envelope"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an envelope belongs."""

    tenant_id: str
    provider: str
    user: str | None
    origin: str
    credential_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """The parts of a sealed provider key."""

    dek_id: str
    kek_id: str  # what wrapped the data key when this was sealed; the data key's own entry says what does now
    nonce: bytes
    commitment: bytes
    ciphertext: bytes

    def to_bytes(self) -> bytes:
        """As it is stored."""
        dek_id, kek_id = self.dek_id.encode("ascii"), self.kek_id.encode("ascii")
        head = MAGIC + bytes((FORMAT, ALGORITHM, len(dek_id))) + dek_id + len(kek_id).to_bytes(2, "big") + kek_id
        return head + self.nonce + self.commitment + self.ciphertext


def parse(data: bytes) -> Envelope:
    """The parts of what `to_bytes` wrote. Raises ProviderKeyUnreadable for anything else."""
    if len(data) > ENVELOPE_BYTES_MAX or data[:4] != MAGIC or len(data) < 7 or data[4] != FORMAT:
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    if data[5] != ALGORITHM:
        raise ProviderKeyUnreadable(UnreadableReason.ALGORITHM)
    dek_end = 7 + data[6]
    kek_start = dek_end + 2
    kek_end = kek_start + int.from_bytes(data[dek_end:kek_start], "big")
    commitment_start = kek_end + aead.NONCE_BYTES
    content_start = commitment_start + aead.COMMITMENT_BYTES
    if len(data) < content_start + aead.TAG_BYTES:
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    try:
        dek_id, kek_id = data[7:dek_end].decode("ascii"), data[kek_start:kek_end].decode("ascii")
    except UnicodeDecodeError:
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT) from None
    nonce, commitment = data[kek_end:commitment_start], data[commitment_start:content_start]
    return Envelope(dek_id, kek_id, nonce, commitment, data[content_start:])


def seal(dek: Dek, dek_id: str, kek_id: str, nonce: bytes, place: Place, secret: bytes) -> bytes:
    """A provider key's stored form, in its place. `nonce`: 32 random bytes."""
    commitment, ciphertext = aead.seal(dek, Purpose.PROVIDER_KEY, nonce, secret, _aad(place, dek_id, kek_id))
    return Envelope(dek_id, kek_id, nonce, commitment, ciphertext).to_bytes()


def unseal(envelope: Envelope, dek: Dek, place: Place) -> bytes:
    """The provider key of an envelope that was found in this place. Raises ProviderKeyUnreadable."""
    aad = _aad(place, envelope.dek_id, envelope.kek_id)
    try:
        return aead.unseal(dek, Purpose.PROVIDER_KEY, envelope.nonce, envelope.commitment, envelope.ciphertext, aad)
    except aead.CommitmentMismatch:
        raise ProviderKeyUnreadable(UnreadableReason.COMMITMENT) from None
    except aead.NotAuthentic:
        raise ProviderKeyUnreadable(UnreadableReason.CONTENT) from None


def _aad(place: Place, dek_id: str, kek_id: str) -> bytes:
    user = () if place.user is None else (place.user.encode(),)  # the count before it tells none from an empty one
    return canonical(
        _LABEL,
        bytes((FORMAT, ALGORITHM)),
        place.tenant_id.encode(),
        place.provider.encode(),
        place.origin.encode(),
        place.credential_id.encode(),
        b"%d" % place.version,
        dek_id.encode(),
        kek_id.encode(),
        *user,
    )
