"""The rate limits of one process, for the time in which the store that knows everybody's is away.

Each process then lets through what all of them together may: for so many processes, at most so
many times the limit, and for a minute at most. Money is never admitted so.
"""

from typing import Final

from proxy.admission import limits
from proxy.admission.answers import LimitKind, LimitRefused
from proxy.admission.terms import Bucket, Demand
from proxy.core.errors import StateUnavailable

AWAY_US_MAX: Final = 60_000_000
_BUCKETS_MAX: Final = 65_536
_RETRY_AFTER_MS_MIN: Final = 100  # what flows back sooner is not worth a call a moment later


class LocalLimits:
    """Token buckets in this process's memory."""

    __slots__ = ("_away_since_us", "_tats_us")

    def __init__(self) -> None:
        self._away_since_us: int | None = None
        self._tats_us: dict[tuple[str, str, str], int] = {}

    def store_answered(self) -> None:
        """The store is there, and decides again."""
        if self._away_since_us is not None:
            self._away_since_us = None
            self._tats_us.clear()

    def admit(self, demand: Demand, now_us: int) -> LimitRefused | None:
        """Take from every bucket, or say which has too little. Concurrency is not counted here.

        Raises:
            StateUnavailable: the store has been away for a minute.
        """
        if self._away_since_us is None:
            self._away_since_us = now_us
        if now_us - self._away_since_us > AWAY_US_MAX or len(self._tats_us) > _BUCKETS_MAX:
            raise StateUnavailable(
                "The state store has been away for too long to go on without it. Try again shortly.",
                retry_after_ms=1_000,
            )
        taken: dict[tuple[str, str, str], int] = {}
        for scope in demand.scopes:
            tokens = limits.tokens_bucket(scope.tokens_per_minute, demand.expected_tokens)
            for kind, bucket in ((LimitKind.REQUESTS, scope.requests), (LimitKind.TOKENS, tokens)):
                if bucket is None:
                    continue
                name = (demand.tenant_id, scope.name, kind.value)
                tat_us = self._tats_us.get(name, 0)
                if not limits.conforms(tat_us, now_us, bucket):
                    return LimitRefused(scope.name, kind, _retry_after_ms(tat_us, now_us, bucket))
                taken[name] = limits.taken(tat_us, now_us, bucket)
        self._tats_us.update(taken)
        return None


def _retry_after_ms(tat_us: int, now_us: int, bucket: Bucket) -> int:
    return max(limits.retry_after_ms(tat_us, now_us, bucket), _RETRY_AFTER_MS_MIN)
