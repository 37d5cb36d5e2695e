"""Shows what each stage of a call costs inside the gateway, so that what has grown slower has a name.

    python -m benchmarks.stages

The same load goes to the gateway as it is, and to one with a stopwatch on its stages (`benchmarks.staged_gateway`
lists them): its own processor time for a call, by stage, and what is left is the event loop's and the kernel's.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.latency import MODEL, STREAM_MODEL, body
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.report import Progress
from benchmarks.targets import StartFailed, Targets, own_targets

ROUND_S: Final = 3.0
WARM_UP_S: Final = 1.0
_WRITTEN_S_MAX: Final = 5.0
_POLL_S: Final = 0.02
REST: Final = "the event loop, the kernel, what has no name here"


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage has of a call."""

    name: str
    entered: float  # times a call
    us: float


@dataclass(frozen=True, slots=True)
class Staged:
    """One workload's."""

    workload: str
    cpu_us: float  # the gateway's processor time for a call, as it is
    watched_cpu_us: float  # with the stopwatch
    stages: tuple[Stage, ...]


def measure(load: LoadProcess, workload: str, connections: int, progress: Progress) -> Staged:
    """Both gateways, one after the other. Raises LoadFailed, StartFailed."""
    stream = workload == "stream"
    sent = body(STREAM_MODEL if stream else MODEL, stream=stream)
    progress.show(f"{workload}, as it is")
    with own_targets() as at:
        cpu_us, _ = _cpu_us(at, load, Round(at.gateway, sent, "sk-benchmark", connections, ROUND_S))
    progress.step()
    progress.show(f"{workload}, by stages")
    with tempfile.TemporaryDirectory(prefix="tollway-stages-") as name:
        gateway = ("-m", "benchmarks.staged_gateway", name)
        with own_targets(gateway=gateway) as at:
            found = Path(name) / "stages.json"
            watched_cpu_us, completed = _cpu_us(
                at, load, Round(at.gateway, sent, "sk-benchmark", connections, ROUND_S), watched=True
            )
            assert at.gateway_pid is not None
            os.kill(at.gateway_pid, signal.SIGUSR2)
            clock_us, stages = _stages(found, completed)
    progress.step()
    rest_us = max(0.0, watched_cpu_us - clock_us - sum(each.us for each in stages))
    found_us = rest_us + sum(each.us for each in stages)
    # The stopwatch shows the shares; the process without it, what they are shares of.
    share = cpu_us / found_us
    shown = tuple(Stage(each.name, each.entered, each.us * share) for each in (*stages, Stage(REST, 1, rest_us)))
    return Staged(workload, cpu_us, watched_cpu_us, shown)


def _cpu_us(at: Targets, load: LoadProcess, round_: Round, *, watched: bool = False) -> tuple[float, int]:
    """Processor time for a call, and how many there were."""
    load.run(Round(round_.base_url, round_.body, round_.token, round_.connections, WARM_UP_S))
    assert at.gateway_pid is not None
    if watched:
        os.kill(at.gateway_pid, signal.SIGUSR1)
    before_s = at.gateway_cpu_s() or 0.0
    sample = load.run(round_)
    after_s = at.gateway_cpu_s() or 0.0
    if sample.failures:
        raise LoadFailed(f"{sample.failures} calls failed: {sample.first_failure}")
    return 1e6 * (after_s - before_s) / sample.completed, sample.completed


def _stages(path: Path, completed: int) -> tuple[float, tuple[Stage, ...]]:
    """What the stopwatch itself took of a call, and the stages."""
    until_s = time.monotonic() + _WRITTEN_S_MAX
    while time.monotonic() < until_s:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or not whole yet
            time.sleep(_POLL_S)
        else:
            own_us: dict[str, tuple[int, float]] = found["own_us"]
            stages = [Stage(name, entered / completed, us / completed) for name, (entered, us) in own_us.items()]
            return found["clock_us"] / completed, tuple(stages)
    raise StartFailed("The gateway did not write down its stages.")


def table(found: list[Staged]) -> str:
    """The workloads side by side, in microseconds of a call."""
    names = [each.name for each in found[0].stages]
    rows = [("stage", *(f"{each.workload}: times" for each in found), *(f"{each.workload}: µs" for each in found))]
    for at, name in enumerate(names):
        stages = [each.stages[at] for each in found]
        if any(stage.entered for stage in stages):
            rows.append((name, *(f"{stage.entered:.2f}" for stage in stages), *(f"{stage.us:.1f}" for stage in stages)))
    rows.append(("in all", *("" for _ in found), *(f"{each.cpu_us:.1f}" for each in found)))
    rows.append(("in all, with the stopwatch", *("" for _ in found), *(f"{each.watched_cpu_us:.1f}" for each in found)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join((lines[0], "  ".join("-" * width for width in widths), *lines[1:]))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stages", description="What each stage of a call costs inside the gateway."
    )
    parser.add_argument("--connections", type=int, default=32, help="calls at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    arguments = parser.parse_args()
    progress = Progress(4)
    try:
        with LoadProcess(max(os.sched_getaffinity(0))) as load:
            found = [measure(load, workload, arguments.connections, progress) for workload in ("plain", "stream")]
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    print(table(found))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "stages.json"
    document = {"machine": machine.describe(), "workloads": [asdict(each) for each in found]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
