"""What a strategy prefers: a number for each candidate, the lowest asked first.

Pure. A lot is drawn by weighted rendezvous hashing (Thaler and Ravishankar, 1998; the weights as in Mosharaf and
others' logarithmic form): each candidate draws for itself, so that a change of one weight moves only the callers that
it has to move, and every process draws alike without asking another.
"""

from functools import lru_cache
from hashlib import blake2b
from math import inf, log
from typing import Final

from proxy.routing.resolve import Candidate

AS_FAST_PCT: Final = 20
"""Of two whose answers begin within so many per cent, neither is the faster one: what is sticky decides."""

_MASK: Final = (1 << 64) - 1
_SPAN: Final = float(1 << 64)


def digest(who: bytes) -> int:
    """64 bits of whoever is to be served alike."""
    return int.from_bytes(blake2b(who, digest_size=8).digest(), "big")


def draw(candidate: Candidate, who: int, salt: str) -> float:
    """A candidate's lot for whoever has this digest. The chance to have the lowest is as the weights are."""
    if candidate.weight == 0:
        return inf
    # The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the digest moves half of all bits.
    mixed = who ^ _seed(salt, candidate.deployment.label)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return -log((mixed + 0.5) / _SPAN) / candidate.weight


@lru_cache(maxsize=4_096)
def _seed(salt: str, label: str) -> int:
    return digest(f"{salt}\0{label}".encode())


def speed(first_byte_us: float, fastest_us: float, lot: float) -> float:
    """By the time to the first byte; those that are as good as the fastest by their lots."""
    if first_byte_us <= fastest_us * (100 + AS_FAST_PCT) / 100:
        return -1.0 / (1.0 + lot)  # below 0, in the order of the lots
    return first_byte_us
