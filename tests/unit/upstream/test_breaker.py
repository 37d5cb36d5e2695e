"""When a breaker trips, whom it lets through half open, and that it can never be stuck."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.breaker import (
    FAILURES_IN_A_ROW_MAX,
    OPEN_US,
    PROBE_LEASE_US,
    PROBES_MAX,
    WINDOW_CALLS_MIN,
    WINDOW_US,
    Breaker,
    BreakerState,
)

SECOND_US = 1_000_000


def tripped(at_us=0):
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW_MAX):
        breaker.failed(at_us)
    return breaker


def test_it_trips_on_three_failures_in_a_row():
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW_MAX - 1):
        breaker.failed(0)
        assert breaker.state(0) is BreakerState.CLOSED
    breaker.failed(0)
    assert breaker.state(0) is BreakerState.OPEN
    assert not breaker.enter(0)


def test_a_success_between_ends_the_row():
    breaker = Breaker()
    for turn in range(4):
        breaker.failed(turn)
        breaker.failed(turn)
        for _ in range(4):  # so that most of all calls succeed
            breaker.succeeded(turn)
    assert breaker.state(5) is BreakerState.CLOSED


def test_it_trips_where_half_of_ten_calls_failed():
    breaker = Breaker()
    for turn in range(WINDOW_CALLS_MIN // 2 - 1):
        breaker.succeeded(turn)
        breaker.failed(turn)
    breaker.succeeded(10)
    assert breaker.state(10) is BreakerState.CLOSED
    breaker.failed(10)  # the fifth of ten
    assert breaker.state(10) is BreakerState.OPEN


def test_half_of_nine_is_too_few_to_tell():
    breaker = Breaker()
    for turn in range(WINDOW_CALLS_MIN // 2 - 1):
        breaker.failed(turn)
        breaker.succeeded(turn)
    breaker.failed(10)
    assert breaker.state(10) is BreakerState.CLOSED


def test_what_is_older_than_the_window_is_forgotten():
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0)
        breaker.succeeded(0)
    for _ in range(2):
        breaker.succeeded(WINDOW_US + 4 * SECOND_US)
        breaker.failed(WINDOW_US + 4 * SECOND_US)
    assert breaker.state(WINDOW_US + 4 * SECOND_US) is BreakerState.CLOSED


def test_half_open_lets_three_probes_through_and_the_first_success_closes_it():
    breaker = tripped()
    assert breaker.state(OPEN_US - 1) is BreakerState.OPEN
    assert breaker.state(OPEN_US) is BreakerState.HALF_OPEN
    assert [breaker.enter(OPEN_US) for _ in range(PROBES_MAX + 2)] == [True] * PROBES_MAX + [False, False]
    breaker.succeeded(OPEN_US)
    assert breaker.state(OPEN_US) is BreakerState.CLOSED
    assert all(breaker.enter(OPEN_US) for _ in range(20))


def test_a_probe_that_fails_opens_it_again():
    breaker = tripped()
    assert breaker.enter(OPEN_US)
    breaker.failed(OPEN_US + 5)
    assert not breaker.enter(2 * OPEN_US)
    assert breaker.enter(2 * OPEN_US + 5)


def test_hung_probes_give_their_places_back():
    breaker = tripped()
    for _ in range(PROBES_MAX):
        assert breaker.enter(OPEN_US)
    assert not breaker.enter(OPEN_US + PROBE_LEASE_US - 1)
    assert breaker.enter(OPEN_US + PROBE_LEASE_US)


def test_a_probe_that_says_nothing_gives_its_place_back_at_once():
    breaker = tripped()
    for _ in range(PROBES_MAX):
        assert breaker.enter(OPEN_US)
    breaker.left()
    assert breaker.enter(OPEN_US)
    assert not breaker.enter(OPEN_US)


def test_what_was_asked_before_it_tripped_neither_closes_nor_prolongs():
    breaker = tripped()
    breaker.succeeded(OPEN_US // 2)
    breaker.failed(OPEN_US // 2)
    assert breaker.state(OPEN_US - 1) is BreakerState.OPEN
    assert breaker.state(OPEN_US) is BreakerState.HALF_OPEN


@given(
    st.lists(st.tuples(st.sampled_from(["enter", "ok", "fail", "left"]), st.integers(0, 5 * SECOND_US)), max_size=60)
)
def test_whatever_happened_it_lets_a_call_through_within_five_seconds(steps):
    breaker, now_us = Breaker(), 0
    for step, wait_us in steps:
        now_us += wait_us
        {
            "enter": breaker.enter,
            "ok": breaker.succeeded,
            "fail": breaker.failed,
            "left": lambda _now_us: breaker.left(),
        }[step](now_us)
        assert breaker.admits(now_us) or breaker.state(now_us) is not BreakerState.CLOSED
    assert breaker.enter(now_us + OPEN_US + PROBE_LEASE_US)
