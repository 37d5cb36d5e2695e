import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admission.limits import (
    conforms,
    corrected,
    fewest_requests,
    fewest_tokens,
    remaining_requests,
    requests_bucket,
    retry_after_ms,
    taken,
    tokens_bucket,
)
from proxy.admission.terms import Bucket, ScopeDemand, outline_of

NOW_US = 1_800_000_000_000_000
BUCKETS = st.builds(requests_bucket, st.integers(1, 100_000), st.integers(1, 1_000)) | st.builds(
    tokens_bucket, st.integers(1, 10_000_000), st.integers(1, 1_000_000)
)


@pytest.mark.parametrize(
    ("full_in_us", "increment_us", "capacity_us", "expected"),
    [
        (0, 10, 30, True),
        (-5, 10, 30, True),
        (20, 10, 30, True),  # the last one that fits
        (21, 10, 30, False),
        (0, 31, 30, True),  # larger than the bucket, which is full
        (1, 31, 30, False),
        (29, 0, 30, True),  # nothing is asked of it
        (31, 0, 30, False),  # in debt
    ],
)
def test_conforms(full_in_us, increment_us, capacity_us, expected):
    assert conforms(NOW_US + full_in_us, NOW_US, Bucket(increment_us, capacity_us)) is expected


@given(BUCKETS, st.integers(-(10**9), 10**11))
def test_whoever_waits_as_told_is_let_in_and_not_much_sooner(bucket, full_in_us):
    tat_us = NOW_US + full_in_us
    if not conforms(tat_us, NOW_US, bucket):
        wait_us = retry_after_ms(tat_us, NOW_US, bucket) * 1_000
        assert wait_us > 0
        assert conforms(tat_us, NOW_US + wait_us, bucket)
        assert not conforms(tat_us, NOW_US + wait_us - 1_000, bucket)


@given(st.integers(1, 10_000), st.integers(1, 50), st.lists(st.integers(0, 2_000_000), max_size=200))
def test_no_stretch_of_time_lets_more_through_than_the_burst_and_its_refill(per_minute, burst, pauses_us):
    bucket, tat_us, now_us, admitted_us = requests_bucket(per_minute, burst), 0, NOW_US, []
    for pause_us in pauses_us:
        now_us += pause_us
        if conforms(tat_us, now_us, bucket):
            tat_us = taken(tat_us, now_us, bucket)
            admitted_us.append(now_us)
    for i, start_us in enumerate(admitted_us):
        for count, end_us in enumerate(admitted_us[i:], 1):
            assert count <= burst + (end_us - start_us) / bucket.increment_us


@pytest.mark.parametrize(
    ("full_in_us", "expected_tokens", "tokens", "full_then_us"),
    [
        # 60 tokens a minute: a token is a second.
        (10_000_000, 5, 5, 10_000_000),
        (10_000_000, 5, 2, 7_000_000),
        (10_000_000, 5, 20, 25_000_000),
        (1_000_000, 5, 0, 0),  # never more than full
        (-9_000_000, 5, 6, 1_000_000),  # it has long been full: a token is taken of a full bucket
        (-9_000_000, 5, 4, 0),
        (0, 0, 100_000_000, 365 * 24 * 3_600_000_000),  # the longest debt
    ],
)
def test_a_correction(full_in_us, expected_tokens, tokens, full_then_us):
    assert corrected(NOW_US + full_in_us, NOW_US, 60, expected_tokens, tokens) == NOW_US + full_then_us


def test_an_estimate_that_was_right_changes_nothing():
    assert corrected(5, NOW_US, 60, 7, 7) == 5


@pytest.mark.parametrize(
    ("full_in_us", "left"), [(0, 3), (-5, 3), (1, 2), (10, 2), (11, 1), (20, 1), (21, 0), (30, 0), (500, 0)]
)
def test_remaining_requests(full_in_us, left):
    assert remaining_requests(NOW_US + full_in_us, NOW_US, Bucket(10, 30)) == left
    gauges = outline_of((ScopeDemand("a", Bucket(10, 30)), ScopeDemand("b", Bucket(1, 900)))).gauges
    assert fewest_requests(gauges, [NOW_US + full_in_us, 0, 0, 0], NOW_US) == left
    assert fewest_tokens(gauges, [0] * 4, NOW_US) is None


@pytest.mark.parametrize(("full_in_us", "left"), [(0, 1_000), (60_000, 999), (60_001, 998), (90_000_000, 0)])
def test_remaining_tokens(full_in_us, left):
    scopes = (ScopeDemand("a", tokens_per_minute=9_999), ScopeDemand("b", tokens_per_minute=1_000))
    gauges = outline_of(scopes).gauges
    assert fewest_tokens(gauges, [0, NOW_US, 0, NOW_US + full_in_us], NOW_US) == left
    assert fewest_requests(gauges, [0] * 4, NOW_US) is None
