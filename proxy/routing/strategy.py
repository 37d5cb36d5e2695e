"""What a strategy prefers: a number for each candidate, the lowest asked first.

Pure. A lot is drawn by weighted rendezvous hashing (Thaler and Ravishankar, 1998; the weights as in Mosharaf and
others' logarithmic form): each candidate draws for itself, so that a change of one weight moves only the callers that
it has to move, and every process draws alike without asking another.
"""

from hashlib import blake2b
from math import inf, log
from typing import Final

from proxy.routing.resolve import Candidate

AS_FAST_PCT: Final = 20
"""Of two whose answers begin within so many per cent, neither is the faster one: what is sticky decides."""

_DIGEST_BYTES: Final = 8
_SPAN: Final = 1 << (8 * _DIGEST_BYTES)


def draw(candidate: Candidate, who: bytes, salt: str) -> float:
    """A candidate's lot for whoever is to be served alike. The chance to have the lowest is as the weights are."""
    if candidate.weight == 0:
        return inf
    name = f"{salt}\0{candidate.deployment.label}\0".encode()
    digest = blake2b(name + who, digest_size=_DIGEST_BYTES).digest()
    part = (int.from_bytes(digest, "big") + 1) / (_SPAN + 1)  # in (0, 1)
    return -log(part) / candidate.weight


def speed(first_byte_us: float, fastest_us: float, lot: float) -> float:
    """By the time to the first byte; those that are as good as the fastest by their lots."""
    if first_byte_us <= fastest_us * (100 + AS_FAST_PCT) / 100:
        return -1.0 / (1.0 + lot)  # below 0, in the order of the lots
    return first_byte_us
