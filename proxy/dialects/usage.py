"""Listens to an answer on its way to the caller: what it used, who served it, how it ended.

Pure. The tap gets the bytes that the caller gets, encoded as they are, and reads a copy. It
never changes, delays or refuses one; what it does not understand, or what grows beyond its
bounds, it stops listening to, and then says that it does not know.

Shapes: the API references of OpenAI (chat completions, responses, images, transcriptions)
and Anthropic (messages); Gemini repeats a growing report on every chunk, Groq has its own.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.core.types import Usage
from proxy.dialects.inflate import Inflater, InflateRefused
from proxy.dialects.openai import Operation, Shape, StreamEnd, is_json
from proxy.dialects.splice import object_end
from proxy.dialects.sse import EventSplitter, event_data, event_name
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.dialects.tokens import label, read_usage
from proxy.dialects.tool_calls import billed_tool_calls

_DOCUMENT_BYTES_MAX: Final = 4_194_304
_EVENT_BYTES_MAX: Final = 4_194_304
_TAIL_BYTES_MAX: Final = 65_536
_TAIL_REPORTS_MAX: Final = 8
_MODEL_CHARACTERS_MAX: Final = 256

_TAIL_USAGE: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_TAIL_MODEL: Final = re.compile(rb'"model"\s*:\s*("[^"\\]*")')
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
# What an event must hold to be worth parsing: the report, an error, or the last event's mark.
_END_MARKS: Final = {
    None: b'"usage"',
    StreamEnd.DONE: b"[DONE]",
    StreamEnd.RESPONSE: b'"response"',
    StreamEnd.MESSAGE_STOP: b'"message_stop"',
}
_ERROR_MARK: Final = b"error"  # an event's name, or a member's
_MODEL_MARK: Final = b'"model"'
_USAGE_MARK: Final = b'"usage"'
_REPORT_MARK: Final = re.compile(rb'"usage"(?!:null)')  # OpenAI's chunks before the last say `"usage":null` each
_HEARING: Final = frozenset({"audio_transcriptions", "audio_translations"})
_WRITING: Final = frozenset({"chat_completions", "completions", "responses"})
_MAKING: Final = frozenset({"images", "audio_speech"})
_JSON: Final = b"application/json"
_EMPTY_LINE_BYTES: Final = 2
_IDENTITY: Final = (b"", b"identity")
_GZIP: Final = (b"gzip", b"x-gzip")
_DEFLATE: Final = b"deflate"


class UsageTap:
    """Hears one answer. After `close`:

    - `usage`: the last report, None where there was none.
    - `served_model`: the name that the provider gave to what answered.
    - `saw_end`: whether a stream's last event came; None where that cannot be known.
    - `saw_error`: whether the answer is, or ends in, an error of the provider's.
    """

    __slots__ = (
        "_document",
        "_document_bytes",
        "_end_mark",
        "_events",
        "_inflater",
        "_operation",
        "_output",
        "_report",
        "_service_tier",
        "saw_end",
        "saw_error",
        "served_model",
        "usage",
    )

    def __init__(
        self,
        operation: Operation,
        content_type: bytes | None,
        content_encoding: bytes | None,
        output: StreamedOutputCounter | None = None,  # hears a stream's events too
    ) -> None:
        self.usage: Usage | None = None
        self.served_model: str | None = None
        self.saw_end: bool | None = None
        self.saw_error = False
        self._operation = operation
        self._output = output
        self._service_tier: str | None = None
        self._report: dict[str, Any] = {}  # of Anthropic's stream, which reports in parts
        self._events: EventSplitter | None = None
        self._document: bytes | bytearray | None = None  # the body, or its tail once it is too large
        self._document_bytes = 0
        self._inflater: Inflater | None = None
        if content_type == _JSON and content_encoding is None:  # as most are
            self._document = b""
            if output is not None:
                output.give_up()  # no stream that could be counted
            return
        if content_encoding is not None:
            coding = content_encoding.strip().lower()
            if coding in _GZIP or coding == _DEFLATE:
                self._inflater = Inflater(is_gzip=coding != _DEFLATE)
            elif coding not in _IDENTITY:
                self._give_up()  # a coding that nobody here reads: nothing to listen to
                return
        if content_type is not None and content_type[:17].lower() == b"text/event-stream":
            self._end_mark = _END_MARKS[operation.stream_end]
            self._events = EventSplitter(_EVENT_BYTES_MAX)
            if operation.stream_end is not None:
                self.saw_end = False
            return
        if is_json(content_type):
            self._document = b""
        if output is not None:
            output.give_up()

    def feed(self, chunk: bytes) -> None:
        """Hear one chunk, as it came off the wire. Raises nothing."""
        if self._inflater is None:
            self._hear(chunk)
            return
        try:
            for piece in self._inflater.feed(chunk):
                self._hear(piece)
        except InflateRefused:
            self._give_up()

    def close(self) -> None:
        """Nothing more will come. Safe to repeat."""
        if self._events is not None:
            if not self._events.between_events:
                self._hear(b"\n\n")  # a last event that lacks its empty line is heard all the same
            self._events = None
        document, self._document = self._document, None
        self._inflater = None
        if not document:
            return
        if self._document_bytes > _DOCUMENT_BYTES_MAX:
            self._read_tail(bytes(document[-_TAIL_BYTES_MAX:]))
        else:
            self._read(bytes(document))

    def _hear(self, chunk: bytes) -> None:
        events = self._events
        if events is not None:
            if self._output is not None:
                self._output.feed(chunk)
            if events.is_whole(chunk):
                self._hear_events(chunk)
                return
            for event in events.feed(chunk):
                self._hear_events(event)
            if events.overflowed:
                self._give_up()
        elif self._document is not None:
            self._document_bytes += len(chunk)
            if not self._document:
                self._document = chunk  # most often it is all there is
                return
            if isinstance(self._document, bytes):
                self._document = bytearray(self._document)
            self._document += chunk
            if self._document_bytes > _DOCUMENT_BYTES_MAX and len(self._document) > 2 * _TAIL_BYTES_MAX:
                del self._document[:-_TAIL_BYTES_MAX]

    def _hear_events(self, events: bytes) -> None:
        """Whole events whose lines end in LF, or a single one however it is written. Most tell nothing."""
        heard, nowhere = 0, len(events)
        # To find from behind that it is nowhere takes a third of the time.
        if (
            events.rfind(_ERROR_MARK) >= 0
            or events.rfind(self._end_mark) >= 0
            or (events.rfind(_USAGE_MARK) >= 0 and _REPORT_MARK.search(events) is not None)
        ):
            told_at = self._told_at(events, 0)
        elif self.served_model is not None:
            return
        else:
            told_at = nowhere
        while True:
            at = told_at
            if self.served_model is None and (model_at := events.find(_MODEL_MARK, heard, told_at)) >= 0:
                at = model_at
            if at == nowhere:
                return
            before, end = events.rfind(b"\n\n", heard, at), events.find(b"\n\n", at)
            if end < 0:
                end = nowhere
            self._read_event(events[heard if before < 0 else before : end].lstrip(b"\n"))
            heard = end
            if nowhere - end <= _EMPTY_LINE_BYTES:
                return  # it was the last
            if told_at < end:
                told_at = self._told_at(events, end)

    def _told_at(self, events: bytes, begins: int) -> int:
        """Where a report, an error or an end may stand from there on; the events' length where none can."""
        nowhere = len(events)
        report = _REPORT_MARK.search(events, begins)
        return min(
            # Where nothing is found it is at -1, and so at the end.
            events.find(self._end_mark, begins) % (nowhere + 1),
            events.find(_ERROR_MARK, begins) % (nowhere + 1),
            nowhere if report is None else report.start(),
        )

    def _give_up(self) -> None:
        if self._output is not None:
            self._output.give_up()
        self._events = self._document = None
        self._inflater = None
        if not self.saw_end:
            # A first part of a report is no report, and an end may have come unheard.
            self.saw_end = self.usage = None

    def _read_event(self, event: bytes) -> None:
        data = event_data(event)
        if self._operation.stream_end is StreamEnd.DONE and data.strip() == b"[DONE]":
            self.saw_end = True
        else:
            self._read(data, named_error=event.startswith(b"event") and event_name(event) == b"error")

    def _read(self, raw: bytes, *, named_error: bool = False) -> None:
        try:
            document = jsonio.parse(raw)
        except InvalidJson:
            document = None
        if isinstance(document, dict):
            self._take(document)
        elif isinstance(document, list) and document and isinstance(document[0], dict):
            self._take(document[0])  # Gemini wraps its errors in an array
        if named_error:
            self._take_error()

    def _take(self, document: Mapping[str, Any]) -> None:
        holder = members = document
        if "response" in document or "message" in document:
            # A response's events hold it whole; Anthropic's first event holds the message. Its members come first.
            inner = document["response"] if "response" in document else document["message"]
            if isinstance(inner, dict):
                holder, members = inner, {**document, **inner}
        if self.served_model is None:
            model = members.get("model")
            if model and isinstance(model, str) and len(model) <= _MODEL_CHARACTERS_MAX:
                self.served_model = model
        # Beside the report, not in it; with a stream it may stand in an event before.
        tier = members.get("service_tier")
        if tier is not None:
            self._service_tier = label(tier) or self._service_tier
        report = holder.get("usage")
        if isinstance(report, dict) or isinstance(report := _report_elsewhere(document), dict):
            self._take_report(report)
        if self._operation.stream_end is not StreamEnd.DONE:
            self._take_what_no_report_counts(holder)
        if "error" in document and document["error"] and isinstance(document["error"], str | dict):
            self._take_error()
        if "type" in document and isinstance(document["type"], str):
            self._take_kind(document["type"])

    def _take_kind(self, kind: str) -> None:
        if kind == "error" or kind == "response.failed":
            self._take_error()
        if self._events is not None and (
            (self._operation.stream_end is StreamEnd.RESPONSE and kind in _RESPONSE_ENDS)
            or (self._operation.stream_end is StreamEnd.MESSAGE_STOP and kind == "message_stop")
        ):
            self.saw_end = True

    def _take_report(self, report: Mapping[str, Any]) -> None:
        operation = self._operation
        excludes_cached = operation.base_shape is Shape.ANTHROPIC
        if excludes_cached and self._events is not None:
            # message_start tells the input, message_delta the output so far, and what has changed.
            self._report.update((name, value) for name, value in report.items() if value is not None)
            report = self._report
        usage = read_usage(
            report,
            excludes_cached=excludes_cached,
            service_tier=self._service_tier,
            # Half a report in a stream may be its beginning, and what was heard is held against it.
            writes_text=self._events is None and operation.name in _WRITING,
        )
        if usage is None:
            return
        self.usage = usage if operation.name not in _MAKING else _of_what_is_made(operation, usage, report)

    def _take_what_no_report_counts(self, holder: Mapping[str, Any]) -> None:
        """The provider's own tools that ran, the pictures that were made, the seconds heard."""
        if self._operation.stream_end is StreamEnd.RESPONSE and self.usage is not None and "output" in holder:
            tool_calls = billed_tool_calls(holder["output"])
            if tool_calls:
                self.usage = self.usage._replace(tool_calls=tool_calls)
        elif self._operation.name == "images" and isinstance(holder.get("data"), list):
            self.usage = (self.usage or Usage())._replace(images=len(holder["data"]))
        elif self._operation.name in _HEARING and self.usage is None and "duration" in holder:
            self.usage = read_usage({"seconds": holder["duration"]}, excludes_cached=False)

    def _take_error(self) -> None:
        self.saw_error = True
        if self._events is not None and self._operation.stream_end is not None:
            self.saw_end = True  # nothing follows an error

    def _read_tail(self, tail: bytes) -> None:
        """Find the report near the end of a document that is too large to keep."""
        for found in list(_TAIL_USAGE.finditer(tail))[: -_TAIL_REPORTS_MAX - 1 : -1]:
            end = object_end(tail, found.end())
            if end is None:
                continue
            self._read(b'{"usage":' + tail[found.end() : end] + b"}")
            if self.usage is not None:
                break
        models = _TAIL_MODEL.findall(tail)
        if models:
            self._read(b'{"model":' + models[-1] + b"}")


def _report_elsewhere(document: Mapping[str, Any]) -> object:
    groq = document.get("x_groq")
    return groq.get("usage") if isinstance(groq, dict) else document.get("usage")


def _of_what_is_made(operation: Operation, usage: Usage, report: Mapping[str, Any]) -> Usage:
    """Unless it says otherwise, what an endpoint of pictures or of speech makes is that."""
    if operation.name == "audio_speech":
        return usage if usage.audio_output_tokens else usage._replace(audio_output_tokens=usage.output_tokens)
    if usage.image_output_tokens or isinstance(report.get("output_tokens_details"), dict):
        return usage
    return usage._replace(image_output_tokens=usage.output_tokens)
