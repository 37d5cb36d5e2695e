"""A closed loop before one contender and before the upstream, by turns: its throughput, and what it adds to a call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import comparison, rows, setups
from benchmarks.comparison import Pair
from benchmarks.contenders import Contender, Field
from benchmarks.intervals import Interval, median_interval
from benchmarks.latency import MODEL, STREAM_MODEL
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.rows import Row
from benchmarks.targets import cpu_s

KB: Final = 1_024
PLAIN, STREAMS, SLOW = "plain", "streams", "slow streams"
_SLOW_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """How long, and how often."""

    pairs: int
    direct_s: float
    gateway_s: float


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent, and over how many connections."""

    part: str
    name: str
    connections: int
    size_bytes: int = KB
    stream: bool = False
    slow: bool = False  # an event every 10 ms
    tls: bool = False  # to the upstream
    is_main: bool = True  # of those that are compared with everything, and as often as may be

    @property
    def table(self) -> str:
        """Where its rows stand."""
        return SLOW if self.slow else self.part


WORKLOADS: Final = (
    Workload(PLAIN, "1 KB, 1 connection", 1),
    Workload(PLAIN, "1 KB, 32 connections", 32),
    Workload(PLAIN, "1 KB, 256 connections", 256, is_main=False),
    Workload(PLAIN, "100 KB, 32 connections", 32, 100 * KB, is_main=False),
    Workload(PLAIN, "1 MB, 8 connections", 8, KB * KB, is_main=False),
    Workload(PLAIN, "1 KB, 1 connection, TLS upstream", 1, tls=True, is_main=False),
    Workload(PLAIN, "1 KB, 32 connections, TLS upstream", 32, tls=True, is_main=False),
    Workload(STREAMS, "21 events at once, 1 connection", 1, stream=True),
    Workload(STREAMS, "21 events at once, 32 connections", 32, stream=True),
    Workload(STREAMS, "32 streams, an event every 10 ms", 32, stream=True, slow=True, is_main=False),
)


def rounds_of(workload: Workload, field: Field, contender: Contender, pace: Pace) -> tuple[Round, Round]:
    """What goes to the upstream and what to the contender: the same."""
    model = setups.SLOW_MODEL if workload.slow else STREAM_MODEL if workload.stream else MODEL
    sent = setups.differing_body(model, stream=workload.stream, size_bytes=workload.size_bytes)
    direct = field.direct_tls if workload.tls else field.direct
    assert direct is not None
    round_ = Round(
        direct,
        sent,
        contender.token,
        workload.connections,
        pace.direct_s,
        is_numbered=contender.differs,
        ca_file=field.ca_file,
    )
    if workload.slow:
        seconds = max(pace.gateway_s, 5 * _SLOW_S)  # no stream counts that does not begin and end in its round
        round_ = replace(round_, seconds=seconds, warm_up_s=2 * _SLOW_S, spread_s=_SLOW_S, watches_events=True)
        return round_, replace(round_, base_url=contender.base_url)
    return round_, replace(round_, base_url=contender.base_url, seconds=pace.gateway_s)


def measure(
    load: LoadProcess,
    field: Field,
    contender: Contender,
    workload: Workload,
    pace: Pace,
    progress: Callable[[], object],
) -> Row:
    """One row. What cannot be measured is a row that says why."""
    direct, through = rounds_of(workload, field, contender, pace)
    pid = contender.pid
    try:
        pairs = comparison.alternate(
            load, direct, through, pace.pairs, progress, lambda: None if pid is None else cpu_s(pid)
        )
    except LoadFailed as error:
        return Row(workload.table, workload.name, contender.name, {}, 0, 1, note=str(error))
    whole = comparison.compare(contender.name, workload.name, pairs, lambda sample: sample.latencies_ns)
    figures = slow_figures(pairs) if workload.slow else figures_of(whole, pairs)
    failed = next((sample.first_failure for pair in pairs for sample in pair if sample.first_failure), "")
    return Row(
        workload.table,
        workload.name,
        contender.name,
        figures,
        len(pairs),
        whole.failures,
        comparison.busiest_pct(pairs),
        note=failed,
        comparison=whole if workload.is_main else None,
    )


def figures_of(whole: comparison.Comparison, pairs: list[Pair]) -> dict[str, Interval]:
    """Of answers that come as fast as may be."""
    figures = {
        rows.PER_S: whole.gateway_per_s,
        rows.OF_DIRECT: median_interval([100 * through.per_s / straight.per_s for straight, through in pairs]),
        rows.ADDED_P50: whole.added_ms[50],
        rows.ADDED_P99: whole.added_ms[99],
    }
    cpu_us = comparison.cpu_us(pairs)
    if cpu_us is not None:
        core_pct = [through.served_cpu_ns / through.completed * through.per_s / 1e7 for _, through in pairs]
        figures |= {rows.CPU: cpu_us, rows.CORE: median_interval(core_pct)}
    return figures


def slow_figures(pairs: list[Pair]) -> dict[str, Interval]:
    """Of streams that take their time."""
    first = comparison.compare("", "", pairs, lambda sample: sample.first_bytes_ns)
    figures = {rows.FIRST_ADDED_P50: first.added_ms[50], rows.FIRST_ADDED_P99: first.added_ms[99]}
    if all(straight.hops_ns and through.hops_ns for straight, through in pairs):
        event = comparison.compare("", "", pairs, lambda sample: sample.hops_ns)
        figures |= {rows.EVENT_ADDED_P50: event.added_ms[50], rows.EVENT_ADDED_P99: event.added_ms[99]}
    cpu_us = comparison.cpu_us(pairs)
    return figures if cpu_us is None else {**figures, rows.CPU: cpu_us}
