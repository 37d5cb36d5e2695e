"""Calls that arrive at a rate, whatever becomes of those before: at 25, 50 and 75 % of what was managed just now."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import rows
from benchmarks.closed import WORKLOADS, Pace, rounds_of
from benchmarks.comparison import NS_PER_MS
from benchmarks.contenders import Contender, Field
from benchmarks.intervals import Interval, exactly, median, median_interval, percentile
from benchmarks.load import LoadFailed
from benchmarks.load_process import LoadProcess
from benchmarks.open_loop import Seen, Storm, play
from benchmarks.rows import Row

OPEN: Final = "open"
PARTS_PCT: Final = (25, 50, 75)
CAPACITY_ROUNDS: Final = 3
WARM_UP_S: Final = 0.3
_ANYBODY: Final = ""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One round."""

    seen: Seen
    busy_pct: float  # of its core, for the generator

    @property
    def failures(self) -> int:
        """How many were not answered well."""
        return self.seen.sent - self.seen.statuses[200]

    def ms(self, pct: float) -> float:
        """From when a call was due to its last byte."""
        return percentile(sorted(self.seen.latencies_ns), pct) / NS_PER_MS

    def late_ms(self, pct: float) -> float:
        """By how much a call left after it was due."""
        return percentile(sorted(self.seen.lates_ns), pct) / NS_PER_MS


def name_of(pct: int) -> str:
    """As the tables call it."""
    return f"1 KB, {pct} % of capacity"


def measure(
    load: LoadProcess,
    runner: asyncio.Runner,
    field: Field,
    contender: Contender,
    pace: Pace,
    progress: Callable[[], object],
) -> list[Row]:
    """One row for each part of the capacity, which is measured first."""
    workload = next(each for each in WORKLOADS if each.connections == 32)
    _, through = rounds_of(workload, field, contender, pace)
    try:
        load.run(replace(through, seconds=0.5))
        capacity_per_s = median([load.run(through).per_s for _ in range(CAPACITY_ROUNDS)])
    except LoadFailed as error:
        return [Row(OPEN, name_of(pct), contender.name, {}, 0, 1, note=str(error)) for pct in PARTS_PCT]
    found = []
    for pct in PARTS_PCT:
        per_s = capacity_per_s * pct / 100
        pairs: list[tuple[Arrived, Arrived]] = []
        try:
            for number in range(pace.pairs):
                storms = [
                    Storm(url, [through.body], {_ANYBODY: per_s}, pace.gateway_s, WARM_UP_S, number, contender.token)
                    for url in (field.direct, contender.base_url)
                ]
                if number % 2:
                    last = _play(runner, storms[1])
                    pairs.append((_play(runner, storms[0]), last))
                else:
                    pairs.append((_play(runner, storms[0]), _play(runner, storms[1])))
                progress()
            found.append(row(name_of(pct), contender.name, per_s, pairs))
        except LoadFailed as error:
            found.append(Row(OPEN, name_of(pct), contender.name, {}, len(pairs), 1, note=str(error)))
    return found


def row(workload: str, who: str, per_s: float, pairs: Sequence[tuple[Arrived, Arrived]]) -> Row:
    """What the rounds say. Raises LoadFailed: in one of them no call was answered."""
    for each in (each for pair in pairs for each in pair):
        if not each.seen.latencies_ns:
            raise LoadFailed(f"no call was answered well in a whole round: by status, {dict(each.seen.statuses)}")

    def added(pct: float) -> Interval:
        return median_interval([through.ms(pct) - direct.ms(pct) for direct, through in pairs])

    figures = {
        rows.SENT: exactly(per_s),
        rows.DUE_P50: median_interval([through.ms(50) for _, through in pairs]),
        rows.DUE_P99: median_interval([through.ms(99) for _, through in pairs]),
        rows.DUE_P999: median_interval([through.ms(99.9) for _, through in pairs]),
        rows.ADDED_P50: added(50),
        rows.ADDED_P99: added(99),
        rows.LATE_P99: median_interval([through.late_ms(99) for _, through in pairs]),
    }
    failures = sum(each.failures for pair in pairs for each in pair)
    note = ", ".join(sorted({str(status) for _, each in pairs for status in each.seen.statuses if status != 200}))
    busy_pct = max(each.busy_pct for pair in pairs for each in pair)
    return Row(OPEN, workload, who, figures, len(pairs), failures, busy_pct, note and f"statuses {note}")


def _play(runner: asyncio.Runner, storm: Storm) -> Arrived:
    busy_s, began_s = time.process_time(), time.monotonic()
    seen = runner.run(play(storm))
    return Arrived(seen[_ANYBODY], 100 * (time.process_time() - busy_s) / (time.monotonic() - began_s))
