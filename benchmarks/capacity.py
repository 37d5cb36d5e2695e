"""Measures the gateway with nothing on and with everything, so that somebody who doubts it can see for himself.

    python -m benchmarks.capacity                                     # some eleven minutes
    python -m benchmarks.capacity --quick                             # two: to see that it works
    python -m benchmarks.capacity --against other=http://127.0.0.1:4000/v1 --upstream-port 9000

Plain calls and streams in a closed loop, arrivals at a rate, five thousand open streams, the start and the memory; each
beside direct calls in the same run, and beside the least that nginx and Python can do on this machine. What the
figures mean, and what they do not, stands in docs/benchmarks.md.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop

from benchmarks import arriving, closed, contenders, findings, many_streams, rows, setups, starting
from benchmarks.closed import PLAIN, STREAMS, WORKLOADS, Pace, Workload
from benchmarks.contenders import STORES, TOKEN, BareRelay, Candidate, Contender, Field, Given, Nginx, Tollway
from benchmarks.intervals import exactly
from benchmarks.load import LoadFailed
from benchmarks.load_process import LoadProcess
from benchmarks.many_streams import Crowd
from benchmarks.report import Progress
from benchmarks.rows import Row
from benchmarks.targets import StartFailed, cores, layout_of

PARTS: Final = (PLAIN, STREAMS, arriving.OPEN, many_streams.MANY, starting.START)
_LEFT_OUT_IF_QUICK: Final = "21 events at once, 1 connection"


class Plan:
    """What will be measured, of whom, and how often."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.parts: list[str] = arguments.only
        self.is_quick: bool = arguments.quick
        self.has_tls = arguments.direct is None
        self.pace = Pace(3, 0.3, 0.5) if self.is_quick else Pace(5, 0.4, 1.0)
        self.side_pace = Pace(2, 0.3, 0.4) if self.is_quick else Pace(3, 0.4, 1.0)
        self.open_pace = Pace(1, 0.0, 0.6) if self.is_quick else Pace(3, 0.0, 1.2)
        self.starts = 1 if self.is_quick else 5
        streams = arguments.streams
        self.crowd = Crowd(streams, streams / 400, 3.0) if self.is_quick else Crowd(streams, streams / 250, 8.0)
        self.candidates = contenders.chosen(
            arguments.modes or setups.MODES,
            arguments.stores or STORES,
            arguments.against,
            floors=not arguments.no_floors,
        )
        if self.is_quick:
            self.candidates = [each for each in self.candidates if not self._is_beside_the_point(each, arguments)]

    @staticmethod
    def _is_beside_the_point(candidate: Candidate, arguments: argparse.Namespace) -> bool:
        """Where there is little time: nginx, and of this gateway what nobody asked for and no goal is about."""
        if isinstance(candidate, Nginx):
            return True
        if not isinstance(candidate, Tollway) or arguments.modes or arguments.stores:
            return False
        return (candidate.mode, candidate.store) not in (
            (setups.PASSTHROUGH, contenders.SQLITE),
            (setups.EVERYTHING, contenders.REDIS),
        )

    def workloads(self, part: str, candidate: Candidate) -> list[Workload]:
        """Those of a part that this one gets: with everything, or as far as it says something."""
        return [each for each in WORKLOADS if each.part == part and self._takes(candidate, each)]

    def _takes(self, candidate: Candidate, workload: Workload) -> bool:
        if workload.tls and not (candidate.speaks_tls and self.has_tls):
            return False
        if self.is_quick and not workload.slow and (not workload.is_main or workload.name == _LEFT_OUT_IF_QUICK):
            return False
        if self._is_variant(candidate):
            return workload.is_main and not workload.stream
        return True

    def of(self, part: str) -> list[Candidate]:
        """Whom a part measures: all of them the plain calls, and the rest those of whom it says something."""
        if part == PLAIN:
            return self.candidates
        found = [each for each in self.candidates if not (self.is_quick and isinstance(each, BareRelay))]
        if part == STREAMS:
            return [each for each in found if self.workloads(part, each)]
        found = [each for each in found if not isinstance(each, Nginx) and not self._is_variant(each)]
        if part == starting.START:
            return [each for each in found if not isinstance(each, Given)]
        if part == many_streams.MANY and Tollway(setups.EVERYTHING, contenders.REDIS) in found:
            return [each for each in found if each != Tollway(setups.EVERYTHING, contenders.SQLITE)]
        return found

    @staticmethod
    def _is_variant(candidate: Candidate) -> bool:
        return isinstance(candidate, Tollway) and candidate.mode == setups.MISSES

    def steps(self) -> int:
        """How many the progress has."""
        count = 0
        for part in self.parts:
            for candidate in self.of(part):
                if part in (PLAIN, STREAMS):
                    count += sum(self.pace_of(each).pairs for each in self.workloads(part, candidate))
                else:
                    count += {arriving.OPEN: 3 * self.open_pace.pairs, starting.START: self.starts + 1}.get(part, 1)
        return count

    def pace_of(self, workload: Workload) -> Pace:
        """How often and how long."""
        return self.pace if workload.is_main else self.side_pace


def measure(plan: Plan, field: Field, load: LoadProcess, progress: Progress) -> Iterator[Row]:
    """Every row, part by part. Raises StartFailed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for part in plan.parts:
            if part == many_streams.MANY:
                many_streams.allow_files(plan.crowd.streams)
                progress.show(f"{part}, direct")
                yield many_streams.measure(load, Contender("direct", field.direct, TOKEN), plan.crowd, lambda: None)
            for candidate in plan.of(part):
                progress.show(f"{part}, {candidate.name}")
                with contenders.emptied(field, part) as own:
                    yield from _of_one(part, plan, candidate, own, load, runner, progress)


def _of_one(
    part: str,
    plan: Plan,
    candidate: Candidate,
    field: Field,
    load: LoadProcess,
    runner: asyncio.Runner,
    progress: Progress,
) -> Iterator[Row]:
    if part == starting.START:
        found = starting.measure(load, field, candidate, plan.starts, progress.step)
        if found is not None:
            yield found
        return
    if part == arriving.OPEN or part == many_streams.MANY:
        with candidate.started(field) as contender:
            if part == arriving.OPEN:
                yield from arriving.measure(load, runner, field, contender, plan.open_pace, progress.step)
            else:
                yield many_streams.measure(load, contender, plan.crowd, progress.step)
        return
    answered = failures = 0
    for tls in (False, True):
        workloads = [each for each in plan.workloads(part, candidate) if each.tls is tls]
        if workloads:
            with candidate.started(field, tls=tls) as contender:
                for workload in workloads:
                    row = closed.measure(load, field, contender, workload, plan.pace_of(workload), progress.step)
                    failures += row.failures
                    yield row
                answered += load.completed[contender.base_url] + 1  # one was asked for to see that it answers
    if part == PLAIN and isinstance(candidate, Tollway) and candidate.keeps_books:
        progress.show(f"books, {candidate.name}")
        ledger_rows, cost_usd = candidate.runs(field)
        figures = {
            rows.ANSWERED: exactly(answered),
            rows.LEDGER_ROWS: exactly(ledger_rows),
            rows.LEDGER_USD: exactly(cost_usd),
        }
        yield Row(findings.BOOKS, "all of the plain calls", candidate.name, figures, 1, failures)


@contextmanager
def kept_to(cpu: int | None) -> Iterator[None]:
    """This process, and what it starts without saying more, on that core."""
    before = os.sched_getaffinity(0)
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(arguments: argparse.Namespace, progress: Progress, plan: Plan) -> tuple[list[Row], dict[str, str]]:
    """All of it. Raises StartFailed, LoadFailed."""
    gateway_cpu, load_cpu = cores()
    facts = findings.before(layout_of(gateway_cpu, load_cpu) + ", and so is Redis")
    began_s, stolen_s = time.monotonic(), findings.stolen_s()
    wants_redis = any(isinstance(each, Tollway) and each.store == contenders.REDIS for each in plan.candidates)
    wants_tls = any(workload.tls for each in plan.candidates for workload in plan.workloads(PLAIN, each))
    if many_streams.MANY in plan.parts:
        many_streams.allow_files(plan.crowd.streams)
    with (
        tempfile.TemporaryDirectory(prefix="tollway-bench-") as name,
        kept_to(load_cpu),
        contenders.field(
            Path(name),
            (gateway_cpu, load_cpu),
            direct=arguments.direct,
            upstream_port=arguments.upstream_port,
            redis=wants_redis,
            tls=wants_tls,
        ) as field,
        LoadProcess(load_cpu) as load,
    ):
        if arguments.against:
            place = "" if gateway_cpu is None else f", each on core {gateway_cpu} (taskset -c {gateway_cpu})"
            print(f"The upstream is {field.direct}: point the other gateways there{place}.", flush=True)
        for each in arguments.against:
            contenders.wait_for_answer(Contender(each.name, each.base_url, each.token), arguments.wait)
        found = list(measure(plan, field, load, progress))
    return found, facts | findings.after(found, began_s, stolen_s)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity",
        description="The gateway with nothing on and with everything, beside direct calls, nginx and a bare relay.",
    )
    parser.add_argument("--only", type=_some(PARTS), default=list(PARTS), metavar="A,B", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="two minutes: to see that it works, not to be quoted")
    parser.add_argument(
        "--modes", type=_some(setups.MODES), metavar="A,B", help=f"of {', '.join(setups.MODES)} (default: all)"
    )
    parser.add_argument(
        "--store", dest="stores", type=_some(STORES), metavar="A,B", help=f"of {', '.join(STORES)} (default: both)"
    )
    parser.add_argument("--streams", type=int, default=5_000, help="open at once (default: %(default)s)")
    parser.add_argument("--no-floors", action="store_true", help="leave nginx and the bare relay out")
    parser.add_argument(
        "--against",
        type=_given,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="another gateway before the same upstream: its base URL, ending in /v1",
    )
    parser.add_argument("--token", default=TOKEN, help="for those (default: %(default)s)")
    parser.add_argument("--direct", metavar="URL", help="the upstream (default: one of its own, which it prints)")
    parser.add_argument("--upstream-port", type=int, metavar="N", help="where its own listens (default: a free one)")
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="S", help="for the others to answer (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), metavar="DIR", help="where to write")
    parser.add_argument("--results", type=Path, metavar="FILE", help="write the page of results there as well")
    arguments = parser.parse_args(argv)
    arguments.against = [Given(name, url, arguments.token) for name, url in arguments.against]
    return arguments


def _some(names: Sequence[str]) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        found = text.split(",")
        if not set(found) <= set(names):
            raise ValueError(text)
        return [name for name in names if name in found]

    return chosen


def _given(text: str) -> tuple[str, str]:
    name, is_there, url = text.partition("=")
    if not (name and is_there and url.startswith(("http://", "https://"))):
        raise ValueError(text)
    return name, url


def main() -> int:
    """The command."""
    arguments = parse()
    plan = Plan(arguments)
    progress = Progress(plan.steps())
    try:
        found, facts = run(arguments, progress, plan)
    except (LoadFailed, StartFailed) as error:
        progress.clear()
        print(error, file=sys.stderr)
        return 1
    progress.clear()
    findings.publish(found, facts, arguments.out, arguments.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
