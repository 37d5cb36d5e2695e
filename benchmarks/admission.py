"""Measures admission alone: how long one takes, how many there are in a second, what they leave in memory.

    python -m benchmarks.admission                 # a Redis of its own, and SQLite
    python -m benchmarks.admission --redis URL     # another Redis; it is emptied

Each call is what a gateway's is: five scopes, six buckets, seven windows, a row of 600 bytes.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import uvloop

from benchmarks import machine
from benchmarks.intervals import percentile
from benchmarks.report import Progress
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.admission import caps, keys
from proxy.admission.answers import Admitted
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.admission.ending import Bill
from proxy.admission.store import AdmissionStore, RedisAdmissionStore
from proxy.admission.terms import Demand, RunStep, WindowKind, outline_of
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.core.limits import ScopeLimits
from proxy.ledger.entry import adjustment
from tests.redis_server import RedisServer

ROW: Final = b"r" * 600
PLENTY: Final = 1_000_000_000
CAP_NUSD: Final = 4_000_000_000_000_000
TENANT: Final = ScopeLimits(
    requests_per_minute=60_000_000,
    burst=60_000_000,
    tokens_per_minute=PLENTY,
    max_concurrency=1_000_000,
    per_day_nusd=CAP_NUSD,
    per_month_nusd=CAP_NUSD,
)
NARROW: Final = ScopeLimits(
    requests_per_minute=60_000_000, burst=60_000_000, tokens_per_minute=PLENTY, per_day_nusd=CAP_NUSD
)
FEATURE: Final = ScopeLimits(per_day_nusd=CAP_NUSD)
TASKS_MANY: Final = 32
TRIES_MAX: Final = 50

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Times are to the answer, in milliseconds."""

    store: str
    step: str
    tenants: int
    tasks: int
    p50_ms: float
    p99_ms: float
    per_s: float
    cpu_us: float  # of this process, for one call


def demand(tenant_id: str, number: int, user: str = "ada") -> Demand:
    """One call's demand, as the pipeline makes it."""
    now_ms, tokens = Clock().now_ms(), 1_000
    scopes = (
        (keys.TENANT, TENANT, (WindowKind.TOTAL,)),
        (keys.user_scope(user), NARROW, ()),
        (keys.virtual_key_scope("vk_1"), NARROW, ()),
        (keys.feature_scope("report"), FEATURE, ()),
        (keys.model_scope("gpt-5-mini"), NARROW, ()),
    )
    return Demand(
        run_step=RunStep(tenant_id, f"run_{number:032x}", 0),
        held_nusd=1_000_000,
        expected_tokens=tokens,
        outline=outline_of(
            tuple(
                caps.demand_of(name, limits, now_ms=now_ms, zone=UTC, counted=counted)
                for name, limits, counted in scopes
            )
        ),
        lease_ms=600_000,
        virtual_key_id="vk_1",
        row=ROW,
    )


class Bench:
    """One store under measurement; numbers never come twice."""

    def __init__(self, name: str, store: AdmissionStore) -> None:
        self.name = name
        self.store = store
        self.epoch = ""
        self.unanswered = 0
        self._number = 0

    async def adopt(self, tenant_ids: list[str]) -> None:
        self.epoch = await self._until_answered(self.store.epoch)
        waiting = iter(tenant_ids)

        async def task() -> None:
            for tenant_id in waiting:
                await self._until_answered(partial(self.store.adopt, tenant_id, self.epoch))

        await asyncio.gather(*(task() for _ in range(TASKS_MANY)))

    def demands(self, tenant_ids: list[str], count: int) -> list[Demand]:
        self._number += count
        first = self._number - count
        return [demand(tenant_ids[n % len(tenant_ids)], first + n) for n in range(count)]

    async def admit(self, asked: Demand) -> None:
        answer = await self._until_answered(partial(self.store.admit, asked, self.epoch))
        assert isinstance(answer, Admitted), answer

    async def settle(self, asked: Demand) -> None:
        bill = Bill(500_000, 900, ROW)
        await self._until_answered(partial(self.store.settle, asked.run_step, bill))

    async def release(self, asked: Demand) -> None:
        await self._until_answered(partial(self.store.release, asked.run_step))

    async def _until_answered(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        for _ in range(TRIES_MAX - 1):
            try:
                return await call()
            except StateUnavailable:  # on a busy machine; the whole wait is in the figure
                self.unanswered += 1
        return await call()

    async def round(self, tenant_ids: list[str], tasks: int, count: int) -> tuple[Figure, Figure]:
        """So many admissions and then their settlements."""
        asked = self.demands(tenant_ids, count)
        admitted = await self._measured("admit", self.admit, asked, tenant_ids, tasks)
        settled = await self._measured("settle", self.settle, asked, tenant_ids, tasks)
        return admitted, settled

    async def _measured(
        self,
        step: str,
        call: Callable[[Demand], Awaitable[None]],
        asked: list[Demand],
        tenant_ids: list[str],
        tasks: int,
    ) -> Figure:
        waiting, times_ms = iter(asked), []

        async def task() -> None:
            for each in waiting:
                begun = time.perf_counter()
                await call(each)
                times_ms.append((time.perf_counter() - begun) * 1_000)

        cpu_s, begun_s = time.process_time(), time.perf_counter()
        await asyncio.gather(*(task() for _ in range(tasks)))
        passed_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        times_ms.sort()
        return Figure(
            store=self.name,
            step=step,
            tenants=len(tenant_ids),
            tasks=tasks,
            p50_ms=percentile(times_ms, 50),
            p99_ms=percentile(times_ms, 99),
            per_s=len(asked) / passed_s,
            cpu_us=cpu_s / len(asked) * 1_000_000,
        )


async def measure(bench: Bench, count: int, tenants: int, progress: Progress) -> list[Figure]:
    """One tenant and many, one task and many."""
    figures: list[Figure] = []
    hot, many = ["hot"], [f"tenant-{n}" for n in range(tenants)]
    await bench.adopt(hot)
    await bench.round(hot, TASKS_MANY, 500)  # warm
    for tenant_ids, tasks in ((hot, 1), (hot, TASKS_MANY), (many, TASKS_MANY)):
        progress.show(f"{bench.name}, {len(tenant_ids)} tenants, {tasks} tasks")
        if tenant_ids is many:
            await bench.adopt(many)
            await bench.round(many, TASKS_MANY, tenants)  # each once: it is announced, its counters are made
        figures += await bench.round(tenant_ids, tasks, count)
        progress.step()
    return figures


async def memory_of(door: RedisDoor, bench: Bench, count: int, progress: Progress) -> dict[str, float]:
    """What stays in Redis, in bytes, as MEMORY USAGE counts it (the key's own share of the dictionary included)."""
    progress.show("memory in Redis")
    await bench.adopt(["sized"])
    asked = bench.demands(["sized"], count)
    for each in asked:
        await bench.admit(each)
    open_ones = await _bytes_of(door, "run:*") + await _bytes_of(door, "leases")
    for each in asked:
        await bench.settle(each)
    progress.step()
    return {
        "a tenant, with one user, virtual key, feature and model": await _bytes_of(door, "use:*")
        + await _bytes_of(door, "epoch"),
        "a user": await _bytes_of(door, "use:user:*"),
        "an open reservation, its row of 600 bytes included": open_ones / count,
        "what is left of it for an hour": await _bytes_of(door, "run:*") / count,
        "a row in the ledger, of 600 bytes": await _bytes_of(door, "ledger*") / count,
    }


async def _bytes_of(door: RedisDoor, pattern: str) -> int:
    """The sum over the names of the tenant that match."""
    total, cursor = 0, "0"
    for _ in range(1_000_000):
        reply = await door.call("SCAN", cursor, "MATCH", f"tollway:1:{{sized}}:{pattern}", "COUNT", 1_000)
        assert isinstance(reply, list)
        next_cursor, names = reply
        assert isinstance(next_cursor, bytes)
        assert isinstance(names, list)
        for name in names:
            assert isinstance(name, bytes)
            size = await door.call("MEMORY", "USAGE", name, "SAMPLES", 0)
            total += size if isinstance(size, int) else 0
        cursor = next_cursor.decode()
        if cursor == "0":
            return total
    raise AssertionError("SCAN does not end")


async def run(arguments: argparse.Namespace, redis_url: str, folder: Path) -> dict[str, object]:
    """Every figure, and what it was measured on."""
    progress = Progress(7)
    count, tenants = arguments.calls, arguments.tenants
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisDoor(redis_url))
        await redis.call("FLUSHALL")
        bench = Bench("redis", RedisAdmissionStore(redis, adjustment))
        figures = await measure(bench, count, tenants, progress)
        memory = await memory_of(redis, bench, tenants, progress)
        sqlite = await stack.enter_async_context(SqliteDoor(folder / "bench.db"))
        embedded = Bench("sqlite", EmbeddedAdmissionStore(sqlite, Clock(), adjustment))
        figures += await measure(embedded, count, tenants, progress)
    progress.clear()
    return {
        "title": "Admission and settlement, alone",
        "facts": {
            **arguments.machine,
            "load average before": f"{arguments.load_average:.2f} (above 0.1, something else was running too)",
            "layout": arguments.layout,
            "calls that were given up and made again": str(bench.unanswered + embedded.unanswered),
            "calls": f"{count} of each step; five scopes, six buckets, seven windows, a row of 600 bytes",
        },
        "figures": [asdict(figure) for figure in figures],
        "redis_bytes": memory,
    }


def table(document: dict[str, object]) -> str:
    """The figures, one a line."""
    figures, memory = document["figures"], document["redis_bytes"]
    assert isinstance(figures, list)
    assert isinstance(memory, dict)
    heads = ("store", "step", "tenants", "tasks", "p50 ms", "p99 ms", "calls/s", "CPU µs")
    rows = [heads, *(_row(Figure(**figure)) for figure in figures)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", *(f"{size:8,.0f} bytes in Redis: {what}" for what, size in memory.items())])


def _row(figure: Figure) -> tuple[str, ...]:
    times = (f"{figure.p50_ms:.3f}", f"{figure.p99_ms:.3f}", f"{figure.per_s:,.0f}", f"{figure.cpu_us:.0f}")
    return (figure.store, figure.step, f"{figure.tenants:,}", str(figure.tasks), *times)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.admission", description="Admission alone, on both stores."
    )
    parser.add_argument("--redis", metavar="URL", help="a Redis to use, and to empty (default: one of its own)")
    parser.add_argument("--calls", type=int, default=10_000, help="of each step (default: %(default)s)")
    parser.add_argument("--tenants", type=int, default=10_000, help="where there are many (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    return parser.parse_args(argv)


def main() -> int:
    """The command."""
    arguments = parse()
    arguments.load_average = os.getloadavg()[0]
    arguments.machine = machine.describe()  # before this process keeps to one core
    cpus = sorted(os.sched_getaffinity(0))
    arguments.layout = f"this process on core {cpus[0]}, Redis on core {cpus[-1]}"
    with tempfile.TemporaryDirectory(prefix="tollway-bench-") as folder:
        try:
            if arguments.redis is not None:
                arguments.layout = "this process and Redis where the system put them"
                document = _measure(arguments, arguments.redis, Path(folder))
            else:
                os.sched_setaffinity(0, {cpus[-1]})
                with RedisServer() as server:
                    os.sched_setaffinity(0, {cpus[0]})
                    document = _measure(arguments, server.url, Path(folder))
        except StateUnavailable as error:
            print(error.message, file=sys.stderr)
            return 1
    print(document["title"], end="\n\n")
    print(table(document), end="\n\n")
    facts = document["facts"]
    assert isinstance(facts, dict)
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "admission.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0


def _measure(arguments: argparse.Namespace, redis_url: str, folder: Path) -> dict[str, object]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(arguments, redis_url, folder))


if __name__ == "__main__":
    sys.exit(main())
