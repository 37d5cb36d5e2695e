"""Percentiles, and how far they can be trusted. Pure: the same samples and seed give the same numbers."""

import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

RESAMPLES: Final = 2_000
CONFIDENCE_PCT: Final = 95.0
_SEED: Final = 20_251_120


class Interval(NamedTuple):
    """An estimate, and the bounds between which it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def exactly(value: float) -> Interval:
    """What was measured once, or given."""
    return Interval(value, value, value)


def percentile(ordered: Sequence[float], pct: float) -> float:
    """The smallest of the ascending values that at least `pct` per cent do not exceed (nearest rank)."""
    assert ordered, "no percentile of nothing"
    assert 0 < pct <= 100
    return ordered[max(0, math.ceil(len(ordered) * pct / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_interval(values: Sequence[float], resamples: int = RESAMPLES, seed: int = _SEED) -> Interval:
    """The median of independent rounds, with a percentile bootstrap over them (Efron, 1979).

    Rounds are resampled, not requests: requests of one round share its disturbances, and
    would make the interval look narrower than it is.
    """
    assert values, "no interval of nothing"
    chance = random.Random(seed)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(resamples))
    tail_pct = (100 - CONFIDENCE_PCT) / 2
    return Interval(median(values), percentile(medians, tail_pct), percentile(medians, 100 - tail_pct))
