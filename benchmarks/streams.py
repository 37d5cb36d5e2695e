"""Measures what a gateway adds to a slow stream: an event every 20 ms, 32 streams at once.

    python -m benchmarks.streams                                  # this gateway and the simulated provider
    python -m benchmarks.streams --gateway URL --direct URL       # any gateway, and the upstream behind it

The upstream writes into each event when it was sent (a comment; `--stamp-events`), so that an event's way
through the gateway is timed by itself. Where no such comment arrives, only the gaps between
events are compared.
"""

import argparse
import sys
from dataclasses import replace
from typing import Final

from benchmarks import comparison, report
from benchmarks.comparison import Comparison, Pair
from benchmarks.latency import body
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.targets import StartFailed, add_arguments, targets

MODEL: Final = "simulated-every20ms-18chunks"  # 21 events, 0.4 s
STREAM_S: Final = 0.4
ROUND_S: Final = 2.0
PAIRS_MIN: Final = 3


def compared(workload: str, pairs: list[Pair]) -> list[Comparison]:
    """To the first byte; each event's own way, or the gaps between events."""
    found = [comparison.compare(workload, "to the first body byte", pairs, lambda sample: sample.first_bytes_ns)]
    if all(straight.hops_ns and through.hops_ns for straight, through in pairs):
        found.append(comparison.compare(workload, "each event's way", pairs, lambda sample: sample.hops_ns))
    found.append(comparison.compare(workload, "gap between events", pairs, lambda sample: sample.gaps_ns))
    return found


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.streams",
        description="What a gateway adds to the events of slow streams, against a direct call, by turns in one run. "
        "Without addresses: this gateway, in passthrough mode, before the simulated provider.",
    )
    add_arguments(parser)
    parser.add_argument("--streams", type=int, default=32, help="how many at a time (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure on each side (default: %(default)s)")
    return parser.parse_args(argv)


def main() -> int:
    """The command."""
    arguments = parse()
    pairs_count = max(PAIRS_MIN, round(arguments.seconds / ROUND_S))
    workload = f"{arguments.streams} streams, an event every 20 ms"
    progress = report.Progress(pairs_count)
    try:
        with targets(arguments, stamps_events=True) as at, LoadProcess(at.load_cpu) as load:
            progress.show(workload)
            sent = body(arguments.model or MODEL, stream=True)
            round_ = Round("", sent, arguments.token, arguments.streams, ROUND_S, 2 * STREAM_S, STREAM_S, True)
            direct, gateway = (replace(round_, base_url=url) for url in (at.direct, at.gateway))
            pairs = comparison.alternate(load, direct, gateway, pairs_count, progress.step)
            found = compared(workload, pairs)
            facts = report.circumstances(at, found, ROUND_S, comparison.busiest_pct(pairs))
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    report.publish("streams", "Added delay of a stream's events, against a direct call", found, facts, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
