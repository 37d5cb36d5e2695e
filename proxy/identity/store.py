"""Where virtual keys are kept: what every store does, and how Redis does it.

In Redis, per key (D its digest, I its id, T its tenant):

    tollway:1:@:virtual-key:D          hash: record, revoked_at_ms, pepper         what `find` reads
    tollway:1:@:virtual-key-id:I       hash: tenant_id, digest:P → D, digest → D   how `revoke` gets there
    tollway:1:@:virtual-key-tenants    set of T                       whom a listing asks
    tollway:1:{T}:virtual-keys         hash: I → record
    tollway:1:{T}:virtual-keys-revoked hash: I → revoked_at_ms        what admission may look at

A key has a digest under each pepper (P its fingerprint) that it was digested under and that is not retired; a field
`digest` alone is one whose pepper nobody has noted yet. Each digest works by itself, and has all that `find` needs.

These lie in different cluster slots, so a change takes several calls, ordered so that a crash
between any two leaves nothing that works unseen: a key is listed before it works, each digest is
named under its id before it works, and a key stops working before the listing says so (revoking
again finishes that). Every call can be repeated.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from proxy.adapters.redis import RedisDoor, shared_name, tenant_name
from proxy.adapters.redis_wire import Argument, Reply
from proxy.identity.virtual_key import UNKNOWN_PEPPER, PepperedDigest, VirtualKey, decode, encode

_TENANTS = shared_name("virtual-key-tenants")
_SCAN_COUNT = 500
SLICE_RECORDS = 500  # decoded at a time: some 2 ms of the event loop
_SCAN_CALLS_MAX = 100_000  # of 500 entries each: a listing that does not end is a fault
_READ: Final = ("record", "revoked_at_ms", "pepper")
_FIELD: Final = "digest"
_ROUNDS_MAX: Final = 64  # of digests that are added while a key is revoked: one a pepper, and nobody has so many


class Found(NamedTuple):
    """A key, by which of the digests that were asked for, and what is noted of that one's pepper."""

    virtual_key: VirtualKey
    place: int
    pepper: str = UNKNOWN_PEPPER


class VirtualKeyStore(Protocol):
    """Keeps virtual keys by digest; never sees a token. Every method raises StateUnavailable
    where the store does not answer in time."""

    async def put(self, virtual_key: VirtualKey, digest: str, pepper: str = UNKNOWN_PEPPER) -> None:
        """Keep a new virtual key; `pepper` is a fingerprint. Safe to repeat with the same values."""
        ...

    async def find(self, digests: Sequence[str]) -> Found | None:
        """The key with one of these digests, the first that is known; revoked and expired ones
        too. One round trip."""
        ...

    async def add_digest(self, virtual_key_id: str, known: PepperedDigest, other: PepperedDigest) -> None:
        """Note under which pepper a known digest is, and let the key be found by another one, too. Both may be the
        same. Safe to repeat, and beside a revocation; nothing happens where the known one is not there any more."""
        ...

    async def peppers(self, virtual_key_ids: Sequence[str]) -> Sequence[frozenset[str]]:
        """For each key the fingerprints of the peppers that it has digests under. Not many at once: a slice."""
        ...

    async def drop_digest(self, virtual_key_id: str, pepper: str) -> bool:
        """Forget a key's digest under this pepper; False where it has no other one, and keeps it. Safe to repeat."""
        ...

    async def find_by_id(self, virtual_key_id: str) -> VirtualKey | None:
        """The key of this id, revoked and expired ones too."""
        ...

    async def list(self, tenant_id: str | None) -> Sequence[VirtualKey]:
        """A tenant's virtual keys, or all tenants', by age and then by id."""
        ...

    async def revoke(self, virtual_key_id: str, at_ms: int) -> VirtualKey | None:
        """Revoke a key, for ever; the first instant stays. None where there is no such key."""
        ...

    async def ping(self) -> None:
        """Ask whether the store is there."""
        ...


class RedisVirtualKeyStore:
    """Virtual keys in Redis."""

    __slots__ = ("_door",)

    def __init__(self, door: RedisDoor) -> None:
        self._door = door

    async def put(self, virtual_key: VirtualKey, digest: str, pepper: str = UNKNOWN_PEPPER) -> None:
        record = encode(virtual_key)
        listing = tenant_name(virtual_key.tenant_id, "virtual-keys")
        call = self._door.call
        await call("SADD", _TENANTS, virtual_key.tenant_id)
        await call("HSET", listing, virtual_key.id, record)
        await call("HSET", _id_name(virtual_key.id), "tenant_id", virtual_key.tenant_id, _field(pepper), digest)
        # The last one makes it work: by now it is listed, and can be revoked.
        await call("HSET", _digest_name(digest), "record", record, "pepper", pepper)

    async def find(self, digests: Sequence[str]) -> Found | None:
        commands: list[list[Argument]] = [["HMGET", _digest_name(digest), *_READ] for digest in digests]
        if len(commands) == 1:
            replies = [await self._door.call(*commands[0])]
        else:
            replies = await self._door.call_many(commands)
        return _found(replies)

    async def find_by_id(self, virtual_key_id: str) -> VirtualKey | None:
        _, digests = _place(await self._door.call("HGETALL", _id_name(virtual_key_id)))
        found = await self.find(list(digests)) if digests else None
        return None if found is None else found.virtual_key

    async def add_digest(self, virtual_key_id: str, known: PepperedDigest, other: PepperedDigest) -> None:
        call, id_name, known_name = self._door.call, _id_name(virtual_key_id), _digest_name(known.digest)
        record, _, noted = _three(await call("HMGET", known_name, *_READ))
        if not isinstance(record, bytes):
            return
        await call("HSET", id_name, _field(known.pepper), known.digest, _field(other.pepper), other.digest)
        if other != known:
            # Whoever revokes looks under the id again after the known digest is revoked, so one of us sees the other.
            _, revoked_at_ms, _ = _three(await call("HMGET", known_name, *_READ))
            fields: list[Argument] = ["record", record, "pepper", other.pepper]
            fields += ["revoked_at_ms", revoked_at_ms] if isinstance(revoked_at_ms, bytes) else []
            await call("HSET", _digest_name(other.digest), *fields)
        if noted != known.pepper.encode():
            if await call("HGET", id_name, _field(UNKNOWN_PEPPER)) == known.digest.encode():
                await call("HDEL", id_name, _field(UNKNOWN_PEPPER))
            await call("HSET", known_name, "pepper", known.pepper)

    async def peppers(self, virtual_key_ids: Sequence[str]) -> Sequence[frozenset[str]]:
        replies = await self._door.call_many([("HGETALL", _id_name(each)) for each in virtual_key_ids])
        return [frozenset(_place(reply)[1].values()) for reply in replies]

    async def drop_digest(self, virtual_key_id: str, pepper: str) -> bool:
        call, id_name = self._door.call, _id_name(virtual_key_id)
        _, digests = _place(await call("HGETALL", id_name))
        dropped = [digest for digest, its_pepper in digests.items() if its_pepper == pepper]
        others = [PepperedDigest(digest, its) for digest, its in digests.items() if its != pepper]
        if not dropped or not others:
            return not dropped
        for digest in dropped:
            for other in others:  # one that was named under the id, and then a gateway crashed, works only now
                await self.add_digest(virtual_key_id, PepperedDigest(digest, pepper), other)
            await call("DEL", _digest_name(digest))
        await call("HDEL", id_name, _field(pepper))
        return True

    async def list(self, tenant_id: str | None) -> Sequence[VirtualKey]:
        if tenant_id is None:
            tenant_ids = sorted({member.decode() for member in await scan(self._door, "SSCAN", _TENANTS)})
        else:
            tenant_ids = [tenant_id]
        found: list[VirtualKey] = []
        for one in tenant_ids:
            listed = await _scan_hash(self._door, tenant_name(one, "virtual-keys"))
            revoked = await _scan_hash(self._door, tenant_name(one, "virtual-keys-revoked"))
            records = list(listed.items())
            for start in range(0, len(records), SLICE_RECORDS):
                part = records[start : start + SLICE_RECORDS]
                found += [_revoked(decode(record), revoked.get(field)) for field, record in part]
                await asyncio.sleep(0)  # a gateway may list: its calls go first
        return sorted(found, key=lambda virtual_key: (virtual_key.created_at_ms, virtual_key.id))

    async def revoke(self, virtual_key_id: str, at_ms: int) -> VirtualKey | None:
        call, id_name = self._door.call, _id_name(virtual_key_id)
        owner, digests = _place(await call("HGETALL", id_name))
        if owner is None or not digests:
            return None
        first_at_ms: Argument | None = None
        stopped: set[str] = set()
        for _ in range(_ROUNDS_MAX):
            for digest in sorted(digests.keys() - stopped):
                by_digest = _digest_name(digest)
                await call("HSETNX", by_digest, "revoked_at_ms", at_ms if first_at_ms is None else first_at_ms)
                if first_at_ms is None:
                    first = await call("HGET", by_digest, "revoked_at_ms")
                    assert isinstance(first, bytes)
                    first_at_ms = first
                stopped.add(digest)
            _, digests = _place(await call("HGETALL", id_name))  # a use of the key may have added one meanwhile
            if digests.keys() <= stopped:
                break
        assert isinstance(first_at_ms, bytes)
        await call("HSETNX", tenant_name(owner, "virtual-keys-revoked"), virtual_key_id, first_at_ms)
        record = await call("HGET", tenant_name(owner, "virtual-keys"), virtual_key_id)
        return _revoked(decode(record), first_at_ms) if isinstance(record, bytes) else None

    async def ping(self) -> None:
        await self._door.ping()


async def _scan_hash(door: RedisDoor, name: str) -> dict[bytes, bytes]:
    flat = await scan(door, "HSCAN", name)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def scan(door: RedisDoor, command: str, name: str) -> list[bytes]:
    """Everything in a set or a hash, some entries perhaps twice, without holding Redis up."""
    found: list[bytes] = []
    cursor = b"0"
    for _ in range(_SCAN_CALLS_MAX):
        reply = await door.call(command, name, cursor, "COUNT", _SCAN_COUNT)
        assert isinstance(reply, list)
        next_cursor, entries = reply
        assert isinstance(next_cursor, bytes)
        assert isinstance(entries, list)
        found += [entry for entry in entries if isinstance(entry, bytes)]
        cursor = next_cursor
        if cursor == b"0":
            return found
    raise AssertionError(f"{command} of {name} does not end")


def _revoked(virtual_key: VirtualKey, revoked_at_ms: Reply) -> VirtualKey:
    if not isinstance(revoked_at_ms, bytes):
        return virtual_key
    return replace(virtual_key, revoked_at_ms=int(revoked_at_ms))


def _found(replies: Sequence[Reply]) -> Found | None:
    """The first that is known. It is revoked where another digest of it is: whoever revoked it crashed before this."""
    found: Found | None = None
    for place, reply in enumerate(replies):
        record, revoked_at_ms, pepper = _three(reply)
        if not isinstance(record, bytes):
            continue
        virtual_key = _revoked(decode(record), revoked_at_ms)
        if found is None:
            found = Found(virtual_key, place, pepper.decode() if isinstance(pepper, bytes) else UNKNOWN_PEPPER)
        elif found.virtual_key.revoked_at_ms is None and virtual_key.id == found.virtual_key.id:
            found = found._replace(virtual_key=virtual_key)
    return found


def _three(reply: Reply) -> tuple[Reply, Reply, Reply]:
    """What `_READ` names."""
    assert isinstance(reply, list)
    record, revoked_at_ms, pepper = reply
    return record, revoked_at_ms, pepper


def _place(reply: Reply) -> tuple[str | None, dict[str, str]]:
    """What stands under an id: the tenant's, and each digest with its pepper's fingerprint."""
    assert isinstance(reply, list)
    texts = [part.decode() for part in reply if isinstance(part, bytes)]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    digests: dict[str, str] = {}
    for field in sorted(fields):  # "digest" comes before "digest:P", so that a pepper that was noted holds
        if field.startswith(_FIELD):
            digests[fields[field]] = field.removeprefix(_FIELD).removeprefix(":")
    return fields.get("tenant_id"), digests


def _field(pepper: str) -> str:
    """Under an id, the name of the digest under this pepper."""
    return f"{_FIELD}:{pepper}" if pepper else _FIELD


def _digest_name(digest: str) -> str:
    return shared_name(f"virtual-key:{digest}")


def _id_name(virtual_key_id: str) -> str:
    return shared_name(f"virtual-key-id:{virtual_key_id}")
