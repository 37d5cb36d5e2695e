"""Where sealed provider keys and wrapped data keys are kept: what every store does, and how Redis does it.

In Redis, per tenant T:

    tollway:1:{T}:keyring              hash: epoch, dek_id (the current one's), shredded_at_ms
    tollway:1:{T}:deks                 hash: DEK id → wrapped
    tollway:1:{T}:provider-keys        hash: slot → record of the active version, with its envelope
    tollway:1:{T}:provider-keys-past   list: records of ended versions, newest first, without
    tollway:1:@:keyring-tenants        sorted set of T, all with score 0: whom a rotation visits
    tollway:1:@:keyring-changes        stream: T, once for every change

A tenant's own are changed by one script. The index comes before it, so that it names one too many and never one
too few; the announcement after it, so that who hears of it reads what it is about. A crash between the two leaves
a change that other processes learn of by the epoch, or when what they hold has come of age.
"""

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from proxy.adapters.redis import RedisDoor, Script, shared_name, tenant_name
from proxy.adapters.redis_wire import Argument, Reply
from proxy.core.errors import StateUnavailable, TenantShredded
from proxy.keyring.dek import StoredDek
from proxy.keyring.record import (
    SLOTS_MAX,
    Found,
    FoundDeks,
    ProviderKeyRecord,
    ProviderKeyState,
    decode,
    decode_dek,
    decode_dek_id,
    encode,
    encode_dek,
    slot_of,
    wiped,
)

PAST_MAX: Final = 1_000  # ended versions of one tenant that are remembered
PAGE: Final = 500
PAGES_MAX: Final = 100_000  # a listing that does not end is a fault
CHANGES_KEPT: Final = 10_000
CHANGES_READ: Final = 1_000
TRIES_MAX: Final = 8  # of a change that others get in the way of

_TENANTS = shared_name("keyring-tenants")
_CHANGES = shared_name("keyring-changes")
_NOTHING_YET: Final = "0-0"


@dataclass(frozen=True, slots=True)
class Changes:
    """Whose keyring changed since a place in the store's list of changes, and the place to go on from."""

    place: str
    tenant_ids: frozenset[str] | None  # None: what happened in between is not known; it may be anybody's


class KeyringStore(Protocol):
    """Keeps envelopes, wrapped data keys and tombstones. A tenant's epoch grows with every change of its keys.

    Every method raises StateUnavailable where the store does not answer in time (a change may have been carried
    out), and ValueError for what is no tenant's id. Every change of a shredded tenant raises TenantShredded."""

    async def find(self, tenant_id: str, provider: str, user: str | None) -> Found:
        """What one call needs, as of one moment. One round trip."""
        ...

    async def find_deks(self, tenant_id: str) -> FoundDeks:
        """What seals for a tenant, as of one moment. One round trip."""
        ...

    async def epoch(self, tenant_id: str) -> int:
        """How often the tenant's keys changed; 0 where it never had any. One cheap round trip."""
        ...

    async def shredded_at_ms(self, tenant_id: str) -> int | None:
        """When the tenant was shredded; None: it was not. One cheap round trip."""
        ...

    async def shredded_among(self, tenant_ids: Sequence[str]) -> Mapping[str, int]:
        """Those of them that were shredded, and when. A round trip for each few hundred."""
        ...

    async def add_dek(self, dek: StoredDek, replaces: str | None) -> bool:
        """Keep a data key and make it current, if the current one has the id `replaces` (None: there is none).
        False: it has another, and nothing was kept."""
        ...

    async def activate(self, record: ProviderKeyRecord, replaces: ProviderKeyRecord | None) -> bool:
        """Make a version the active one of its slot, and retire and wipe the one before, in one step. False, and
        nothing happened, if another version than `replaces` is active, or another data key is current than its."""
        ...

    async def reseal(self, record: ProviderKeyRecord, before: bytes) -> bool:
        """Put another envelope of the same version in the place of the envelope `before`. False: that is not there
        any more, or another data key is current than the record's. The epoch stays: it is the same secret."""
        ...

    async def rewrap(self, dek: StoredDek, before: bytes) -> bool:
        """Put another wrap of the same data key in the place of the ciphertext `before`. False: that is not there
        any more. The epoch stays: it is the same data key."""
        ...

    async def drop_dek(self, tenant_id: str, dek_id: str) -> bool:
        """Delete a data key that seals nothing any more. False: there is none, or it is the current one."""
        ...

    async def delete(self, tenant_id: str, provider: str, user: str | None, at_ms: int) -> ProviderKeyRecord | None:
        """Wipe the active version of a slot; what is left of it. None: there was none."""
        ...

    async def shred(self, tenant_id: str, at_ms: int) -> int:
        """Delete everything of a tenant but a tombstone, for ever; when that was done first, in ms. Safe to repeat."""
        ...

    async def list(self, tenant_id: str) -> Sequence[ProviderKeyRecord]:
        """Every version that is known of, by age, without envelopes."""
        ...

    async def deks(self, tenant_id: str) -> tuple[str | None, Sequence[StoredDek]]:
        """The current data key's id, and all data keys."""
        ...

    def active(self, tenant_id: str) -> AsyncIterator[Sequence[ProviderKeyRecord]]:
        """Active versions in pages; one that was there all the while is among them, perhaps twice."""
        ...

    async def tenants(self, after: str, limit: int) -> Sequence[str]:
        """Ids of tenants that have, or had, keys, in order, from beyond `after` ("" for the first)."""
        ...

    async def changes(self, place: str) -> Changes:
        """Who changed since `place` ("" for a first look, which only gives a place to go on from)."""
        ...


class RedisKeyringStore:
    """The keyring in Redis."""

    __slots__ = ("_activate", "_add_dek", "_door", "_drop_dek", "_find", "_find_deks", "_reseal", "_rewrap", "_shred")

    def __init__(self, door: RedisDoor) -> None:
        """Blocks on the disk to read the scripts: make it at start."""
        self._door = door
        self._find = Script.beside(__file__, "find.lua")
        self._find_deks = Script.beside(__file__, "find_deks.lua")
        self._add_dek = Script.beside(__file__, "add_dek.lua")
        self._activate = Script.beside(__file__, "activate.lua")
        self._reseal = Script.beside(__file__, "reseal.lua")
        self._rewrap = Script.beside(__file__, "rewrap.lua")
        self._drop_dek = Script.beside(__file__, "drop_dek.lua")
        self._shred = Script.beside(__file__, "shred.lua")

    async def find(self, tenant_id: str, provider: str, user: str | None) -> Found:
        names = _names(tenant_id, "keyring", "provider-keys", "deks")
        own_slot = "" if user is None else slot_of(provider, user)
        reply = await self._door.run(self._find, names, [own_slot, slot_of(provider, None), SLOTS_MAX])
        assert isinstance(reply, list)
        epoch, dek_id, shredded_at_ms, own, shared, deks, slots = reply
        return Found(
            epoch=_number(epoch) or 0,
            shredded_at_ms=_number(shredded_at_ms),
            own=decode(own) if isinstance(own, bytes) else None,
            shared=decode(shared) if isinstance(shared, bytes) else None,
            current_dek_id=decode_dek_id(dek_id) if isinstance(dek_id, bytes) else None,
            deks=_deks(tenant_id, deks),
            slots=frozenset(slot.decode() for slot in _bytes(slots)) if isinstance(slots, list) else None,
        )

    async def find_deks(self, tenant_id: str) -> FoundDeks:
        reply = await self._door.run(self._find_deks, _names(tenant_id, "keyring", "deks"), [])
        assert isinstance(reply, list)
        dek_id, shredded_at_ms, deks = reply
        return FoundDeks(
            current_dek_id=decode_dek_id(dek_id) if isinstance(dek_id, bytes) else None,
            deks=_deks(tenant_id, deks),
            shredded_at_ms=_number(shredded_at_ms),
        )

    async def epoch(self, tenant_id: str) -> int:
        return _number(await self._door.call("HGET", tenant_name(tenant_id, "keyring"), "epoch")) or 0

    async def shredded_at_ms(self, tenant_id: str) -> int | None:
        return _number(await self._door.call("HGET", tenant_name(tenant_id, "keyring"), "shredded_at_ms"))

    async def shredded_among(self, tenant_ids: Sequence[str]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(tenant_ids), PAGE):
            some = tenant_ids[start : start + PAGE]
            asked = [("HGET", tenant_name(tenant_id, "keyring"), "shredded_at_ms") for tenant_id in some]
            instants = map(_number, await self._door.call_many(asked))
            found |= {tenant_id: at_ms for tenant_id, at_ms in zip(some, instants, strict=True) if at_ms is not None}
        return found

    async def add_dek(self, dek: StoredDek, replaces: str | None) -> bool:
        names = _names(dek.tenant_id, "keyring", "deks")
        return await self._change(dek.tenant_id, self._add_dek, names, [dek.id, encode_dek(dek), replaces or ""])

    async def activate(self, record: ProviderKeyRecord, replaces: ProviderKeyRecord | None) -> bool:
        past = None if replaces is None else wiped(replaces, ProviderKeyState.RETIRED, record.created_at_ms)
        return await self._put(slot_of(record.provider, record.user), record.tenant_id, record, past)

    async def reseal(self, record: ProviderKeyRecord, before: bytes) -> bool:
        names = _names(record.tenant_id, "keyring", "provider-keys")
        slot, envelope = slot_of(record.provider, record.user), base64.b64encode(before)
        args: list[Argument] = [slot, encode(record), record.dek_id, envelope]
        return _is_done(record.tenant_id, await self._door.run(self._reseal, names, args))

    async def rewrap(self, dek: StoredDek, before: bytes) -> bool:
        names = _names(dek.tenant_id, "keyring", "deks")
        args: list[Argument] = [dek.id, encode_dek(dek), base64.b64encode(before)]
        return _is_done(dek.tenant_id, await self._door.run(self._rewrap, names, args))

    async def drop_dek(self, tenant_id: str, dek_id: str) -> bool:
        return await self._change(tenant_id, self._drop_dek, _names(tenant_id, "keyring", "deks"), [dek_id])

    async def delete(self, tenant_id: str, provider: str, user: str | None, at_ms: int) -> ProviderKeyRecord | None:
        slot = slot_of(provider, user)
        for _ in range(TRIES_MAX):
            active = await self._door.call("HGET", tenant_name(tenant_id, "provider-keys"), slot)
            if not isinstance(active, bytes):
                if await self.shredded_at_ms(tenant_id) is not None:
                    raise shredded(tenant_id)
                return None
            past = wiped(decode(active), ProviderKeyState.DELETED, at_ms)
            if await self._put(slot, tenant_id, None, past):
                return past
        raise StateUnavailable("Others keep changing this provider key. Try again.", retry_after_ms=1_000)

    async def shred(self, tenant_id: str, at_ms: int) -> int:
        names = _names(tenant_id, "keyring", "deks", "provider-keys", "provider-keys-past")
        await self._door.call("ZADD", _TENANTS, 0, tenant_id)
        first_at_ms = _number(await self._door.run(self._shred, names, [at_ms]))
        await self._announce(tenant_id)
        assert first_at_ms is not None
        return first_at_ms

    async def list(self, tenant_id: str) -> Sequence[ProviderKeyRecord]:
        past = await self._door.call("LRANGE", tenant_name(tenant_id, "provider-keys-past"), 0, PAST_MAX - 1)
        assert isinstance(past, list)
        found = {(each.credential_id, each.version): each for each in (decode(one) for one in _bytes(past))}
        async for page in self.active(tenant_id):  # after it: a version that ended meanwhile is shown as it was
            found |= {(each.credential_id, each.version): hidden(each) for each in page}
        return sorted(found.values(), key=lambda each: (each.created_at_ms, each.credential_id, each.version))

    async def deks(self, tenant_id: str) -> tuple[str | None, Sequence[StoredDek]]:
        found = await self.find_deks(tenant_id)
        return found.current_dek_id, found.deks

    async def active(self, tenant_id: str) -> AsyncIterator[Sequence[ProviderKeyRecord]]:
        name, cursor = tenant_name(tenant_id, "provider-keys"), b"0"
        for _ in range(PAGES_MAX):
            reply = await self._door.call("HSCAN", name, cursor, "COUNT", PAGE)
            assert isinstance(reply, list)
            next_cursor, entries = reply
            assert isinstance(next_cursor, bytes)
            assert isinstance(entries, list)
            yield [decode(record) for record in _bytes(entries[1::2])]
            cursor = next_cursor
            if cursor == b"0":
                return
        raise AssertionError(f"HSCAN of {name} does not end")

    async def tenants(self, after: str, limit: int) -> Sequence[str]:
        start = f"({after}" if after else "-"
        reply = await self._door.call("ZRANGEBYLEX", _TENANTS, start, "+", "LIMIT", 0, limit)
        assert isinstance(reply, list)
        return [each.decode() for each in _bytes(reply)]

    async def changes(self, place: str) -> Changes:
        if not place:
            newest = _entries(await self._door.call("XREVRANGE", _CHANGES, "+", "-", "COUNT", 1))
            return Changes(newest[0][0] if newest else _NOTHING_YET, frozenset())
        # With the place itself: where that is gone, so may be what followed it.
        entries = _entries(await self._door.call("XRANGE", _CHANGES, place, "+", "COUNT", CHANGES_READ))
        is_whole = len(entries) < CHANGES_READ and (place == _NOTHING_YET or (bool(entries) and entries[0][0] == place))
        if not is_whole:
            return Changes((await self.changes("")).place, None)
        new = entries if place == _NOTHING_YET else entries[1:]
        return Changes(new[-1][0] if new else place, frozenset(tenant_id for _, tenant_id in new))

    async def _put(
        self, slot: str, tenant_id: str, record: ProviderKeyRecord | None, past: ProviderKeyRecord | None
    ) -> bool:
        names = _names(tenant_id, "keyring", "provider-keys", "provider-keys-past")
        args: list[Argument] = [
            slot,
            "" if record is None else encode(record),
            "" if record is None else record.dek_id,
            "" if past is None else f"{past.credential_id}:{past.version}",
            "" if past is None else encode(past),
            PAST_MAX,
        ]
        return await self._change(tenant_id, self._activate, names, args)

    async def _change(self, tenant_id: str, script: Script, names: Sequence[str], args: Sequence[Argument]) -> bool:
        await self._door.call("ZADD", _TENANTS, 0, tenant_id)
        if not _is_done(tenant_id, await self._door.run(script, names, args)):
            return False
        await self._announce(tenant_id)
        return True

    async def _announce(self, tenant_id: str) -> None:
        await self._door.call("XADD", _CHANGES, "MAXLEN", "~", CHANGES_KEPT, "*", "tenant", tenant_id)


def hidden(record: ProviderKeyRecord) -> ProviderKeyRecord:
    """The record without its envelope."""
    return replace(record, envelope=b"")


def shredded(tenant_id: str) -> TenantShredded:
    """What every change of a shredded tenant is told."""
    return TenantShredded(f"The tenant {tenant_id} was shredded: its id is used up. Use another one.")


def _is_done(tenant_id: str, code: Reply) -> bool:
    if code == -1:
        raise shredded(tenant_id)
    return code == 1


def _names(tenant_id: str, *rests: str) -> list[str]:
    return [tenant_name(tenant_id, rest) for rest in rests]


def _number(reply: Reply) -> int | None:
    return int(reply) if isinstance(reply, bytes) else None


def _bytes(replies: Sequence[Reply]) -> list[bytes]:
    return [each for each in replies if isinstance(each, bytes)]


def _deks(tenant_id: str, reply: Reply) -> tuple[StoredDek, ...]:
    assert isinstance(reply, list)
    flat = _bytes(reply)
    return tuple(
        decode_dek(tenant_id, decode_dek_id(dek_id), data) for dek_id, data in zip(flat[::2], flat[1::2], strict=True)
    )


def _entries(reply: Reply) -> list[tuple[str, str]]:
    """A stream's entries: their ids, and whose change each is."""
    assert isinstance(reply, list)
    found: list[tuple[str, str]] = []
    for entry in reply:
        assert isinstance(entry, list)
        entry_id, fields = entry
        assert isinstance(entry_id, bytes)
        assert isinstance(fields, list)
        assert isinstance(fields[1], bytes)
        found.append((entry_id.decode(), fields[1].decode()))
    return found
