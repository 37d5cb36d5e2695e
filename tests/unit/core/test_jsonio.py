"""A document of which every member counts is read exactly, or refused."""

from decimal import Decimal

import pytest

from proxy.core.errors import DuplicateParameter, InvalidJson
from proxy.core.jsonio import parse_exact


def test_numbers_stay_what_was_written():
    parsed = parse_exact(b'{"a": 0.1, "b": 12345678901234567.123456789, "c": 3, "d": [1e2], "e": "\\u00e9"}')
    assert parsed == {"a": Decimal("0.1"), "b": Decimal("12345678901234567.123456789"), "c": 3, "d": [100], "e": "é"}


@pytest.mark.parametrize("raw", [b'{"a":1,"a":1}', b'{"b":[{"a":1,"c":2,"a":3}]}', b'{"a":1,"\\u0061":2}'])
def test_a_name_that_stands_twice_is_refused(raw):
    with pytest.raises(DuplicateParameter) as caught:
        parse_exact(raw)
    assert caught.value.param == "a"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} {}",
        b"NaN",
        b"{'a':1}",
        b'{"a":1,}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'"\xff"',
        b'"\\ud800"',
    ],
)
def test_what_is_no_json_is_refused(raw):
    with pytest.raises(InvalidJson):
        parse_exact(raw)


@pytest.mark.parametrize("raw", [b"[" * 50_000 + b"]" * 50_000, b"9" * 5_000, b'{"a":' * 50_000])
def test_what_would_take_too_much_is_refused(raw):
    with pytest.raises(InvalidJson):
        parse_exact(raw)
