"""A provider that is down is not asked three times as often."""

from proxy.upstream.retry_budget import FIRST_DELAY_MS, RETRIES_MAX, RetryBudget, delay_ms

SECOND_US = 1_000_000


def drained():
    budget = RetryBudget()
    while budget.take(0):
        pass
    return budget


def test_a_tenth_as_many_as_are_answered_may_be_sent_again():
    budget = drained()
    taken = 0
    for _ in range(1_000):
        budget.answered()
        taken += budget.take(0)
    assert 99 <= taken <= 100  # one may be left in part


def test_and_one_a_second():
    budget = drained()
    assert [budget.take(second * SECOND_US) for second in (1, 1, 2, 2, 3)] == [True, False, True, False, True]


def test_what_is_saved_up_is_bounded():
    budget = drained()
    taken = sum(budget.take(3_600 * SECOND_US) for _ in range(100))
    assert taken == RETRIES_MAX


def test_the_wait_is_a_random_part_of_twice_as_long_each_time_after_what_is_asked_for():
    assert delay_ms(1, 0, 0.0) == 0
    assert delay_ms(1, 0, 0.5) == FIRST_DELAY_MS / 2
    assert delay_ms(2, 0, 0.5) == FIRST_DELAY_MS
    assert delay_ms(1, 700, 0.5) == 700 + FIRST_DELAY_MS / 2
