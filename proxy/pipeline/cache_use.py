"""What the cache knows of one exchange: what holds for it, what was found, the copy of its answer.

Filled by `caching`, and read by whoever says something of the exchange at its end.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from proxy.admission.hits import HitAdmitted, HitDemand
from proxy.cache.entry import CacheEntry
from proxy.cache.flights import Flight
from proxy.cache.policy import Bypass, Directives
from proxy.core.types import Headers
from proxy.settings.caching import CachePolicy


class CacheResult(StrEnum):
    """What the answer's `x-tollway-cache` says."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class CopyRoom:
    """How many bytes all copies of one process may have together."""

    __slots__ = ("bytes_left",)

    def __init__(self, bytes_max: int) -> None:
        self.bytes_left = bytes_max


@dataclass(slots=True)
class AnswerCopy:
    """What of an answer has left for its caller. One that grows too long is given up."""

    room: CopyRoom
    bytes_max: int
    headers: Headers = ()  # those that describe the body
    is_delimited: bool = False  # its end is more than that of a connection
    pieces: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    is_given_up: bool = False

    def take(self, chunk: bytes) -> None:
        """Hear what leaves."""
        if self.is_given_up:
            return
        self.size_bytes += len(chunk)
        self.room.bytes_left -= len(chunk)
        self.pieces.append(chunk)
        if self.size_bytes > self.bytes_max or self.room.bytes_left < 0:
            self.is_given_up = True
            self.let_go()

    def let_go(self) -> None:
        """Give the room back."""
        self.room.bytes_left += self.size_bytes
        self.size_bytes = 0
        self.pieces = []


@dataclass(slots=True)
class CacheUse:
    """One exchange's."""

    policy: CachePolicy
    asked: Directives
    result: CacheResult = CacheResult.MISS
    reason: Bypass | None = None
    name: str = ""  # of the entry; "" until it is known
    material: bytes = field(default=b"", repr=False)  # what the fingerprint is made of
    check: bytes = field(default=b"", repr=False)
    secret: bytes = field(default=b"", repr=False)  # the tenant's
    # The kept answer that may leave, and has its row; None: there is none.
    given: CacheEntry | None = field(default=None, repr=False)
    saved_nusd: int | None = None  # what it would have cost; None: nothing was saved, or nobody knows
    own_us: int = 0  # of the hit, from accept to the step that gives it out
    hit: tuple[HitDemand, HitAdmitted] | None = field(default=None, repr=False)
    is_state_away: bool = False  # what was found could not be given out
    copy: AnswerCopy | None = field(default=None, repr=False)
    flight: Flight | None = None  # others that are the same wait for this one
    waits_until_us: int | None = None  # monotonic: for others that are asked the same; None: it has not begun to
    claimed_as: str | None = None  # the run that has the claim in the store
