"""What this process remembers of a store, so that a request need not ask it.

What was read within the last 5 s costs a look into a dictionary. While the store is away, what
it confirmed within the last 60 s goes on; all else is StateUnavailable: an outage says nothing
about a name. Names that the store does not know are held apart, so that guessing cannot push
known ones out.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable

Value = TypeVar("Value")
OnAsked: TypeAlias = Callable[[float], object]
"""Hears of a look at the store, and how many seconds it took."""

FRESH_US = 5_000_000
STALE_US = 60_000_000  # usable while the store is away
KNOWN_MAX = 65_536
UNKNOWN_MAX = 16_384
LOOKUPS_MAX = 1_024  # different names being looked up at one moment
LOOKUP_TIMEOUT_S = 0.25
STORE_AWAY_US = 1_000_000  # after a failed lookup, stale entries are used without asking again
RETRY_AFTER_MS = 1_000


class Answer(NamedTuple, Generic[Value]):
    """What the store said about one name: what follows from it, and whether it knows the name."""

    value: Value
    is_known: bool


class Entry(NamedTuple, Generic[Value]):
    """An answer, and when it was asked for."""

    value: Value
    is_known: bool
    read_at_us: int


class LookupCache(Generic[Value]):
    """What a store said, by name. It outlives a reload of the configuration."""

    __slots__ = (
        "_away",
        "_forgotten",
        "_known",
        "_lookups",
        "_on_asked",
        "_store_away_until_us",
        "_unknown",
        "_unknown_go_stale",
    )

    def __init__(self, *, away: str, unknown_go_stale: bool, on_asked: OnAsked) -> None:
        """Make an empty one.

        Args:
            away: what a caller is told while the store is away.
            unknown_go_stale: whether "nobody has this name" is believed as long as a value is.
            on_asked: hears of every look at the store.
        """
        self._away = away
        self._unknown_go_stale = unknown_go_stale
        self._on_asked = on_asked
        self._known: OrderedDict[str, Entry[Value]] = OrderedDict()
        self._unknown: OrderedDict[str, Entry[Value]] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[Entry[Value]]] = {}
        self._store_away_until_us = 0
        self._forgotten = 0  # how often something was

    def fresh(self, name: str, now_us: int) -> Entry[Value] | None:
        """The entry, if it needs no look at the store."""
        entry = self._known.get(name) or self._unknown.get(name)
        if entry is None or now_us - entry.read_at_us > FRESH_US:
            return None
        return entry

    def forget(self, is_meant: Callable[[Value], bool]) -> None:
        """Forget what this process itself has just changed: the next look is at the store, also while that is away.

        A look that is under way may have the answer of before: nobody joins it any more, and it is not kept.
        Looks at every entry: a millisecond for ten thousand.
        """
        self._forgotten += 1
        self._lookups.clear()
        for entries in (self._known, self._unknown):
            for name in [name for name, entry in entries.items() if is_meant(entry.value)]:
                del entries[name]

    async def lookup(self, name: str, ask: Callable[[], Awaitable[Answer[Value]]], clock: Clock) -> Entry[Value]:
        """The entry, from the store; one round trip, shared by all who wait for the same name.

        Raises:
            StateUnavailable: the store is away, and did not confirm this name in the last minute.
        """
        stale = self._known.get(name) or (self._unknown.get(name) if self._unknown_go_stale else None)
        now_us = clock.monotonic_us()
        if stale is not None and now_us - stale.read_at_us > STALE_US:
            stale = None
        if stale is not None and now_us < self._store_away_until_us:
            return stale
        try:
            # The lookup is its own task: a caller that hangs up must not end it for the others.
            return await asyncio.shield(self._lookup_task(name, ask, clock))
        except StateUnavailable:
            self._store_away_until_us = clock.monotonic_us() + STORE_AWAY_US
            if stale is not None:
                return stale
            raise

    def _lookup_task(
        self, name: str, ask: Callable[[], Awaitable[Answer[Value]]], clock: Clock
    ) -> "asyncio.Task[Entry[Value]]":
        task = self._lookups.get(name)
        if task is None:
            if len(self._lookups) >= LOOKUPS_MAX:
                raise self._store_away()
            task = asyncio.create_task(self._ask(name, ask, clock))
            self._lookups[name] = task
            task.add_done_callback(lambda done: self._end_lookup(name, done))
        return task

    def _end_lookup(self, name: str, done: "asyncio.Task[Entry[Value]]") -> None:
        if self._lookups.get(name) is done:
            del self._lookups[name]
        if not done.cancelled():
            done.exception()  # seen: those who asked may all have hung up

    async def _ask(self, name: str, ask: Callable[[], Awaitable[Answer[Value]]], clock: Clock) -> Entry[Value]:
        forgotten = self._forgotten
        asked_at_us = clock.monotonic_us()  # before the store reads: the age is never understated
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                answer = await ask()
        except TimeoutError:
            raise self._store_away() from None
        finally:
            self._on_asked((clock.monotonic_us() - asked_at_us) / 1e6)
        entry = Entry(answer.value, answer.is_known, asked_at_us)
        if forgotten != self._forgotten:
            return entry
        if answer.is_known:
            self._unknown.pop(name, None)
            _keep(self._known, name, entry, KNOWN_MAX)
        else:
            self._known.pop(name, None)
            _keep(self._unknown, name, entry, UNKNOWN_MAX)
        return entry

    def _store_away(self) -> StateUnavailable:
        return StateUnavailable(self._away, retry_after_ms=RETRY_AFTER_MS)


def ignore(_seconds: float) -> None:
    """For whoever does not want to hear of it."""


def _keep(entries: OrderedDict[str, Entry[Value]], name: str, entry: Entry[Value], entries_max: int) -> None:
    entries[name] = entry
    entries.move_to_end(name)
    if len(entries) > entries_max:
        entries.popitem(last=False)
