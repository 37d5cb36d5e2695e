"""What one scope (a tenant, a user, a virtual key, a feature, a model) may use.

A limit is a rate, a cap an amount of money in a window. Every field is None where nothing is
limited. The bounds leave room in the counters: a cap and any one call's hold stay below 2**53.
"""

from dataclasses import asdict, dataclass, fields, replace

REQUESTS_PER_MINUTE_MAX = 60_000_000  # one a microsecond: the grain of the buckets
TOKENS_PER_MINUTE_MAX = 1_000_000_000_000
BURST_MAX = 60_000_000
CONCURRENCY_MAX = 1_000_000
CAP_NUSD_MAX = 4_000_000_000_000_000  # $4,000,000


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """The limits and caps of one scope. `burst` is how many requests may come at once."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    burst: int | None = None
    max_concurrency: int | None = None
    per_call_nusd: int | None = None
    per_hour_nusd: int | None = None
    per_24h_nusd: int | None = None
    per_day_nusd: int | None = None
    per_month_nusd: int | None = None
    total_nusd: int | None = None


NO_LIMITS = ScopeLimits()
COUNTS_MAX = {  # the limits, and the largest that each may be
    "requests_per_minute": REQUESTS_PER_MINUTE_MAX,
    "tokens_per_minute": TOKENS_PER_MINUTE_MAX,
    "burst": BURST_MAX,
    "max_concurrency": CONCURRENCY_MAX,
}
CAPS = {  # the caps, and what people call them: in the file, on the command line, in a listing
    "per_call_nusd": "usd_per_call",
    "per_hour_nusd": "usd_per_hour",
    "per_24h_nusd": "usd_per_24h",
    "per_day_nusd": "usd_per_day",
    "per_month_nusd": "usd_per_month",
    "total_nusd": "usd_total",
}


def written(limits: ScopeLimits) -> dict[str, int]:
    """The fields that limit something."""
    return {name: value for name, value in asdict(limits).items() if value is not None}


def with_burst(limits: ScopeLimits) -> ScopeLimits:
    """The same, with as many requests at once as there may be in a minute, where nothing is said of it."""
    if limits.burst is not None or limits.requests_per_minute is None:
        return limits
    return replace(limits, burst=limits.requests_per_minute)


def merged(own: ScopeLimits | None, general: ScopeLimits) -> ScopeLimits:
    """A virtual key's own limits, and its plan's where it has none of a kind.

    A rate of its own brings its own burst: the plan's was meant for another rate.
    """
    if own is None:
        return general
    values = {**written(general), **written(own)}
    if own.requests_per_minute is not None and own.burst is None:
        values.pop("burst", None)
    return with_burst(ScopeLimits(**values))


def has_cap(limits: ScopeLimits) -> bool:
    """True where an amount of money is capped."""
    return any(getattr(limits, name) is not None for name in CAPS)


def limits_of(values: dict[str, int]) -> ScopeLimits | None:
    """The limits behind stored fields; None where there are none. Fields of a later release are passed over."""
    known = {field.name: values[field.name] for field in fields(ScopeLimits) if field.name in values}
    return ScopeLimits(**known) if known else None
