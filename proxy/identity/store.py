"""Where virtual keys are kept: what every store does, and how Redis does it.

In Redis, per key (D its digest, I its id, T its tenant):

    tollway:1:@:virtual-key:D          hash: record, revoked_at_ms    what `find` reads
    tollway:1:@:virtual-key-id:I       hash: tenant_id, digest        how `revoke` gets there
    tollway:1:@:virtual-key-tenants    set of T                       whom a listing asks
    tollway:1:{T}:virtual-keys         hash: I → record
    tollway:1:{T}:virtual-keys-revoked hash: I → revoked_at_ms        what admission may look at

These lie in different cluster slots, so a change takes several calls, ordered so that a crash
between any two leaves nothing that works unseen: a key is listed before it works, and stops
working before the listing says so (revoking again finishes that). Every call can be repeated.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from proxy.adapters.redis import RedisDoor, shared_name, tenant_name
from proxy.adapters.redis_wire import Reply
from proxy.identity.virtual_key import VirtualKey, decode, encode

_TENANTS = shared_name("virtual-key-tenants")
_SCAN_COUNT = 500
_SCAN_CALLS_MAX = 100_000  # of 500 entries each: a listing that does not end is a fault


class VirtualKeyStore(Protocol):
    """Keeps virtual keys by digest; never sees a token. Every method raises StateUnavailable
    where the store does not answer in time."""

    async def put(self, virtual_key: VirtualKey, digest: str) -> None:
        """Keep a new virtual key. Safe to repeat with the same values."""
        ...

    async def find(self, digests: Sequence[str]) -> VirtualKey | None:
        """The key with one of these digests, the first that is known; revoked and expired ones
        too. One round trip."""
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

    async def put(self, virtual_key: VirtualKey, digest: str) -> None:
        record = encode(virtual_key)
        listing = tenant_name(virtual_key.tenant_id, "virtual-keys")
        call = self._door.call
        await call("SADD", _TENANTS, virtual_key.tenant_id)
        await call("HSET", listing, virtual_key.id, record)
        await call("HSET", _id_name(virtual_key.id), "tenant_id", virtual_key.tenant_id, "digest", digest)
        # The last one makes it work: by now it is listed, and can be revoked.
        await call("HSET", _digest_name(digest), "record", record)

    async def find(self, digests: Sequence[str]) -> VirtualKey | None:
        commands = [("HMGET", _digest_name(digest), "record", "revoked_at_ms") for digest in digests]
        if len(commands) == 1:
            replies = [await self._door.call(*commands[0])]
        else:
            replies = await self._door.call_many(commands)
        for reply in replies:
            assert isinstance(reply, list)
            record, revoked_at_ms = reply
            if isinstance(record, bytes):
                return _revoked(decode(record), revoked_at_ms)
        return None

    async def list(self, tenant_id: str | None) -> Sequence[VirtualKey]:
        if tenant_id is None:
            tenant_ids = sorted({member.decode() for member in await scan(self._door, "SSCAN", _TENANTS)})
        else:
            tenant_ids = [tenant_id]
        found: list[VirtualKey] = []
        for one in tenant_ids:
            listed = await _scan_hash(self._door, tenant_name(one, "virtual-keys"))
            revoked = await _scan_hash(self._door, tenant_name(one, "virtual-keys-revoked"))
            found += [_revoked(decode(record), revoked.get(field)) for field, record in listed.items()]
        return sorted(found, key=lambda virtual_key: (virtual_key.created_at_ms, virtual_key.id))

    async def revoke(self, virtual_key_id: str, at_ms: int) -> VirtualKey | None:
        place = await self._door.call("HMGET", _id_name(virtual_key_id), "tenant_id", "digest")
        assert isinstance(place, list)
        tenant_id, digest = place
        if not isinstance(tenant_id, bytes) or not isinstance(digest, bytes):
            return None
        by_digest = _digest_name(digest.decode())
        await self._door.call("HSETNX", by_digest, "revoked_at_ms", at_ms)
        first_at_ms = await self._door.call("HGET", by_digest, "revoked_at_ms")
        assert isinstance(first_at_ms, bytes)
        owner = tenant_id.decode()
        await self._door.call("HSETNX", tenant_name(owner, "virtual-keys-revoked"), virtual_key_id, first_at_ms)
        record = await self._door.call("HGET", tenant_name(owner, "virtual-keys"), virtual_key_id)
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


def _digest_name(digest: str) -> str:
    return shared_name(f"virtual-key:{digest}")


def _id_name(virtual_key_id: str) -> str:
    return shared_name(f"virtual-key-id:{virtual_key_id}")
