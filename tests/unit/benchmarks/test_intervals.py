import random
import statistics

import pytest

from benchmarks.intervals import median, median_interval, percentile


@pytest.mark.parametrize(
    ("values", "pct", "expected"),
    [
        ([7], 50, 7),
        ([7], 99, 7),
        ([15, 20, 35, 40, 50], 5, 15),  # the example of the nearest-rank method
        ([15, 20, 35, 40, 50], 30, 20),
        ([15, 20, 35, 40, 50], 40, 20),
        ([15, 20, 35, 40, 50], 50, 35),
        ([15, 20, 35, 40, 50], 100, 50),
        (range(1, 101), 99, 99),
        (range(1, 1001), 99, 990),
    ],
)
def test_percentile(values, pct, expected):
    assert percentile(values, pct) == expected


@pytest.mark.parametrize("values", [[3], [1, 2], [5, 1, 3], [4, 1, 3, 2]])
def test_median(values):
    assert median(values) == statistics.median(values)


def test_equal_rounds_leave_no_doubt():
    assert median_interval([2.0] * 5) == (2.0, 2.0, 2.0)


def test_the_interval_holds_its_estimate_and_says_the_same_again():
    chance = random.Random(1)
    values = [chance.gauss(10, 2) for _ in range(15)]
    interval = median_interval(values)
    assert min(values) <= interval.low < interval.value < interval.high <= max(values)
    assert median_interval(values) == interval


def test_more_rounds_make_it_narrower():
    chance = random.Random(2)
    widths = []
    for rounds in (8, 128):
        interval = median_interval([chance.gauss(10, 2) for _ in range(rounds)])
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 2


def test_the_truth_lies_within_about_as_often_as_said():
    # 200 intervals of 15 rounds each, around a median that is known to be 0.
    chance = random.Random(3)
    hits = 0
    for _ in range(200):
        interval = median_interval([chance.gauss(0, 1) for _ in range(15)], resamples=400)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 200 <= 1
