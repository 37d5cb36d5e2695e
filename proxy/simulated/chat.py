"""Chat Completions, and the older Completions, as OpenAI puts them on the wire.

Pure. Source: https://platform.openai.com/docs/api-reference/chat and …/completions
"""

from dataclasses import dataclass
from typing import Any, Final

from proxy.core import jsonio
from proxy.simulated import turn, words
from proxy.simulated.behaviour import Behaviour
from proxy.simulated.refusals import missing, wrong_type, wrong_value
from proxy.simulated.steps import DONE, Document, Reply, Stamp, event
from proxy.simulated.tools import choose
from proxy.simulated.turn import Prompt, Turn

_CHOICES_MAX: Final = 128
_MESSAGE_TOKENS: Final = 3  # what a message costs beside its words, and the answer's beginning
_SERVED: Final = {"service_tier": "default", "system_fingerprint": "fp_simulated"}


@dataclass(frozen=True, slots=True)
class _Frame:
    """What every object of one answer repeats."""

    model: str
    stamp: Stamp
    choices: int
    shows_usage: bool  # the stream was asked to include its usage

    def chat(self, kind: str, **rest: object) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.stamp.unique}",
            "object": kind,
            "created": self.stamp.at_s,
            "model": self.model,
            **rest,
        }

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self.chat("chat.completion.chunk", **_SERVED, choices=choices)

    def completion(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"cmpl-{self.stamp.unique}",
            "object": "text_completion",
            "created": self.stamp.at_s,
            "model": self.model,
            "choices": choices,
        }

    def event(self, document: dict[str, Any], usage: object = None) -> bytes:
        """One event of the stream; asked for usage, all events but the last have it as null."""
        return event({**document, "usage": usage} if self.shows_usage else document)


# ── chat completions ─────────────────────────────────────────────────────────────────────


def chat_completion(document: Document, model: str, behaviour: Behaviour, stamp: Stamp) -> Reply:
    """Answer POST /chat/completions. Raises Refusal."""
    frame = _frame(document, model, stamp)
    taken = turn.take(_chat_prompt(document, behaviour))
    if document.get("stream") is not True:
        choices = [_whole_choice(taken, frame, index) for index in range(frame.choices)]
        usage = _usage(taken, frame.choices)
        return jsonio.encode(frame.chat("chat.completion", choices=choices, usage=usage, **_SERVED))
    events = [
        frame.event(frame.chunk([choice]))
        for index in range(frame.choices)
        for choice in _streamed_choice(taken, frame, index)
    ]
    if frame.shows_usage:
        events.append(frame.event(frame.chunk([]), _usage(taken, frame.choices)))
    events.append(DONE)
    return events


def _chat_prompt(document: Document, behaviour: Behaviour) -> Prompt:
    messages = document.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise wrong_type("messages", "an array of objects")
    if not messages:
        raise wrong_value("messages", "an array with minimum length 1")
    said = [words.text_of(message.get("content")) for message in messages]
    by_user = [text for text, message in zip(said, messages, strict=True) if message.get("role") == "user"]
    last = by_user[-1] if by_user else ""
    return Prompt(
        last=last,
        input_tokens=sum(map(words.count_tokens, said)) + _MESSAGE_TOKENS * (len(messages) + 1),
        tool=choose(document, last, messages[-1].get("role") == "tool"),
        json_schema=_chat_schema(document),
        output_tokens_max=words.positive(document, "max_completion_tokens", "max_tokens"),
        chunks=behaviour.chunks,
    )


def _chat_schema(document: Document) -> dict[str, Any] | None:
    wanted = document.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    outer = wanted.get("json_schema")
    schema = outer.get("schema") if isinstance(outer, dict) else None
    # A bare `json_object` has no schema; any object will do.
    return schema if isinstance(schema, dict) else {"const": {"simulated": True}}


def _whole_choice(taken: Turn, frame: _Frame, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": taken.text, "refusal": None, "annotations": []}
    if taken.tool is not None:
        function = {"name": taken.tool.name, "arguments": taken.text}
        message["content"] = None
        message["tool_calls"] = [{"id": _call_id(frame.stamp), "type": "function", "function": function}]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(taken)}


def _streamed_choice(taken: Turn, frame: _Frame, index: int) -> list[dict[str, Any]]:
    first: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    deltas: list[dict[str, Any]]
    if taken.tool is None:
        deltas = [{"content": piece} for piece in taken.pieces()]
    else:
        function = {"name": taken.tool.name, "arguments": ""}
        call = {"index": 0, "id": _call_id(frame.stamp), "type": "function", "function": function}
        first = {**first, "content": None, "tool_calls": [call]}
        deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in taken.pieces()]
    choices = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for delta in (first, *deltas)]
    return [*choices, {"index": index, "delta": {}, "logprobs": None, "finish_reason": _finish_reason(taken)}]


def _finish_reason(taken: Turn) -> str:
    if taken.was_cut:
        return "length"
    return "stop" if taken.tool is None else "tool_calls"


def _call_id(stamp: Stamp) -> str:
    return f"call_{stamp.unique[:24]}"


# ── completions ──────────────────────────────────────────────────────────────────────────


def completion(document: Document, model: str, behaviour: Behaviour, stamp: Stamp) -> Reply:
    """Answer POST /completions. Raises Refusal."""
    frame = _frame(document, model, stamp)
    prompt = document.get("prompt", "")
    said = prompt if isinstance(prompt, str) else " ".join(text for text in prompt or [] if isinstance(text, str))
    ceiling = words.positive(document, "max_tokens")
    asked = Prompt(said, words.count_tokens(said), None, None, ceiling, behaviour.chunks)
    taken = turn.take(asked)
    reason = "length" if taken.was_cut else "stop"
    if document.get("stream") is not True:
        choices = [_text_choice(taken.text, index, reason) for index in range(frame.choices)]
        return jsonio.encode({**frame.completion(choices), "usage": _usage(taken, frame.choices)})
    events: list[bytes] = []
    for index in range(frame.choices):
        events += [frame.event(frame.completion([_text_choice(piece, index, None)])) for piece in taken.pieces()]
        events.append(frame.event(frame.completion([_text_choice("", index, reason)])))
    if frame.shows_usage:
        events.append(frame.event(frame.completion([]), _usage(taken, frame.choices)))
    events.append(DONE)
    return events


def _text_choice(text: str, index: int, reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


# ── both ─────────────────────────────────────────────────────────────────────────────────


def _frame(document: Document, model: str, stamp: Stamp) -> _Frame:
    choices = words.positive(document, "n") or 1
    if choices > _CHOICES_MAX:
        raise wrong_value("n", f"an integer of at most {_CHOICES_MAX}")
    return _Frame(model, stamp, choices, _asks_for_usage(document))


def _asks_for_usage(document: Document) -> bool:
    options = document.get("stream_options")
    if options is None:
        return False
    if document.get("stream") is not True:
        raise wrong_value("stream_options", "to be absent, or `stream` to be true")
    if not isinstance(options, dict):
        raise wrong_type("stream_options", "an object")
    asks = options.get("include_usage")
    if asks is not None and not isinstance(asks, bool):
        raise wrong_type("stream_options.include_usage", "a boolean")
    return asks is True


def _usage(taken: Turn, choices: int) -> dict[str, Any]:
    output_tokens = taken.output_tokens * choices
    return {
        "prompt_tokens": taken.input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": taken.input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
