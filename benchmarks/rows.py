"""What was measured, as rows of named figures, and as Markdown. Pure.

A figure's name ends in its unit. Each has its median over rounds, and the bounds of 95 % confidence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.comparison import Comparison
from benchmarks.intervals import Interval

PER_S: Final = "requests/s"
OF_DIRECT: Final = "of direct, %"
ADDED_P50: Final = "added p50, ms"
ADDED_P99: Final = "added p99, ms"
CPU: Final = "CPU a call, µs"
CORE: Final = "its core, %"
FIRST_ADDED_P50: Final = "first byte, added p50, ms"
FIRST_ADDED_P99: Final = "first byte, added p99, ms"
EVENT_ADDED_P50: Final = "each event, added p50, ms"
EVENT_ADDED_P99: Final = "each event, added p99, ms"
EVENT_P50: Final = "each event p50, ms"
EVENT_P99: Final = "each event p99, ms"
EVENTS_S: Final = "events/s"
STREAM_KB: Final = "memory a stream, KB"
SENT: Final = "sent/s"
DUE_P50: Final = "p50, ms"
DUE_P99: Final = "p99, ms"
DUE_P999: Final = "p99.9, ms"
LATE_P99: Final = "generator late p99, ms"
START_S: Final = "first answer, s"
IDLE_MB: Final = "idle, MB"
ANSWERED: Final = "answered calls"
LEDGER_ROWS: Final = "rows in the ledger"
LEDGER_USD: Final = "their cost, $"
LOADED_MB: Final = "5 s after load, MB"


@dataclass(frozen=True, slots=True)
class Row:
    """One workload, before one of those that were measured."""

    part: str
    workload: str
    who: str
    figures: Mapping[str, Interval]
    rounds: int
    failures: int = 0
    generator_busy_pct: float = 0.0  # of its core, at most
    note: str = ""  # what failed
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What one figure should be. It counts by its median; the interval says how sure that is."""

    what: str
    part: str
    workload: str
    who: str
    figure: str
    bound: float
    at_least: bool = field(default=False, kw_only=True)

    def row(self, rows: Iterable[Row]) -> Row | None:
        """Where the figure stands; None where it was not measured."""
        place = (self.part, self.workload, self.who)
        return next(
            (row for row in rows if (row.part, row.workload, row.who) == place and self.figure in row.figures), None
        )

    def holds(self, row: Row) -> bool:
        """Whether that is good enough, with no call failed."""
        value = row.figures[self.figure].value
        return not row.failures and (value >= self.bound if self.at_least else value <= self.bound)


def goals_table(goals: Sequence[Goal], rows: Sequence[Row]) -> str:
    """Each goal, what was reached, and whether that will do."""
    lines = [("goal", "bound", "reached [95 % CI]", "holds")]
    for goal in goals:
        row = goal.row(rows)
        bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:,g}"
        said = ("not measured", "")
        if row is not None:
            failed = f", {row.failures:,} calls failed" if row.failures else ""
            said = (shown(row.figures[goal.figure]) + failed, "yes" if goal.holds(row) else "**no**")
        lines.append((f"{goal.what}: {goal.figure}", bound, *said))
    return markdown(lines)


def part_table(rows: Sequence[Row]) -> str:
    """The rows of one part, and below it what failed. Columns are the figures that any of them has."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [("workload", "", *names, "rounds", "failed")]
    for row in rows:
        cells = [shown(row.figures[name]) if name in row.figures else "" for name in names]
        lines.append((row.workload, row.who, *cells, str(row.rounds), f"{row.failures:,}"))
    notes = [f"- {row.workload}, {row.who}: {row.note}" for row in rows if row.note]
    return "\n".join((markdown(lines), *(["", "Failed:", "", *notes] if notes else [])))


def shown(interval: Interval) -> str:
    """A figure with its bounds, to three digits or so."""
    if interval.low == interval.high:  # there was one round
        return _digits(interval.value)
    return f"{_digits(interval.value)} [{_digits(interval.low)}, {_digits(interval.high)}]"


def _digits(value: float) -> str:
    size = abs(value)
    if value == int(value):
        return f"{value:,.0f}"
    return (
        f"{value:,.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table that reads as well unrendered. The first line is its head."""
    widths = [max(2, *(len(line[at]) for line in lines)) for at in range(len(lines[0]))]
    rule = [":" + "-" * (width - 1) if at < 2 else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    padded = [
        [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (padded[0], rule, *padded[1:]))
