"""Measures how the gateway behaves with many tenants, virtual keys and models: is anything more than a line?

    python -m benchmarks.scale                     # beside the embedded store; four minutes
    python -m benchmarks.scale --redis             # beside a Redis of its own
    python -m benchmarks.scale --quick             # three sizes alone; 40 seconds

Each size has a gateway of its own, on one core. Its calls alternate with those of the smallest one, which runs all the
while; the first line is another gateway of that smallest size, and shows how far the ratios can be trusted.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import machine, scale_picture
from benchmarks.intervals import Interval, median, median_interval, percentile
from benchmarks.load import LoadFailed
from benchmarks.load_process import LoadProcess
from benchmarks.report import Progress
from benchmarks.scaled_gateway import Reloaded, ScaledGateway, Size, scaled_gateway
from benchmarks.targets import StartFailed, free_port, running
from proxy.core.errors import StateUnavailable
from tests.redis_server import RedisServer

SMALLEST: Final = Size(10, 1_000, 10)
SIZES: Final = (
    SMALLEST,
    Size(10, 10_000, 10),
    Size(100, 10_000, 10),
    Size(1_000, 10_000, 10),
    Size(10_000, 10_000, 10),
    Size(10, 100_000, 10),
    Size(10, 1_000, 100),
    Size(10, 1_000, 1_000),
    Size(10_000, 100_000, 1_000),
)
QUICK: Final = (SMALLEST, Size(10_000, 10_000, 10), Size(10_000, 20_000, 1_000))
FEW: Final = 100  # callers whose virtual keys are remembered, as each comes again within the 5 s
MANY: Final = 100_000
_USE_CONNECTIONS: Final = 4  # enough to be quick; with many more, their own memory would be what is seen
_USE_S_MAX: Final = 60.0
_TRIES_MAX: Final = 3
_AGAIN_S: Final = 1.5


class Effort(NamedTuple):
    """How much is done for each size."""

    used: int  # calls, each of another virtual key as far as there are so many
    pairs: int  # of rounds, for each kind of callers
    round_s: float
    reloads: int
    calm_s: float


FULL: Final = Effort(used=4_000, pairs=5, round_s=0.4, reloads=4, calm_s=1.0)
BRIEF: Final = Effort(used=1_000, pairs=2, round_s=0.3, reloads=2, calm_s=0.4)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs at one connection, and that by what it costs in the smallest gateway."""

    cpu_us: Interval
    cpu_ratio: Interval
    p50_ms: Interval
    p50_ratio: Interval


@dataclass(frozen=True, slots=True)
class Line:
    """One size. Milliseconds and megabytes."""

    size: Size
    start_ms: float  # from the start of the process to the first answer
    start_rss_mb: float
    used_rss_mb: float  # after so many calls
    used: int  # virtual keys that have called by then
    few: Cost  # calls of a hundred virtual keys: what is remembered is found
    many: Cost  # calls of all: most of what they need is asked of the store
    reload_ms: float  # the median; until `/readyz` shows the version
    stall_ms: float  # the longest call in a reload; the median of the reloads
    stall_ms_max: float
    refused: int  # calls in all reloads
    reloaded_rss_mb: float
    calm_ms: float  # the longest call in a second without a reload
    scrape_ms: float  # of /metrics

    @property
    def label(self) -> str:
        """Its name: tenants / virtual keys / models."""
        return str(self.size)


class _Round(NamedTuple):
    cpu_us: float
    p50_ms: float


@contextmanager
def _started(size: Size, place: "_Place", name: str) -> Iterator[ScaledGateway]:
    """A gateway with a store of its own."""
    with ExitStack() as stack:
        url = None
        if place.is_redis:
            os.sched_setaffinity(0, {place.load_cpu})  # the server inherits it
            url = stack.enter_context(RedisServer()).url
        folder = place.folder / name
        yield stack.enter_context(scaled_gateway(size, folder, place.gateway_cpu, place.upstream, url))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where it all runs."""

    folder: Path
    gateway_cpu: int
    load_cpu: int
    upstream: str
    is_redis: bool


@contextmanager
def _placed(is_redis: bool) -> Iterator[_Place]:
    """A folder and the simulated provider. Raises StartFailed."""
    cpus = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="tollway-bench-") as folder:
        port = free_port()
        command = ["-m", "benchmarks.simulated_upstream", "--port", str(port)]
        with running("upstream", command, Path(folder), cpus[-1], port):
            os.sched_setaffinity(0, {cpus[-1]})  # this process calls, too
            try:
                yield _Place(Path(folder), cpus[0], cpus[-1], f"http://127.0.0.1:{port}/v1", is_redis)
            finally:
                os.sched_setaffinity(0, cpus)


def measure(place: _Place, load: LoadProcess, sizes: Sequence[Size], effort: Effort, progress: Progress) -> list[Line]:
    """Every size, against the smallest. Raises LoadFailed and StartFailed."""
    lines = []
    with _started(SMALLEST, place, "smallest") as smallest:
        _use(load, smallest, effort)
        for number, size in enumerate(sizes):
            progress.show(str(size))
            with _started(size, place, f"size-{number}") as gateway:
                lines.append(line(load, smallest, gateway, effort))
            progress.step()
    return lines


def line(load: LoadProcess, smallest: ScaledGateway, gateway: ScaledGateway, effort: Effort) -> Line:
    """All that is measured of one size."""
    start_rss_mb = gateway.rss_mb()
    used = _use(load, gateway, effort)
    used_rss_mb = gateway.rss_mb()
    few, many = (_cost(load, smallest, gateway, callers, effort) for callers in (FEW, MANY))
    calm_ms = gateway.watch(effort.calm_s)
    reloads = [gateway.reload() for _ in range(effort.reloads)]
    return Line(
        gateway.size,
        gateway.start_s * 1_000,
        start_rss_mb,
        used_rss_mb,
        used,
        few,
        many,
        *_reloaded(reloads),
        gateway.rss_mb(),
        calm_ms,
        gateway.scrape_ms(),
    )


def _reloaded(reloads: Sequence[Reloaded]) -> tuple[float, float, float, int]:
    stalls_ms = [each.stall_ms for each in reloads]
    in_force_ms = median([each.in_force_ms for each in reloads])
    return in_force_ms, median(stalls_ms), max(stalls_ms), sum(each.refused for each in reloads)


def _use(load: LoadProcess, gateway: ScaledGateway, effort: Effort) -> int:
    """One virtual key after the other calls, one model after the other is called. Gives how many have called."""
    round_ = gateway.round(MANY, seconds=_USE_S_MAX, connections=_USE_CONNECTIONS, seed=None)
    load.run(replace(round_, warm_up_s=0, calls_max=effort.used))
    return min(effort.used, gateway.size.virtual_keys)


def _cost(load: LoadProcess, smallest: ScaledGateway, gateway: ScaledGateway, callers: int, effort: Effort) -> Cost:
    """Rounds of both by turns; the order turns round with each pair."""
    sides = (smallest, gateway)
    for side in sides:
        _play(load, side, callers, effort, seed=0)
    pairs = []
    for seed in range(1, effort.pairs + 1):
        first, second = sides if seed % 2 else sides[::-1]
        played = {id(each): _play(load, each, callers, effort, seed) for each in (first, second)}
        pairs.append((played[id(smallest)], played[id(gateway)]))
    return cost(pairs)


def _play(load: LoadProcess, gateway: ScaledGateway, callers: int, effort: Effort, seed: int) -> _Round:
    """One round; on a busy machine, where a store was not heard for a second, again."""
    for _ in range(_TRIES_MAX - 1):
        try:
            return _play_once(load, gateway, callers, effort, seed)
        except LoadFailed:
            time.sleep(_AGAIN_S)
    return _play_once(load, gateway, callers, effort, seed)


def _play_once(load: LoadProcess, gateway: ScaledGateway, callers: int, effort: Effort, seed: int) -> _Round:
    before_ns = gateway.cpu_ns()
    sample = load.run(gateway.round(callers, seconds=effort.round_s, connections=1, seed=seed))
    cpu_us = (gateway.cpu_ns() - before_ns) / 1_000 / sample.completed
    return _Round(cpu_us, percentile(sorted(sample.latencies_ns), 50) / 1e6)


def cost(pairs: Sequence[tuple[_Round, _Round]]) -> Cost:
    """The medians of the rounds, and of the ratios of neighbouring ones."""
    return Cost(
        median_interval([there.cpu_us for _, there in pairs]),
        median_interval([there.cpu_us / here.cpu_us for here, there in pairs]),
        median_interval([there.p50_ms for _, there in pairs]),
        median_interval([there.p50_ms / here.p50_ms for here, there in pairs]),
    )


# ── what follows from it ─────────────────────────────────────────────────────────────────


def growth(lines: Sequence[Line]) -> dict[str, float]:
    """What one more of each adds, in KB, between the ends of its curve. A caller is a virtual key that was used, with
    its tenant: of both gateways that are compared, as many calls were made."""
    by_size = {each.size: each for each in lines}
    found: dict[str, float] = {}
    for name, low, high in (
        ("a tenant in the file", Size(10, 10_000, 10), Size(10_000, 10_000, 10)),
        ("a virtual key in the store", SMALLEST, Size(10, 100_000, 10)),
        ("a model in the file", SMALLEST, Size(10, 1_000, 1_000)),
    ):
        if low in by_size and high in by_size:
            more = max(b - a for a, b in zip(low, high, strict=True))
            found[name] = 1_000 * (by_size[high].start_rss_mb - by_size[low].start_rss_mb) / more
    wide = by_size.get(Size(10_000, 10_000, 10))
    if SMALLEST in by_size and wide is not None and wide.used > by_size[SMALLEST].used:
        small = by_size[SMALLEST]
        grown_mb = (wide.used_rss_mb - wide.start_rss_mb) - (small.used_rss_mb - small.start_rss_mb)
        found["a tenant and its virtual key, once used"] = 1_000 * grown_mb / (wide.used - small.used)
    return found


COLUMNS: Final = (
    "tenants / keys / models",
    "start ms",
    "MB at start",
    "MB used",
    "MB reloaded",
    "reload ms",
    "stall ms",
    "worst",
    "calm ms",
    "CPU µs",
    "× smallest",
    "p50 ms",
    "× smallest",
    "CPU, all ×",
    "p50, all ×",
    "scrape ms",
)


def cells(each: Line) -> tuple[str, ...]:
    """One row of the table."""
    return (
        each.label,
        f"{each.start_ms:,.0f}",
        *(f"{mb:.1f}" for mb in (each.start_rss_mb, each.used_rss_mb, each.reloaded_rss_mb)),
        *(f"{ms:.0f}" for ms in (each.reload_ms, each.stall_ms, each.stall_ms_max, each.calm_ms)),
        f"{each.few.cpu_us.value:.0f}",
        _interval(each.few.cpu_ratio),
        f"{each.few.p50_ms.value:.3f}",
        _interval(each.few.p50_ratio),
        _interval(each.many.cpu_ratio),
        _interval(each.many.p50_ratio),
        f"{each.scrape_ms:.1f}",
    )


def _interval(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def table(lines: Sequence[Line]) -> str:
    """The sizes, one a line, for a terminal."""
    rows = [COLUMNS, *map(cells, lines)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    shown = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def markdown(lines: Sequence[Line]) -> str:
    """The same, for a document."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def publish(lines: Sequence[Line], facts: dict[str, str], folder: Path) -> None:
    """Print it; write it as Markdown, JSON and a picture."""
    title = "Many tenants, virtual keys and models"
    grown = growth(lines)
    said = [
        *(f"{what}: {kb:.2f} KB" for what, kb in grown.items()),
        *(f"{fact}: {value}" for fact, value in facts.items()),
    ]
    print(f"{title}\n\n{table(lines)}\n\n{chr(10).join(said)}")
    folder.mkdir(parents=True, exist_ok=True)
    listed = "\n".join(f"- {each}" for each in said)
    document = {"title": title, "facts": facts, "growth_kb": grown, "lines": [asdict(each) for each in lines]}
    written = {
        "scale.md": f"# {title}\n\n{markdown(lines)}\n\n{listed}\n",
        "scale.json": json.dumps(document, indent=2) + "\n",
        "scale.svg": scale_picture.draw(title, lines, facts),
    }
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"\nwritten: {', '.join(str(folder / name) for name in written)}")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="Many tenants, virtual keys and models, against few."
    )
    parser.add_argument("--redis", action="store_true", help="state in a Redis of each gateway's own, not in SQLite")
    parser.add_argument("--quick", action="store_true", help="three sizes and short rounds: 40 seconds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    return parser.parse_args(argv)


def main() -> int:
    """The command."""
    arguments = parse()
    sizes, effort = (QUICK, BRIEF) if arguments.quick else (SIZES, FULL)
    facts = {**machine.describe(), "load average before": f"{os.getloadavg()[0]:.2f} (above 0.1: not alone)"}
    progress = Progress(len(sizes))
    try:
        with _placed(arguments.redis) as place, LoadProcess(place.load_cpu) as load:
            lines = measure(place, load, sizes, effort, progress)
    except (LoadFailed, StartFailed, StateUnavailable) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    facts |= {
        "layout": f"gateways (1 process each) on core {place.gateway_cpu}, the rest on core {place.load_cpu}; "
        f"state in {'Redis' if place.is_redis else 'SQLite'}",
        "used": f"after {effort.used:,} calls, each of the next virtual key, by turns of the tenants and models",
        "callers": f"{FEW} virtual keys, and all, at random; every model, at random; 1 connection; "
        f"{effort.pairs} pairs of rounds of {effort.round_s:g} s",
        "reloads": f"{effort.reloads} of each, one call after the other meanwhile; "
        f"refused in all of them: {sum(each.refused for each in lines)}",
    }
    publish(lines, facts, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
