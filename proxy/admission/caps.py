"""The windows of a scope's caps, and what a scope's limits ask of the store.

Pure: `now_ms` and the tenant's zone come in. A calendar day begins at the zone's midnight; where
summer time skips that, at the moment of the change. A day may have 23 or 25 hours.

A rolling day is kept in hours: the current one and the 24 before it are summed, so 24 hours
never spend more than the cap, and an amount counts for 24 to 25 hours.
"""

from collections.abc import Collection
from datetime import date, datetime, timedelta, tzinfo
from functools import lru_cache

from proxy.admission.answers import CapRefused
from proxy.admission.limits import requests_bucket
from proxy.admission.terms import TIME_MS_MAX, Bucket, ScopeDemand, Window, WindowKind, window_of
from proxy.core.limits import ScopeLimits

HOUR_MS = 3_600_000
_SLOT_MS = 900_000  # hours and, in the zones of today, days begin at a quarter of an hour

Bounds = tuple[int, int]


def windows(limits: ScopeLimits, now_ms: int, zone: tzinfo, counted: Collection[WindowKind] = ()) -> tuple[Window, ...]:
    """The present window of each cap; those of `counted` also where nothing is capped."""
    remembered = _windows_of_slot(limits, now_ms // _SLOT_MS, zone, tuple(counted))
    if all(window.start_ms <= now_ms < window.end_ms for window in remembered):
        return remembered
    return _windows_at(limits, now_ms, zone, tuple(counted))


def bounds(kind: WindowKind, now_ms: int, zone: tzinfo) -> Bounds:
    """A window's start and end, in milliseconds; the end is outside it."""
    if kind in (WindowKind.HOUR, WindowKind.ROLLING_24H):
        start_ms = now_ms // HOUR_MS * HOUR_MS
        return start_ms, start_ms + HOUR_MS
    if kind is WindowKind.TOTAL:
        return 0, TIME_MS_MAX
    today = datetime.fromtimestamp(now_ms / 1_000, zone).date()
    if kind is WindowKind.DAY:
        return _midnight_ms(today, zone), _midnight_ms(today + timedelta(days=1), zone)
    first = today.replace(day=1)
    return _midnight_ms(first, zone), _midnight_ms((first + timedelta(days=32)).replace(day=1), zone)


def demand_of(
    name: str,
    limits: ScopeLimits,
    *,
    now_ms: int,
    zone: tzinfo,
    counted: Collection[WindowKind] = (),
) -> ScopeDemand:
    """What a scope's limits ask of the store for one call."""
    requests: Bucket | None = None
    if limits.requests_per_minute is not None:
        requests = requests_bucket(limits.requests_per_minute, limits.burst or limits.requests_per_minute)
    return ScopeDemand(
        name=name,
        requests=requests,
        tokens_per_minute=limits.tokens_per_minute,
        max_concurrency=limits.max_concurrency,
        windows=windows(limits, now_ms, zone, counted),
    )


def per_call_refusal(scope: str, limits: ScopeLimits, held_nusd: int) -> CapRefused | None:
    """The refusal of a call that could cost more than one call may; it needs no store."""
    cap_nusd = limits.per_call_nusd
    if cap_nusd is None or held_nusd <= cap_nusd:
        return None
    return CapRefused(scope, WindowKind.CALL, cap_nusd, 0, 0, held_nusd, None)


@lru_cache(maxsize=4_096)
def _windows_of_slot(
    limits: ScopeLimits, slot: int, zone: tzinfo, counted: tuple[WindowKind, ...]
) -> tuple[Window, ...]:
    return _windows_at(limits, slot * _SLOT_MS, zone, counted)


def _windows_at(limits: ScopeLimits, now_ms: int, zone: tzinfo, counted: tuple[WindowKind, ...]) -> tuple[Window, ...]:
    caps = {
        WindowKind.HOUR: limits.per_hour_nusd,
        WindowKind.ROLLING_24H: limits.per_24h_nusd,
        WindowKind.DAY: limits.per_day_nusd,
        WindowKind.MONTH: limits.per_month_nusd,
        WindowKind.TOTAL: limits.total_nusd,
    }
    return tuple(
        window_of(kind, *bounds(kind, now_ms, zone), cap_nusd)
        for kind, cap_nusd in caps.items()
        if cap_nusd is not None or kind in counted
    )


def _midnight_ms(day: date, zone: tzinfo) -> int:
    """The first moment of a day. Of a midnight that is skipped, Python (PEP 495, fold 0) takes the
    offset before the change, which gives the change itself; of one that comes twice, the first."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1_000
