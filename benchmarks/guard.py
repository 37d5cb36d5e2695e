"""Fails where a call has become dearer: what passthrough costs the processor, beside what a bare relay costs it.

    python -m benchmarks.guard               # some 30 seconds; exits with 1 where the ratio has grown
    python -m benchmarks.guard --update      # what is measured now is the baseline

A ratio, because machines differ; processor time, because they are shared; by turns in one run, because they change.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks import contenders, machine, setups
from benchmarks.contenders import BareRelay, Contender, Tollway
from benchmarks.intervals import Interval, median, median_interval
from benchmarks.latency import MODEL, body
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.report import Progress
from benchmarks.targets import StartFailed, cores, cpu_s

BASELINE: Final = Path(__file__).resolve().parent / "baseline.json"
CONNECTIONS: Final = 32
PAIRS: Final = 9
PAIRS_MIN: Final = 5
ROUND_S: Final = 1.2
WARM_UP_S: Final = 1.0
MARGIN_PCT: Final = 25.0
LOAD_AVERAGE_MAX: Final = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run says. The times are for comparison by eye; the ratio is what counts."""

    ratio: Interval
    passthrough_us: float
    relay_us: float
    python: str
    python_build: str
    cpu: str
    date: str
    load_average: float  # before


def holds(ratio: Interval, baseline: float, margin_pct: float) -> bool:
    """Whether it may be as low as is allowed. Noise alone is no failure, so its lower bound decides."""
    assert baseline > 0
    return ratio.low <= baseline * (1 + margin_pct / 100)


def measure(load: LoadProcess, relay: Contender, gateway: Contender, pairs: int, progress: Progress) -> Measured:
    """The processor time of both for a call, by turns. Raises LoadFailed."""
    load_average = os.getloadavg()[0]
    for warm_up in (relay, gateway):
        load.run(_round(warm_up, WARM_UP_S))
    found: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2:
            gateway_us = _us_a_call(load, gateway)
            found.append((_us_a_call(load, relay), gateway_us))
        else:
            found.append((_us_a_call(load, relay), _us_a_call(load, gateway)))
        progress.step()
    facts = machine.describe()
    return Measured(
        median_interval([gateway_us / relay_us for relay_us, gateway_us in found]),
        round(median([gateway_us for _, gateway_us in found]), 1),
        round(median([relay_us for relay_us, _ in found]), 1),
        facts["python"],
        facts["python build"],
        facts["cpu"],
        facts["date"],
        round(load_average, 2),
    )


def _us_a_call(load: LoadProcess, contender: Contender) -> float:
    assert contender.pid is not None
    before_s = cpu_s(contender.pid)
    sample = load.run(_round(contender, ROUND_S))
    if sample.failures:
        raise LoadFailed(f"{contender.name}: {sample.failures} calls failed: {sample.first_failure}")
    return 1e6 * (cpu_s(contender.pid) - before_s) / sample.completed


def _round(contender: Contender, seconds: float) -> Round:
    return Round(contender.base_url, body(MODEL, stream=False), contender.token, CONNECTIONS, seconds)


def run(pairs: int, progress: Progress) -> Measured:
    """Start both, and measure them. Raises StartFailed, LoadFailed."""
    own_cores = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollway-guard-")))
        field = stack.enter_context(
            contenders.field(folder, own_cores, direct=None, upstream_port=None, redis=False, tls=False)
        )
        load = stack.enter_context(LoadProcess(own_cores[1]))
        relay = stack.enter_context(BareRelay().started(field))
        gateway = stack.enter_context(Tollway(setups.PASSTHROUGH, contenders.SQLITE).started(field))
        return measure(load, relay, gateway, pairs, progress)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard", description="Fails where a plain call costs more processor time than it did."
    )
    parser.add_argument("--update", action="store_true", help="write the baseline instead")
    parser.add_argument(
        "--margin-pct", type=float, default=MARGIN_PCT, help="by how much it may be above it (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=PAIRS, help="rounds of each (default: %(default)s)")
    parser.add_argument(
        "--baseline", type=Path, default=BASELINE, metavar="FILE", help="default: benchmarks/baseline.json"
    )
    arguments = parser.parse_args(argv)
    if arguments.pairs < PAIRS_MIN:
        parser.error(f"--pairs: at least {PAIRS_MIN}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """The command. 0: it holds; 1: it does not; 2: it could not be measured."""
    arguments = parse(argv)
    progress = Progress(arguments.pairs)
    progress.show("a bare relay and passthrough, by turns")
    try:
        measured = run(arguments.pairs, progress)
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 2
    progress.clear()
    return verdict(measured, arguments)


def verdict(measured: Measured, arguments: argparse.Namespace) -> int:
    """Say what was measured, and what follows; or keep it."""
    ratio = measured.ratio
    print(
        f"processor time of a plain call: passthrough {measured.passthrough_us:.0f} µs, bare relay "
        f"{measured.relay_us:.0f} µs; {ratio.value:.2f} times as much [{ratio.low:.2f}, {ratio.high:.2f}]"
    )
    if measured.load_average > LOAD_AVERAGE_MAX:
        print(
            f"note: the load average was {measured.load_average:.1f} before. Where others are at work the ratio grows, "
            "since they empty the processor's caches, and a relay needs little of them."
        )
    if arguments.update:
        text = json.dumps({**asdict(measured), "ratio": dict(ratio._asdict())}, indent=2)
        arguments.baseline.write_text(text + "\n", encoding="utf-8")
        print(f"written: {arguments.baseline}")
        return 0
    try:
        baseline = json.loads(arguments.baseline.read_text(encoding="utf-8"))
        known = float(baseline["ratio"]["value"])
    except (OSError, ValueError, KeyError) as error:
        print(f"{arguments.baseline} is no baseline ({error!r}): write one with --update.", file=sys.stderr)
        return 2
    if (measured.python, measured.python_build) != (baseline.get("python"), baseline.get("python_build")):
        print(f"note: the baseline is of {baseline.get('python')}, {baseline.get('python_build')}")
    good = holds(ratio, known, arguments.margin_pct)
    allowed = known * (1 + arguments.margin_pct / 100)
    sign = "≤" if good else ">"
    print(f"baseline {known:.2f}, and {arguments.margin_pct:g} % more is allowed: {ratio.low:.2f} {sign} {allowed:.2f}")
    print(
        "It holds." if good else "A plain call has become dearer. If that is meant: python -m benchmarks.guard --update"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
