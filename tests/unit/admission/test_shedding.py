"""Whom a process sheds that has too much to do."""

import pytest

from proxy.admission.shedding import Shedding

GIB = 1 << 30


@pytest.mark.parametrize(
    ("lag_ms", "memory_bytes", "memory_bytes_max", "pressure"),
    [(50, None, None, 0.5), (150, GIB, None, 1.5), (50, 3 * GIB, 2 * GIB, 1.5), (50, None, GIB, 0.5)],
)
def test_the_pressure_is_the_greater_of_the_two(lag_ms, memory_bytes, memory_bytes_max, pressure):
    shedding = Shedding()
    shedding.measured(lag_ms, 100, memory_bytes, memory_bytes_max)
    assert shedding.pressure == pressure


@pytest.mark.parametrize(
    ("lag_ms", "held", "in_flight", "tenants", "expected"),
    [
        (99, 90, 100, 10, False),
        (101, 11, 100, 10, True),  # more than its part
        (101, 10, 100, 10, False),
        (101, 0, 100, 10, False),
        (101, 1, 1, 1, False),  # it is alone
        (200, 0, 100, 10, True),  # at twice the bound, everybody
    ],
)
def test_sheds(lag_ms, held, in_flight, tenants, expected):
    shedding = Shedding()
    shedding.measured(lag_ms, 100, None, None)
    assert shedding.sheds(held, in_flight, tenants) is expected


def test_it_goes_on_until_it_is_calm_and_does_not_flap():
    shedding, seen = Shedding(), []
    for lag_ms in (99, 101, 95, 81, 79, 95, 101):
        shedding.measured(lag_ms, 100, None, None)
        seen.append(shedding.sheds(50, 100, 10))
    assert seen == [False, True, True, True, False, False, True]
