"""After one attempt, what next?"""

import pytest

from proxy.upstream.fallback import (
    RETRIES_MAX,
    WAIT_BEFORE_FALLBACK_MS_MAX,
    WAIT_MS_MAX,
    Failure,
    Next,
    Outcome,
    decide,
    is_failure,
    is_maybe_billed,
)

RETRY, FALL_BACK, END = Next.RETRY, Next.FALL_BACK, Next.END
LONG, LONGER = WAIT_BEFORE_FALLBACK_MS_MAX + 1, WAIT_MS_MAX + 1


@pytest.mark.parametrize(
    ("failure", "retries", "wait_ms", "has_fallback", "expected"),
    [
        (Failure.NOT_SENT, 0, 50, True, RETRY),  # the same model once more before another
        (Failure.NOT_SENT, RETRIES_MAX, 50, True, FALL_BACK),
        (Failure.NOT_SENT, RETRIES_MAX, 50, False, END),
        (Failure.STATUS, 0, 50, False, RETRY),
        (Failure.STATUS, 1, 50, False, RETRY),
        (Failure.STATUS, 0, LONG, False, RETRY),
        (Failure.STATUS, 0, LONG, True, FALL_BACK),  # who may be answered elsewhere is not made to wait
        (Failure.STATUS, 0, LONGER, False, END),  # the last word is the provider's
        (Failure.ERROR_EVENT, 0, 50, True, RETRY),
        # it may have been done: the provider could bill both
        (Failure.TIMED_OUT, 0, 0, True, FALL_BACK),
        (Failure.TIMED_OUT, 0, 0, False, END),
        (Failure.BROKE_OFF, 0, 0, True, FALL_BACK),
        (Failure.MALFORMED, 0, 0, True, FALL_BACK),
        # the same again would fail again
        (Failure.CREDENTIALS, 0, 0, True, FALL_BACK),
        (Failure.CREDENTIALS, 0, 0, False, END),
        (Failure.NO_ROOM, 0, 0, True, FALL_BACK),
        (Failure.BLOCKED, 0, 0, True, FALL_BACK),
        (Failure.BLOCKED, 0, 0, False, END),
    ],
)
def test_decide(failure, retries, wait_ms, has_fallback, expected):
    assert decide(Outcome(failure, retries, wait_ms, has_fallback)) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, False) for status in (200, 201, 204, 301, 400, 401, 403, 404, 413, 422)),
        *((status, True) for status in (408, 409, 429, 500, 502, 503, 504, 529, 599)),
    ],
)
def test_is_failure(status, expected):
    assert is_failure(status) is expected


def test_what_may_be_billed():
    billed = {failure for failure in Failure if is_maybe_billed(failure)}
    assert billed == {Failure.BROKE_OFF, Failure.TIMED_OUT, Failure.MALFORMED}
