"""Dollars become nano-dollars exactly, or not at all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.money import nusd_of, usd_text


@pytest.mark.parametrize(
    ("usd", "expected_nusd"),
    [
        ("0", 0),
        ("-0.0", 0),
        ("1", 1_000_000_000),
        ("5.00", 5_000_000_000),
        ("0.1", 100_000_000),  # the nearest float is a little more
        ("0.000000001", 1),
        ("1E-9", 1),
        ("1.0000000000000000000000000000000000000000", 1_000_000_000),
        ("4000000", 4_000_000_000_000_000),
        ("3999999.999999999", 3_999_999_999_999_999),  # 16 digits: a float has 15
        ("1E+3", 1_000_000_000_000),
    ],
)
def test_an_amount(usd, expected_nusd):
    assert nusd_of(Decimal(usd)) == expected_nusd


@pytest.mark.parametrize(
    "usd",
    [
        *("-1", "-0.000000001", "nan", "-nan", "inf", "-inf", "0.0000000001", "1.0000000005", "1E-10"),
        *("1E-999999999", "1E+999999999", "1E+30"),
    ],
)
def test_no_amount(usd):
    with pytest.raises(ValueError, match="an amount of dollars"):
        nusd_of(Decimal(usd))


@pytest.mark.parametrize(
    ("nusd", "expected"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (1_500_000_000, "1.50"),
        (100_000_000, "0.10"),
        (1_234_567_890, "1.23456789"),
        (4_000_000_000_000_000, "4000000.00"),
    ],
)
def test_an_amount_as_people_write_it(nusd, expected):
    assert usd_text(nusd) == expected


@given(st.integers(0, 2**53 - 1))
def test_what_is_written_is_read_again(nusd):
    assert nusd_of(Decimal(usd_text(nusd))) == nusd
