"""A process that ends at the worst moment: nothing stays held, and each call has its one row.

Small in `make test`. `TOLLWAY_CRASHES=50` kills as many processes under load, on each store.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from proxy.adapters.redis import RedisDoor
from tests.keeper_process import CALLERS, POINTS
from tests.keepers import HELD_NUSD, keeping, redis_place, sqlite_place, until

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 2.0
CRASHES = int(os.environ.get("TOLLWAY_CRASHES", "2"))
BOUND_S = 30


@pytest.fixture(params=["redis", "sqlite"])
async def store(request, tmp_path):
    """Its name for a process, and the place for us."""
    folder = tmp_path / "journal"
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        async with RedisDoor(url) as door:
            await door.call("FLUSHALL")
        async with redis_place(url, folder) as place:
            yield url, place
    else:
        async with sqlite_place(tmp_path / "tollway.db", folder) as place:
            yield str(tmp_path / "tollway.db"), place


class Process:
    """One of those, and what its callers were told before it ended."""

    def __init__(self, store_name: str, folder: Path, point: str) -> None:
        self._told = folder.parent / f"told-{time.monotonic_ns()}"
        typed = [sys.executable, "-m", "tests.keeper_process", store_name, str(folder), point, str(LEASE_S)]
        with self._told.open("wb") as output:
            self._process = subprocess.Popen(typed, cwd=ROOT, stdout=output)

    def has_begun(self) -> bool:
        return self._told.stat().st_size > 0

    def ended(self) -> int:
        return self._process.wait(BOUND_S)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(BOUND_S)

    def lines(self, word: str) -> list[list[str]]:
        """What follows the word, of each whole line that begins with it."""
        *whole, _torn = self._told.read_text().split("\n")
        return [line.split()[1:] for line in whole if line.split()[0] == word]


async def nothing_is_held(place, tenants: Iterable[str]) -> bool:
    return all([(await place.total(tenant_id))[1:] == (0, 0) for tenant_id in tenants])


async def check(place, processes: list[Process], tenant_id: str = "acme") -> None:
    """I6 and I9: one terminal row for each acknowledged admission, and the rows' sum is what is spent."""
    rows = [row.split() for row in await place.rows(tenant_id)]
    assert await place.total(tenant_id) == (sum(int(cost) for _, _, cost in rows), 0, 0)
    terminal = [run_id for kind, run_id, _ in rows if kind in ("row", "worst")]
    assert len(terminal) == len(set(terminal))
    spent_nusd: Counter[str] = Counter()  # a lease that ran out on a busy machine was corrected
    for _, run_id, cost in rows:
        spent_nusd[run_id] += int(cost)
    for process in processes:
        let_go = {run_id for (run_id,) in process.lines("let-go")}
        charged_nusd = {run_id: int(cost) for run_id, cost in process.lines("charged")}
        admitted = {run_id for (run_id,) in process.lines("admitted")}
        assert admitted - let_go - set(terminal) == set()
        # What was said within the last turn of the loop may not have been written down: that is
        # charged at the worst case, as any call of which nobody knows how it ended.
        unwritten = [run_id for run_id, cost_nusd in charged_nusd.items() if spent_nusd[run_id] != cost_nusd]
        assert len(unwritten) <= CALLERS
        assert {spent_nusd[run_id] for run_id in [*unwritten, *(let_go & set(terminal))]} <= {HELD_NUSD}


async def freed_within(place, ended_s: float, tenants: Iterable[str] = ("acme",)) -> float:
    """With another process there: seconds from the end of the last one until nothing is held."""
    async with keeping(place, lease_s=LEASE_S):
        await until(lambda: nothing_is_held(place, tenants), BOUND_S)
        return time.monotonic() - ended_s


async def test_a_process_that_ends_at_any_point_leaves_no_hold_and_one_row_a_call(store):
    store_name, place = store
    points = [point for point in POINTS if point != "load"]
    processes = {point: Process(store_name, place.folder, point) for point in points}  # all at once
    assert [await asyncio.to_thread(process.ended) for process in processes.values()] == [9] * len(points)
    took_s = await freed_within(place, time.monotonic(), points)
    for point, process in processes.items():
        await check(place, [process], point)
        rows = dict(row.split()[1::-1] for row in await place.rows(point))
        # Once its end is written down it is charged what it cost; before, what it could have cost at most.
        is_known = point in ("settling", "answered", "settled")
        assert rows == {"open-1": "worst", "open-2": "worst", "a": "row" if is_known else "worst"}, point
        assert (["a"] in process.lines("admitted")) == (point != "admitting"), point
    print(f"free {took_s:.1f} s after the last one's end, of a lease of {LEASE_S:.0f} s")
    assert took_s < LEASE_S + 2 + 5  # lease + 2 s, on a busy machine


@pytest.mark.timeout(60 + CRASHES * 2 * BOUND_S)
async def test_processes_that_are_killed_under_load(store):
    seed = int(os.environ.get("TOLLWAY_STORM_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    dice = random.Random(seed)
    store_name, place = store
    processes, slowest_s = [], 0.0
    for _ in range(CRASHES):
        process = Process(store_name, place.folder, "load")
        await until(process.has_begun, BOUND_S)
        await asyncio.sleep(dice.random() * 0.5)
        process.kill()
        slowest_s = max(slowest_s, await freed_within(place, time.monotonic()))
        processes.append(process)
        await check(place, processes)
    print(f"{CRASHES} killed: free {slowest_s:.1f} s after the end at most, of a lease of {LEASE_S:.0f} s")
    assert slowest_s < LEASE_S + 2 + 5
