"""Measures what one tenant's flood costs the others: their time to the first byte, and whether theirs are refused.

    python -m benchmarks.isolation                      # about 80 seconds
    python -m benchmarks.isolation --times 200 --rounds 3

A gateway with room for so many calls at once, before the simulated provider, and streams of different lengths. Three
kinds of rounds by turns: each tenant sends its share of 40 % of what there is room for (calm); one of them sends
50 times that (flood); all of them together send as much as in the flood, each the same (even). Exits with 1 where the
flood costs the others a fifth of their time to the first byte, or one answer.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks import machine
from benchmarks.comparison import NS_PER_MS
from benchmarks.intervals import Interval, median_interval, percentile
from benchmarks.latency import body
from benchmarks.load import LoadFailed
from benchmarks.open_loop import Seen, Storm, play
from benchmarks.report import Progress
from benchmarks.targets import StartFailed, Targets, own_targets

FIRST_MS: Final = 200
EVENTS: Final = 5  # two pieces of text, the role, the finish and [DONE]
EVERY_MS: Final = range(5, 56, 2)
"""Between events. Calls of one length would end together and begin together, ever again: no place in between."""

MODELS: Final = tuple(f"simulated-first{FIRST_MS}ms-every{each}ms-{EVENTS - 3}chunks" for each in EVERY_MS)
CALL_S: Final = (FIRST_MS + (EVENTS - 1) * sum(EVERY_MS) / len(EVERY_MS)) / 1_000
BUSY: Final = 0.4  # of the places, in a calm round
WARM_UP_S: Final = 0.8
GROWTH_PCT_MAX: Final = 20.0
FLOOD: Final = "flood"
KINDS: Final = ("calm", "flood", "even")

CONFIGURATION: Final = """\
[server]
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:{admin_port}"
drain_s = 1
in_flight_max = PLACES

[state]
folder = "{folder}"

[auth]
mode = "trusted-headers"
default_provider = "bench"

[providers.bench]
dialect = "openai"
base_url = "{upstream}"
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One group of tenants in one kind of round. Milliseconds; each value is the median of its rounds."""

    kind: str
    who: str
    per_s: float  # calls that were sent
    answered_pct: float
    refused: int  # 429 and 503, in all rounds
    failed: int  # anything else that is not 200
    first_byte_ms: dict[int, Interval]  # by percentile


@dataclass(frozen=True, slots=True)
class Group:
    """What was seen of several tenants in one round."""

    statuses: Mapping[int, int]
    first_bytes_ns: Sequence[int]  # ascending

    def first_byte_ms(self, pct: int) -> float:
        """The time to the first byte that so many per cent did not exceed. Raises LoadFailed: there was no answer."""
        if not self.first_bytes_ns:
            raise LoadFailed("no call was answered in a whole round")
        return percentile(self.first_bytes_ns, pct) / NS_PER_MS


@dataclass(frozen=True, slots=True)
class Played:
    """One round."""

    others: Group
    flood: Group  # the tenant that floods, if any does
    busy_pct: float  # of its core, for the gateway


def rates(kind: str, places: int, tenants: int, times: int) -> dict[str, float]:
    """How many calls a second each tenant sends, in that kind of round."""
    share_per_s = BUSY * places / CALL_S / tenants
    others = [f"tenant_{number}" for number in range(1, tenants)]
    if kind == "even":
        share_per_s *= (times + tenants - 1) / tenants
    return {FLOOD: share_per_s * (times if kind == "flood" else 1), **dict.fromkeys(others, share_per_s)}


def together(seen: Mapping[str, Seen], *, flood: bool) -> Group:
    """The tenant that floods, or all the others."""
    chosen = [each for tenant_id, each in seen.items() if (tenant_id == FLOOD) is flood]
    statuses: dict[int, int] = {}
    for each in chosen:
        for status, count in each.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return Group(statuses, sorted(ns for each in chosen for ns in each.first_bytes_ns))


def line(kind: str, who: str, rounds: Sequence[Group], seconds: float) -> Line:
    """One row of the table."""
    sent = [sum(group.statuses.values()) for group in rounds]
    answered = [group.statuses.get(200, 0) for group in rounds]
    refused = [group.statuses.get(429, 0) + group.statuses.get(503, 0) for group in rounds]
    return Line(
        kind,
        who,
        sum(sent) / seconds / len(rounds),
        100 * sum(answered) / sum(sent),
        sum(refused),
        sum(sent) - sum(answered) - sum(refused),
        {pct: median_interval([group.first_byte_ms(pct) for group in rounds]) for pct in (50, 90, 99)},
    )


def growth_pct(flooded: Sequence[Group], other: Sequence[Group]) -> Interval:
    """By how much the p99 to the first byte is greater, in per cent, for each pair of neighbouring rounds."""
    return median_interval(
        [100 * (a.first_byte_ms(99) / b.first_byte_ms(99) - 1) for a, b in zip(flooded, other, strict=True)]
    )


def measure(arguments: argparse.Namespace, at: Targets, progress: Progress) -> dict[str, list[Played]]:
    """All rounds, by kind. Their order turns round, so that a machine that grows slower favours none.

    Raises:
        LoadFailed: the gateway does not answer as it should.
    """
    found: dict[str, list[Played]] = {kind: [] for kind in KINDS}
    bodies = [body(model, stream=True) for model in MODELS]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for number in range(arguments.rounds):
            for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
                progress.show(kind)
                per_s = rates(kind, arguments.places, arguments.tenants, arguments.times)
                storm = Storm(at.gateway, bodies, per_s, arguments.seconds, WARM_UP_S, seed=number)
                before_s, began_s = at.gateway_cpu_s() or 0.0, time.monotonic()
                seen = runner.run(play(storm))
                busy_pct = 100 * ((at.gateway_cpu_s() or 0.0) - before_s) / (time.monotonic() - began_s)
                found[kind].append(Played(together(seen, flood=False), together(seen, flood=True), busy_pct))
                progress.step()
    return found


def table(lines: Sequence[Line]) -> str:
    """One line for each group of tenants in each kind of round."""
    head = (
        "round",
        "tenants",
        "sent/s",
        "answered",
        "refused",
        "failed",
        *(f"p{pct} ms" for pct in (50, 90, 99)),
        "[95 % CI]",
    )
    rows = [head, *(_cells(each) for each in lines)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    shown = [
        "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([shown[0], "  ".join("-" * width for width in widths), *shown[1:]])


def _cells(each: Line) -> tuple[str, ...]:
    p99 = each.first_byte_ms[99]
    return (
        *(
            each.kind,
            each.who,
            f"{each.per_s:,.0f}",
            f"{each.answered_pct:.1f} %",
            f"{each.refused:,}",
            f"{each.failed:,}",
        ),
        *(f"{each.first_byte_ms[pct].value:.1f}" for pct in (50, 90, 99)),
        f"[{p99.low:.1f}, {p99.high:.1f}]",
    )


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.isolation", description="What one tenant's flood costs the others."
    )
    parser.add_argument("--places", type=int, default=100, help="[server] in_flight_max (default: %(default)s)")
    parser.add_argument(
        "--tenants", type=int, default=20, help="how many, with the one that floods (default: %(default)s)"
    )
    parser.add_argument("--times", type=int, default=50, help="its share is sent so many times (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="of each kind (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="that are measured of each round (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), help="where isolation.json is written")
    return parser.parse_args(argv)


def main() -> int:
    """The command."""
    arguments = parse()
    progress = Progress(len(KINDS) * arguments.rounds)
    try:
        with own_targets(template=CONFIGURATION.replace("PLACES", str(arguments.places))) as at:
            facts = {**machine.describe(), "layout": at.layout, "load average before": f"{at.load_average:.2f}"}
            if at.load_cpu is not None:
                os.sched_setaffinity(0, {at.load_cpu})
            played = measure(arguments, at, progress)
        others = {kind: [each.others for each in rounds] for kind, rounds in played.items()}
        lines = [line(kind, "the others", others[kind], arguments.seconds) for kind in KINDS]
        lines.insert(2, line("flood", "the one", [each.flood for each in played["flood"]], arguments.seconds))
        growths = {kind: growth_pct(others["flood"], others[kind]) for kind in ("calm", "even")}
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    busiest = (f"{kind} {max(each.busy_pct for each in rounds):.0f} %" for kind, rounds in played.items())
    facts["gateway's core, at most"] = f"{', '.join(busiest)} (near 100, the figures show the processor, not the queue)"
    return publish(arguments, lines, growths, facts)


def publish(
    arguments: argparse.Namespace, lines: Sequence[Line], growths: Mapping[str, Interval], facts: Mapping[str, str]
) -> int:
    """Print the table and what follows from it; write it as JSON. Gives the exit code."""
    print(f"One of {arguments.tenants} tenants sends {arguments.times} times its share; time to the first byte\n")
    print(table(lines), end="\n\n")
    for kind, growth in growths.items():
        print(f"the others' p99, against {kind} rounds: {growth.value:+.1f} % [{growth.low:+.1f}, {growth.high:+.1f}]")
    theirs = next(each for each in lines if (each.kind, each.who) == ("flood", "the others"))
    holds = (
        not theirs.refused and not theirs.failed and all(growth.value < GROWTH_PCT_MAX for growth in growths.values())
    )
    print(f"of theirs refused or failed: {theirs.refused + theirs.failed}")
    print(f"below {GROWTH_PCT_MAX:.0f} % and none refused: the promise {'holds' if holds else 'does not hold'}\n")
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(arguments).items() if name != "out"}
    document = {
        "settings": settings,
        "facts": dict(facts),
        "lines": [asdict(each) for each in lines],
        "p99_growth_pct": {kind: growth._asdict() for kind, growth in growths.items()},
        "holds": holds,
    }
    path = arguments.out / "isolation.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten: {path}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
