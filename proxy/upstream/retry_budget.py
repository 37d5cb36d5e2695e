"""How often a provider may be sent the same call again: a tenth of the calls that it answers, and one a second.

Pure: the instant is handed in, in monotonic microseconds. Without it, a provider that is down
would get every call three times, when it can bear them least. So what fails earns nothing.
"""

from typing import Final

RETRIES_PER_ANSWER: Final = 0.1
RETRIES_PER_S: Final = 1.0
RETRIES_MAX: Final = 10.0  # that may have been saved up

FIRST_DELAY_MS: Final = 100


class RetryBudget:
    """One provider's."""

    __slots__ = ("_at_us", "_left")

    def __init__(self) -> None:
        self._left = RETRIES_MAX
        self._at_us: int | None = None

    def answered(self) -> None:
        """A call was answered, and not by a failure."""
        if self._left < RETRIES_MAX:
            self._left += RETRIES_PER_ANSWER

    def take(self, now_us: int) -> bool:
        """Take one retry, if there is one."""
        if self._at_us is not None:
            self._left = min(RETRIES_MAX, self._left + (now_us - self._at_us) / 1e6 * RETRIES_PER_S)
        self._at_us = now_us
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def delay_ms(retry: int, asked_ms: float, fraction: float) -> float:
    """How long to wait before the retry of this number (from 1): what the provider asks for, and jitter.

    Full jitter (aws.amazon.com/builders-library, timeouts, retries and backoff with jitter): any part of twice as
    long each time, `fraction` being a random number in [0, 1).
    """
    assert retry >= 1
    return asked_ms + fraction * (FIRST_DELAY_MS << (retry - 1))
