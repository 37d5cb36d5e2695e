"""Measures what a gateway adds to a call: against a direct call, by turns, in one run.

    python -m benchmarks.latency                                  # this gateway and the simulated provider
    python -m benchmarks.latency --gateway URL --direct URL       # any gateway, and the upstream behind it

Plain and streamed calls of about 1 KB, at one connection and at many. What each figure
means, and what it does not, stands in docs/benchmarks.md.
"""

import argparse
import json
import sys
from typing import Final

from benchmarks import comparison, report
from benchmarks.comparison import Comparison, Pair
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.targets import StartFailed, Targets, add_arguments, targets

BODY_BYTES: Final = 1_024
MODEL: Final = "simulated"
STREAM_MODEL: Final = "simulated-18chunks"  # 21 events with the role, the finish and [DONE]
ROUND_S: Final = 0.8
PAIRS_MIN: Final = 3


def body(model: str, *, stream: bool, size_bytes: int = BODY_BYTES) -> bytes:
    """A chat completion's body of about that size."""
    document = {"model": model, "stream": stream, "messages": [{"role": "user", "content": ""}]}
    missing = max(0, size_bytes - len(json.dumps(document)))
    document["messages"] = [{"role": "user", "content": ("What does a tollway cost? " * missing)[:missing]}]
    return json.dumps(document).encode()


def measure(
    arguments: argparse.Namespace, at: Targets, load: LoadProcess, progress: report.Progress
) -> tuple[list[Comparison], dict[str, str]]:
    """Every workload by turns. Gives the comparisons and their circumstances. Raises LoadFailed."""
    found: list[Comparison] = []
    cpu: list[str] = []
    busiest_pct = 0.0
    pairs_count = pairs_of(arguments.seconds)
    for stream in (False, True):
        model = arguments.model or (STREAM_MODEL if stream else MODEL)
        sent = body(model, stream=stream)
        for connections in arguments.connections:
            workload = f"{'stream' if stream else 'plain'}, {connections} connection{'s' if connections > 1 else ''}"
            progress.show(workload)
            direct = Round(at.direct, sent, arguments.token, connections, ROUND_S)
            gateway = Round(at.gateway, sent, arguments.token, connections, ROUND_S)
            pairs = comparison.alternate(load, direct, gateway, pairs_count, progress.step)
            found += compared(workload, pairs, stream=stream)
            busiest_pct = max(busiest_pct, comparison.busiest_pct(pairs))
            cpu_us = cpu_us_per_request(at, load, gateway)
            if cpu_us is not None:
                cpu.append(f"{workload}: {cpu_us:.0f} µs")
    facts = report.circumstances(at, found, ROUND_S, busiest_pct)
    return found, {**facts, **({"gateway CPU per request": "; ".join(cpu)} if cpu else {})}


def cpu_us_per_request(at: Targets, load: LoadProcess, gateway: Round) -> float | None:
    """The gateway's own CPU time for one request; None where its process is not ours to see.

    Of all figures the one that a busy machine disturbs least. Raises LoadFailed.
    """
    before_s = at.gateway_cpu_s()
    sample = load.run(gateway)
    after_s = at.gateway_cpu_s()
    if before_s is None or after_s is None:
        return None
    return 1_000_000 * (after_s - before_s) / sample.completed


def compared(workload: str, pairs: list[Pair], *, stream: bool) -> list[Comparison]:
    """The measures of one workload: to the last byte, and for a stream to its first as well."""
    whole = comparison.compare(workload, "to the last byte", pairs, lambda sample: sample.latencies_ns)
    if not stream:
        return [whole]
    first = comparison.compare(workload, "to the first body byte", pairs, lambda sample: sample.first_bytes_ns)
    return [first, whole]


def pairs_of(seconds: float) -> int:
    """How many rounds on each side make up so many seconds."""
    return max(PAIRS_MIN, round(seconds / ROUND_S))


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description="What a gateway adds to a call, against a direct call, by turns in one run. "
        "Without addresses: this gateway, in passthrough mode, before the simulated provider.",
    )
    add_arguments(parser)
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="to measure each workload, on each side (default: %(default)s)"
    )
    parser.add_argument(
        "--connections", type=_counts, default=[1, 32], metavar="1,32", help="how many at a time (default: 1,32)"
    )
    return parser.parse_args(argv)


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if not counts or min(counts) < 1:
        raise ValueError(text)
    return counts


def main() -> int:
    """The command."""
    arguments = parse()
    progress = report.Progress(2 * len(arguments.connections) * pairs_of(arguments.seconds))
    try:
        with targets(arguments) as at, LoadProcess(at.load_cpu) as load:
            found, facts = measure(arguments, at, load, progress)
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    report.publish("latency", "Added latency against a direct call", found, facts, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
