"""What the measurement of the capacity says: the goals, every row, the machine; on the terminal and on the disk."""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import machine, rows
from benchmarks.arriving import OPEN
from benchmarks.closed import PLAIN, SLOW, STREAMS
from benchmarks.many_streams import MANY
from benchmarks.picture import draw
from benchmarks.rows import Goal, Row, goals_table, part_table
from benchmarks.starting import NAME as START_NAME
from benchmarks.starting import START
from tests.redis_server import find_redis_server

TITLE: Final = "What the gateway takes, and what it adds"
_NOTHING, _ALL = "passthrough, SQLite", "everything, Redis"
_ONE, _MANY = "1 KB, 1 connection", "1 KB, 32 connections"
_SLOW_ONES: Final = "32 streams, an event every 10 ms"
_CROWD: Final = "5,000 streams, an event every second"
GOALS: Final = (
    Goal("passthrough, 32 connections", PLAIN, _MANY, _NOTHING, rows.PER_S, 20_000, at_least=True),
    Goal("passthrough, 1 connection", PLAIN, _ONE, _NOTHING, rows.ADDED_P50, 0.12),
    Goal("everything on Redis, 32 connections", PLAIN, _MANY, _ALL, rows.PER_S, 12_000, at_least=True),
    Goal("everything on Redis, 1 connection", PLAIN, _ONE, _ALL, rows.ADDED_P50, 0.25),
    Goal("everything on Redis, 1 connection", PLAIN, _ONE, _ALL, rows.ADDED_P99, 1.0),
    Goal(
        "streams of 21 events, everything on Redis",
        STREAMS,
        "21 events at once, 32 connections",
        _ALL,
        rows.PER_S,
        4_000,
        at_least=True,
    ),
    Goal("32 slow streams, everything on Redis", SLOW, _SLOW_ONES, _ALL, rows.FIRST_ADDED_P99, 2.0),
    Goal("32 slow streams, everything on Redis", SLOW, _SLOW_ONES, _ALL, rows.EVENT_ADDED_P99, 2.0),
    Goal("5,000 open streams, everything on Redis", MANY, _CROWD, _ALL, rows.STREAM_KB, 20),
    Goal("5,000 open streams, everything on Redis", MANY, _CROWD, _ALL, rows.EVENT_P99, 20),
    Goal("everything on Redis", START, START_NAME, _ALL, rows.IDLE_MB, 60),
    Goal("everything on Redis", START, START_NAME, _ALL, rows.START_S, 0.6),
)
BOOKS: Final = "books"
HEADINGS: Final = {
    PLAIN: "Plain calls, a closed loop",
    STREAMS: "Streams, a closed loop",
    SLOW: "Streams that take their time",
    BOOKS: "The books of it: answered calls, warm-ups included, and what `tollway usage` says of them afterwards",
    OPEN: "Arrivals at a rate: time from when a call was due to its last byte",
    MANY: "Open streams",
    START: "Start and memory",
}
_VERSION_S_MAX: Final = 10.0


def before(layout: str) -> dict[str, str]:
    """The circumstances, as they are at first."""
    versions = [machine_version("nginx", "-v")]
    with contextlib.suppress(RuntimeError):  # there is none
        versions.append(machine_version(str(find_redis_server()), "--version"))
    return {
        "command": f"python -m benchmarks.capacity {' '.join(sys.argv[1:])}".strip(),
        **machine.describe(),
        "others": "; ".join(each for each in (*versions, ssl.OPENSSL_VERSION) if each),
        "layout": layout,
        "load average before": f"{os.getloadavg()[0]:.2f} (above 0.1, something else was running too)",
    }


def after(found: Sequence[Row], began_s: float, stolen_before_s: float) -> dict[str, str]:
    """What can be said at the end."""
    took_s = time.monotonic() - began_s
    stolen_pct = 100 * (stolen_s() - stolen_before_s) / took_s / (os.cpu_count() or 1)
    direct_per_s = {
        row.workload: row.comparison.direct_per_s.value for row in found if row.comparison is not None
    }  # of whoever came last
    ceilings = "; ".join(f"{name}: {per_s:,.0f}/s" for name, per_s in direct_per_s.items())
    busiest_pct = max((row.generator_busy_pct for row in found), default=0.0)
    return {
        "ceiling of the load generator and the upstream": ceilings or "not measured",
        "the load generator used, at most": f"{busiest_pct:.0f} % of its core (the upstream is on the same one)",
        "taken from this machine by its host": f"{stolen_pct:.1f} % of the time",
        "failed": f"{sum(row.failures for row in found):,}",
        "took": f"{took_s / 60:.1f} minutes",
    }


def stolen_s() -> float:
    """Time for which the machine's processors ran for somebody else, so far: proc(5), `steal` of all of them."""
    first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    return int(first[8]) / os.sysconf("SC_CLK_TCK")


def machine_version(program: str, option: str) -> str:
    """What a program says of itself; nothing where there is none."""
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, option], capture_output=True, text=True, timeout=_VERSION_S_MAX, check=False)
    said = (done.stdout or done.stderr).strip().removeprefix("nginx version: ")
    return " ".join(said.split()[:3]) if said.startswith("Redis") else said


def page(found: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Everything, as Markdown."""
    lines = [f"# {TITLE}", ""]
    lines += [f"Measured {datetime.now(UTC):%Y-%m-%d} by `{facts['command']}`. What the figures mean, and what they do"]
    lines += ["not, is in [docs/benchmarks.md](../docs/benchmarks.md)."]
    lines += ["", "## Goals", "", goals_table(GOALS, found)]
    for part, heading in HEADINGS.items():
        of_part = sorted((row for row in found if row.part == part), key=lambda row: _order(row, found))
        if of_part:
            lines += ["", f"## {heading}", "", part_table(of_part)]
    lines += ["", "## The machine", "", *(f"- {name}: {value}" for name, value in facts.items() if name != "command")]
    return "\n".join(lines) + "\n"


def _order(row: Row, found: Sequence[Row]) -> int:
    """Rows of one workload side by side, in the order in which workloads and contenders came."""
    workloads = list(dict.fromkeys(each.workload for each in found if each.part == row.part))
    return workloads.index(row.workload)


def publish(found: Sequence[Row], facts: Mapping[str, str], folder: Path, results: Path | None) -> None:
    """Print the page, and write it, the figures and the picture."""
    text = page(found, facts)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {suffix: folder / f"capacity.{suffix}" for suffix in ("md", "json", "svg")}
    goals = []
    for goal in GOALS:
        row = goal.row(found)
        goals.append({**asdict(goal), "reached": row and row.figures[goal.figure], "holds": row and goal.holds(row)})
    document = {"title": TITLE, "facts": dict(facts), "goals": goals, "rows": [asdict(row) for row in found]}
    written = [paths["md"], paths["json"]]
    paths["md"].write_text(text, encoding="utf-8")
    paths["json"].write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    comparisons = [row.comparison for row in found if row.comparison is not None]
    if comparisons:
        paths["svg"].write_text(draw(TITLE, comparisons, facts), encoding="utf-8")
        written.append(paths["svg"])
    if results is not None:
        results.write_text(text, encoding="utf-8")
        written.append(results)
    print(f"written: {', '.join(map(str, written))}")
