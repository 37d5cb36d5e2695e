"""What a strategy prefers: a number for each candidate, the lowest asked first.

Pure. A lot is drawn by weighted rendezvous hashing (Thaler and Ravishankar, 1998; the weights as in Mosharaf and
others' logarithmic form): each candidate draws for itself, so that a change of one weight moves only the callers that
it has to move, and every process draws alike without asking another.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import inf, log
from typing import Final

from xxhash import xxh3_64_intdigest

from proxy.routing.resolve import Candidate

AS_FAST_PCT: Final = 20
"""Of two whose answers begin within so many per cent, neither is the faster one: what is sticky decides."""

_AS_FAST: Final = (100 + AS_FAST_PCT) / 100
_MASK: Final = (1 << 64) - 1
_SPAN: Final = float(1 << 64)


def digest(who: bytes) -> int:
    """64 bits of whoever is to be served alike."""
    return xxh3_64_intdigest(who)


def lot(drawn: float, weight: int) -> float:
    """A number drawn evenly from (0, 1] as a lot: the chance to have the lowest is as the weights are."""
    return -log(drawn) / weight if weight else inf


def lots(candidates: Iterable[Candidate], chance: Callable[[], float]) -> list[float]:
    """A lot of each, for one call alone; `chance` draws evenly from [0, 1)."""
    return [-log(1.0 - chance()) / each.weight if each.weight else inf for each in candidates]  # `lot`, without a call


def draw(candidate: Candidate, who: int, salt: str) -> float:
    """A candidate's lot for whoever has this digest."""
    # The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the digest moves half of all bits.
    mixed = who ^ _seed(salt, candidate.deployment.label)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return lot((mixed + 0.5) / _SPAN, candidate.weight)


@lru_cache(maxsize=4_096)
def _seed(salt: str, label: str) -> int:
    return digest(f"{salt}\0{label}".encode())


def as_fast_us(times_us: Sequence[float]) -> float:
    """Until when a first byte is as good as the fastest one."""
    return min(times_us) * _AS_FAST


def speeds(times_us: Sequence[float], lots: Sequence[float], until_us: float) -> list[float]:
    """By the times to the first byte; those within `until_us`, of `as_fast_us`, by their lots."""
    # Below 0, in the order of the lots, for who is as fast.
    return [-1.0 / (1.0 + lot) if time_us <= until_us else time_us for time_us, lot in zip(times_us, lots, strict=True)]
