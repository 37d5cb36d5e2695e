"""A virtual key's own limits, as they are typed and as they are shown."""

from dataclasses import fields

import pytest

from proxy.administration.descriptions import limits_in_words
from proxy.cli.arguments import parse_arguments
from proxy.cli.limits import typed_limits
from proxy.core.limits import CAPS, ScopeLimits

ISSUE = ["keys", "issue", "--tenant", "acme"]


def typed(*words):
    return typed_limits(parse_arguments([*ISSUE, *words]))


def test_every_limit_can_be_typed_by_its_name_in_the_file():
    for field in fields(ScopeLimits):
        name = CAPS.get(field.name, field.name)
        expected = 3_000_000_000 if field.name in CAPS else 3
        assert typed(f"--{name.replace('_', '-')}", "3") == ScopeLimits(**{field.name: expected})


def test_what_is_not_typed_limits_nothing():
    assert typed() is None
    assert typed("--usd-total", "0") == ScopeLimits(total_nusd=0)


@pytest.mark.parametrize(
    ("text", "expected_nusd"),
    [("1.50", 1_500_000_000), ("0.000000001", 1), ("4000000", 4 * 10**15), ("0", 0), ("1e2", 100_000_000_000)],
)
def test_dollars_are_taken_exactly(text, expected_nusd):
    assert typed("--usd-per-day", text) == ScopeLimits(per_day_nusd=expected_nusd)


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        *(
            ("--usd-per-day", text)
            for text in ("", "five", "-1", "nan", "inf", "0.0000000001", "4000000.01", "$5", "1,5")
        ),
        *(("--usd-per-day", text) for text in ("1e999999", "1e99999999999999999999", "0x10")),
        *(("--requests-per-minute", text) for text in ("0", "-1", "1.5", "", "60000001", "９", "1e3", "9" * 5_000)),
        *(("--max-concurrency", text) for text in ("0", "1000001")),
    ],
)
def test_what_is_no_limit_is_usage(flag, text, capsys):
    with pytest.raises(SystemExit) as caught:
        typed(f"{flag}={text}")
    assert caught.value.code == 2
    assert flag in capsys.readouterr().err


def test_limits_are_shown_as_the_file_calls_them():
    limits = ScopeLimits(requests_per_minute=60, burst=5, per_day_nusd=1_500_000_000, total_nusd=0)
    assert limits_in_words(limits) == {
        "requests_per_minute": 60,
        "burst": 5,
        "usd_per_day": "1.50",
        "usd_total": "0.00",
    }
    assert limits_in_words(None) is None
