"""What every store of admissions promises: the same answers as a small model, and the invariants by name.

A machine of Hypothesis drives Redis, SQLite and the model with the same operations, and looks
at everything after each step. `TOLLWAY_ADMISSION_EXAMPLES` makes it longer.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.admission.book import ScopeState
from proxy.admission.ending import Bill
from proxy.admission.hits import HitDemand
from proxy.admission.terms import Bucket, Demand, RunStep, ScopeDemand, WindowKind, outline_of, touched_by, window_of
from tests.admission_stores import T0_MS, RedisBench, SqliteBench, looked, redis_bench, shown, sqlite_bench
from tests.contract.admission_model import HOUR_MS, Model, Scope

EXAMPLES = int(os.environ.get("TOLLWAY_ADMISSION_EXAMPLES", "20"))
TENANT = Scope("tenant", (("24h", 150), ("total", None)), requests_per_minute=600, burst=20)
USERS = (
    Scope("user:u", (("hour", 60),), requests_per_minute=60, burst=3, tokens_per_minute=600),
    Scope("user:v", (("hour", 200), ("total", 90)), max_concurrency=2),
)
FEATURE = Scope("feature:f", (), tokens_per_minute=1_000)
OPEN_MAX = 8  # an admission expires so many; which of more would be first is nobody's promise
REPEATED_MS = 9_000  # a denial is kept for 10 s, by a clock that Redis's tests cannot move

SCOPES = st.sampled_from([(TENANT, USERS[0]), (TENANT, USERS[1], FEATURE), (TENANT,), (TENANT, USERS[0], FEATURE)])
AMOUNTS = st.integers(0, 60)
TOKENS = st.integers(0, 900)
LEASES = st.sampled_from([1_000, 30_000, 120_000, 2 * HOUR_MS])
ALIASES = st.sampled_from(["m", "n"])
AGES = st.sampled_from([0, 1, 1_000, HOUR_MS])
VIRTUAL_KEYS = st.sampled_from([None, None, "vk_1", "vk_2"])


def scope_demand(scope: Scope, hour: int) -> ScopeDemand:
    start_ms = T0_MS + hour * HOUR_MS
    bounds = {"hour": (start_ms, start_ms + HOUR_MS), "24h": (start_ms, start_ms + HOUR_MS), "total": (0, 2**53 - 1)}
    requests = None
    if scope.requests_per_minute is not None:
        increment_us = Model.worth(1, scope.requests_per_minute)
        requests = Bucket(increment_us, (scope.burst or scope.requests_per_minute) * increment_us)
    windows = tuple(window_of(WindowKind(kind), *bounds[kind], cap) for kind, cap in scope.windows)
    return ScopeDemand(scope.name, requests, scope.tokens_per_minute, scope.max_concurrency, windows)


class Machine(RuleBasedStateMachine):
    """The three, side by side."""

    runner: asyncio.Runner
    benches: tuple[RedisBench | SqliteBench, ...]
    seen_rows: dict[str, list[str]]

    @initialize()
    def empty(self) -> None:
        self.model = Model()
        self.demands: dict[str, Demand] = {}
        self.hits: dict[str, tuple[tuple[Scope, ...], HitDemand]] = {}
        # By store, scope and period: what had been spent of it when it was seen to be gone, which it may be once over.
        self.gone: dict[tuple[str, str, str], int] = {}
        self.seen_rows = {bench.name: [] for bench in self.benches}
        self.number = 0
        self.epochs: dict[str, str] = {}

        async def clear() -> None:
            for bench in self.benches:
                await bench.clear()
                self.epochs[bench.name] = await bench.store.epoch()
                assert await bench.store.adopt("acme", self.epochs[bench.name])

        self.runner.run(clear())

    # ── operations ───────────────────────────────────────────────────────────────────────

    def both(self, expected: Any, ask: Callable[[Any, str], Awaitable[Any]]) -> None:
        async def compare() -> None:
            for bench in self.benches:
                got = await ask(bench.store, self.epochs[bench.name])
                assert got == expected, f"{bench.name} says {got}, the model {expected}"

        self.runner.run(compare())

    def new_run(self) -> str:
        self.number += 1
        return f"r{self.number:03}"

    def known_runs(self) -> list[str]:
        """Those whose tombstones both stores are sure to have."""

        def is_kept(run: str) -> bool:
            each = self.model.reservations[run]
            kept_ms = {"denied": REPEATED_MS, "expired": 20 * HOUR_MS, "pending": 10**9}.get(
                each.state, HOUR_MS - 1_000
            )
            return each.state == "pending" or self.model.now - each.ended < kept_ms

        return [run for run in self.model.reservations if is_kept(run)]

    def demand(self, run: str, scopes: tuple[Scope, ...], held: int, tokens: int, lease: int) -> Demand:
        hour = self.model.now // HOUR_MS
        demands = tuple(scope_demand(scope, hour) for scope in scopes)
        return Demand(RunStep("acme", run, 0), held, tokens, outline_of(demands), lease, None, f"{run} {held}".encode())

    @precondition(lambda self: self.model.pending() < OPEN_MAX)
    @rule(scopes=SCOPES, held=AMOUNTS, tokens=TOKENS, lease=LEASES, restore=st.sampled_from([False] * 7 + [True]))
    def admit(self, scopes, held, tokens, lease, restore):
        run = self.new_run()
        demand = self.demands[run] = self.demand(run, scopes, held, tokens, lease)
        expected = self.model.admit(run, scopes, held, tokens, lease, restore=restore)
        if "admitted" in expected and not restore:
            self.assert_no_cap_is_crossed(scopes)

        async def ask(store, epoch):
            return shown(await (store.restore(demand) if restore else store.admit(demand, epoch)), demand)

        self.both(expected, ask)

    def assert_no_cap_is_crossed(self, scopes: tuple[Scope, ...]) -> None:
        for scope in scopes:
            for kind, cap in scope.windows:
                used = sum(self.model.window(scope.name, kind, self.model.now // HOUR_MS))
                assert cap is None or used <= cap, f"I1: {scope.name} {kind}: {used} of {cap}"

    @precondition(lambda self: self.known_runs())
    @rule(data=st.data())
    def admit_again(self, data):
        """I4 and I5: the same name is the same reservation, whatever became of it."""
        run = data.draw(st.sampled_from(self.known_runs()))
        demand = self.demands.get(run) or self.demand(run, (TENANT,), 1, 0, 1_000)
        expected = self.model.admit(run, (TENANT,), 1, 0, 1_000)

        async def ask(store, epoch):
            return shown(await store.admit(demand, epoch), demand)

        self.both(expected, ask)

    @precondition(lambda self: self.known_runs())
    @rule(data=st.data(), cost=AMOUNTS, tokens=st.none() | TOKENS, posts=st.booleans())
    def settle(self, data, cost, tokens, posts):
        run = data.draw(st.sampled_from(self.known_runs()))
        known = self.model.reservations[run]
        difference = cost - known.held
        bill = Bill(cost, tokens, f"{run} {cost}".encode())
        expected = self.model.settle(run, cost, tokens)
        scopes = self.demands[run].scopes if run in self.demands else ()

        async def ask(store, _epoch):
            name = RunStep("acme", run, 0)
            answer = await (store.post(name, touched_by(scopes), bill) if posts else store.settle(name, bill))
            overage = max(0, difference) if expected[0] in ("settled", "corrected") else 0
            assert answer.overage_nusd == overage, "I8"
            return [str(answer.code), answer.cost_nusd, answer.held_nusd]

        self.both(expected, ask)

    @rule(scopes=SCOPES, cost=AMOUNTS)
    def post(self, scopes, cost):
        run = self.new_run()
        touched = touched_by(self.demand(run, scopes, 0, 0, 1_000).scopes)
        expected = self.model.post(run, scopes, cost)

        async def ask(store, _epoch):
            answer = await store.post(RunStep("acme", run, 0), touched, Bill(cost, None, f"{run} {cost}".encode()))
            return [str(answer.code), answer.cost_nusd, answer.held_nusd]

        self.both(expected, ask)

    @rule(data=st.data(), is_new=st.sampled_from([False, False, True]))
    def release(self, data, is_new):
        known = self.known_runs()
        run = self.new_run() if is_new or not known else data.draw(st.sampled_from(known))
        expected = self.model.release(run)

        async def ask(store, _epoch):
            return str(await store.release(RunStep("acme", run, 0)))

        self.both(expected, ask)

    @precondition(lambda self: any(run in self.demands for run in self.known_runs()))
    @rule(data=st.data(), more=st.integers(-5, 60))
    def put_back(self, data, more):
        """A store that was promoted may know what was held before it grew, or nothing of its end."""
        run = data.draw(st.sampled_from([run for run in self.known_runs() if run in self.demands]))
        held = max(0, self.model.reservations[run].held + more)
        expected = self.model.put_back(run, held)

        async def ask(store, _epoch):
            demand = self.demands[run]._replace(held_nusd=held, row=f"{run} {held}".encode())
            return shown(await store.restore(demand), demand)

        self.both(expected, ask)

    @precondition(lambda self: any(run in self.demands for run in self.known_runs()))
    @rule(data=st.data(), more=st.integers(-5, 60))
    def grow(self, data, more):
        run = data.draw(st.sampled_from([run for run in self.known_runs() if run in self.demands]))
        held = max(0, self.model.reservations[run].held + more)
        expected = self.model.grow(run, held)

        async def ask(store, _epoch):
            return shown(await store.grow(self.demands[run], held, f"{run} {held}".encode()))

        self.both(expected, ask)

    @precondition(lambda self: self.known_runs())
    @rule(data=st.data(), lease=LEASES)
    def extend(self, data, lease):
        runs = data.draw(st.lists(st.sampled_from(self.known_runs()), unique=True, min_size=1, max_size=4))
        expected = self.model.extend(runs, lease)

        async def ask(store, _epoch):
            return [each.run_id for each in await store.extend("acme", [RunStep("acme", r, 0) for r in runs], lease)]

        self.both(expected, ask)

    @rule()
    def sweep(self):
        expected = self.model.expire(1_000)
        self.both(expected, lambda store, _epoch: store.sweep())

    # ── kept answers ─────────────────────────────────────────────────────────────────────

    @rule(scopes=SCOPES, alias=ALIASES, age=AGES, virtual_key=VIRTUAL_KEYS)
    def hit(self, scopes, alias, age, virtual_key):
        run, asked = self.new_run(), max(0, self.model.now - age)
        demands = tuple(
            ScopeDemand(scope.name, asked_of.requests)
            for scope in scopes
            if (asked_of := scope_demand(scope, 0)).requests is not None
        )
        demand = HitDemand("acme", run, alias, T0_MS + asked, virtual_key, demands, f"{run} 0".encode())
        self.hits[run] = scopes, demand
        self.ask_for_hit(run)

    @precondition(lambda self: self.hits)
    @rule(data=st.data())
    def hit_again(self, data):
        """One that was let through is let through again, and takes nothing; one that was refused is asked anew."""
        self.ask_for_hit(data.draw(st.sampled_from(list(self.hits))))

    def ask_for_hit(self, run: str) -> None:
        scopes, demand = self.hits[run]
        expected = self.model.hit(run, scopes, demand.alias, demand.asked_at_ms - T0_MS, demand.virtual_key_id)

        async def ask(store, _epoch):
            return shown(await store.admit_hit(demand))

        self.both(expected, ask)

    @rule(alias=st.none() | ALIASES, age=AGES)
    def purge(self, alias, age):
        before = max(0, self.model.now - age)
        self.model.purge(alias or "", before)

        async def purge() -> None:
            for bench in self.benches:
                await bench.book.purge("acme", alias, T0_MS + before)

        self.runner.run(purge())

    @precondition(lambda self: "vk_1" not in self.model.revoked)
    @rule()
    def revoke(self):
        self.model.revoked.add("vk_1")

        async def revoke() -> None:
            for bench in self.benches:
                await bench.revoke("vk_1")

        self.runner.run(revoke())

    @rule(ms=st.sampled_from([1, 500, 999, 1_000, 29_999, 60_000, HOUR_MS // 2, HOUR_MS, 23 * HOUR_MS]))
    def let_time_pass(self, ms):
        self.model.now += ms
        for each in list(self.model.reservations.values()):
            if each.state == "denied" and self.model.now - each.ended >= REPEATED_MS:
                each.scopes = ()

        async def move() -> None:
            for bench in self.benches:
                await bench.at(T0_MS + self.model.now)

        self.runner.run(move())

    # ── what must hold after each step ───────────────────────────────────────────────────

    @invariant()
    def amounts_are_what_the_reservations_say(self):
        if not hasattr(self, "epochs"):
            return

        async def look() -> None:
            for bench in self.benches:
                assert await bench.store.pending("acme") == self.model.pending()
                for scope in (TENANT, *USERS, FEATURE):
                    await self.look_at(bench, scope)

        self.runner.run(look())

    async def look_at(self, bench: RedisBench | SqliteBench, scope: Scope) -> None:
        state = await bench.scope(scope.name)
        where = f"{bench.name}: {scope.name}"
        assert state.pending == self.model.pending(scope.name), where
        kinds = {kind for kind, _ in scope.windows}
        if "total" in kinds:
            total = state.periods.get("t", (0, 0))
            assert total == self.model.amounts(scope.name), f"I2, I3: {where}: {total}"
        if state._replace(forget_at_ms=None) != ScopeState():
            stays = state.pending > 0 or state.periods.get("t", (0, 0))[0] > 0
            left_ms = await looked(lambda: bench.forget_ms(scope.name))
            assert (left_ms is None) == stays, f"{where}: {state}: forgotten in {left_ms} ms"
        for hour in {each.hour for each in self.model.reservations.values() if self.model.is_over(each.hour)}:
            period = f"h{T0_MS // 1_000 + hour * HOUR_MS // 1_000}"
            if period not in state.periods:
                self.gone[bench.name, scope.name, period] = self.model.amounts(scope.name, range(hour, hour + 1))[0]
        for period, amounts in state.periods.items():
            assert min(amounts) >= 0, f"I1: {where}: {period}: {amounts}"
            if period != "t":
                hour = (int(period[1:]) * 1_000 - T0_MS) // HOUR_MS
                spent, held = self.model.amounts(scope.name, range(hour, hour + 1))
                expected = spent - self.gone.get((bench.name, scope.name, period), 0), held
                assert amounts == expected, f"I2, I3: {where}: {period}: {amounts}, not {expected}"

    @invariant()
    def the_ledger_only_grows_and_sums_to_the_counters(self):
        if not hasattr(self, "epochs"):
            return

        async def look() -> None:
            for bench in self.benches:
                rows = await bench.rows()
                before = self.seen_rows[bench.name]
                assert rows[: len(before)] == before, f"I10: {bench.name}"
                self.seen_rows[bench.name] = rows
                assert sorted(rows) == sorted(f"{run} {amount}" for run, amount in self.model.rows), f"I6: {bench.name}"
                spent = (await bench.scope("tenant")).periods.get("t", (0, 0))[0]
                assert sum(int(row.split()[1]) for row in rows) == spent, f"I9: {bench.name}"

        self.runner.run(look())

    def teardown(self) -> None:
        """I7: after quiescence, a lease and a sweep, nothing is held."""
        if not hasattr(self, "epochs"):
            return
        self.let_time_pass(10 * HOUR_MS)
        self.sweep()

        async def look() -> None:
            for bench in self.benches:
                for scope in (TENANT, *USERS, FEATURE):
                    state = await bench.scope(scope.name)
                    held = sum(amounts[1] for amounts in state.periods.values())
                    assert (state.pending, held) == (0, 0), f"I7: {bench.name}: {scope.name}"

        self.runner.run(look())


@pytest.mark.timeout(300 + EXAMPLES)  # what fails is made small first, which takes time
def test_both_stores_do_what_the_model_does(redis_url):
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        stack = contextlib.AsyncExitStack()
        redis = runner.run(stack.enter_async_context(redis_bench(redis_url)))
        sqlite = runner.run(stack.enter_async_context(sqlite_bench(Path(folder) / "tollway.db")))

        class Bound(Machine):
            benches = (redis, sqlite)

        Bound.runner = runner
        try:
            run_state_machine_as_test(
                Bound,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=30,
                    deadline=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(stack.aclose())
