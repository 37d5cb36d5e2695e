"""Thousands of open streams with an event a second each: the memory that each takes, and the delay of each event.

They are opened gradually, and hung up when they have been looked at. The upstream writes into each event when it was
sent, and both processes read the same monotonic clock.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from benchmarks import rows, setups
from benchmarks.comparison import NS_PER_MS
from benchmarks.contenders import Contender
from benchmarks.intervals import Interval, exactly, median_interval, percentile
from benchmarks.latency import STREAM_MODEL, body
from benchmarks.load import LoadFailed, Round, Sample
from benchmarks.load_process import LoadProcess
from benchmarks.rows import Row
from benchmarks.targets import rss_mb

MANY: Final = "many-streams"
DIRECT: Final = "direct"
SLICES: Final = 10  # of the measured time, in which percentiles are taken apart
FILES_SPARE: Final = 500
_FEW: Final = 64
_SETTLE_S: Final = 1.0  # after the last was opened


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many streams, and how long they are looked at."""

    streams: int
    open_s: float
    seconds: float

    @property
    def name(self) -> str:
        """As the tables call it."""
        return f"{self.streams:,} streams, an event every second"


def allow_files(streams: int) -> None:
    """Let this process, and those that it starts, have enough of them: a gateway has two for a stream.

    Raises:
        LoadFailed: the system does not allow so many.
    """
    wanted = 2 * streams + FILES_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise LoadFailed(f"{streams:,} streams need {wanted:,} open files, and the system allows {hard:,} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def measure(load: LoadProcess, contender: Contender, crowd: Crowd, progress: Callable[[], object]) -> Row:
    """One row. What cannot be measured is a row that says why."""
    sent = body(setups.LONG_MODEL, stream=True)
    many = Round(
        contender.base_url,
        sent,
        contender.token,
        crowd.streams,
        crowd.seconds,
        crowd.open_s + _SETTLE_S,
        crowd.open_s,
        watches_events=True,
        abandons=True,
    )
    # At first a few: memory that any call needs, once, is not the streams'.
    few = replace(
        many, body=body(STREAM_MODEL, stream=True), connections=_FEW, seconds=1.0, warm_up_s=0.1, spread_s=0.0
    )
    try:
        load.run(replace(few, watches_events=False, abandons=False))
        before_mb = None if contender.pid is None else rss_mb(contender.pid)
        load.begin(many)
        time.sleep(many.warm_up_s + crowd.seconds / 2)
        during_mb = None if contender.pid is None else rss_mb(contender.pid)
        sample = load.end(many)
    except LoadFailed as error:
        return Row(MANY, crowd.name, contender.name, {}, 0, 1, note=str(error))
    finally:
        progress()
    figures = event_figures(sample)
    if before_mb is not None and during_mb is not None and not sample.failures:  # else there were fewer streams
        figures[rows.STREAM_KB] = exactly(1_000 * (during_mb - before_mb) / crowd.streams)
    busy_pct = 100 * sample.busy_ns / sample.elapsed_ns
    return Row(MANY, crowd.name, contender.name, figures, SLICES, sample.failures, busy_pct, sample.first_failure)


def event_figures(sample: Sample) -> dict[str, Interval]:
    """Percentiles of the events' ways, in each slice of time; their medians."""
    size = max(1, len(sample.hops_ns) // SLICES)
    slices = [sorted(sample.hops_ns[at : at + size]) for at in range(0, len(sample.hops_ns) - size + 1, size)]
    figures = {
        name: median_interval([percentile(each, pct) / NS_PER_MS for each in slices])
        for name, pct in ((rows.EVENT_P50, 50), (rows.EVENT_P99, 99))
    }
    return {rows.EVENTS_S: exactly(len(sample.hops_ns) * 1e9 / sample.elapsed_ns), **figures}
