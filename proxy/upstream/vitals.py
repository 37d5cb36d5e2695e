"""How a deployment has done of late: a score of its health, and how soon its answers begin.

Pure: the instant is handed in, in monotonic microseconds. Both forget: what is not asked any more cannot show
that it is well again, so the score drifts back by itself.
"""

from collections.abc import Iterable
from math import exp, inf
from typing import Final

DEGRADED_BELOW: Final = 0.8
"""A deployment with a lower score is asked after those that are well."""

_WEIGHT: Final = 0.1  # of the newest call
_HEALS_US: Final = 30_000_000  # in so long, a score makes up for two thirds of what it lacks
_FIRST_BYTE_WEIGHT: Final = 0.2
STALE_US: Final = 30_000_000
"""A time to the first byte that is older is measured anew, by one call."""


class _FirstByte:
    """How soon answers of one kind begin: plain ones, or streams."""

    __slots__ = ("after_us", "measured_at_us")

    def __init__(self) -> None:
        self.after_us = 0.0  # 0: never measured
        self.measured_at_us = -STALE_US - 1


class Vitals:
    """One deployment's, over all provider keys."""

    __slots__ = ("_at_us", "_first_bytes", "_score", "in_flight")

    def __init__(self) -> None:
        self._score = 1.0
        self._at_us = 0
        self._first_bytes = (_FirstByte(), _FirstByte())  # of plain calls, of streams
        self.in_flight = 0

    def score(self, now_us: int) -> float:
        """1.0: every call of late was answered; 0.0: none was."""
        if self._score >= 1.0:
            return 1.0
        return 1.0 - (1.0 - self._score) * exp((self._at_us - now_us) / _HEALS_US)

    def is_degraded(self, now_us: int) -> bool:
        """True where others are to be asked first."""
        return self._score < DEGRADED_BELOW and self.score(now_us) < DEGRADED_BELOW

    def answered(self, now_us: int, first_byte_us: int, *, stream: bool) -> None:
        """An answer began, so long after it was asked for."""
        if self._score < 1.0:
            score = self.score(now_us)
            self._score = score + _WEIGHT * (1.0 - score)
            self._at_us = now_us
        first_byte = self._first_bytes[stream]
        before_us = first_byte.after_us
        if not before_us or now_us - first_byte.measured_at_us > STALE_US:
            first_byte.after_us = first_byte_us
        else:
            first_byte.after_us = before_us + _FIRST_BYTE_WEIGHT * (first_byte_us - before_us)
        first_byte.measured_at_us = now_us

    def failed(self, now_us: int) -> None:
        """A call failed, before its answer or in the middle of it."""
        self._score = self.score(now_us) * (1.0 - _WEIGHT)
        self._at_us = now_us

    def is_unmeasured(self, now_us: int, *, stream: bool) -> bool:
        """True where nobody knows how soon answers of this kind begin: the call that asks measures it. The calls
        behind it are told the old time until then."""
        return now_us - self._first_bytes[stream].measured_at_us > STALE_US

    def to_be_measured(self, now_us: int, *, stream: bool) -> None:
        """A call is on its way that will measure it anew."""
        self._first_bytes[stream].measured_at_us = now_us


def first_bytes_us(deployments: Iterable[Vitals], now_us: int, *, stream: bool) -> list[float]:
    """How soon the answers of each begin, in one look for a call that has to choose: 0 for one that is unmeasured,
    infinite while the first call is still on its way."""
    oldest_us = now_us - STALE_US
    measured = [each._first_bytes[stream] for each in deployments]
    return [(each.after_us or inf) if each.measured_at_us >= oldest_us else 0.0 for each in measured]
