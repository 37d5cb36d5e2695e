"""From the start of a process to its first good answer, and its memory: idle after that, and 5 s after a load."""

import time
from collections.abc import Callable
from typing import Final

from benchmarks import rows
from benchmarks.closed import WORKLOADS, Pace, rounds_of
from benchmarks.contenders import Candidate, Field
from benchmarks.intervals import exactly, median_interval
from benchmarks.load import LoadFailed
from benchmarks.load_process import LoadProcess
from benchmarks.rows import Row
from benchmarks.targets import StartFailed, rss_mb

START: Final = "start"
NAME: Final = "start, and memory"
IDLE_S: Final = 1.0
AFTER_S: Final = 5.0
LOAD_S: Final = 3.0


def measure(
    load: LoadProcess, field: Field, candidate: Candidate, starts: int, progress: Callable[[], object]
) -> Row | None:
    """One row; None where the process is not ours to start. The first start is not counted: others then find
    what it has compiled and issued."""
    figures, took_s = {}, []
    try:
        for number in range(starts + 1):
            began_s = time.monotonic()
            with candidate.started(field) as contender:
                if contender.pid is None:
                    return None
                if number:
                    took_s.append(time.monotonic() - began_s)
                if number == starts:
                    time.sleep(IDLE_S)
                    figures[rows.IDLE_MB] = exactly(rss_mb(contender.pid))
                    workload = next(each for each in WORKLOADS if each.connections == 32)
                    load.run(rounds_of(workload, field, contender, Pace(1, LOAD_S, LOAD_S))[1])
                    time.sleep(AFTER_S)
                    figures[rows.LOADED_MB] = exactly(rss_mb(contender.pid))
            progress()
    except (StartFailed, LoadFailed) as error:
        return Row(START, NAME, candidate.name, {}, 0, 1, note=str(error))
    return Row(START, NAME, candidate.name, {rows.START_S: median_interval(took_s), **figures}, starts)
