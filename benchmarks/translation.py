"""Measures what saying a call in another API costs: a conversation of 4 KB, its answer, and each event of a stream.

    python -m benchmarks.translation
    python -m benchmarks.translation --rounds 400

Each figure stands beside what parsing the same bytes as JSON takes, measured in turn with it: that ratio is the same on
every machine, and the microseconds are not. A call is translated from what the gateway has parsed already, so the
parse is no part of its figure; the encoding is. An answer and an event are bytes in, bytes out.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.beside_parse import Figure, measure, table, write
from proxy.core import jsonio
from proxy.dialects.chat_to_messages.translate import translate as to_messages
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.messages_to_chat.translate import translate as to_chat
from proxy.dialects.sse import event_data
from proxy.dialects.translation import TargetModel, Translated

_CLAUDE: Final = TargetModel("claude-sonnet-5-5", DIALECTS["anthropic"], 64_000)
_GPT: Final = TargetModel("gpt-5-mini", DIALECTS["openai"], 128_000)
_SENTENCE: Final = "The quick brown fox jumps over the lazy dog, and then some more of them do. "
_SCHEMA: Final = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def conversation() -> dict[str, Any]:
    """A chat of some 4 KB: a system prompt, twelve turns, one of them with a tool, and the tool."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": _SENTENCE * 3}]
    for _ in range(5):
        messages += [{"role": "user", "content": _SENTENCE * 3}, {"role": "assistant", "content": _SENTENCE * 4}]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    messages += [
        {"role": "user", "content": "And the weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
    ]
    tool = {"type": "function", "function": {"name": "weather", "description": _SENTENCE, "parameters": _SCHEMA}}
    return {"model": "m", "max_tokens": 1_000, "messages": messages, "tools": [tool], "stream": True}


def run(rounds: int) -> list[Figure]:
    """Every line."""
    chat = conversation()
    messages = jsonio.parse(jsonio.encode(to_messages(chat, _CLAUDE, 0).document))
    there, back = to_messages(chat, _CLAUDE, 0).answers, to_chat(messages, _GPT, 0).answers
    message, completion = jsonio.encode(_message()), jsonio.encode(_completion())
    event, chunk = _event(), _chunk()
    in_messages, in_chat = there.stream(), back.stream()
    in_messages.feed(_sse({"type": "message_start", "message": {**_message(), "content": []}}))
    in_chat.feed(chunk)
    many = 21
    return [
        measure("call, chat > messages", jsonio.encode(chat), lambda: _said(to_messages, chat, _CLAUDE), rounds),
        measure("call, messages > chat", jsonio.encode(messages), lambda: _said(to_chat, messages, _GPT), rounds),
        measure("answer, messages > chat", message, lambda: there.whole(message), rounds),
        measure("answer, chat > messages", completion, lambda: back.whole(completion), rounds),
        measure("event, messages > chat", event_data(event[:-2]), lambda: in_messages.feed(event), rounds),
        measure("event, chat > messages", event_data(chunk[:-2]), lambda: in_chat.feed(chunk), rounds),
        measure(
            "event of 21 at once, messages > chat",
            event_data(event[:-2]),
            lambda: in_messages.feed(event * many),
            rounds,
            of=many,
        ),
        measure(
            "event of 21 at once, chat > messages",
            event_data(chunk[:-2]),
            lambda: in_chat.feed(chunk * many),
            rounds,
            of=many,
        ),
    ]


def _said(translate: Callable[..., Any], document: dict[str, Any], target: TargetModel) -> bytes:
    translated: Translated = translate(document, target, 0)
    return jsonio.encode(translated.document)


def _message() -> dict[str, Any]:
    usage = {"input_tokens": 900, "output_tokens": 200}
    content = [{"type": "text", "text": _SENTENCE * 10}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": usage}


def _completion() -> dict[str, Any]:
    said = {"role": "assistant", "content": _SENTENCE * 10}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    usage = {"prompt_tokens": 900, "completion_tokens": 200}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


def _event() -> bytes:
    return _sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}})


def _chunk() -> bytes:
    choice = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "gpt-5-mini"}
    return b"data: " + jsonio.encode({**head, "choices": [choice]}) + b"\n\n"


def _sse(event: dict[str, Any]) -> bytes:
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + jsonio.encode(event) + b"\n\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="What saying a call in another API costs.")
    parser.add_argument("--rounds", type=int, default=300, help="of 50 runs, for each line (default: 300)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), help="where translation.json is written")
    arguments = parser.parse_args()
    figures = run(arguments.rounds)
    print(table(figures))
    print(f"\nwritten: {write(figures, arguments.out, 'translation.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
