"""How a deployment has done of late: a score that forgets, and times that are measured anew."""

from math import inf

from proxy.upstream.vitals import DEGRADED_BELOW, STALE_US, Vitals, first_bytes_us

SECOND_US = 1_000_000


def first_byte_us(vitals, now_us, *, stream):
    (alone,) = first_bytes_us([vitals], now_us, stream=stream)
    assert (alone == 0.0) is vitals.is_unmeasured(now_us, stream=stream)
    return alone


def test_failures_lower_the_score_and_answers_raise_it():
    vitals = Vitals()
    assert vitals.score(0) == 1.0
    vitals.failed(0)
    assert abs(vitals.score(0) - 0.9) < 1e-9
    vitals.answered(0, 5_000, stream=False)
    assert abs(vitals.score(0) - 0.91) < 1e-9


def test_three_failures_in_a_row_degrade_it():
    vitals = Vitals()
    for _ in range(2):
        vitals.failed(0)
        assert not vitals.is_degraded(0)
    vitals.failed(0)
    assert vitals.is_degraded(0)


def test_what_is_asked_no_more_heals_by_itself():
    vitals = Vitals()
    for _ in range(100):
        vitals.failed(0)
    assert vitals.score(0) < 0.001
    assert vitals.is_degraded(30 * SECOND_US)  # two thirds of the way are not enough
    assert vitals.score(30 * SECOND_US) < DEGRADED_BELOW
    assert not vitals.is_degraded(60 * SECOND_US)


def test_the_time_to_the_first_byte_follows_slowly_and_apart_for_streams():
    vitals = Vitals()
    assert first_byte_us(vitals, 0, stream=True) == 0.0
    vitals.answered(0, 1_000, stream=True)
    vitals.answered(0, 2_000, stream=True)
    assert first_byte_us(vitals, 0, stream=True) == 1_200.0
    assert first_byte_us(vitals, 0, stream=False) == 0.0
    vitals.to_be_measured(0, stream=False)
    assert first_byte_us(vitals, 0, stream=False) == inf  # one call is on its way to measure it


def test_an_old_time_is_measured_anew_by_one_call():
    vitals = Vitals()
    vitals.answered(0, 1_000, stream=False)
    later_us = STALE_US + SECOND_US
    assert first_byte_us(vitals, later_us, stream=False) == 0.0
    vitals.to_be_measured(later_us, stream=False)
    assert first_byte_us(vitals, later_us, stream=False) == 1_000.0  # for the calls that come meanwhile
    vitals.answered(later_us, 9_000, stream=False)
    assert first_byte_us(vitals, later_us, stream=False) > 1_000.0
