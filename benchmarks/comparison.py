"""A gateway against a direct call: short rounds of both by turns, and what the one adds to the other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from benchmarks.intervals import Interval, median_interval, percentile
from benchmarks.load import Round, Sample
from benchmarks.load_process import LoadProcess

PCTS: Final = (50, 90, 99)
NS_PER_MS: Final = 1_000_000

Pair: TypeAlias = tuple[Sample, Sample]
"""One round each, next to one another in time: direct, gateway."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of one workload. Milliseconds; each value is the median of its rounds."""

    workload: str
    measure: str
    rounds: int
    direct_ms: dict[int, Interval]  # by percentile
    gateway_ms: dict[int, Interval]
    added_ms: dict[int, Interval]  # the gateway's percentile less the direct call's, round by round
    direct_per_s: Interval
    gateway_per_s: Interval
    failures: int


def alternate(
    load: LoadProcess,
    direct: Round,
    gateway: Round,
    pairs: int,
    progress: Callable[[], object],
    cpu_s: Callable[[], float | None] = lambda: None,
) -> list[Pair]:
    """Play both by turns. The order turns round with each pair, so that a machine that grows
    slower or faster favours neither. `cpu_s` says how much the gateway has used so far: what it does
    during the direct call's round is for its own calls as well. Raises LoadFailed."""
    for warm_up in (direct, gateway):
        load.run(replace(warm_up, seconds=min(warm_up.seconds, 0.5)))
    found: list[Pair] = []
    for number in range(pairs):
        before_s = cpu_s()
        if number % 2:
            through = load.run(gateway)
            found.append((load.run(direct), through))
        else:
            found.append((load.run(direct), load.run(gateway)))
        after_s = cpu_s()
        if before_s is not None and after_s is not None:
            found[-1][1].served_cpu_ns = int(1e9 * (after_s - before_s))
        progress()
    return found


def cpu_us(pairs: Sequence[Pair]) -> Interval | None:
    """The gateway's own CPU time for one request; None where nobody could look."""
    if not all(through.served_cpu_ns and through.completed for _, through in pairs):
        return None
    return median_interval([through.served_cpu_ns / through.completed / 1_000 for _, through in pairs])


def compare(
    workload: str, measure: str, pairs: Sequence[Pair], values_ns: Callable[[Sample], Iterable[int]]
) -> Comparison:
    """What the gateway adds to one measure."""
    direct = [_percentiles_ms(values_ns(sample)) for sample, _ in pairs]
    gateway = [_percentiles_ms(values_ns(sample)) for _, sample in pairs]
    return Comparison(
        workload,
        measure,
        len(pairs),
        {pct: median_interval([each[pct] for each in direct]) for pct in PCTS},
        {pct: median_interval([each[pct] for each in gateway]) for pct in PCTS},
        {
            pct: median_interval(
                [through[pct] - straight[pct] for straight, through in zip(direct, gateway, strict=True)]
            )
            for pct in PCTS
        },
        median_interval([sample.per_s for sample, _ in pairs]),
        median_interval([sample.per_s for _, sample in pairs]),
        sum(straight.failures + through.failures for straight, through in pairs),
    )


def busiest_pct(pairs: Sequence[Pair]) -> float:
    """How busy the generator's core was with the generator, at most, in per cent of a round."""
    samples = (sample for pair in pairs for sample in pair)
    return max(100 * sample.busy_ns / sample.elapsed_ns for sample in samples)


def _percentiles_ms(values_ns: Iterable[int]) -> dict[int, float]:
    ordered = sorted(values_ns)
    return {pct: percentile(ordered, pct) / NS_PER_MS for pct in PCTS}
