"""Admission under fire: callers that vanish, answers that are lost, a Redis that stalls, restarts and is emptied.

What was acknowledged is kept outside the store, as the oracle; so is a journal such as a gateway
keeps. In full: `TOLLWAY_STORM_ADMISSIONS=50000`. Each storm prints its seed; `TOLLWAY_STORM_SEED`
repeats one: the same calls and faults, though not the same order between them.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter, defaultdict
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.admission.answers import Admitted, CapRefused, LimitRefused, ReleaseCode, SettleCode, WrongEpoch
from proxy.admission.caps import demand_of
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.admission.ending import Bill
from proxy.admission.store import AdmissionStore, RedisAdmissionStore
from proxy.admission.terms import Demand, RunStep, WindowKind, outline_of, touched_by
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.core.limits import ScopeLimits
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.store import LedgerStore, RedisLedgerStore
from tests.admission_stores import adjusted, used_nusd
from tests.redis_server import RedisServer

ADMISSIONS = int(os.environ.get("TOLLWAY_STORM_ADMISSIONS", "800"))
FULL = ADMISSIONS >= 20_000
SEED = int(os.environ.get("TOLLWAY_STORM_SEED", random.SystemRandom().randrange(2**32)))
ROOT = Path(__file__).resolve().parents[2]
TASKS = 64
TENANTS = ("acme", "other", "third")
HOLDS = (1, 100)
LEASE_MS = 1_500
TRIES_MAX = 400  # of one call, each up to 300 ms: a store that never comes back is a fault


# ── exactly ten ──────────────────────────────────────────────────────────────────────────

RACERS, CAP_NUSD, HELD_NUSD = 500, 1_099, 100  # ten fit, and 99 are left over


def racer(number: int) -> Demand:
    limits = ScopeLimits(per_day_nusd=CAP_NUSD)
    scope = demand_of("tenant", limits, now_ms=Clock().now_ms(), zone=UTC)
    return Demand(RunStep("acme", f"r{number}", 0), HELD_NUSD, 0, outline_of((scope,)), 60_000, None, b"")


async def race(store: AdmissionStore, numbers: range) -> Counter[str]:
    epoch = await store.epoch()
    await store.adopt("acme", epoch)
    answers = await asyncio.gather(*(definite(store.admit, racer(number), epoch) for number in numbers))
    return Counter(type(answer).__name__ for answer in answers)


async def definite(ask: Any, *args: Any) -> Any:
    """I5: an unknown outcome, asked again under the same name, becomes definite."""
    for _ in range(TRIES_MAX):
        with contextlib.suppress(StateUnavailable):
            return await ask(*args)
        await asyncio.sleep(0.01)
    raise AssertionError("the store did not come back")


async def test_of_500_at_once_a_cap_that_fits_ten_admits_ten_on_redis(redis_url):
    async with RedisDoor(redis_url) as door:
        await door.call("FLUSHALL")
        assert await race(RedisAdmissionStore(door, adjusted), range(RACERS)) == {
            "Admitted": 10,
            "CapRefused": RACERS - 10,
        }


async def test_of_500_at_once_a_cap_that_fits_ten_admits_ten_on_sqlite(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        store = EmbeddedAdmissionStore(door, Clock(), adjusted)
        assert await race(store, range(RACERS)) == {"Admitted": 10, "CapRefused": RACERS - 10}


@pytest.mark.skipif(not FULL, reason="four processes: in the full run")
async def test_of_500_at_once_in_four_processes_ten_are_admitted(redis_url):
    async with RedisDoor(redis_url) as door:
        await door.call("FLUSHALL")
    share = RACERS // 4
    command = (sys.executable, "-m", "tests.contract.test_admission_storm", redis_url)
    racers = [
        await asyncio.create_subprocess_exec(
            *command, str(n * share), str(share), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        for n in range(4)
    ]
    outputs = [(await each.communicate())[0] for each in racers]
    assert sum((Counter(json.loads(out)) for out in outputs), Counter()) == {"Admitted": 10, "CapRefused": RACERS - 10}


# ── the storm ────────────────────────────────────────────────────────────────────────────


class Gateway:
    """As much of a gateway as admission sees: it admits, ends, keeps a journal, and recovers."""

    def __init__(self, store: AdmissionStore, seed: int) -> None:
        self.store = store
        self.dice = random.Random(seed)
        self.epoch = ""
        self.recovering = asyncio.Lock()
        self.open: dict[RunStep, Demand] = {}  # the journal: dispatched, and not ended
        self.bills: dict[RunStep, tuple[Demand, Bill]] = {}  # the journal: what it cost
        self.charges: dict[RunStep, int] = {}  # the oracle: what each run must have cost in the end
        self.seen: Counter[str] = Counter()

    def demand(self, number: int) -> Demand:
        now_ms, tenant_id = Clock().now_ms(), self.dice.choice(TENANTS)
        caps = ScopeLimits(total_nusd=ADMISSIONS * 4, max_concurrency=18)
        user = ScopeLimits(per_24h_nusd=ADMISSIONS * 2, tokens_per_minute=10**9)
        scopes = [("tenant", caps), (f"user:{self.dice.randrange(4)}", user)]
        tokens = self.dice.randrange(1_000)
        held_nusd = self.dice.randint(*HOLDS)
        run_id = f"run_{number}"
        return Demand(
            run_step=RunStep(tenant_id, run_id, 0),
            held_nusd=held_nusd,
            expected_tokens=tokens,
            outline=outline_of(
                tuple(
                    demand_of(name, limits, now_ms=now_ms, zone=UTC, counted=(WindowKind.TOTAL,))
                    for name, limits in scopes
                )
            ),
            lease_ms=LEASE_MS,
            virtual_key_id=None,
            row=f"{run_id} {held_nusd}".encode(),
        )

    async def run(self, number: int) -> None:
        """One call, from admission to its end."""
        demand = self.demand(number)
        name = demand.run_step
        epoch = self.epoch
        try:
            answer = await self.impatient(self.store.admit(demand, epoch))
        except (StateUnavailable, TimeoutError):
            self.seen["unknown admission"] += 1
            await self.never_dispatched(name)
            return
        self.seen[type(answer).__name__] += 1
        if isinstance(answer, WrongEpoch):
            await self.recover(epoch)
            return
        if not isinstance(answer, Admitted):
            assert isinstance(answer, CapRefused | LimitRefused), answer
            return
        for scope, used in zip(demand.scopes, used_nusd(demand, answer), strict=True):
            for window, nusd in zip(scope.windows, used, strict=True):
                assert window.cap_nusd is None or nusd <= window.cap_nusd, f"I1: {scope.name} {nusd}"
        self.open[name] = demand
        self.charges[name] = demand.held_nusd  # unless it ends otherwise
        if self.epoch != epoch:  # the store was recovered while the answer was on its way: this one was not yet open
            await definite(self.store.restore, demand)
        await self.end(demand)

    async def impatient(self, call: Any) -> Any:
        """Sometimes the caller vanishes in the middle."""
        if self.dice.random() < 0.1:
            return await asyncio.wait_for(call, self.dice.random() * 0.003)
        return await call

    async def never_dispatched(self, name: RunStep) -> None:
        """An unknown admission is let go; if its lease ran out before that was heard, it cost nothing."""
        code = await definite(self.store.release, name)
        self.seen[f"release: {code}"] += 1
        if code is ReleaseCode.EXPIRED:
            await definite(self.store.settle, name, Bill(0, 0, f"{name.run_id} 0".encode()))

    async def end(self, demand: Demand) -> None:
        name, chance = demand.run_step, self.dice.random()
        await asyncio.sleep(self.dice.random() * 0.02)
        if chance < 0.03:
            self.seen["abandoned"] += 1
            return
        if chance < 0.15:
            del self.open[name]
            self.charges[name] = 0
            await self.never_dispatched(name)
            return
        if chance < 0.18:
            await asyncio.sleep(LEASE_MS / 1_000 + self.dice.random())  # late, after its lease
        cost_nusd = self.dice.randint(0, demand.held_nusd)
        bill = Bill(cost_nusd, self.dice.randrange(1_000), f"{name.run_id} {cost_nusd}".encode())
        self.bills[name] = (demand, bill)
        self.open.pop(name)
        self.charges[name] = cost_nusd
        touched = touched_by(demand.scopes)
        with contextlib.suppress(StateUnavailable, TimeoutError):
            await self.impatient(self.store.post(name, touched, bill))
        for _ in range(self.dice.choice((1, 1, 1, 2, 3))):  # and again, until it is certain
            settled = await definite(self.store.post, name, touched, bill)
            self.seen[f"settle: {settled.code}"] += 1
            assert settled.code in (
                SettleCode.SETTLED,
                SettleCode.ALREADY_SETTLED,
                SettleCode.CORRECTED,
                SettleCode.POSTED,
            ), settled

    async def recover(self, epoch: str) -> None:
        """The store may have lost something: put back what the journal has, then admit again."""
        async with self.recovering:
            if self.epoch != epoch:
                return
            fresh = await definite(self.store.epoch)
            for demand in list(self.open.values()):
                await definite(self.store.restore, demand)
            billed = list(self.bills.items())
            for at in range(0, len(billed), 64):
                await asyncio.gather(
                    *(
                        definite(self.store.post, name, touched_by(demand.scopes), bill)
                        for name, (demand, bill) in billed[at : at + 64]
                    )
                )
            for tenant_id in TENANTS:
                await definite(self.store.adopt, tenant_id, fresh)
            self.seen["recovered"] += 1
            self.epoch = fresh


async def storm(gateway: Gateway, faults: Any, ledger: LedgerStore) -> None:
    print(f"seed {SEED}, {ADMISSIONS} admissions")
    await gateway.recover("")
    numbers = iter(range(ADMISSIONS))

    async def task() -> None:
        for number in numbers:
            await gateway.run(number)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.2)
            with contextlib.suppress(StateUnavailable):
                await gateway.store.sweep()

    background = [asyncio.create_task(sweep()), asyncio.create_task(faults)]
    try:
        await asyncio.gather(*(task() for _ in range(TASKS)))
        await background[1]  # all faults have been seen
    finally:
        for each in background:
            each.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    print(dict(gateway.seen))
    await settle_down(gateway)
    await look(gateway, ledger)


async def settle_down(gateway: Gateway) -> None:
    """Quiescence, a lease, a sweep; and a recovery, if the last fault came when nobody asked any more."""
    await gateway.recover(gateway.epoch)
    for _ in range(200):
        await definite(gateway.store.sweep)
        pending = [await definite(gateway.store.pending, tenant_id) for tenant_id in TENANTS]
        if not any(pending):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"I7: still pending: {pending}")


async def look(gateway: Gateway, ledger: LedgerStore) -> None:
    charged: Counter[str] = Counter()
    for name, amount_nusd in gateway.charges.items():
        charged[name.tenant_id] += amount_nusd
    for tenant_id in TENANTS:
        state = await definite(gateway.store.read, tenant_id, "tenant")
        assert state.pending == 0, f"I2: {tenant_id}"
        assert state.periods["t"] == (charged[tenant_id], 0), f"I3, I7: {tenant_id}"
        users = [await definite(gateway.store.read, tenant_id, f"user:{n}") for n in range(4)]
        assert sum(user.periods.get("t", (0, 0))[0] for user in users) == charged[tenant_id], f"I3: {tenant_id}"
        assert all(amounts[1] == 0 for user in users for amounts in user.periods.values()), f"I7: {tenant_id}"
        amounts: dict[str, int] = defaultdict(int)
        position = 0
        while page := await ledger.read(tenant_id, after=position):
            position = page[-1][0]
            for _, data in page:
                run_id, amount = data.decode().split()
                amounts[run_id] += int(amount)
        assert sum(amounts.values()) == charged[tenant_id], f"I9: {tenant_id}"
        for name, amount_nusd in gateway.charges.items():
            if name.tenant_id == tenant_id:
                assert amounts.get(name.run_id, 0) == amount_nusd, f"I6: {name}"


def spread_s() -> float:
    return 8.0 if FULL else 0.4


async def stall_and_flush(server: RedisServer, door: RedisDoor, dice: random.Random) -> None:
    for number in range(20 if FULL else 4):
        await asyncio.sleep(spread_s() * dice.random())
        if number % 2:
            with contextlib.suppress(StateUnavailable):
                await door.call("SCRIPT", "FLUSH")
        else:
            server.stop()
            await asyncio.sleep(dice.choice((0.05, 0.2, 0.4)))
            server.resume()


async def kill_and_restart(server: RedisServer, dice: random.Random) -> None:
    for _ in range(5 if FULL else 1):
        await asyncio.sleep(spread_s() * dice.random())
        await asyncio.to_thread(server.restart)  # SIGKILL, and its append-only file is read again


async def empty(server: RedisServer, dice: random.Random) -> None:
    for _ in range(3 if FULL else 1):
        await asyncio.sleep(spread_s() * dice.random())
        await asyncio.to_thread(server.ask, "FLUSHALL")


STORM_TIMEOUT_S = 1_200 if FULL else 60


@pytest.mark.timeout(STORM_TIMEOUT_S)
@pytest.mark.parametrize("fault", ["stalls and vanished scripts", "killed and restarted", "emptied"])
async def test_redis(fault):
    dice = random.Random(SEED + 1)
    options = ("--appendonly", "yes", "--appendfsync", "always") if fault == "killed and restarted" else ()
    with RedisServer(*options) as server:
        async with RedisDoor(server.url) as door:
            gateway = Gateway(RedisAdmissionStore(door, adjusted), SEED)
            faults = {
                "stalls and vanished scripts": stall_and_flush(server, door, dice),
                "killed and restarted": kill_and_restart(server, dice),
                "emptied": empty(server, dice),
            }
            chosen = faults.pop(fault)
            for other in faults.values():
                other.close()
            await storm(gateway, chosen, RedisLedgerStore(door))


@pytest.mark.timeout(STORM_TIMEOUT_S)
async def test_sqlite(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        gateway = Gateway(EmbeddedAdmissionStore(door, Clock(), adjusted), SEED)
        await storm(gateway, asyncio.sleep(0), EmbeddedLedgerStore(door))


async def _race_here(url: str, first: int, count: int) -> None:
    async with RedisDoor(url) as door:
        found = await race(RedisAdmissionStore(door, adjusted), range(first, first + count))
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(_race_here(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
