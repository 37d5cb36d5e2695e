"""Counts what a stream says, for when nobody reports its usage: a caller hung up, say.

Pure. Bytes are counted, and tokens estimated from them. No token of a text is less than a byte,
so the bytes are an upper bound of what was heard; a token of English is about four bytes, of
code or Chinese about three. What is charged is the expected number: a token for three bytes,
and at least one for each delta that says something, because no provider cuts tokens in two.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.openai import Operation, StreamEnd
from proxy.dialects.sse import EventSplitter

BYTES_PER_TOKEN: Final = 3
"""What is expected; measured texts have 1.5 to 8."""

_EVENT_BYTES_MAX: Final = 4_194_304
# Members of a chat's delta in which providers repeat each other (OpenRouter says its reasoning in
# `reasoning` and again as `text` of the details): of these only the longest counts.
_ALIKE: Final = (b"text", b"reasoning", b"reasoning_content")
# Members of events that hold output, by the API references of chat completions, completions,
# responses and messages. Of a response only deltas: the events after them repeat what they said.
_MEMBERS: Final = {
    StreamEnd.DONE: (*_ALIKE, b"content", b"refusal", b"arguments", b"name", b"transcript"),
    StreamEnd.RESPONSE: (b"delta",),
    StreamEnd.MESSAGE_STOP: (b"text", b"thinking", b"partial_json", b"name"),
}
# Where output begins in an event; one without it holds none.
_BEGINNINGS: Final = {
    StreamEnd.DONE: b'"choices"',
    StreamEnd.RESPONSE: b'"delta"',
    StreamEnd.MESSAGE_STOP: b"content_block_",
}
# Output whose bytes say nothing of its tokens.
_UNCOUNTED: Final = (b"audio", b"images")
_UNCOUNTED_MARKS: Final = (b'"response.audio.delta"', b'"partial_image_b64"')


class StreamedOutputCounter:
    """Hears one stream. `is_complete` turns False once its output cannot be told from it."""

    __slots__ = (
        "_alike",
        "_beginning",
        "_deltas",
        "_events",
        "_pattern",
        "_text_bytes",
        "_uncounted_marks",
        "is_complete",
    )

    def __init__(self, operation: Operation) -> None:
        end = operation.stream_end or StreamEnd.DONE
        self.is_complete = operation.stream_end is not None
        self._alike = _ALIKE if end is StreamEnd.DONE else ()
        self._beginning = _BEGINNINGS[end]
        self._pattern = _pattern(end)
        self._uncounted_marks = _UNCOUNTED_MARKS if end is StreamEnd.RESPONSE else ()
        self._events = EventSplitter(_EVENT_BYTES_MAX)
        # By the member's name: bytes in UTF-8, and how many deltas said something in it.
        self._text_bytes: dict[bytes, int] = {}
        self._deltas: dict[bytes, int] = {}

    @property
    def output_bytes(self) -> int:
        """Of the output heard so far: an upper bound of its tokens."""
        return self._sum(self._text_bytes)

    @property
    def expected_tokens(self) -> int:
        """An estimate of the output heard so far."""
        return max(self._sum(self._deltas), -(-self.output_bytes // BYTES_PER_TOKEN))

    def feed(self, chunk: bytes) -> None:
        """Hear one chunk as it came off the wire, its coding undone. Raises nothing."""
        events = self._events
        if events.between_events and chunk.endswith(b"\n\n"):
            self._count(chunk)  # whole events
            return
        for event in events.feed(chunk):
            self._count(event)
        if events.overflowed:
            self.is_complete = False

    def give_up(self) -> None:
        """What follows cannot be heard."""
        self.is_complete = False

    def _count(self, events: bytes) -> None:
        for mark in self._uncounted_marks:
            if mark in events:
                self.is_complete = False
        start = events.find(self._beginning)
        if start < 0:
            return
        for name, text, uncounted in self._pattern.findall(events, start):
            if uncounted:
                self.is_complete = False
            elif text:
                self._text_bytes[name] = self._text_bytes.get(name, 0) + _utf8_bytes(text)
                self._deltas[name] = self._deltas.get(name, 0) + 1

    def _sum(self, counts: Mapping[bytes, int]) -> int:
        alike = max((counts.get(name, 0) for name in self._alike), default=0)
        return alike + sum(count for name, count in counts.items() if name not in self._alike)


def may_hide_reasoning(operation: Operation, document: Mapping[str, Any] | None, *, model_reasons: bool) -> bool:
    """True where tokens may be billed that the stream does not show, as far as the call tells.

    `model_reasons` is the catalogue's word on the model. OpenAI's and Google's models then reason
    unless told not to; Anthropic's do once `thinking` is asked for, and show a summary of it.
    """
    if not model_reasons or document is None:
        return model_reasons
    if operation.stream_end is StreamEnd.MESSAGE_STOP:
        thinking = document.get("thinking")
        return isinstance(thinking, dict) and thinking.get("type") != "disabled"
    reasoning = document.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return "none" not in (effort, document.get("reasoning_effort"))


def _utf8_bytes(text: bytes) -> int:
    """The length of a JSON string's value, of which the text between the quotes is given."""
    if b"\\" not in text:
        return len(text)
    try:
        return len(jsonio.parse(b'"' + text + b'"').encode())
    except InvalidJson:
        return len(text)  # an escape never takes less than what it stands for


@lru_cache(maxsize=8)
def _pattern(end: StreamEnd) -> re.Pattern[bytes]:
    """A member that holds output and its string, or one that holds what cannot be counted."""
    space = rb"[ \t]*+"
    string = rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
    counted = rb'"(' + b"|".join(_MEMBERS[end]) + rb')"' + space + b":" + space + string
    uncounted = rb'"(' + b"|".join(_UNCOUNTED) + rb')"' + space + b":" + space + rb'(?=["\[{])'
    return re.compile(counted + b"|" + uncounted)
