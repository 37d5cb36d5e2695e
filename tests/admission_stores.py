"""Stores of admissions whose time a test moves by hand, and vectors played on them.

SQLite takes a clock. Redis has its own: here, and only here, the scripts' text is changed so
that they read the time from a name in the store. The scripts that ship know no such thing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC
from itertools import islice
from typing import Any, TypeVar

from proxy.adapters.redis import RedisDoor, Script
from proxy.adapters.sqlite import SqliteDoor
from proxy.admission.answers import (
    Admitted,
    CapRefused,
    Grown,
    Known,
    LimitRefused,
    NotPending,
    Revoked,
    WrongEpoch,
    WrongWindow,
)
from proxy.admission.book import ScopeState
from proxy.admission.caps import demand_of
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.admission.ending import Bill
from proxy.admission.hits import HitAdmitted, HitDemand, Purged, Shredded, hit_scope
from proxy.admission.scripts import Scripts
from proxy.admission.store import RedisAdmissionStore
from proxy.admission.terms import Demand, RunStep, WindowKind, outline_of, touched_by
from proxy.cache.book import RedisCacheBook
from proxy.cache.embedded import EmbeddedCacheBook
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.core.limits import ScopeLimits
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.store import RedisKeyringStore
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import RedisLedgerStore
from tests.ledger_tables import empty_ledger

Found = TypeVar("Found")

T0_MS = 1_800_000_000_000  # 2027-01-15 08:00:00 UTC, a full hour
HOUR_S = 3_600
T0_S = T0_MS // 1_000
DAY_START_S = T0_S - 8 * HOUR_S
MONTH_START_S = DAY_START_S - 14 * 24 * HOUR_S

_TIME = "redis.call('TIME')"
_TEST_TIME = "redis.call('HMGET', 'test-time', 's', 'us')"


def timed(scripts: Scripts) -> Scripts:
    """The same scripts, with the time that the test sets."""
    changed = {}
    for field in fields(Scripts):
        text = getattr(scripts, field.name).text
        assert _TIME in text or field.name == "epoch"
        changed[field.name] = Script(text.replace(_TIME, _TEST_TIME))
    return Scripts(**changed)


class HandClock(Clock):
    """A clock that a test moves by hand."""

    __slots__ = ("ms",)

    def __init__(self) -> None:
        self.ms = T0_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_us(self) -> int:
        return self.ms * 1_000


def adjusted(row: bytes, held_nusd: int) -> bytes:
    """What stands in for the ledger's own: its rows are `row NAME`, `NAME COST` or `row NAME COST`."""
    *words, last = row.split()
    if last.isdigit():
        last = b"%d" % (int(last) - held_nusd)
    return b" ".join((*words, last)).replace(b"row ", b"adjustment ", 1)


async def looked(look: Callable[[], Awaitable[Found]]) -> Found:
    """What a look at a store finds. On a busy machine it may take longer than a call may wait; it changes nothing."""
    for _ in range(40):
        with contextlib.suppress(StateUnavailable):
            return await look()
        await asyncio.sleep(0.05)
    return await look()


class RedisBench:
    """A Redis store, its time, and its ledger."""

    name = "redis"

    def __init__(self, door: RedisDoor, scripts: Scripts) -> None:
        self.door = door
        self.store = RedisAdmissionStore(door, adjusted, timed(scripts))
        self.book = RedisCacheBook(door)
        self.keyring = RedisKeyringStore(door)
        self.now_ms = T0_MS

    async def clear(self) -> None:
        await self.door.call("FLUSHALL")
        self.store = RedisAdmissionStore(self.door, adjusted, self.store._scripts)
        await self.at(T0_MS)

    async def at(self, now_ms: int) -> None:
        # The store tells by the machine's clock when to announce a tenant anew; it knows nothing of this one.
        self.store._announced_s.clear()
        self.now_ms = now_ms
        await self.door.call("HSET", "test-time", "s", now_ms // 1_000, "us", now_ms % 1_000 * 1_000)

    async def rows(self, tenant_id: str = "acme") -> list[str]:
        found = await looked(lambda: RedisLedgerStore(self.door).read(tenant_id))
        return [data.decode() for _, data in found]

    async def append(self, row: SealedRow) -> None:
        await RedisLedgerStore(self.door).append([row])

    async def revoke(self, virtual_key_id: str, tenant_id: str = "acme") -> None:
        await self.door.call("HSET", f"tollway:1:{{{tenant_id}}}:virtual-keys-revoked", virtual_key_id, 1)

    async def scope(self, name: str, tenant_id: str = "acme") -> ScopeState:
        return await looked(lambda: self.store.read(tenant_id, name))

    async def forget_ms(self, name: str, tenant_id: str = "acme") -> int | None:
        left_ms = await self.door.call("PTTL", f"tollway:1:{{{tenant_id}}}:use:{name}")
        assert isinstance(left_ms, int)
        return None if left_ms < 0 else left_ms


class SqliteBench:
    """The embedded store, its time, and its ledger."""

    name = "sqlite"

    def __init__(self, door: SqliteDoor) -> None:
        self.door = door
        self.clock = HandClock()
        self.store = EmbeddedAdmissionStore(door, self.clock, adjusted)
        self.book = EmbeddedCacheBook(door)
        self.keyring = EmbeddedKeyringStore(door)

    @property
    def now_ms(self) -> int:
        return self.clock.ms

    async def clear(self) -> None:
        tables = (
            *("admission_scopes", "admission_periods", "admission_runs", "virtual_keys"),
            *("cache_purges", "keyring_tenants"),
        )

        def step(connection) -> None:
            for table in tables:
                connection.execute(f"DELETE FROM {table}")
            empty_ledger(connection)

        await self.door.run(step)
        self.clock.ms = T0_MS

    async def at(self, now_ms: int) -> None:
        self.clock.ms = now_ms

    async def rows(self, tenant_id: str = "acme") -> list[str]:
        found = await looked(lambda: EmbeddedLedgerStore(self.door).read(tenant_id))
        return [data.decode() for _, data in found]

    async def append(self, row: SealedRow) -> None:
        await EmbeddedLedgerStore(self.door).append([row])

    async def revoke(self, virtual_key_id: str, tenant_id: str = "acme") -> None:
        values = (virtual_key_id, tenant_id)
        statement = (
            "INSERT INTO virtual_keys (id, tenant_id, created_at_ms, revoked_at_ms, record) VALUES (?, ?, 1, 2, x'')"
        )
        await self.door.run(lambda connection: connection.execute(statement, values).rowcount)

    async def scope(self, name: str, tenant_id: str = "acme") -> ScopeState:
        return await looked(lambda: self.store.read(tenant_id, name))

    async def forget_ms(self, name: str, tenant_id: str = "acme") -> int | None:
        forget_at_ms = (await self.store.read(tenant_id, name)).forget_at_ms
        return None if forget_at_ms is None else forget_at_ms - self.now_ms


@asynccontextmanager
async def redis_bench(url: str, scripts: Scripts | None = None):
    async with RedisDoor(url) as door:
        bench = RedisBench(door, scripts or Scripts.load())
        await bench.clear()
        yield bench


@asynccontextmanager
async def sqlite_bench(path):
    async with SqliteDoor(path) as door:
        bench = SqliteBench(door)
        await bench.clear()
        yield bench


# ── vectors ──────────────────────────────────────────────────────────────────────────────


def demand_from(step: Mapping[str, Any], now_ms: int) -> Demand:
    """A demand as the vectors write it: limits by scope, the rest by default."""
    made_at_ms = T0_MS + step["made_at_ms"] if "made_at_ms" in step else now_ms
    tokens = step.get("tokens", 0)
    return Demand(
        run_step=RunStep(step.get("tenant", "acme"), step["run"], step.get("step", 0)),
        held_nusd=step.get("held", 0),
        expected_tokens=tokens,
        outline=outline_of(
            tuple(
                demand_of(
                    name,
                    ScopeLimits(**limits),
                    now_ms=made_at_ms,
                    zone=UTC,
                    counted=[WindowKind(kind) for kind in step.get("counted", ())],
                )
                for name, limits in step["limits"].items()
            )
        ),
        lease_ms=step.get("lease_ms", 30_000),
        virtual_key_id=step.get("virtual_key"),
        row=f"worst {step['run']}".encode(),
    )


def hit_from(step: Mapping[str, Any]) -> HitDemand:
    """A kept answer that is to be given out, as the vectors write it: it was asked for at `asked_ms` after T0."""
    scopes = [hit_scope(name, ScopeLimits(**limits)) for name, limits in step.get("limits", {}).items()]
    return HitDemand(
        "acme",
        step["run"],
        step.get("alias", "m"),
        T0_MS + step.get("asked_ms", 0),
        step.get("virtual_key"),
        tuple(scope for scope in scopes if scope is not None),
        f"hit {step['run']}".encode(),
    )


def used_nusd(demand: Demand, admitted: Admitted) -> list[list[int]]:
    """Of each scope, what its windows have spent and hold."""
    figures = iter(admitted.figures)
    return [list(islice(figures, 2 + len(scope.windows)))[2:] for scope in demand.scopes]


def shown(answer: Any, demand: Demand | None = None) -> Any:
    """An answer as the vectors write it, to this demand."""
    match answer:
        case HitAdmitted():
            return {"hit": [max(0, tat_us - answer.now_us) // 1_000 for tat_us in answer.requests_tat_us]}
        case Purged():
            return "purged"
        case Shredded():
            return "shredded"
        case Admitted():
            assert demand is not None
            return {"admitted": used_nusd(demand, answer), **({"repeated": True} if answer.repeated else {})}
        case CapRefused():
            resets = None if answer.resets_at_ms is None else answer.resets_at_ms - T0_MS
            numbers = [answer.cap_nusd, answer.spent_nusd, answer.held_nusd, answer.needed_nusd, resets]
            return {"cap": [answer.scope, str(answer.kind), *numbers]}
        case LimitRefused():
            return {"limit": [answer.scope, str(answer.limit), answer.retry_after_ms]}
        case Known():
            return {"known": str(answer.state)}
        case WrongWindow():
            return {"wrong_window": answer.now_ms - T0_MS}
        case Revoked():
            return "revoked"
        case WrongEpoch():
            return "wrong epoch"
        case Grown():
            return {"grown": answer.held_nusd}
        case NotPending():
            return {"not_pending": None if answer.state is None else str(answer.state)}
    raise AssertionError(answer)


def period_from(label: str) -> str:
    """`h+1` is the hour after T0's, `d+0` its day, `m+0` its month, `t` the total."""
    if label == "t":
        return "t"
    starts_s = {"h": T0_S, "d": DAY_START_S, "m": MONTH_START_S}
    lengths_s = {"h": HOUR_S, "d": 24 * HOUR_S, "m": 0}
    return f"{label[0]}{starts_s[label[0]] + int(label[1:]) * lengths_s[label[0]]}"


async def play(bench: RedisBench | SqliteBench, case: Mapping[str, Any]) -> None:
    """Play one vector from an empty store; the first deviation is an AssertionError."""
    await bench.clear()
    epoch = await bench.store.epoch()
    for tenant in case.get("tenants", ["acme"]):
        assert await bench.store.adopt(tenant, epoch)
    demands: dict[str, Demand] = {}
    for number, step in enumerate(case["steps"]):
        await bench.at(T0_MS + step["at_ms"] if "at_ms" in step else bench.now_ms)
        got = await _do(bench, step, epoch, demands)
        where = f"{bench.name}: {case['name']}: step {number}: {step['do']} {step.get('run', '')}"
        if "answer" in step:
            assert got == step["answer"], f"{where}: {got}"
        for name, expected in step.get("then", {}).items():
            await _compare(bench, name, expected, f"{where}: {name}")
        if "rows" in step:
            rows = await bench.rows()
            assert rows == step["rows"], f"{where}: {rows}"


async def _do(bench: RedisBench | SqliteBench, step: Mapping[str, Any], epoch: str, demands: dict[str, Demand]) -> Any:
    store, name = bench.store, RunStep("acme", step.get("run", ""), step.get("step", 0))
    match step["do"]:
        case "admit" | "restore" as verb:
            demand = demands[step["run"]] = demand_from(step, bench.now_ms)
            if verb == "restore":
                return shown(await store.restore(demand), demand)
            return shown(await store.admit(demand, step.get("epoch", epoch)), demand)
        case "grow":
            return shown(await store.grow(demands[step["run"]], step["held"], f"worst {step['held']}".encode()))
        case "settle" | "post" as verb:
            bill = Bill(step["cost"], step.get("tokens"), f"row {name.run_id}".encode())
            if verb == "settle":
                answer = await store.settle(name, bill)
            else:
                answer = await store.post(name, touched_by(demand_from(step, bench.now_ms).scopes), bill)
            return [str(answer.code), answer.cost_nusd, answer.held_nusd]
        case "release":
            return str(await store.release(name))
        case "extend":
            names = [RunStep("acme", run, 0) for run in step["runs"]]
            return [each.run_id for each in await store.extend("acme", names, step["lease_ms"])]
        case "sweep":
            return await store.sweep()
        case "revoke":
            return await bench.revoke(step["virtual_key"])
        case "append":
            return await bench.append(SealedRow("acme", name.run_id, f"earlier {name.run_id}".encode()))
        case "pending":
            return await store.pending("acme")
        case "hit":
            return shown(await store.admit_hit(hit_from(step)))
        case "purge":
            return await bench.book.purge("acme", step.get("alias"), T0_MS + step["before_ms"])
        case "shred":
            await bench.keyring.shred("acme", bench.now_ms)
            return None
    raise AssertionError(step)


async def _compare(bench: RedisBench | SqliteBench, name: str, expected: Mapping[str, Any], where: str) -> None:
    scope = await bench.scope(name)
    if "pending" in expected:
        assert scope.pending == expected["pending"], f"{where}: pending {scope.pending}"
    if "requests_full_in_ms" in expected:
        assert scope.requests_tat_us == (bench.now_ms + expected["requests_full_in_ms"]) * 1_000, f"{where}: {scope}"
    if "tokens_full_in_ms" in expected:
        assert scope.tokens_tat_us == (bench.now_ms + expected["tokens_full_in_ms"]) * 1_000, f"{where}: {scope}"
    if "forget_in_s" in expected:
        left_ms, wanted_s = await bench.forget_ms(name), expected["forget_in_s"]
        if wanted_s is None:
            assert left_ms is None, f"{where}: forgotten in {left_ms} ms"
        else:  # Redis's own clock goes on while a test looks
            assert left_ms is not None, f"{where}: never forgotten"
            assert wanted_s * 1_000 - 5_000 < left_ms <= wanted_s * 1_000, f"{where}: forgotten in {left_ms} ms"
    if "periods" in expected:
        wanted = {period_from(label): tuple(amounts) for label, amounts in expected["periods"].items()}
        found = {period: tuple(amounts) for period, amounts in scope.periods.items()}
        assert found == wanted, f"{where}: {found}, not {wanted}"
