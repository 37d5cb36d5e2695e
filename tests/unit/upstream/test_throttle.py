"""How long a provider that answers 429 is left alone."""

import pytest

from proxy.upstream.throttle import FIRST_WAIT_MS, WAIT_MS_MAX, Throttle, wait_asked_ms

NOW_MS = 1_795_700_000_000  # 2026-11-26T13:33:20Z


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({b"retry-after": b"3"}, 3_000),
        ({b"retry-after": b"0"}, 0),
        ({b"retry-after": b"1.5"}, 1_500),
        ({b"retry-after-ms": b"250"}, 250),
        ({b"retry-after-ms": b"250", b"retry-after": b"9"}, 250),  # the finer one
        ({b"retry-after": b"Thu, 26 Nov 2026 13:33:50 GMT"}, 30_000),
        ({b"retry-after": b"Thu, 26 Nov 2026 13:00:00 GMT"}, 0),  # it has passed
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"-5"}, None),
        ({b"retry-after": b"99999999999"}, None),
        ({b"retry-after": b"\xff\xfe"}, None),
        # OpenAI's: what has run out says when it is full again
        ({b"x-ratelimit-remaining-requests": b"0", b"x-ratelimit-reset-requests": b"6m0s"}, 360_000),
        ({b"x-ratelimit-remaining-requests": b"5", b"x-ratelimit-reset-requests": b"6m0s"}, None),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"20ms"}, 20),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"1.5s"}, 1_500),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"1h2m3s"}, 3_723_000),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b""}, None),
        ({b"x-ratelimit-remaining-tokens": b"0", b"x-ratelimit-reset-tokens": b"later"}, None),
        (
            {
                b"x-ratelimit-remaining-requests": b"0",
                b"x-ratelimit-reset-requests": b"2s",
                b"x-ratelimit-remaining-tokens": b"0",
                b"x-ratelimit-reset-tokens": b"9s",
            },
            9_000,
        ),
        # Anthropic's
        (
            {
                b"anthropic-ratelimit-requests-remaining": b"0",
                b"anthropic-ratelimit-requests-reset": b"2026-11-26T13:33:25Z",
            },
            5_000,
        ),
        (
            {b"anthropic-ratelimit-tokens-remaining": b"0", b"anthropic-ratelimit-tokens-reset": b"yesterday"},
            None,
        ),
    ],
)
def test_wait_asked_ms(fields, expected):
    assert wait_asked_ms(fields, NOW_MS) == expected


def test_it_is_left_alone_for_as_long_as_it_says():
    throttle = Throttle()
    assert throttle.left_us(0) == 0
    throttle.told(3_000, 0)
    assert throttle.left_us(1_000_000) == 2_000_000
    assert throttle.left_us(3_000_000) == 0


def test_no_longer_than_a_minute():
    throttle = Throttle()
    throttle.told(86_400_000, 0)
    assert throttle.left_us(0) == WAIT_MS_MAX * 1_000


def test_where_it_does_not_say_the_wait_doubles_until_it_answers():
    throttle, now_us = Throttle(), 0
    for factor in (1, 2, 4):
        throttle.told(None, now_us)
        assert throttle.left_us(now_us) == factor * FIRST_WAIT_MS * 1_000
        now_us += throttle.left_us(now_us)
    throttle.answered()
    throttle.told(None, now_us)
    assert throttle.left_us(now_us) == FIRST_WAIT_MS * 1_000


def test_a_shorter_wait_takes_nothing_off_a_longer_one():
    throttle = Throttle()
    throttle.told(9_000, 0)
    throttle.told(1_000, 0)
    assert throttle.left_us(0) == 9_000_000
