"""Where a process finds kept answers and puts them: its memory first, then the store that all share.

The store fails open. Nobody waits longer than 50 ms for it, and once it has failed, nobody at all for a second. An
answer is kept in memory at once, and in the store by and by: compressed, and sealed where there is a keyring.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

from proxy.adapters.time_limit import TimeLimit
from proxy.cache import entry as entries
from proxy.cache.entry import CacheEntry, EntryUnreadable
from proxy.cache.memory import Memory
from proxy.cache.store import CACHE_TIMEOUT_S, CacheStore
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError

_log = logging.getLogger("tollway.cache")

FIND_S: Final = CACHE_TIMEOUT_S
AWAY_US: Final = 1_000_000
TOLD_US: Final = 60_000_000  # while it is away, it is said once; anew, when it has answered for so long
KEEPING_BYTES_MAX: Final = 67_108_864  # of answers on their way to the store
_KEEP_S: Final = 2.0
_LARGE_BYTES: Final = 65_536  # what takes a millisecond to compress or inflate is done beside the loop


class AnswerSealer(Protocol):
    """Seals what is kept under its tenant's own data key."""

    async def seal(self, tenant_id: str, aad: bytes, plaintext: bytes) -> bytes:
        """The sealed form. Raises GatewayError."""
        ...

    async def open(self, tenant_id: str, aad: bytes, sealed: bytes) -> bytes:
        """The plaintext. Raises GatewayError."""
        ...

    def on_drop(self, forget: Callable[[str | None], object]) -> None:
        """Call this whenever a tenant's data keys are to be forgotten, with its id; with None: everybody's."""
        ...


class Found(NamedTuple):
    """What a look at the store came to."""

    entry: CacheEntry | None = None
    is_others: bool = False  # there is none yet, and somebody else has asked for it
    is_claimed: bool = False  # the store knows, or may know, that this call asks for it


_NOTHING: Final = Found()


class Shelf:
    """One process's."""

    __slots__ = (
        "_away_until_us",
        "_body_bytes_max",
        "_clock",
        "_find_time",
        "_keeping_bytes",
        "_memory",
        "_on_failure",
        "_sealer",
        "_store",
        "_tasks",
        "_told_until_us",
    )

    def __init__(
        self,
        memory: Memory,
        store: CacheStore | None,
        sealer: AnswerSealer | None,
        body_bytes_max: int,
        clock: Clock,
        on_failure: Callable[[str], object],
    ) -> None:
        """`on_failure` hears what failed: "find", "open", "unreadable", "keep" or "full"."""
        self._memory = memory
        self._store = store
        self._sealer = sealer
        self._body_bytes_max = body_bytes_max
        self._clock = clock
        self._on_failure = on_failure
        self._away_until_us = 0
        self._told_until_us = 0
        self._keeping_bytes = 0
        self._find_time = TimeLimit(FIND_S)
        self._tasks: set[asyncio.Task[None]] = set()
        if sealer is not None:  # what nobody may open any more is not to lie here in the clear
            sealer.on_drop(self._drop_with_keys)

    def at_hand(self, tenant_id: str, name: str) -> CacheEntry | None:
        """The entry, if this process remembers it."""
        return self._memory.find(tenant_id, name)

    def forget(self, tenant_id: str, name: str) -> None:
        """Forget an entry, in this process."""
        self._memory.forget(tenant_id, name)

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's, in this process."""
        self._memory.drop(tenant_id)

    def _drop_with_keys(self, tenant_id: str | None) -> None:
        if tenant_id is None:
            self._memory.clear()
        else:
            self._memory.drop(tenant_id)

    async def find(self, tenant_id: str, name: str, run_id: str | None, claim_ms: int) -> Found:
        """What the store has, within 50 ms; for a run, where nothing is there, the name is claimed. Raises nothing."""
        store = self._store
        if store is None or self._clock.monotonic_us() < self._away_until_us:
            return _NOTHING
        found: bytes | bool | None = None  # None: the store has not answered
        try:
            with self._find_time.wait():
                if run_id is None:
                    found = await store.find(tenant_id, name) or False
                else:
                    found = await store.find_or_claim(tenant_id, name, run_id, claim_ms)
                if isinstance(found, bytes):
                    return Found(await self._open(tenant_id, name, found))
        except EntryUnreadable:
            self._on_failure("unreadable")
            return _NOTHING
        except Exception as error:  # noqa: BLE001  whatever a store does, a call goes on without it
            _tell(error)
            self._on_failure("find" if found is None else "open")
            if found is None:
                self._be_away()
            return Found(is_claimed=found is None and run_id is not None)  # it may have been carried out
        return Found(is_others=not found and run_id is not None, is_claimed=found)

    def remember(self, tenant_id: str, name: str, entry: CacheEntry) -> None:
        """Keep an entry of the store in this process too."""
        self._memory.keep(tenant_id, name, entry)

    def keep(self, tenant_id: str, name: str, run_id: str | None, entry: CacheEntry, ttl_ms: int) -> None:
        """Keep an answer, and end the claim on its name. The store has it a moment later, or never."""
        self._memory.keep(tenant_id, name, entry)
        if self._store is None:
            return
        if self._keeping_bytes + entry.size_bytes > KEEPING_BYTES_MAX:
            self._on_failure("full")
            if run_id is not None:
                self.let_go(tenant_id, name, run_id)
            return
        self._keeping_bytes += entry.size_bytes
        self.soon(self._keep(self._store, tenant_id, name, run_id, entry, ttl_ms))

    def let_go(self, tenant_id: str, name: str, run_id: str) -> None:
        """End a claim: no answer comes."""
        if self._store is not None:
            self.soon(self._let_go(self._store, tenant_id, name, run_id))

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what is to be done before an answer is kept, and holds nobody up. `drain` waits for it, too."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is on its way to the store, for so long at most, and let go of it."""
        ends_at_us = self._clock.monotonic_us() + int(timeout_s * 1e6)
        # What was looked at is kept then, and what cannot be kept is let go.
        while self._tasks and (left_us := ends_at_us - self._clock.monotonic_us()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left_us / 1e6)
        for task in self._tasks:
            task.cancel()
        if self._store is not None:
            await self._store.close()

    def _be_away(self) -> None:
        """Ask nobody for a second; and say so, if nobody has of late."""
        now_us = self._clock.monotonic_us()
        if now_us >= self._told_until_us:
            _log.warning("the store of kept answers does not answer; calls go on without it")
        self._told_until_us = now_us + TOLD_US
        self._away_until_us = now_us + AWAY_US

    async def _keep(
        self, store: CacheStore, tenant_id: str, name: str, run_id: str | None, entry: CacheEntry, ttl_ms: int
    ) -> None:
        try:
            async with asyncio.timeout(_KEEP_S):
                is_sealed = self._sealer is not None
                if len(entry.body) > _LARGE_BYTES:
                    clear, content = await asyncio.to_thread(entries.pack, entry, sealed=is_sealed)
                else:
                    clear, content = entries.pack(entry, sealed=is_sealed)
                if self._sealer is not None:
                    content = await self._sealer.seal(tenant_id, _aad(name, clear), content)
                await store.keep(tenant_id, name, run_id, clear + content, ttl_ms)
        except Exception as error:  # noqa: BLE001  likewise
            _tell(error)
            self._on_failure("keep")
            if run_id is not None:
                await self._let_go(store, tenant_id, name, run_id)  # whoever waits for it would wait for nothing
        finally:
            self._keeping_bytes -= entry.size_bytes

    async def _let_go(self, store: CacheStore, tenant_id: str, name: str, run_id: str) -> None:
        try:
            async with asyncio.timeout(_KEEP_S):
                await store.let_go(tenant_id, name, run_id)
        except Exception as error:  # noqa: BLE001  it ends by itself
            _tell(error)

    async def _open(self, tenant_id: str, name: str, data: bytes) -> CacheEntry:
        """Raises EntryUnreadable, also where it is sealed otherwise than this process seals: a store that others can
        write to must not speak for a keyring."""
        stored = entries.parse(data)
        if stored.is_sealed != (self._sealer is not None):
            raise EntryUnreadable
        content = stored.content
        if self._sealer is not None:
            content = await self._sealer.open(tenant_id, _aad(name, stored.clear), content)
        if len(content) > _LARGE_BYTES and stored.is_compressed:
            return await asyncio.to_thread(entries.unpack, stored, content, self._body_bytes_max)
        return entries.unpack(stored, content, self._body_bytes_max)


def _tell(error: Exception) -> None:
    """What is no outage is a fault of ours, or of what others wrote into the store."""
    if not isinstance(error, GatewayError | TimeoutError):
        _log.error("the store of kept answers failed: %s", error, exc_info=error)


def _aad(name: str, clear: bytes) -> bytes:
    return name.encode("ascii") + b"\0" + clear
