"""Takes out of a stream what asking for its usage put in: the bytes are then as if nobody had.

Pure. Asked, an upstream that does as OpenAI does sends one event more, with `"choices":[]` and
the usage, and `"usage":null` in all others; see `stream_usage`. Just that goes. What a provider
sends unasked stays: a usage beside choices (Gemini, Mistral, DeepSeek), an event with
`"choices":[]` and no usage (Azure's filter results), comments, and every style of writing.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.splice import member_span
from proxy.dialects.sse import EMPTY_LINE, LINE_END_BYTES_MAX

EVENT_BYTES_MAX: Final = 262_144
"""Of an event that is still arriving. A larger one is passed on as it is."""

_LF: Final = 10
_LINES_OF_ONE: Final = 2  # an event of one line, and the empty one
_LINE_ENDS: Final = b"\r\n"
_USAGE: Final = b'"usage"'
_REPORT: Final = b'"usage":{'
# From the comma before it. Behind it stand only members that hold no others, then the bracket
# that ends the line: so this member is of the outermost object.
_NULL_NEAR_END: Final = re.compile(
    rb',[ \t]*+"usage"[ \t]*+:[ \t]*+null'
    rb'(?=(?:[ \t]*+,[ \t]*+"[^"\\]*+"[ \t]*+:[ \t]*+(?:"[^"\\]*+"|[\w.+-]++))*+[ \t]*+\}[ \t]*+[\r\n])'
)
# The same as most providers write it. It begins with letters that are given, for which a search is many times as fast.
_PLAIN_NULL: Final = re.compile(
    rb',"usage":null(?<![ \t],"usage":null)'
    rb'(?=(?:,"(?!usage")[^"\\]*+":(?:"[^"\\]*+"|[\w.+-]++))*+\}\n)'
)
_ONE_LINE: Final = re.compile(rb"data:[^\r\n]*+(?:\n\n|\r\n\r\n)")  # one event
_LINES_OF_DATA: Final = re.compile(rb"(?:data:[^\n]*+\n\n)*+")  # several
_FINISH_NAME: Final = b'"finish_reason"'
_NO_FINISH: Final = _FINISH_NAME + b":null"
_FINISH: Final = re.compile(_FINISH_NAME + rb'[ \t]*+:[ \t]*+"[^"]')  # some providers write "" for null
_LINE_START: Final = rb"(?<![^\r\n])"
_DATA: Final = re.compile(rb"(?:\A\xef\xbb\xbf|" + _LINE_START + rb")data(?:: ?+([^\r\n]*+)|(?![^\r\n]))")
_COMMENT: Final = re.compile(_LINE_START + rb":[^\r\n]*+(?:\r\n|\r|\n)")


@lru_cache(maxsize=64)
def is_event_stream(content_type: bytes | None, content_encoding: bytes | None) -> bool:
    """True for an answer that can be restored: a stream of events, not encoded. Any other, such
    as an error in JSON, is to be passed on untouched."""
    if content_type is None or content_type[:17].lower() != b"text/event-stream":
        return False
    return content_encoding is None or content_encoding.strip().lower() in (b"", b"identity")


class UsageRemover:
    """Restores one stream. Bytes go in as they arrive; what they complete comes out at once.

    Only an event that is not whole yet is held, up to `EVENT_BYTES_MAX` bytes. A larger one is
    passed on as it is, which sets `overflowed`. `event_removed` says whether the event with the
    usage came and was taken out.

    `nulls_are_ours = False` is for an upstream that writes `"usage":null` unasked, as SGLang does.
    """

    __slots__ = (
        "_drops_lf",
        "_finish_seen",
        "_held",
        "_is_between",
        "_nulls_are_ours",
        "_passed_tail",
        "event_removed",
        "overflowed",
    )

    def __init__(self, *, nulls_are_ours: bool = True) -> None:
        self.event_removed = False
        self.overflowed = False
        self._nulls_are_ours = nulls_are_ours
        self._finish_seen = False
        self._held = bytearray()
        self._is_between = True  # nothing is held, and the next byte begins an event
        self._drops_lf = False  # the event taken out ended in CR: an LF right behind it is its own
        self._passed_tail: bytes | None = None  # the last bytes of an event that is passed on as it is

    def feed(self, chunk: bytes) -> bytes:
        """What the caller gets of this chunk, and of what was held before; maybe nothing."""
        if self._is_between:
            if chunk.endswith(b"\n\n") and b"\r" not in chunk:  # what providers send
                if chunk.count(b"\n") == _LINES_OF_ONE and chunk.startswith(b"data:"):
                    return self._restored_line(chunk)
                if not chunk.endswith(b"\n\n\n"):
                    return self._restored_events(chunk)
            if _ONE_LINE.fullmatch(chunk) is not None:
                return self._restored_line(chunk)  # its lines end in CRLF
        return self._feed_slowly(chunk)

    def close(self) -> bytes:
        """Nothing more will come: what was held. Safe to repeat."""
        rest = bytes(self._held)
        self._held.clear()
        return self._restored(rest) if rest else b""

    def _feed_slowly(self, chunk: bytes) -> bytes:
        if self._drops_lf and chunk:
            self._drops_lf = False
            chunk = chunk[1:] if chunk[0] == _LF else chunk
        out: list[bytes] = []
        if self._passed_tail is not None:
            passed, chunk = self._pass_on(self._passed_tail, chunk)
            out.append(passed)
        held = self._held
        searched_bytes = max(0, len(held) - LINE_END_BYTES_MAX)
        held += chunk
        start = 0
        while (end := _event_end(held, searched_bytes)) is not None:
            self._drops_lf = False
            out.append(self._restored(bytes(held[start:end])))
            start = searched_bytes = end
        del held[:start]
        self._drops_lf = self._drops_lf and not held  # else it is known what follows
        if len(held) > EVENT_BYTES_MAX:
            self.overflowed = True
            self._finish_seen = True  # what nobody looks at may hold it
            out.append(bytes(held))
            self._passed_tail = bytes(held[-LINE_END_BYTES_MAX:])
            held.clear()
        self._is_between = not held and not self._drops_lf and self._passed_tail is None
        return b"".join(out)

    def _pass_on(self, tail: bytes, chunk: bytes) -> tuple[bytes, bytes]:
        """Of this chunk, what still belongs to the event that is passed on, and the rest."""
        seen = tail + chunk
        end = _event_end(seen, 0)
        if end is None:
            self._passed_tail = seen[-LINE_END_BYTES_MAX:]
            return chunk, b""
        self._passed_tail = None
        passed_bytes = end - len(tail)
        return chunk[:passed_bytes], chunk[passed_bytes:]

    def _restored_events(self, events: bytes) -> bytes:
        """Whole events whose lines end in LF: at one go while they are as most are, the others one by one."""
        # The last one: where there is another, not all that stands before it is plain.
        report_at = events.rfind(_REPORT)
        start = len(events) if report_at < 0 else events.rfind(b"\n\n", 0, report_at) + 2  # of the first of the others
        plain = events[:start]
        restored, nulls = _PLAIN_NULL.subn(b"", plain)
        if nulls != plain.count(_USAGE) or _LINES_OF_DATA.fullmatch(plain) is None:
            plain = restored = b""
        elif not self._finish_seen and _has_finish(plain):
            self._finish_seen = True
        if not self._nulls_are_ours:
            restored = plain
        if len(plain) == len(events):
            return restored
        others = events[len(plain) : -2].split(b"\n\n")
        return restored + b"".join([self._restored(event + b"\n\n") for event in others])

    def _restored(self, event: bytes) -> bytes:
        """An event as it would have come unasked."""
        return self._restored_line(event) if _ONE_LINE.fullmatch(event) is not None else self._restored_lines(event)

    def _restored_line(self, event: bytes) -> bytes:
        """The same for an event of one line of data and nothing else."""
        at = event.rfind(_USAGE)
        if at >= 0:
            null = _NULL_NEAR_END.match(event, event.rfind(b",", 0, at))
            if null is None:
                return b"" if self._is_removed(event[len(b"data:") :]) else self._restored_lines(event)
            if self._nulls_are_ours:
                start, end = null.span()
                event = event[:start].rstrip(b" \t") + event[end:]
        if not self._finish_seen and _has_finish(event):
            self._finish_seen = True
        return event

    def _is_removed(self, text: bytes) -> bool:
        """True for the one event that goes, of one line: its text says so."""
        try:
            document = jsonio.parse(text)
        except InvalidJson:
            return False
        if not isinstance(document, dict) or "usage" not in document or not self._is_ours(document):
            return False
        self.event_removed = True
        return True

    def _restored_lines(self, event: bytes) -> bytes:
        """The same for an event of any style."""
        values = [found.span(1) if found[1] is not None else (found.end(),) * 2 for found in _DATA.finditer(event)]
        text = b"\n".join(event[start:end] for start, end in values)
        if not self._finish_seen and _has_finish(text):
            self._finish_seen = True
        if _USAGE not in text:
            return event
        try:
            document = jsonio.parse(text)
        except InvalidJson:
            return event
        if not isinstance(document, dict) or "usage" not in document:
            return event
        if document["usage"] is None:
            span = member_span(text, "usage") if self._nulls_are_ours else None
            return event if span is None else _without(event, values, *span)
        if not self._is_ours(document):
            return event
        self.event_removed = True
        self._drops_lf = event.endswith(b"\r")
        # Line ends before it belong to what came before; comments have nothing to do with it.
        before = event[: len(event) - len(event.lstrip(_LINE_ENDS))]
        return before + b"".join(_COMMENT.findall(event))

    def _is_ours(self, document: Mapping[str, Any]) -> bool:
        """True for the one event that comes because usage was asked for."""
        return (
            self._finish_seen
            and not self.event_removed
            and document.get("choices") == []
            and isinstance(document["usage"], dict)
            and not document.get("error")
        )


def _event_end(raw: bytes | bytearray, start: int) -> int | None:
    """Where the first event ends that ends behind `start`, its empty line included."""
    if raw.find(b"\r", start) < 0:
        at = raw.find(b"\n\n", start)
        return None if at < 0 else at + 2
    found = EMPTY_LINE.search(raw, start)
    return None if found is None else found.end()


def _has_finish(text: bytes) -> bool:
    """True where some choice ends here."""
    at = text.rfind(_FINISH_NAME)
    if at < 0:
        return False
    if _FINISH.match(text, at) is not None:
        return True
    # In most chunks it is the only one, or all of them are null.
    if text.rfind(_FINISH_NAME, 0, at) < 0:
        return False
    return text.count(_FINISH_NAME) > text.count(_NO_FINISH) and _FINISH.search(text, 0, at) is not None


def _without(event: bytes, values: list[tuple[int, int]], start: int, end: int) -> bytes:
    """The event without these bytes of its data; the values of its data lines stand at `values`."""
    cut_start, cut_end = _offset(values, start), _offset(values, end)
    lines = event[cut_start:cut_end].splitlines()
    if not all(line.startswith(b"data") for line in lines[1:]):
        return event  # a comment or a field amid the member: no encoder writes that
    return event[:cut_start] + event[cut_end:]


def _offset(values: list[tuple[int, int]], in_text: int) -> int:
    """Where a byte of the joined data stands in the event."""
    for start, end in values:
        if in_text <= end - start:
            return start + in_text
        in_text -= end - start + 1  # the line feed that joins
    raise AssertionError("the byte is of the data")
