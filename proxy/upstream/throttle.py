"""How long a provider that answers 429 is left alone: as long as it says, within bounds.

Pure. `Retry-After` is RFC 9110, section 10.2.3; `retry-after-ms` is OpenAI's and Azure's; the reset headers are
platform.openai.com/docs/guides/rate-limits and docs.anthropic.com/en/api/rate-limits.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

WAIT_MS_MAX: Final = 60_000
"""After so long one call asks again, whatever was said: a limit may have been lifted, and a clock may be wrong."""

FIRST_WAIT_MS: Final = 1_000
_DOUBLINGS_MAX: Final = 5
_NUMBER: Final = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")
_SPAN: Final = re.compile(
    rb"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m(?!s))?(?:(\d{1,5}(?:\.\d{1,9})?)s)?(?:(\d{1,7})ms)?"
)
# What has run out says when it is full again: (what is left, when).
_OPENAI: Final = tuple(
    (b"x-ratelimit-remaining-" + what, b"x-ratelimit-reset-" + what) for what in (b"requests", b"tokens")
)
_ANTHROPIC: Final = tuple(
    (b"anthropic-ratelimit-" + what + b"-remaining", b"anthropic-ratelimit-" + what + b"-reset")
    for what in (b"requests", b"tokens", b"input-tokens", b"output-tokens")
)


def wait_asked_ms(fields: Mapping[bytes, bytes], now_ms: int) -> int | None:
    """How long an answer's headers ask to wait, in milliseconds, unbounded; None where they do not say.
    `now_ms` is milliseconds since the Unix epoch."""
    in_ms = fields.get(b"retry-after-ms")
    if in_ms is not None and _NUMBER.fullmatch(in_ms):
        return int(float(in_ms))
    after = fields.get(b"retry-after")
    if after is not None:
        if _NUMBER.fullmatch(after):
            return int(float(after) * 1_000)
        return _until_date(after, now_ms)
    waits = [_span_ms(fields[reset]) for left, reset in _OPENAI if fields.get(left) == b"0" and reset in fields]
    waits += [
        _until_instant(fields[reset], now_ms)
        for left, reset in _ANTHROPIC
        if fields.get(left) == b"0" and reset in fields
    ]
    return max((wait for wait in waits if wait is not None), default=None)


class Throttle:
    """The clock of one deployment and provider key."""

    __slots__ = ("_in_a_row", "until_us")

    def __init__(self) -> None:
        self.until_us = 0  # it is to be left alone
        self._in_a_row = 0

    def left_us(self, now_us: int) -> int:
        """How long it is still to be left alone; 0: it may be asked."""
        return self.until_us - now_us if self.until_us > now_us else 0

    def told(self, asked_ms: int | None, now_us: int) -> None:
        """It answered 429. Where it does not say for how long, the wait doubles each time."""
        if asked_ms is None:
            asked_ms = FIRST_WAIT_MS << min(self._in_a_row, _DOUBLINGS_MAX)
        self._in_a_row += 1
        self.until_us = max(self.until_us, now_us + min(asked_ms, WAIT_MS_MAX) * 1_000)

    def answered(self) -> None:
        """It answered something else."""
        self._in_a_row = 0


def _until_date(text: bytes, now_ms: int) -> int | None:
    try:
        at = parsedate_to_datetime(text.decode("ascii"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return None if at.tzinfo is None else max(0, int(at.timestamp() * 1_000) - now_ms)


def _until_instant(text: bytes, now_ms: int) -> int | None:
    try:
        at = datetime.fromisoformat(text.decode("ascii"))
    except (ValueError, OverflowError):
        return None
    return None if at.tzinfo is None else max(0, int(at.timestamp() * 1_000) - now_ms)


def _span_ms(text: bytes) -> int | None:
    """`6m0s`, `1.5s`, `20ms`, `1d2h`: a Go duration, as OpenAI's headers have it."""
    match = _SPAN.fullmatch(text)
    if match is None or not text:
        return None
    days, hours, minutes, seconds, ms = match.groups(b"0")
    whole_s = ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60
    return int((whole_s + float(seconds)) * 1_000) + int(ms)
