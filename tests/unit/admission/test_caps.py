from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admission.answers import CapRefused
from proxy.admission.caps import bounds, demand_of, per_call_refusal, windows
from proxy.admission.terms import Bucket, ScopeDemand, WindowKind, window_of
from proxy.core.limits import ScopeLimits

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    """An instant, written with its offset."""
    return int(datetime.fromisoformat(text).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("zone", "now", "start", "end", "hours"),
    [
        ("UTC", "2026-11-25T00:00:00+00:00", "2026-11-25T00:00:00+00:00", "2026-11-26T00:00:00+00:00", 24),
        ("UTC", "2026-11-25T23:59:59+00:00", "2026-11-25T00:00:00+00:00", "2026-11-26T00:00:00+00:00", 24),
        # Berlin: +1 in winter, +2 from 2026-03-29 02:00 to 2026-10-25 03:00 (IANA, Europe/Berlin).
        ("Europe/Berlin", "2026-03-28T23:30:00+00:00", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00:00+01:00", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", 25),
        # Kathmandu: +5:45 all year, so midnight lies within an hour of UTC.
        ("Asia/Kathmandu", "2026-05-01T18:14:59+00:00", "2026-05-01T00:00:00+05:45", "2026-05-02T00:00:00+05:45", 24),
        ("Asia/Kathmandu", "2026-05-01T18:15:00+00:00", "2026-05-02T00:00:00+05:45", "2026-05-03T00:00:00+05:45", 24),
        # Santiago: midnight of 2026-09-06 is skipped, -4 becomes -3; the day has 23 hours and begins at 01:00.
        ("America/Santiago", "2026-09-06T05:00:00-03:00", "2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00", 23),
        # Havana: 2024-11-03 01:00 became 00:00, so midnight came twice; the day begins at the first and has 25 hours.
        ("America/Havana", "2024-11-03T00:30:00-05:00", "2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00", 25),
    ],
)
def test_a_day_is_the_zones_own(zone, now, start, end, hours):
    found = bounds(WindowKind.DAY, ms(now), ZoneInfo(zone))
    assert found == (ms(start), ms(end))
    assert found[1] - found[0] == hours * HOUR_MS


@pytest.mark.parametrize(
    ("zone", "now", "start", "end"),
    [
        ("UTC", "2026-12-31T23:59:59+00:00", "2026-12-01T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("UTC", "2028-02-29T00:00:00+00:00", "2028-02-01T00:00:00+00:00", "2028-03-01T00:00:00+00:00"),
        ("Europe/Berlin", "2026-10-31T22:59:59+00:00", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("Europe/Berlin", "2026-10-31T23:00:00+00:00", "2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        ("Pacific/Kiritimati", "2026-01-31T10:00:00+00:00", "2026-02-01T00:00:00+14:00", "2026-03-01T00:00:00+14:00"),
    ],
)
def test_a_month_is_the_zones_own(zone, now, start, end):
    assert bounds(WindowKind.MONTH, ms(now), ZoneInfo(zone)) == (ms(start), ms(end))


def test_an_hour_is_utcs_in_every_zone_and_a_total_has_no_end():
    now_ms = ms("2026-05-01T18:14:59+00:00")
    for kind in (WindowKind.HOUR, WindowKind.ROLLING_24H):
        assert bounds(kind, now_ms, ZoneInfo("Asia/Kathmandu")) == (
            ms("2026-05-01T18:00:00+00:00"),
            ms("2026-05-01T19:00:00+00:00"),
        )
    assert bounds(WindowKind.TOTAL, now_ms, UTC) == (0, 2**53 - 1)


ZONES = ("UTC", "Europe/Berlin", "America/Santiago", "America/Havana", "Asia/Kathmandu", "Australia/Lord_Howe")


@given(st.sampled_from(ZONES), st.integers(ms("2020-01-01T00:00:00+00:00"), ms("2036-01-01T00:00:00+00:00")))
def test_every_moment_lies_in_its_own_window(zone, now_ms):
    for kind in (WindowKind.HOUR, WindowKind.DAY, WindowKind.MONTH):
        start_ms, end_ms = bounds(kind, now_ms, ZoneInfo(zone))
        assert start_ms <= now_ms < end_ms


@pytest.mark.parametrize("zone", ZONES)
def test_days_follow_each_other_without_a_gap(zone):
    at_ms, found = ms("2026-01-01T12:00:00+00:00"), []
    for _ in range(366):
        found.append(bounds(WindowKind.DAY, at_ms, ZoneInfo(zone)))
        at_ms = found[-1][1]
    assert all(before[1] == after[0] for before, after in pairwise(found))


def test_a_cap_makes_a_window_and_what_is_counted_one_without_a_cap():
    now_ms = ms("2026-11-25T22:10:00+00:00")
    limits = ScopeLimits(per_24h_nusd=5, per_month_nusd=7)
    hour = (ms("2026-11-25T22:00:00+00:00"), ms("2026-11-25T23:00:00+00:00"))
    month = (ms("2026-11-01T00:00:00+00:00"), ms("2026-12-01T00:00:00+00:00"))
    assert windows(limits, now_ms, UTC, counted=(WindowKind.TOTAL,)) == (
        window_of(WindowKind.ROLLING_24H, *hour, 5),
        window_of(WindowKind.MONTH, *month, 7),
        window_of(WindowKind.TOTAL, 0, 2**53 - 1, None),
    )
    assert windows(ScopeLimits(), now_ms, UTC) == ()


def test_the_names_of_periods():
    start_ms = ms("2026-11-25T22:00:00+00:00")
    names = [window_of(kind, start_ms, start_ms + 1, 1).period for kind in WindowKind if kind is not WindowKind.CALL]
    assert names == ["h1795644000", "h1795644000", "d1795644000", "m1795644000", "t"]
    assert ScopeDemand(
        "x", windows=(window_of(WindowKind.HOUR, 0, 1, 1), window_of(WindowKind.ROLLING_24H, 0, 1, 1))
    ).periods == ("h0",)


def test_what_a_scopes_limits_ask_for():
    limits = ScopeLimits(requests_per_minute=90, burst=3, tokens_per_minute=700, max_concurrency=4)
    # 60,000,000 µs / 90 = 666,666.7: rounded up.
    assert demand_of("tenant", limits, now_ms=0, zone=UTC) == ScopeDemand(
        name="tenant",
        requests=Bucket(666_667, 2_000_001),
        tokens_per_minute=700,
        max_concurrency=4,
        windows=(),
    )


def test_without_a_burst_a_minutes_requests_may_come_at_once():
    demand = demand_of("t", ScopeLimits(requests_per_minute=60), now_ms=0, zone=UTC)
    assert demand.requests == Bucket(1_000_000, 60_000_000)


def test_a_call_has_a_cap_of_its_own():
    limits = ScopeLimits(per_call_nusd=10)
    assert per_call_refusal("user:u", limits, 10) is None
    assert per_call_refusal("user:u", limits, 11) == CapRefused("user:u", WindowKind.CALL, 10, 0, 0, 11, None)
    assert per_call_refusal("user:u", ScopeLimits(), 10**15) is None
