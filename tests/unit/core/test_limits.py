"""What one scope may use, and how a virtual key's own limits stand in for its plan's."""

from dataclasses import fields

import pytest

from proxy.core.limits import (
    CAP_NUSD_MAX,
    CAPS,
    COUNTS_MAX,
    NO_LIMITS,
    ScopeLimits,
    has_cap,
    limits_of,
    merged,
    with_burst,
    written,
)

PLAN = ScopeLimits(requests_per_minute=60, burst=10, tokens_per_minute=1_000, per_day_nusd=5, total_nusd=9)


def test_every_field_is_a_limit_or_a_cap():
    assert [*COUNTS_MAX, *CAPS] == [field.name for field in fields(ScopeLimits)]


def test_a_cap_and_one_more_of_its_size_stay_in_the_counters():
    assert 2 * CAP_NUSD_MAX < 2**53


@pytest.mark.parametrize(
    ("limits", "expected_burst"),
    [
        (ScopeLimits(requests_per_minute=60), 60),
        (ScopeLimits(requests_per_minute=60, burst=5), 5),
        (ScopeLimits(burst=5), 5),
        (NO_LIMITS, None),
    ],
)
def test_a_burst_that_nobody_wrote_is_a_minutes_worth(limits, expected_burst):
    assert with_burst(limits).burst == expected_burst


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, PLAN),
        (NO_LIMITS, PLAN),
        (
            ScopeLimits(per_day_nusd=7),
            ScopeLimits(requests_per_minute=60, burst=10, tokens_per_minute=1_000, per_day_nusd=7, total_nusd=9),
        ),
        (  # the plan's burst was meant for the plan's rate
            ScopeLimits(requests_per_minute=6),
            ScopeLimits(requests_per_minute=6, burst=6, tokens_per_minute=1_000, per_day_nusd=5, total_nusd=9),
        ),
        (
            ScopeLimits(requests_per_minute=6, burst=2),
            ScopeLimits(requests_per_minute=6, burst=2, tokens_per_minute=1_000, per_day_nusd=5, total_nusd=9),
        ),
        (
            ScopeLimits(max_concurrency=3),
            ScopeLimits(60, 1_000, 10, 3, per_day_nusd=5, total_nusd=9),
        ),
        (  # nothing at all is less than something
            ScopeLimits(per_day_nusd=0),
            ScopeLimits(requests_per_minute=60, burst=10, tokens_per_minute=1_000, per_day_nusd=0, total_nusd=9),
        ),
    ],
)
def test_a_keys_own_limit_stands_in_for_its_plans(own, expected):
    assert merged(own, PLAN) == expected


@pytest.mark.parametrize("name", CAPS)
def test_an_amount_is_a_cap_and_so_is_nothing(name):
    assert has_cap(ScopeLimits(**{name: 1}))
    assert has_cap(ScopeLimits(**{name: 0}))


def test_a_rate_is_no_cap():
    assert not has_cap(ScopeLimits(1, 1, 1, 1))


def test_what_is_written_is_read_again():
    assert written(PLAN) == {
        "requests_per_minute": 60,
        "tokens_per_minute": 1_000,
        "burst": 10,
        "per_day_nusd": 5,
        "total_nusd": 9,
    }
    assert limits_of(written(PLAN)) == PLAN
    assert limits_of({}) is None
    assert limits_of({"per_fortnight_nusd": 1}) is None
