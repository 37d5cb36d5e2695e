"""A stream of chat completion chunks, as Anthropic's events.

Pure. Sources: platform.openai.com/docs/api-reference/chat-streaming;
platform.claude.com/docs/en/build-with-claude/streaming. In a stream of Messages one block is open at a time, and a
block that was closed is never opened again. So the first tool call is passed on as it is written, and the others,
whose pieces could come mixed, once all are whole. `message_stop` is said after `[DONE]` alone, or where the stream
ended by itself after the model had said why.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import UpstreamMalformed
from proxy.dialects.messages_to_chat.extra_content import extra_content_block
from proxy.dialects.messages_to_chat.failure import failure_of
from proxy.dialects.messages_to_chat.usage import messages_id, messages_usage, stop_reason
from proxy.dialects.sse import EventSplitter, event_data
from proxy.dialects.translation import NOT_AS_DOCUMENTED

EVENT_BYTES_MAX: Final = 4_194_304
HELD_CHARACTERS_MAX: Final = 8_388_608
"""Of the arguments of one answer: those of a call may have to wait until another is whole. No model writes so many."""
CALLS_MAX: Final = 1_024
_ENDED: Final = 500  # an error within a stream has no status
_TEXT: Final = ("text", b'{"type":"text","text":""}', b"text_delta", b"text")
_THINKING: Final = ("thinking", b'{"type":"thinking","thinking":"","signature":""}', b"thinking_delta", b"thinking")


class _Call:
    """A tool call, as far as it has come."""

    __slots__ = ("extra_content", "id", "is_told", "name", "unsaid")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.unsaid: list[str] = []  # of its arguments
        self.extra_content: Any = None
        self.is_told = False


class MessagesStream:
    """Translates one stream. See `translation.StreamTranslator`."""

    __slots__ = (
        "_calls",
        "_events",
        "_finish_reason",
        "_held_characters",
        "_index",
        "_is_over",
        "_is_started",
        "_open",
        "_usage",
    )

    def __init__(self) -> None:
        self._events = EventSplitter(EVENT_BYTES_MAX)
        self._calls: dict[int, _Call] = {}
        self._finish_reason: str | None = None
        self._held_characters = 0
        self._index = 0  # of the block that is open, or comes next
        self._is_over = False
        self._is_started = False
        self._open: str | _Call | None = None
        self._usage: object = None

    def feed(self, chunk: bytes) -> bytes:
        """The events for these bytes. Raises UpstreamMalformed."""
        said = [self._say(event) for event in self._events.feed(chunk)]
        if self._events.overflowed:
            raise UpstreamMalformed(f"The provider sent an event of more than {EVENT_BYTES_MAX} bytes.")
        return said[0] if len(said) == 1 else b"".join(said)

    def close(self) -> bytes:
        """What is left to say where the provider closed without `[DONE]`."""
        rest = self.feed(b"\n\n")
        return rest if self._is_over or self._finish_reason is None else rest + self._end()

    def _say(self, raw: bytes) -> bytes:
        data = event_data(raw)
        if self._is_over or not data:
            return b""
        if data.strip() == b"[DONE]":
            return self._end()
        try:
            return self._say_chunk(jsonio.parse(data))
        except NOT_AS_DOCUMENTED:
            raise UpstreamMalformed("The provider sent an event that is no chat completion chunk.") from None

    def _say_chunk(self, chunk: Mapping[str, Any]) -> bytes:
        if chunk.get("error") is not None:
            self._is_over = True
            failure = {"type": "error", "error": failure_of(chunk["error"], _ENDED)}
            return b"event: error\ndata: " + jsonio.encode(failure) + b"\n\n"
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]  # cumulative where it comes more than once
        choices = chunk["choices"]
        if not choices or choices[0].get("index", 0) != 0:
            return b""
        started = b"" if self._is_started else self._start(chunk)
        choice = choices[0]
        said = self._delta(choice.get("delta") or {})
        if choice.get("finish_reason"):
            self._finish_reason = choice["finish_reason"]
        return started + said

    def _start(self, chunk: Mapping[str, Any]) -> bytes:
        self._is_started = True
        message = {
            "id": messages_id(chunk.get("id")),
            "type": "message",
            "role": "assistant",
            "model": chunk["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": messages_usage(None),  # a chat tells it at the end, and then in `message_delta`
        }
        return b'event: message_start\ndata: {"type":"message_start","message":' + jsonio.encode(message) + b"}\n\n"

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        said = b""
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            said += self._text(_THINKING, thought)
        if text := delta.get("content"):
            said += self._text(_TEXT, text)
        if refusal := delta.get("refusal"):
            said += self._text(_TEXT, refusal)
        for position, call in enumerate(delta.get("tool_calls") or ()):
            said += self._take_call(call, position)
        return said

    def _text(self, kind: tuple[str, bytes, bytes, bytes], text: str) -> bytes:
        name, empty, delta, member = kind
        said = b""
        if self._open != name:
            said = self._tell_calls() + self._close_block() + self._open_block(name, empty)
        return said + self._block_delta(b'{"type":"%b","%b":%b}' % (delta, member, jsonio.encode(text)))

    def _take_call(self, piece: Mapping[str, Any], position: int) -> bytes:
        index = piece.get("index")
        if index is None:  # some servers send whole calls and count none
            index = len(self._calls) if piece.get("id") else max(len(self._calls) - 1, position)
        call = self._calls.get(index)
        if call is None:
            if len(self._calls) >= CALLS_MAX:
                raise UpstreamMalformed(f"The provider calls more than {CALLS_MAX} tools in one answer.")
            call = self._calls[index] = _Call()
        if call.is_told and self._open is not call:
            raise KeyError("a piece of a call that was whole")
        function = piece.get("function") or {}
        call.id = call.id or piece.get("id") or ""
        call.name = call.name or function.get("name") or ""
        if piece.get("extra_content") is not None:
            call.extra_content = piece["extra_content"]
        if function.get("arguments"):
            self._held_characters += len(function["arguments"])
            if self._held_characters > HELD_CHARACTERS_MAX:
                raise UpstreamMalformed(f"The arguments of tools have more than {HELD_CHARACTERS_MAX} characters.")
            call.unsaid.append(function["arguments"])
        if isinstance(self._open, _Call) and self._open is not call:
            return b""  # until that one is whole
        if call is not self._calls[min(self._calls)] or not (call.id and call.name):
            return b""
        return self._tell(call)

    def _tell_calls(self) -> bytes:
        """What is not said yet of all calls: nothing more of them comes."""
        said = b""
        for index in sorted(self._calls):
            call = self._calls[index]
            if not call.is_told or call.unsaid:
                if not (call.id and call.name):
                    raise UpstreamMalformed("The provider called a tool without a name or an id.")
                said += self._tell(call)
        return said

    def _tell(self, call: _Call) -> bytes:
        said = b""
        if not call.is_told:
            call.is_told = True
            said += self._close_block()
            if call.extra_content is not None:
                said += self._open_block("extra", jsonio.encode(extra_content_block({call.id: call.extra_content})))
                said += self._close_block()
            head = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            said += self._open_block(call, jsonio.encode(head))
        for text in call.unsaid:
            said += self._block_delta(b'{"type":"input_json_delta","partial_json":%b}' % jsonio.encode(text))
        call.unsaid.clear()
        return said

    def _end(self) -> bytes:
        self._is_over = True
        if not self._is_started:
            raise UpstreamMalformed("The provider's stream ended without an answer.")
        said = self._tell_calls() + self._close_block()
        reason = stop_reason(self._finish_reason, calls_tools=bool(self._calls))
        ending = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": messages_usage(self._usage),
        }
        said += b"event: message_delta\ndata: " + jsonio.encode(ending) + b"\n\n"
        return said + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def _open_block(self, what: str | _Call, block: bytes) -> bytes:
        self._open = what
        event = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._index, block)
        return b"event: content_block_start\ndata: " + event + b"\n\n"

    def _close_block(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        event = b'{"type":"content_block_stop","index":%d}' % self._index
        self._index += 1
        return b"event: content_block_stop\ndata: " + event + b"\n\n"

    def _block_delta(self, delta: bytes) -> bytes:
        event = b'{"type":"content_block_delta","index":%d,"delta":%b}' % (self._index, delta)
        return b"event: content_block_delta\ndata: " + event + b"\n\n"
