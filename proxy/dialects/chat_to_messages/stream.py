"""Anthropic's stream of events, as chunks of Chat Completions.

Pure. Sources: platform.claude.com/docs/en/build-with-claude/streaming;
platform.openai.com/docs/api-reference/chat-streaming. One event at a time: a delta in is a chunk out. `[DONE]` is
said after `message_stop` alone, so that a stream that was cut never looks whole.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import UpstreamMalformed
from proxy.dialects.chat_to_messages.failure import failure_of
from proxy.dialects.chat_to_messages.thinking_blocks import KINDS, with_thinking
from proxy.dialects.chat_to_messages.usage import FINISH_REASONS, chat_id, chat_tier, chat_usage, refusal_of
from proxy.dialects.sse import EventSplitter, event_data
from proxy.dialects.translation import NOT_AS_DOCUMENTED

EVENT_BYTES_MAX: Final = 4_194_304
THINKING_CHARACTERS_MAX: Final = 8_388_608
"""Of the thinking that is kept until a tool is called. No model thinks so long."""
_DONE: Final = b"data: [DONE]\n\n"
_ENDED: Final = 500  # an error within a stream has no status: it is the provider's fault unless it says otherwise
_ROLE: Final = b'{"role":"assistant","content":"","refusal":null}'

Event = Mapping[str, Any]


class ChatStream:
    """Translates one stream. See `translation.StreamTranslator`."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_created_s",
        "_events",
        "_finish_reason",
        "_head",
        "_is_over",
        "_reports_usage",
        "_tail",
        "_thinking",
        "_thinking_characters",
        "_thought",
        "_usage",
    )

    def __init__(self, created_s: int, *, reports_usage: bool) -> None:
        self._created_s = created_s
        self._reports_usage = reports_usage
        self._events = EventSplitter(EVENT_BYTES_MAX)
        self._head = b""  # of every chunk, up to its choices
        self._tail = b',"usage":null}\n\n' if reports_usage else b"}\n\n"
        self._blocks: dict[int, dict[str, Any]] = {}  # those that are open, by their index
        self._thinking: list[dict[str, Any]] = []
        # Of each block of thinking that is open, the pieces of its text and of its signature.
        self._thought: dict[int, tuple[list[str], list[str]]] = {}
        self._thinking_characters = 0
        self._calls = 0
        self._usage: dict[str, Any] = {}
        self._finish_reason: str | None = None
        self._is_over = False

    def feed(self, chunk: bytes) -> bytes:
        """The chunks for these bytes. Raises UpstreamMalformed."""
        said = [self._say(event) for event in self._events.feed(chunk)]
        if self._events.overflowed:
            raise UpstreamMalformed(f"The provider sent an event of more than {EVENT_BYTES_MAX} bytes.")
        return said[0] if len(said) == 1 else b"".join(said)

    def close(self) -> bytes:
        """What a last event without its empty line says."""
        return self.feed(b"\n\n")

    def _say(self, raw: bytes) -> bytes:
        data = event_data(raw)
        if self._is_over or not data:
            return b""
        try:
            event = jsonio.parse(data)
            say = _SAYINGS.get(event["type"])
            return b"" if say is None else say(self, event)
        except NOT_AS_DOCUMENTED:
            raise UpstreamMalformed("The provider sent an event that its API does not have.") from None

    def _start(self, event: Event) -> bytes:
        message = event["message"]
        head = {
            "id": chat_id(message["id"]),
            "object": "chat.completion.chunk",
            "created": self._created_s,
            "model": message["model"],
        }
        self._usage.update(message.get("usage") or {})
        if (tier := chat_tier(self._usage)) is not None:
            head["service_tier"] = tier
        self._head = b"data: " + jsonio.encode(head)[:-1] + b',"choices":['
        return self._chunk(_ROLE)

    def _start_block(self, event: Event) -> bytes:
        block = dict(event["content_block"])
        self._blocks[event["index"]] = block
        kind = block["type"]
        if kind == "text":
            return self._text("content", block.get("text"))
        if kind == "tool_use":
            return self._start_call(block)
        if kind in KINDS:
            self._thinking.append(block)
            self._thought[event["index"]] = ([block.get("thinking", "")], [block.get("signature", "")])
            return self._text("reasoning_content", block.get("thinking"))
        return b""  # a tool that runs at the provider

    def _start_call(self, block: dict[str, Any]) -> bytes:
        given = block.get("input")
        arguments = jsonio.encode(given).decode() if given else ""  # as a rule it comes in pieces
        call: dict[str, Any] = {
            "index": self._calls,
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": arguments},
        }
        if self._thinking:
            call["extra_content"] = with_thinking(self._thinking)
            self._thinking = []
        block["call"] = self._calls
        block["is_said"] = bool(arguments)
        self._calls += 1
        return self._chunk(jsonio.encode({"tool_calls": [call]}))

    def _delta(self, event: Event) -> bytes:
        delta = event["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            return self._text("content", delta["text"])
        block = self._blocks[event["index"]]
        if kind == "input_json_delta":
            return self._arguments(block, delta["partial_json"])
        if kind == "thinking_delta":
            self._think(event["index"], 0, delta["thinking"])
            return self._text("reasoning_content", delta["thinking"])
        if kind == "signature_delta":
            self._think(event["index"], 1, delta["signature"])
        return b""  # a citation, or what comes next year

    def _think(self, index: int, part: int, text: str) -> None:
        self._thinking_characters += len(text)
        if self._thinking_characters > THINKING_CHARACTERS_MAX:
            raise UpstreamMalformed(f"The model's thinking has more than {THINKING_CHARACTERS_MAX} characters.")
        self._thought[index][part].append(text)

    def _stop_block(self, event: Event) -> bytes:
        block = self._blocks.pop(event["index"], None)
        pieces = self._thought.pop(event["index"], None)
        if pieces is not None and block is not None and block["type"] == "thinking":
            block["thinking"], block["signature"] = "".join(pieces[0]), "".join(pieces[1])
        if block is None or block.get("is_said", True):
            return b""
        return self._arguments(block, "{}")  # a tool without arguments has no piece of them

    def _arguments(self, block: dict[str, Any], text: str) -> bytes:
        if not text or "call" not in block:
            return b""
        block["is_said"] = True
        head = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % block["call"]
        return self._chunk(head + jsonio.encode(text) + b"}}]}")

    def _text(self, name: str, text: str | None) -> bytes:
        return self._chunk(b'{"%b":%b}' % (name.encode(), jsonio.encode(text))) if text else b""

    def _note_end(self, event: Event) -> bytes:
        reason = event["delta"].get("stop_reason")
        if reason is not None:
            self._finish_reason = FINISH_REASONS.get(reason, "stop")
        usage = event.get("usage") or {}
        self._usage.update((name, value) for name, value in usage.items() if value is not None)
        return self._text("refusal", refusal_of(event["delta"]))

    def _stop(self, _event: Event) -> bytes:
        self._is_over = True
        ending = self._chunk(b"{}", jsonio.encode(self._finish_reason or "stop"))
        if self._reports_usage:
            usage = jsonio.encode(chat_usage(self._usage))
            ending += self._opened() + b'],"usage":' + usage + b"}\n\n"
        return ending + _DONE

    def _fail(self, event: Event) -> bytes:
        self._is_over = True
        return b"data: " + jsonio.encode({"error": failure_of(event, _ENDED)}) + b"\n\n"

    def _chunk(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]' % (delta, finish_reason)
        return self._opened() + choice + self._tail

    def _opened(self) -> bytes:
        if not self._head:
            raise KeyError("message_start")
        return self._head


_SAYINGS: Final[Mapping[str, Callable[[ChatStream, Event], bytes]]] = {
    "message_start": ChatStream._start,
    "content_block_start": ChatStream._start_block,
    "content_block_delta": ChatStream._delta,
    "content_block_stop": ChatStream._stop_block,
    "message_delta": ChatStream._note_end,
    "message_stop": ChatStream._stop,
    "error": ChatStream._fail,
}
