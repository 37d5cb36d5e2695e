"""Counts what a stream says, for when nobody reports its usage: a caller hung up, say.

Pure. Bytes are counted, and tokens estimated from them. No token of a text is less than a byte,
so the bytes are an upper bound of what was heard; a token of English is about four bytes, of
code or Chinese about three. What is charged is the expected number: a token for three bytes,
and at least one for each delta that says something, because no provider cuts tokens in two.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from typing import Any, Final, NamedTuple

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.claude_models import claude_model
from proxy.dialects.letter_case import misread_name
from proxy.dialects.openai import Operation, StreamEnd
from proxy.dialects.sse import EventSplitter

BYTES_PER_TOKEN: Final = 3
"""What is expected; measured texts have 1.5 to 8."""

_EVENT_BYTES_MAX: Final = 4_194_304
# What is held of a stream, of which there may be thousands: one that comes as a whole is often never counted.
_UNCOUNTED_BYTES_MAX: Final = 8_192
_UNCOUNTED_CHUNKS_MAX: Final = 4
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
_UNCOUNTABLE: Final = (b"audio", b"images")
_UNCOUNTABLE_MARKS: Final = (b'"response.audio.delta"', b'"partial_image_b64"')
_TYPE: Final = frozenset({"type"})


class _Places(NamedTuple):
    """Where output stands in the events of streams with this end."""

    begun: re.Pattern[bytes]  # what of an event may hold output
    member: re.Pattern[bytes]  # in it: a name and its string; both are empty for one that cannot be counted
    uncountable_marks: tuple[bytes, ...]
    alike: tuple[bytes, ...]


class StreamedOutputCounter:
    """Hears one stream. `is_complete` turns False once its output cannot be told from it.

    What was heard is counted when somebody asks, or once it is some kilobytes: most streams end in a report, and then
    nobody does.
    """

    __slots__ = ("_deltas", "_events", "_is_complete", "_places", "_text_bytes", "_uncounted", "_uncounted_bytes")

    def __init__(self, operation: Operation) -> None:
        self._is_complete = operation.stream_end is not None
        self._places = _places(operation.stream_end or StreamEnd.DONE)
        self._events: EventSplitter | None = None  # of what was counted so far
        self._uncounted: list[bytes] = []
        self._uncounted_bytes = 0
        # By the member's name: bytes in UTF-8, and how many deltas said something in it.
        self._text_bytes: dict[bytes, int] = {}
        self._deltas: dict[bytes, int] = {}

    @property
    def is_complete(self) -> bool:
        """Whether all output heard so far could be counted."""
        self._count()
        return self._is_complete

    @property
    def output_bytes(self) -> int:
        """Of the output heard so far: an upper bound of its tokens."""
        self._count()
        return self._sum(self._text_bytes)

    @property
    def expected_tokens(self) -> int:
        """An estimate of the output heard so far."""
        return max(-(-self.output_bytes // BYTES_PER_TOKEN), self._sum(self._deltas))

    def feed(self, chunk: bytes) -> None:
        """Hear one chunk as it came off the wire, its coding undone. Raises nothing."""
        self._uncounted.append(chunk)
        self._uncounted_bytes += len(chunk)
        if self._uncounted_bytes > _UNCOUNTED_BYTES_MAX or len(self._uncounted) > _UNCOUNTED_CHUNKS_MAX:
            self._count()

    def give_up(self) -> None:
        """What follows cannot be heard."""
        self._is_complete = False

    def _count(self) -> None:
        if not self._uncounted:
            return
        if self._events is None:
            self._events = EventSplitter(_EVENT_BYTES_MAX)
        places, events = self._places, b"\n\n".join(self._events.feed(b"".join(self._uncounted)))
        self._uncounted.clear()
        self._uncounted_bytes = 0
        if self._events.overflowed or any(mark in events for mark in places.uncountable_marks):
            self._is_complete = False
        found = places.member.findall(b"\n\n".join(places.begun.findall(events)))
        if not found:
            return
        names, texts = zip(*found, strict=True)
        for name in set(names):
            if not name:
                self._is_complete = False
                continue
            said = [*compress(texts, map(name.__eq__, names))]
            self._text_bytes[name] = self._text_bytes.get(name, 0) + _utf8_bytes(said)
            self._deltas[name] = self._deltas.get(name, 0) + len(said) - said.count(b"")

    def _sum(self, counts: Mapping[bytes, int]) -> int:
        alike = self._places.alike
        longest = max((counts.get(name, 0) for name in alike), default=0)
        return longest + sum(count for name, count in counts.items() if name not in alike)


def may_hide_reasoning(
    operation: Operation, document: Mapping[str, Any] | None, *, model_reasons: bool, model: str | None = None
) -> bool:
    """True where tokens may be billed that the stream does not show, as far as the call tells.

    `model_reasons` is the catalogue's word on the model, and `model` its name. OpenAI's and Google's models then reason
    unless told not to; Anthropic's do once `thinking` is asked for, and the newer ones unasked. They show a summary.
    """
    if not model_reasons or document is None:
        return model_reasons
    if operation.stream_end is StreamEnd.MESSAGE_STOP:
        return _thinks(document.get("thinking"), model)
    efforts = [document.get("reasoning_effort")]
    reasoning = document.get("reasoning")
    if isinstance(reasoning, dict):
        efforts += [value for name, value in reasoning.items() if name.casefold() == "effort"]
    said = [effort for effort in efforts if effort is not None]
    return not said or any(effort != "none" for effort in said)  # of two that differ either may be obeyed


def _thinks(thinking: object, model: str | None) -> bool:
    known = None if model is None else claude_model(model)
    if not isinstance(thinking, dict):
        return known is not None and known.thinks_unasked
    if thinking.get("type") != "disabled" or misread_name(thinking, _TYPE) is not None:
        return True
    return known is not None and known.thinks_unasked and known.thinking_off != "disabled"


def _utf8_bytes(texts: Sequence[bytes]) -> int:
    """The length of JSON strings' values, of which the texts between the quotes are given."""
    written = b"".join(texts)
    if b"\\" not in written:
        return len(written)
    try:
        return len("".join(jsonio.parse(b'["' + b'","'.join(texts) + b'"]')).encode())
    except InvalidJson:
        # An escape never takes less than what it stands for.
        return len(written) if len(texts) == 1 else sum(_utf8_bytes([text]) for text in texts)


@lru_cache(maxsize=8)
def _places(end: StreamEnd) -> _Places:
    space = rb"[ \t]*+"
    string = rb'"([^"\\\n]*+(?:\\.[^"\\\n]*+)*+)"'
    countable = rb'"(' + b"|".join(_MEMBERS[end]) + rb')"' + space + b":" + space + string
    uncountable = rb'"(?:' + b"|".join(_UNCOUNTABLE) + rb')"' + space + b":" + space + rb'(?=["\[{])'
    return _Places(
        begun=re.compile(_BEGINNINGS[end] + rb"(?:[^\n]++|\n(?!\n))*+"),  # to the event's end
        member=re.compile(countable + b"|" + uncountable),
        uncountable_marks=_UNCOUNTABLE_MARKS if end is StreamEnd.RESPONSE else (),
        alike=_ALIKE if end is StreamEnd.DONE else (),
    )
