"""Where kept answers are: what every store does, and how Redis does it.

A store may forget anything at any time, and may be slow or away: then it is as if it had nothing.

Names in Redis, of a tenant T:

    tollway:1:{T}:cache-entry:NAME    string: an entry (`cache.entry` says of what bytes); it expires
    tollway:1:{T}:cache-claim:NAME    string: the run that asks for it now; it expires
"""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, Protocol

from proxy.adapters.redis import SCHEMA, RedisDoor, Script, tenant_name
from proxy.adapters.redis_wire import Argument, Reply
from proxy.cache.entry import HEAD_BYTES_MAX, EntryHead, EntryUnreadable, head_of, stored_bytes_max

CACHE_TIMEOUT_S: Final = 0.05
DATA_BYTES_MAX: Final = stored_bytes_max(1 << 26)
"""Of an entry in its stored form, where no smaller bound is set: no answer that is kept is longer than 64 MiB."""
PAGE: Final = 500
PAGES_MAX: Final = 1_000_000  # a list that does not end is a fault

_NO_ENTRY: Final = -1  # of claim.lua and find.lua
_ENTRY: Final = "cache-entry:"
_NAME: Final = re.compile(r"[0-9a-z-]{1,64}")
_STORED_NAME: Final = re.compile(rb"tollway:[0-9]+:\{([A-Za-z0-9_-]{1,64})\}:cache-entry:([0-9a-z-]{1,64})")


class Listed(NamedTuple):
    """One entry, as a list of them has it."""

    tenant_id: str
    name: str
    size_bytes: int  # as it is stored
    head: EntryHead


class CacheStore(Protocol):
    """Keeps entries by tenant and name. A name is 1 to 64 of `[0-9a-z-]`, made by `cache.fingerprint`.

    Whoever finds nothing may claim the name: it is the first to ask, and others wait for its answer. A claim ends
    when its entry is kept, when it is let go, or when its time has passed.
    """

    async def find(self, tenant_id: str, name: str) -> bytes | None:
        """The entry's stored form. Raises StateUnavailable, and EntryUnreadable for what is none, or too long for one:
        that is not read."""
        ...

    async def find_or_claim(self, tenant_id: str, name: str, run_id: str, claim_ms: int) -> bytes | bool:
        """The entry's stored form; True: there is none, and the name is claimed by `run_id` now; False: there is
        none, and somebody else has claimed it. Raises StateUnavailable: perhaps it is claimed; EntryUnreadable as
        `find`: it is not."""
        ...

    async def keep(self, tenant_id: str, name: str, run_id: str | None, data: bytes, ttl_ms: int) -> None:
        """Keep an entry, in the place of one that is there, and end the claim that `run_id` has. Raises
        StateUnavailable."""
        ...

    async def let_go(self, tenant_id: str, name: str, run_id: str) -> None:
        """End a claim, if `run_id` has it. Raises StateUnavailable."""
        ...

    def entries(self, tenant_id: str | None) -> AsyncIterator[Sequence[Listed]]:
        """Every entry, of one tenant or of all, some at a time. One that comes or goes meanwhile may be missed.
        Raises StateUnavailable."""
        ...

    async def drop(self, tenant_id: str, names: Sequence[str]) -> int:
        """Delete entries; how many there were. Raises StateUnavailable."""
        ...

    async def ping(self) -> None:
        """Ask whether the store is there. Raises StateUnavailable."""
        ...

    async def close(self) -> None:
        """Let go of connections. Safe to repeat."""
        ...


class RedisCacheStore:
    """Entries in Redis. It may be set to evict: what is gone was not kept."""

    __slots__ = ("_claim", "_data_bytes_max", "_door", "_find", "_keep", "_let_go")

    def __init__(self, door: RedisDoor, data_bytes_max: int = DATA_BYTES_MAX) -> None:
        """Takes the door over. Reads its scripts: blocks on the disk for a moment."""
        self._door = door
        self._data_bytes_max = data_bytes_max
        self._find = Script.beside(__file__, "find.lua")
        self._claim = Script.beside(__file__, "claim.lua")
        self._keep = Script.beside(__file__, "keep.lua")
        self._let_go = Script.beside(__file__, "let_go.lua")

    async def find(self, tenant_id: str, name: str) -> bytes | None:
        args: list[Argument] = [self._data_bytes_max]
        reply = await self._door.run(self._find, [_entry(tenant_id, name)], args, CACHE_TIMEOUT_S, awake=True)
        if reply is not None and not isinstance(reply, bytes):
            raise EntryUnreadable
        return reply

    async def find_or_claim(self, tenant_id: str, name: str, run_id: str, claim_ms: int) -> bytes | bool:
        names = [_entry(tenant_id, name), _claim(tenant_id, name)]
        args: list[Argument] = [run_id, claim_ms, self._data_bytes_max]
        reply = await self._door.run(self._claim, names, args, CACHE_TIMEOUT_S, awake=True)
        if reply == _NO_ENTRY:
            raise EntryUnreadable
        return reply if isinstance(reply, bytes) else reply == 1

    async def keep(self, tenant_id: str, name: str, run_id: str | None, data: bytes, ttl_ms: int) -> None:
        names = [_entry(tenant_id, name), _claim(tenant_id, name)]
        await self._door.run(self._keep, names, [data, ttl_ms, run_id or ""])

    async def let_go(self, tenant_id: str, name: str, run_id: str) -> None:
        await self._door.run(self._let_go, [_claim(tenant_id, name)], [run_id])

    async def entries(self, tenant_id: str | None) -> AsyncIterator[Sequence[Listed]]:
        pattern = f"tollway:{SCHEMA}:{{*}}:{_ENTRY}*" if tenant_id is None else tenant_name(tenant_id, f"{_ENTRY}*")
        place: Reply = b"0"
        for _ in range(PAGES_MAX):
            assert isinstance(place, bytes)
            reply = await self._door.call("SCAN", place, "MATCH", pattern, "COUNT", PAGE, "TYPE", "string")
            assert isinstance(reply, list)
            place, found = reply
            assert isinstance(found, list)
            listed = await self._listed([each for each in found if isinstance(each, bytes)])
            if listed:
                yield listed
            if place == b"0":
                return
        raise AssertionError("the list of entries does not end")

    async def drop(self, tenant_id: str, names: Sequence[str]) -> int:
        reply = await self._door.call("UNLINK", *(_entry(tenant_id, name) for name in names)) if names else 0
        assert isinstance(reply, int)
        return reply

    async def ping(self) -> None:
        await self._door.ping()

    async def close(self) -> None:
        await self._door.close()

    async def _listed(self, stored: Sequence[bytes]) -> list[Listed]:
        """Some of them, as a list has them; one that has just gone is left out."""
        commands: list[tuple[Argument, ...]] = []
        for each in stored:
            commands += (("STRLEN", each), ("GETRANGE", each, 0, HEAD_BYTES_MAX - 1))
        replies = await self._door.call_many(commands)
        listed = []
        for each, size_bytes, head in zip(stored, replies[::2], replies[1::2], strict=True):
            parts = _STORED_NAME.fullmatch(each)
            if parts is None or not isinstance(size_bytes, int) or not isinstance(head, bytes) or not size_bytes:
                continue
            listed.append(Listed(parts[1].decode(), parts[2].decode(), size_bytes, shown_head(head)))
        return listed


def shown_head(data: bytes) -> EntryHead:
    """The head for a list; of what no release here can read, one that says nothing."""
    try:
        return head_of(data)
    except EntryUnreadable:
        return EntryHead("", 0, None)


def require_name(name: str) -> str:
    """Give it back. Raises ValueError where it could name something else in a store."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"not a name of an entry: {name!r}")
    return name


def _entry(tenant_id: str, name: str) -> str:
    return tenant_name(tenant_id, _ENTRY + require_name(name))


def _claim(tenant_id: str, name: str) -> str:
    return tenant_name(tenant_id, f"cache-claim:{require_name(name)}")
