"""A breaker: asks no more of a deployment that fails, until a few probes say that it is back.

Pure: the instant is handed in, in monotonic microseconds. One for each deployment and provider key, so that one
tenant's bad key closes nothing for the others.

    CLOSED ──trips──▶ OPEN ──2 s──▶ HALF_OPEN ──a probe succeeds──▶ CLOSED
                       ▲                │
                       └──a probe fails─┘

It trips on three failures in a row, or where half of ten calls or more within 30 s failed. Half open, it lets three
probes through, each on a lease: one that hangs gives its place back when the lease ends, so that it can never be
stuck. What is neither success nor failure (the caller's own 4xx, a hang-up) only gives its lease back.
"""

from enum import StrEnum
from typing import Final

FAILURES_IN_A_ROW_MAX: Final = 3
WINDOW_US: Final = 30_000_000
WINDOW_CALLS_MIN: Final = 10
OPEN_US: Final = 2_000_000
PROBES_MAX: Final = 3
PROBE_LEASE_US: Final = 3_000_000

_BUCKETS: Final = 10
_BUCKET_US: Final = WINDOW_US // _BUCKETS


class BreakerState(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"  # every call
    OPEN = "open"  # none
    HALF_OPEN = "half_open"  # a few probes


class Breaker:
    """One deployment's, for one provider key."""

    __slots__ = ("_bucket", "_bucket_until_us", "_calls", "_failed", "_in_a_row", "_leases", "_opened_at_us")

    def __init__(self) -> None:
        self._in_a_row = 0
        self._opened_at_us: int | None = None  # None: it is closed
        self._leases: list[int] = []  # when each probe's ends
        self._bucket = 0  # which part of the window the last count is of
        self._bucket_until_us = _BUCKET_US
        self._calls = [0] * _BUCKETS
        self._failed = [0] * _BUCKETS

    def state(self, now_us: int) -> BreakerState:
        """Where it stands."""
        if self._opened_at_us is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now_us - self._opened_at_us >= OPEN_US else BreakerState.OPEN

    def admits(self, now_us: int) -> bool:
        """True where `enter` would let a call through."""
        if self._opened_at_us is None:
            return True
        if now_us - self._opened_at_us < OPEN_US:
            return False
        return sum(until_us > now_us for until_us in self._leases) < PROBES_MAX

    def enter(self, now_us: int) -> bool:
        """Let a call through, or not. Half open, that takes a probe's lease."""
        if self._opened_at_us is None:
            return True
        if not self.admits(now_us):
            return False
        self._leases = [until_us for until_us in self._leases if until_us > now_us]
        self._leases.append(now_us + PROBE_LEASE_US)
        return True

    def succeeded(self, now_us: int) -> None:
        """The first byte of an answer came."""
        if self._opened_at_us is not None:
            if now_us - self._opened_at_us < OPEN_US:
                return  # asked before it tripped; a probe has the word
            self._close()
        self._in_a_row = 0
        if now_us >= self._bucket_until_us:
            self._turn_to(now_us)
        self._calls[self._bucket % _BUCKETS] += 1

    def failed(self, now_us: int) -> None:
        """The deployment failed the call. Of one call, tell it once, however often it was sent again."""
        if self._opened_at_us is not None:
            if now_us - self._opened_at_us >= OPEN_US:
                self._trip(now_us)
            return
        if now_us >= self._bucket_until_us:
            self._turn_to(now_us)
        bucket = self._bucket % _BUCKETS
        self._calls[bucket] += 1
        self._failed[bucket] += 1
        self._in_a_row += 1
        calls = sum(self._calls)
        if self._in_a_row >= FAILURES_IN_A_ROW_MAX or (calls >= WINDOW_CALLS_MIN and 2 * sum(self._failed) >= calls):
            self._trip(now_us)

    def left(self) -> None:
        """A call ended that says nothing of the deployment."""
        if self._leases:
            self._leases.pop()

    def _trip(self, now_us: int) -> None:
        self._opened_at_us = now_us
        self._leases = []

    def _close(self) -> None:
        self._opened_at_us = None
        self._leases = []
        self._calls = [0] * _BUCKETS
        self._failed = [0] * _BUCKETS

    def _turn_to(self, now_us: int) -> None:
        """Count in this instant's bucket from now on; those that have gone by since the last count are emptied."""
        bucket = now_us // _BUCKET_US
        for past in range(max(self._bucket + 1, bucket - _BUCKETS + 1), bucket + 1):
            self._calls[past % _BUCKETS] = self._failed[past % _BUCKETS] = 0
        self._bucket = bucket
        self._bucket_until_us = (bucket + 1) * _BUCKET_US
