"""Token buckets as theoretical arrival times (GCRA).

Pure. A bucket is one number, `tat_us`: the instant at which it will be full. Taking adds to it
the time that what is taken needs to flow back. It conforms while the bucket is not emptied
beyond its capacity; a full bucket lets any one request through, so that one that is larger
than the bucket waits instead of being refused for ever. The scripts do the same sums.
"""

from collections.abc import Iterable, Sequence

from proxy.admission.terms import MINUTE_US, TOKENS_MAX, Bucket, Gauges

DEBT_US_MAX = 365 * 24 * 60 * MINUTE_US
CONCURRENCY_RETRY_MS = 1_000  # nobody knows when a call ends; this is how long a caller should wait


def requests_bucket(requests_per_minute: int, burst: int) -> Bucket:
    """One request of a bucket that holds `burst` of them."""
    increment_us = _ceil_div(MINUTE_US, requests_per_minute)
    return Bucket(increment_us, burst * increment_us)


def tokens_bucket(tokens_per_minute: int | None, tokens: int) -> Bucket | None:
    """So many tokens of a bucket that holds a minute's; None where there is no bucket."""
    return None if tokens_per_minute is None else Bucket(tokens_us(tokens, tokens_per_minute), MINUTE_US)


def tokens_us(tokens: int, tokens_per_minute: int) -> int:
    """The time in which so many tokens flow back, rounded up."""
    assert 0 <= tokens <= TOKENS_MAX
    return -(-tokens * MINUTE_US // tokens_per_minute)


def each_tokens_us(tokens: int, tokens_per_minute: Iterable[int]) -> tuple[int, ...]:
    """Likewise, in each of several buckets."""
    assert 0 <= tokens <= TOKENS_MAX
    owed_us = -tokens * MINUTE_US
    return tuple([-(owed_us // per_minute) for per_minute in tokens_per_minute])


def conforms(tat_us: int, now_us: int, bucket: Bucket) -> bool:
    """Whether the bucket has enough."""
    return tat_us <= now_us or tat_us + bucket.increment_us - now_us <= bucket.capacity_us


def taken(tat_us: int, now_us: int, bucket: Bucket) -> int:
    """The bucket after it."""
    return max(tat_us, now_us) + bucket.increment_us


def retry_after_ms(tat_us: int, now_us: int, bucket: Bucket) -> int:
    """How long until the bucket would have enough, if nobody else took."""
    return _ceil_div(min(tat_us - now_us, tat_us + bucket.increment_us - bucket.capacity_us - now_us), 1_000)


def corrected(tat_us: int, now_us: int, tokens_per_minute: int, expected_tokens: int, tokens: int) -> int:
    """The bucket once it is known what was used: in debt if need be, never more than full."""
    difference_us = tokens_us(tokens, tokens_per_minute) - tokens_us(expected_tokens, tokens_per_minute)
    if tokens == expected_tokens:
        return tat_us
    return min(max(max(tat_us, now_us) + difference_us, now_us), now_us + DEBT_US_MAX)


def fewest_requests(gauges: Gauges, figures: Sequence[int], now_us: int) -> int | None:
    """What is left in the request bucket that has least; None where there is none."""
    if gauges.requests_max is None:
        return None
    left = [
        (capacity_us + now_us - figures[place]) // increment_us for place, capacity_us, increment_us in gauges.requests
    ]
    return max(0, min(gauges.requests_max, *left))


def fewest_tokens(gauges: Gauges, figures: Sequence[int], now_us: int) -> int | None:
    """Likewise, in the token bucket."""
    if gauges.tokens_max is None:
        return None
    empty_at_us = now_us + MINUTE_US
    left = [(empty_at_us - figures[place]) * per_minute // MINUTE_US for place, per_minute in gauges.tokens]
    return max(0, min(gauges.tokens_max, *left))


def remaining_requests(tat_us: int, now_us: int, bucket: Bucket) -> int:
    """What is left in a request bucket."""
    return max(0, bucket.capacity_us - max(0, tat_us - now_us)) // bucket.increment_us


def _ceil_div(amount: int, divisor: int) -> int:
    return -(-amount // divisor)
