"""Output that nobody reported is counted from the stream: never less than a bound allows, cheaply."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.types import Usage
from proxy.dialects.openai import Operation, classify
from proxy.dialects.streamed_output import (
    BYTES_PER_TOKEN,
    StreamedOutputCounter,
    may_hide_reasoning,
)
from proxy.dialects.usage import UsageTap

CHAT = classify("POST", ("chat", "completions"))
COMPLETIONS = classify("POST", ("completions",))
RESPONSES = classify("POST", ("responses",))
MESSAGES = classify("POST", ("messages",))
SSE = b"text/event-stream"


def counted(operation: Operation, *chunks: bytes) -> StreamedOutputCounter:
    counter = StreamedOutputCounter(operation)
    for chunk in chunks:
        counter.feed(chunk)
    return counter


def data(*documents: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(d, ensure_ascii=False).encode() for d in documents)


def delta(**members: Any) -> dict[str, Any]:
    return {"id": "c-1", "model": "m", "choices": [{"index": 0, "delta": members, "finish_reason": None}]}


def arguments(text: str, name: str | None = None) -> dict[str, Any]:
    return delta(tool_calls=[{"index": 0, "function": {"arguments": text} | ({"name": name} if name else {})}])


# Shapes as the API references of OpenAI, Anthropic, DeepSeek, OpenRouter and Mistral give them.
@pytest.mark.parametrize(
    ("operation", "stream", "output_bytes", "expected_tokens"),
    [
        (CHAT, data(delta(role="assistant", content="")), 0, 0),
        (CHAT, data(delta(content="Hello"), delta(content=" world"), delta()), 11, 4),  # 11 / 3, rounded up
        (CHAT, data(delta(content="a"), delta(content="b"), delta(content="c")), 3, 3),  # a token each
        (CHAT, data(delta(content="né 中")), 7, 3),
        (CHAT, data(delta(content='\n"\\')), 3, 1),  # escapes are what they stand for
        (CHAT, rb'data: {"choices":[{"delta":{"content":"\u4e2d\ud83d\ude00"}}]}' + b"\n\n", 7, 3),
        (CHAT, rb'data: {"choices":[{"delta":{"content":"\ud83d"}}]}' + b"\n\n", 6, 2),  # half a pair: as written
        (  # a half in each of two deltas: two as written
            CHAT,
            rb'data: {"choices":[{"delta":{"content":"\ud83d"}}]}'
            + b"\n\n"
            + rb'data: {"choices":[{"delta":{"content":"\ude00\n"}}]}'
            + b"\n\n",
            14,
            5,
        ),
        (CHAT, data(delta(refusal="I cannot")), 8, 3),
        (CHAT, data(arguments("", "get_weather"), arguments('{"a":'), arguments("1}")), 18, 6),
        (CHAT, data(delta(function_call={"name": "f", "arguments": "{}"})), 3, 2),
        (CHAT, data(delta(reasoning_content="Hm"), delta(content="Yes")), 5, 2),
        (  # OpenRouter says its reasoning twice: 12 bytes, not 24
            CHAT,
            data(delta(reasoning="Let me think", reasoning_details=[{"type": "t", "text": "Let me think"}])),
            12,
            4,
        ),
        (CHAT, data(delta(content=[{"type": "text", "text": "Bonjour"}])), 7, 3),
        (CHAT, data({"id": '"content":"x"', "model": '"content":"x"', "choices": []}), 0, 0),
        (CHAT, data({**delta(content="ab"), "content": None}, {"error": {"text": "not output"}}), 2, 1),
        # Before its choices an event holds no output, whatever came in the events before it.
        (CHAT, data(delta(content="ab"), {"name": "no output", **delta(content="c")}, {"text": "none"}), 3, 2),
        (CHAT, b': {"choices":[]\n\ndata: [DONE]\n\n', 0, 0),
        (COMPLETIONS, data({"choices": [{"text": "Once"}, {"text": " upon"}]}), 9, 3),
        (
            RESPONSES,
            data(
                {"type": "response.created", "response": {"output": [], "instructions": "not output"}},
                {"type": "response.output_text.delta", "delta": "Hello"},
                {"type": "response.output_text.done", "text": "Hello"},
                {"type": "response.function_call_arguments.delta", "delta": '{"a":1}'},
                {"type": "response.completed", "response": {"output": [{"text": "Hello"}]}},
            ),
            12,
            4,
        ),
        (
            MESSAGES,
            data(
                {"type": "message_start", "message": {"content": [], "id": "m"}},
                {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}},
                {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}},
                {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "EqQBCg"}},
                {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}},
                {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
            ),
            15,
            5,
        ),
    ],
)
def test_what_is_counted(operation: Operation, stream: bytes, output_bytes: int, expected_tokens: int) -> None:
    counter = counted(operation, stream)
    assert (counter.output_bytes, counter.expected_tokens, counter.is_complete) == (output_bytes, expected_tokens, True)
    for at in range(len(stream) + 1):
        again = counted(operation, stream[:at], stream[at:])
        assert (again.output_bytes, again.expected_tokens) == (output_bytes, expected_tokens)


@pytest.mark.parametrize(
    ("operation", "stream"),
    [
        (CHAT, data(delta(audio={"data": "AAAA"}))),
        (CHAT, data(delta(images=[{"type": "image_url"}]))),
        (RESPONSES, data({"type": "response.audio.delta", "delta": "AAAA"})),
        (RESPONSES, data({"type": "response.image_generation_call.partial_image", "partial_image_b64": "AAAA"})),
        (classify("POST", ("rerank",)), b""),  # nobody knows how that one says its output
        (CHAT, b"data: " + 4_200_000 * b"x"),
    ],
)
def test_output_that_bytes_do_not_tell(operation: Operation, stream: bytes) -> None:
    counter = counted(operation, stream)
    assert not counter.is_complete


def test_what_is_not_counted_yet_is_bounded() -> None:
    counter, event = StreamedOutputCounter(CHAT), data(delta(content="four"))
    for _ in range(1_000):
        counter.feed(event)
        assert sum(map(len, counter._uncounted)) <= 8_192
    assert (counter.output_bytes, counter.expected_tokens) == (4_000, 1_334)
    assert not counter._uncounted


@pytest.mark.parametrize(
    ("operation", "document", "expected"),
    [
        (CHAT, {}, True),
        (CHAT, None, True),
        (CHAT, {"reasoning_effort": "low"}, True),
        (CHAT, {"reasoning_effort": "none"}, False),
        (CHAT, {"reasoning": {"effort": "none"}}, False),
        (CHAT, {"reasoning": "none"}, True),
        (CHAT, {"reasoning": {"effort": "none", "Effort": "high"}}, True),
        (CHAT, {"reasoning": {"effort": "none"}, "reasoning_effort": "high"}, True),
        (CHAT, {"reasoning": {"effort": "none"}, "reasoning_effort": []}, True),
        (RESPONSES, {"reasoning": {"effort": "none"}}, False),
        (RESPONSES, {"reasoning": {"effort": None}}, True),
        (MESSAGES, {}, False),
        (MESSAGES, {"thinking": {"type": "disabled"}}, False),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        (MESSAGES, {"thinking": {"type": "adaptive"}}, True),
        (MESSAGES, {"thinking": {"type": "disabled", "Type": "enabled"}}, True),
    ],
)
def test_hidden_reasoning(operation: Operation, document: dict[str, Any] | None, expected: bool) -> None:
    assert may_hide_reasoning(operation, document, model_reasons=True) is expected
    assert not may_hide_reasoning(operation, document, model_reasons=False)


@pytest.mark.parametrize("operation", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "high", "reasoning": {"effort": "none"}}, True),
        ({"reasoning_effort": "none", "reasoning": {"effort": "high"}}, True),
        ({"reasoning_effort": "none", "reasoning": {"effort": "none"}}, False),
        ({"reasoning_effort": "none", "reasoning": {"summary": "auto"}}, False),
        ({"reasoning_effort": None, "reasoning": {"effort": "none"}}, False),
    ],
)
def test_of_two_fields_for_reasoning_neither_turns_off_what_the_other_asks_for(
    operation: Operation, fields: dict[str, Any], expected: bool
) -> None:
    assert may_hide_reasoning(operation, fields, model_reasons=True) is expected


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [
        ("claude-opus-4-8", None, False),
        ("claude-opus-4-8", {"type": "disabled"}, False),
        ("claude-sonnet-5", None, True),  # they think unasked
        ("claude-haiku-5-5", None, True),
        ("us.anthropic.claude-fable-5-v1:0", None, True),
        ("claude-sonnet-5", "on", True),
        ("claude-sonnet-5", {"type": "disabled"}, False),
        ("claude-opus-5-5", {"type": "disabled"}, True),  # nothing turns that off
        ("claude-sonnet-5-5", {"type": "disabled"}, True),
        ("claude-sonnet-5-5", {"type": "between_tools"}, True),
        ("somebody-elses", None, True),  # and is said to reason
    ],
)
def test_claude_models_that_think_unasked_hide_it(model: str, thinking: object, expected: bool) -> None:
    document = {} if thinking is None else {"thinking": thinking}
    assert may_hide_reasoning(MESSAGES, document, model_reasons=True, model=model) is expected
    assert not may_hide_reasoning(MESSAGES, document, model_reasons=False, model=model)


@pytest.mark.parametrize("coding", [None, b"gzip"])
def test_the_tap_lets_the_counter_hear(coding: bytes | None) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    stream = data(delta(content="Hello"), delta(content=" world"), usage)
    wire = gzip.compress(stream) if coding else stream
    counter = StreamedOutputCounter(CHAT)
    tap = UsageTap(CHAT, SSE, coding, counter)
    for start in range(0, len(wire), 9):
        tap.feed(wire[start : start + 9])
    tap.close()
    assert tap.usage == Usage(input_tokens=5, output_tokens=2)
    assert (counter.output_bytes, counter.is_complete) == (11, True)


def test_a_counter_knows_what_the_tap_could_not_hear() -> None:
    counter = StreamedOutputCounter(CHAT)
    UsageTap(CHAT, SSE, b"gzip", counter).feed(b"this is no gzip")
    assert not counter.is_complete
    for content_type, coding in ((SSE, b"br"), (b"application/json", None), (None, None)):
        unread = StreamedOutputCounter(CHAT)
        UsageTap(CHAT, content_type, coding, unread)
        assert not unread.is_complete, "no stream that is read here"


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=6)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]), st.data())
def test_the_bytes_are_those_of_the_text(
    texts: list[str], ascii_only: bool, separators: Any, draw: st.DataObject
) -> None:
    stream = b"".join(
        b"data: %b\r\n\r\n" % json.dumps(delta(content=text), ensure_ascii=ascii_only, separators=separators).encode()
        for text in texts
    )
    cuts = draw.draw(st.lists(st.integers(0, len(stream)), max_size=6).map(sorted))
    pieces = [stream[start:end] for start, end in zip((0, *cuts), (*cuts, len(stream)), strict=True)]
    counter = counted(CHAT, *pieces)
    said = len("".join(texts).encode())
    assert counter.output_bytes == said
    assert counter.expected_tokens >= said / BYTES_PER_TOKEN
    assert sum(map(bool, texts)) <= counter.expected_tokens <= said


def test_little_is_held_of_a_stream_however_it_comes():
    for chunk in (b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n', b"x" * 3_000):
        counter = StreamedOutputCounter(CHAT)
        for _ in range(1_000):
            counter.feed(chunk)
            assert sum(map(len, counter._uncounted)) <= 8_192
            assert len(counter._uncounted) <= 4
