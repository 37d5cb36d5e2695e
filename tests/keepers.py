"""Keepers on real stores, with faults and with an account of what was acknowledged, kept outside."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.admission.answers import Admitted, CapRefused, Settlement
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.admission.ending import Bill
from proxy.admission.journal import Journal
from proxy.admission.keeper import Keeper
from proxy.admission.store import AdmissionStore, RedisAdmissionStore
from proxy.admission.terms import TIME_MS_MAX, Demand, RunStep, ScopeDemand, WindowKind, outline_of, window_of
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.store import RedisLedgerStore
from tests.admission_stores import adjusted

SETTLE_IN_MS = 300  # instead of 3 s
CAP_NUSD = 10**12
HELD_NUSD = 1_000


def demand(run_id: str, *, tenant_id: str = "acme", lease_ms: int = 30_000, cap_nusd: int = CAP_NUSD) -> Demand:
    """A call that holds 1,000 nano-dollars of a total."""
    window = window_of(WindowKind.TOTAL, 0, TIME_MS_MAX, cap_nusd)
    scope = ScopeDemand("tenant", windows=(window,))
    return Demand(
        RunStep(tenant_id, run_id, 0), HELD_NUSD, 0, outline_of((scope,)), lease_ms, None, b"worst " + run_id.encode()
    )


def bill(run_id: str, cost_nusd: int) -> Bill:
    """What a call cost, and its rows."""
    return Bill(cost_nusd, None, b"row " + run_id.encode())


class Place:
    """A store, and how to look into it past any keeper."""

    def __init__(self, store: AdmissionStore, ledger: Any, folder: Path) -> None:
        self.store = store
        self.ledger = ledger
        self.folder = folder

    async def total(self, tenant_id: str = "acme") -> tuple[int, int, int]:
        """Spent, held and how many are pending."""
        scope = await self.store.read(tenant_id, "tenant")
        amounts = scope.periods.get("t", (0, 0))
        return amounts[0], amounts[1], scope.pending

    async def rows(self, tenant_id: str = "acme") -> list[str]:
        """All of the ledger's rows, in order."""
        rows, after = [], 0
        while page := await self.ledger.read(tenant_id, after, 10_000):
            rows += [data.decode() for _, data in page]
            after = page[-1][0]
        return rows


@asynccontextmanager
async def redis_place(url: str, folder: Path, settle_in_ms: int = SETTLE_IN_MS) -> AsyncIterator[Place]:
    async with RedisDoor(url) as door:
        yield Place(RedisAdmissionStore(door, adjusted, settle_in_ms=settle_in_ms), RedisLedgerStore(door), folder)


@asynccontextmanager
async def sqlite_place(path: Path, folder: Path, boot_id: str = "") -> AsyncIterator[Place]:
    async with SqliteDoor(path) as door:
        yield Place(EmbeddedAdmissionStore(door, Clock(), adjusted, boot_id), EmbeddedLedgerStore(door), folder)


class Kept:
    """A keeper, its journal, and what it told."""

    def __init__(self, place: Place, lease_s: float, store: AdmissionStore | None = None) -> None:
        self.journal = Journal.open(place.folder, "test:", Clock())
        self.file = self.journal.file
        self.settled: dict[str, Settlement] = {}
        self.told_twice: list[str] = []
        self.fault: Exception | None = None  # of whoever is told of a settlement
        self.keeper = Keeper(store or place.store, self.journal, Clock(), lease_s, self._note)

    def _note(self, run_step: RunStep, settlement: Settlement) -> None:
        if run_step.run_id in self.settled:
            self.told_twice.append(run_step.run_id)
        self.settled[run_step.run_id] = settlement
        if self.fault is not None:
            raise self.fault

    def vanish(self) -> None:
        """End as a killed process does: what was written stays, nothing more is, and the lock is free."""
        self.file.flush()
        for task in [*self.keeper._loops, *self.keeper._adopting.values()]:
            task.cancel()
        self.keeper._loops = []
        self.keeper._become(None)


@asynccontextmanager
async def keeping(place: Place, *, lease_s: float = 30, store: AdmissionStore | None = None) -> AsyncIterator[Kept]:
    """A keeper from its start, once it admits, until it has stopped."""
    kept = Kept(place, lease_s, store)
    kept.keeper.start()
    try:
        assert await kept.keeper.ready(10)
        yield kept
    finally:
        await kept.keeper.stop()
    assert not kept.told_twice


class Faulty:
    """A store before which a test puts faults: `before` and `after` are called with the method's name."""

    def __init__(self, store: AdmissionStore) -> None:
        self._store = store
        self.fails: set[str] = set()  # these methods reach nobody
        self.unanswered: set[str] = set()  # these are carried out, and their answers lost
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in self.fails or "all" in self.fails:
                raise StateUnavailable("away")
            answer = await method(*args, **named)
            if name in self.unanswered:
                raise StateUnavailable("no answer")
            return answer

        return call


class Account:
    """What callers were told: the oracle."""

    def __init__(self) -> None:
        self.admitted: set[str] = set()
        self.charged_nusd: dict[str, int] = {}
        self.released: set[str] = set()
        self.refused = 0
        self.unavailable = 0
        self.slowest_s = 0.0  # answer to an admission, whatever it was

    @property
    def total_nusd(self) -> int:
        return sum(self.charged_nusd.values())


async def load(
    keeper: Keeper,
    account: Account,
    dice: random.Random,
    *,
    name: str,
    calls: int,
    cap_nusd: int = CAP_NUSD,
    pause_s: float = 0.002,
) -> None:
    """One caller after the other: admitted, under way for a moment, then settled or (one in eight) released.
    One that is told 503 comes again, under another name."""
    loop, tries, decided = asyncio.get_running_loop(), 0, 0
    while decided < calls:
        tries += 1
        asked = demand(f"{name}-{tries}", cap_nusd=cap_nusd)
        begun_s = loop.time()
        try:
            answer = await keeper.admit(asked)
        except StateUnavailable:
            account.unavailable += 1
            await asyncio.sleep(0.02)
            continue
        finally:
            account.slowest_s = max(account.slowest_s, loop.time() - begun_s)
        decided += 1
        if isinstance(answer, CapRefused):
            account.refused += 1
            continue
        assert isinstance(answer, Admitted), answer
        account.admitted.add(asked.run_step.run_id)
        await asyncio.sleep(dice.random() * pause_s)
        if dice.random() < 0.125:
            account.released.add(asked.run_step.run_id)
            keeper.release(asked.run_step)
        else:
            account.charged_nusd[asked.run_step.run_id] = cost_nusd = dice.randrange(1, HELD_NUSD + 1)
            keeper.settle(asked, bill(asked.run_step.run_id, cost_nusd))


async def until(condition: Callable[[], Any], bound_s: float = 10) -> None:
    """Wait for something, a value or an awaitable one."""
    for _ in range(round(bound_s / 0.02)):
        try:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
        except StateUnavailable:  # the look itself, on a busy machine
            found = False
        if found:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen in time")
