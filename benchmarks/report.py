"""Shows what was measured: a table on the terminal, JSON and a picture on disk, progress meanwhile."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, TextIO

from benchmarks import machine
from benchmarks.comparison import PCTS, Comparison
from benchmarks.intervals import Interval
from benchmarks.picture import draw
from benchmarks.targets import Targets

_COLUMNS: Final = ("workload", "measure", "direct p50", "gateway p50", *(f"added p{pct} [95 % CI]" for pct in PCTS))
_RATES: Final = ("direct req/s", "gateway req/s")


class Progress:
    """A bar that redraws itself on a terminal, and is silent elsewhere."""

    def __init__(self, steps: int, stream: TextIO = sys.stderr) -> None:
        self._steps, self._done = steps, 0
        self._stream = stream
        self._label = ""

    def show(self, label: str) -> None:
        """Name what is going on."""
        self._label = label
        self._draw()

    def step(self) -> None:
        """One of the steps is done."""
        self._done += 1
        self._draw()

    def clear(self) -> None:
        """Leave the line empty."""
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self) -> None:
        if not self._stream.isatty():
            return
        filled = 30 * self._done // max(1, self._steps)
        self._stream.write(f"\r\x1b[K[{'#' * filled}{'.' * (30 - filled)}] {self._label}")
        self._stream.flush()


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparisons in milliseconds, one a line."""
    rows = [(*_COLUMNS, *_RATES), *(_row(comparison) for comparison in comparisons)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(_aligned(cell, width, at) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _aligned(cell: str, width: int, at: int) -> str:
    return cell.ljust(width) if at < 2 else cell.rjust(width)


def _row(comparison: Comparison) -> tuple[str, ...]:
    return (
        comparison.workload,
        comparison.measure,
        f"{comparison.direct_ms[50].value:.3f}",
        f"{comparison.gateway_ms[50].value:.3f}",
        *(_interval(comparison.added_ms[pct]) for pct in PCTS),
        f"{comparison.direct_per_s.value:,.0f}",
        f"{comparison.gateway_per_s.value:,.0f}",
    )


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def circumstances(at: Targets, comparisons: Sequence[Comparison], round_s: float, busiest_pct: float) -> dict[str, str]:
    """What the figures were measured on, and how."""
    rss_mb = at.gateway_rss_mb()
    return {
        **machine.describe(),
        "layout": at.layout,
        "load average before": f"{at.load_average:.2f} (above 0.1, something else was running too)",
        "rounds": f"{comparisons[0].rounds} on each side, {round_s:g} s each, by turns; medians over rounds",
        "ceiling": "the direct figures are the load generator's and the upstream's own; "
        f"the generator used at most {busiest_pct:.0f} % of a core",
        "failures": str(sum(comparison.failures for comparison in comparisons)),
        **({} if rss_mb is None else {"gateway memory": f"{rss_mb:.0f} MB"}),
    }


def publish(name: str, title: str, comparisons: Sequence[Comparison], facts: Mapping[str, str], folder: Path) -> None:
    """Print the table with its circumstances; write `name`.json and `name`.svg."""
    print(title, end="\n\n")
    print(table(comparisons), end="\n\n")
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    folder.mkdir(parents=True, exist_ok=True)
    document = {"title": title, "facts": dict(facts), "comparisons": [asdict(comparison) for comparison in comparisons]}
    data_path, picture_path = folder / f"{name}.json", folder / f"{name}.svg"
    data_path.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")
    picture_path.write_text(draw(title, comparisons, facts), encoding="utf-8")
    print(f"\nwritten: {data_path}, {picture_path}")
