"""Times a piece of pure work in turn with the parse of the bytes that it is about.

That ratio is the same on every machine, and the microseconds are not.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.intervals import percentile
from proxy.core import jsonio

BATCH: Final = 50


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Microseconds; `ratio` to parsing the same bytes, of the medians."""

    what: str
    size_bytes: int
    p50_us: float
    p99_us: float
    parse_p50_us: float
    ratio: float


def measure(what: str, data: bytes, work: Callable[[], object], rounds: int, *, of: int = 1) -> Figure:
    """Time the work and the parse of the same bytes in turn; `of`: how many things one run of the work does."""
    for _ in range(BATCH):
        work()
    times_us: list[float] = []
    parses_us: list[float] = []
    for _ in range(rounds):
        times_us.append(_timed_us(work) / of)
        parses_us.append(_timed_us(lambda: jsonio.parse(data)))
    times_us.sort()
    parses_us.sort()
    p50_us, parse_us = percentile(times_us, 50), percentile(parses_us, 50)
    return Figure(what, len(data), p50_us, percentile(times_us, 99), parse_us, p50_us / parse_us)


def _timed_us(work: Callable[[], object]) -> float:
    began_ns = time.perf_counter_ns()
    for _ in range(BATCH):
        work()
    return (time.perf_counter_ns() - began_ns) / 1e3 / BATCH


def table(figures: Sequence[Figure]) -> str:
    """The figures, one a line."""
    heads = ("what", "bytes", "p50 µs", "p99 µs", "parse µs", "times the parse")
    rows = [
        heads,
        *(
            (f.what, str(f.size_bytes), f"{f.p50_us:.1f}", f"{f.p99_us:.1f}", f"{f.parse_p50_us:.1f}", f"{f.ratio:.1f}")
            for f in figures
        ),
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def write(figures: Sequence[Figure], folder: Path, name: str) -> Path:
    """The figures and the machine, as JSON; where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    document = {"machine": machine.describe(), "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
