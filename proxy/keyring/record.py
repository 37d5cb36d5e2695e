"""What the stores know of a provider key: everything but the secret.

Pure. A credential is what a tenant stored for a provider, perhaps for one user; each secret that it has had is
a version of it, and one of them is active. Of the others only these words are left: their envelopes were wiped.
"""

import base64
import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson, ProviderKeyUnreadable
from proxy.core.secret import Secret
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.dek import StoredDek, WrappedDek

SLOTS_MAX: Final = 64  # so many places of a tenant are told with each of them
DEK_ID_BYTES_MAX: Final = 255  # its length stands in one byte of what it seals

_USER_HASH_BYTES: Final = 16


class ProviderKeyState(StrEnum):
    """Whether a version is used."""

    ACTIVE = "active"
    RETIRED = "retired"  # a newer version took its place
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class ProviderKeyRecord:
    """One version of a stored provider key. `envelope` is empty where it was wiped, or is not shown."""

    tenant_id: str
    provider: str
    user: str | None
    origin: str  # the only place where it may be sent: https://api.openai.com
    credential_id: str
    version: int  # from 1
    state: ProviderKeyState
    fingerprint: str  # 12 hex digits of a keyed hash: equal for equal secrets of one tenant under one DEK
    last_four: str  # "" where the secret is too short to show a part of it
    created_at_ms: int
    dek_id: str
    ended_at_ms: int | None = None  # when it was retired or deleted
    envelope: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class OpenedProviderKey:
    """A provider key in the clear, for the one origin that it is bound to."""

    secret: Secret
    origin: str
    credential_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a store has for one call: of the user's own credential and of the tenant's, and of the tenant's DEKs."""

    epoch: int
    shredded_at_ms: int | None = None
    own: ProviderKeyRecord | None = None
    shared: ProviderKeyRecord | None = None  # the tenant's, for every user without an own one
    current_dek_id: str | None = None
    deks: tuple[StoredDek, ...] = ()
    slots: frozenset[str] | None = None  # every place that the tenant has; None where they are many

    @property
    def record(self) -> ProviderKeyRecord | None:
        """The credential that is used."""
        return self.own or self.shared

    def at(self, user: str | None) -> ProviderKeyRecord | None:
        """The credential in this user's own place, or the tenant's; no other in its stead."""
        return self.shared if user is None else self.own

    def dek(self, dek_id: str) -> StoredDek | None:
        """The wrapped data key with this id."""
        return next((dek for dek in self.deks if dek.id == dek_id), None)


@dataclass(frozen=True, slots=True)
class FoundDeks:
    """What seals for a tenant, as of one moment."""

    current_dek_id: str | None = None
    deks: tuple[StoredDek, ...] = ()
    shredded_at_ms: int | None = None

    @property
    def current(self) -> StoredDek | None:
        """The data key that seals; None: it has none yet."""
        return None if self.current_dek_id is None else self.dek(self.current_dek_id)

    def dek(self, dek_id: str) -> StoredDek | None:
        """The wrapped data key with this id."""
        return next((dek for dek in self.deks if dek.id == dek_id), None)


def slot_of(provider: str, user: str | None) -> str:
    """The name of a credential's place in a store. A user's name is hashed: it may hold any character."""
    if user is None:
        return provider
    return (
        f"{provider}:{hashlib.blake2b(user.encode('utf-8', 'surrogatepass'), digest_size=_USER_HASH_BYTES).hexdigest()}"
    )


def wiped(record: ProviderKeyRecord, state: ProviderKeyState, at_ms: int) -> ProviderKeyRecord:
    """What is left of a version that is used no more."""
    return replace(record, state=state, ended_at_ms=at_ms, envelope=b"")


def encode(record: ProviderKeyRecord) -> bytes:
    """The record as the stores keep it: one JSON object. Names that are None are left out."""
    fields: dict[str, Any] = {
        "tenant_id": record.tenant_id,
        "provider": record.provider,
        "user": record.user,
        "origin": record.origin,
        "credential_id": record.credential_id,
        "version": record.version,
        "state": record.state,
        "fingerprint": record.fingerprint,
        "last_four": record.last_four,
        "created_at_ms": record.created_at_ms,
        "dek_id": record.dek_id,
        "ended_at_ms": record.ended_at_ms,
        "envelope": base64.b64encode(record.envelope).decode() or None,
    }
    return jsonio.encode({name: value for name, value in fields.items() if value is not None})


def decode(data: bytes) -> ProviderKeyRecord:
    """The record behind stored bytes. Fields that a later release added are passed over. Raises
    ProviderKeyUnreadable for what is no record."""
    try:
        return _record(jsonio.parse(data))
    except (InvalidJson, KeyError, TypeError, ValueError):
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT) from None


def _record(fields: Any) -> ProviderKeyRecord:
    return ProviderKeyRecord(
        tenant_id=fields["tenant_id"],
        provider=fields["provider"],
        user=fields.get("user"),
        origin=fields["origin"],
        credential_id=fields["credential_id"],
        version=fields["version"],
        state=ProviderKeyState(fields["state"]),
        fingerprint=fields["fingerprint"],
        last_four=fields["last_four"],
        created_at_ms=fields["created_at_ms"],
        dek_id=fields["dek_id"],
        ended_at_ms=fields.get("ended_at_ms"),
        envelope=base64.b64decode(fields.get("envelope", "")),
    )


def encode_dek(dek: StoredDek) -> bytes:
    """A wrapped data key as Redis keeps it. Its ids stand in the names around it."""
    wrapped = base64.b64encode(dek.wrapped.ciphertext).decode()
    return jsonio.encode({"kek_id": dek.wrapped.kek_id, "wrapped": wrapped, "created_at_ms": dek.created_at_ms})


def decode_dek_id(data: bytes) -> str:
    """A data key's id behind stored bytes. Raises ProviderKeyUnreadable for what no sealed form has room for."""
    if len(data) > DEK_ID_BYTES_MAX or not data.isascii():
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT)
    return data.decode("ascii")


def decode_dek(tenant_id: str, dek_id: str, data: bytes) -> StoredDek:
    """The wrapped data key behind stored bytes. Raises ProviderKeyUnreadable for what is none."""
    try:
        fields = jsonio.parse(data)
        wrapped = WrappedDek(fields["kek_id"], base64.b64decode(fields["wrapped"]))
        return StoredDek(tenant_id, dek_id, wrapped, fields["created_at_ms"])
    except (InvalidJson, KeyError, TypeError, ValueError):
        raise ProviderKeyUnreadable(UnreadableReason.FORMAT) from None
