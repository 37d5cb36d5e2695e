"""After one attempt, what next?

Pure: `pipeline.attempts` owns the loop and the I/O. Invariant: once a byte has reached the caller, nothing else is
tried; two half answers are worse than one. So this is asked before the first byte alone.
"""

from enum import StrEnum
from typing import Final, NamedTuple

RETRIES_MAX: Final = 2  # of one call, over all its deployments
WAIT_MS_MAX: Final = 2_000
"""A provider that asks for a longer wait is not waited for: the caller's SDK can do that better."""
WAIT_BEFORE_FALLBACK_MS_MAX: Final = 250  # whoever may be answered elsewhere is not made to wait

_RETRYABLE: Final = frozenset({408, 409, 429})


class Failure(StrEnum):
    """How an attempt failed, as rows and metrics call it."""

    NOT_SENT = "not_sent"  # no connection, or it broke before the call was sent
    BLOCKED = "blocked"  # its breaker lets nothing through
    NO_ROOM = "no_room"  # every connection to the provider is in use
    BROKE_OFF = "broke_off"  # after the call was sent: the provider may bill it
    TIMED_OUT = "timed_out"  # likewise
    MALFORMED = "malformed"  # likewise
    STATUS = "status"  # an answer that says: not now
    ERROR_EVENT = "error_event"  # a stream whose first event is an error
    CREDENTIALS = "credentials"  # the gateway's own key was refused


# What was not even begun, or was refused, can be sent again to the same place. What may have been
# done cannot: the provider may bill both.
_RETRIED: Final = frozenset({Failure.NOT_SENT, Failure.STATUS, Failure.ERROR_EVENT})
_MAYBE_BILLED: Final = frozenset({Failure.BROKE_OFF, Failure.TIMED_OUT, Failure.MALFORMED})


class Next(StrEnum):
    """What follows an attempt that failed."""

    RETRY = "retry"  # the same deployment, after a while
    FALL_BACK = "fall_back"  # the next deployment, if there is one
    END = "end"  # this was the answer


class Outcome(NamedTuple):
    """An attempt that failed, and what is left to try."""

    failure: Failure
    retries_made: int
    wait_ms: float  # before it can be sent again
    has_fallback: bool = False


def is_failure(status: int) -> bool:
    """True for a status that says: not now, or not here. All others are answers."""
    return status >= 500 or status in _RETRYABLE


def is_maybe_billed(failure: Failure) -> bool:
    """True where the provider may have done the work, and bill it."""
    return failure in _MAYBE_BILLED


def decide(outcome: Outcome) -> Next:
    """Say what follows. The same deployment is asked again, as often as a call may be, before another is."""
    assert outcome.retries_made >= 0
    wait_ms_max = WAIT_BEFORE_FALLBACK_MS_MAX if outcome.has_fallback else WAIT_MS_MAX
    if outcome.failure in _RETRIED and outcome.retries_made < RETRIES_MAX and outcome.wait_ms <= wait_ms_max:
        return Next.RETRY
    return Next.FALL_BACK if outcome.has_fallback else Next.END
