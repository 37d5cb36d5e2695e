"""The tap hears what an answer used, however it is cut, coded or broken."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core.types import Usage
from proxy.dialects.openai import Operation, classify
from proxy.dialects.usage import UsageTap

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"

CHAT = classify("POST", ("chat", "completions"))
RESPONSES = classify("POST", ("responses",))
MESSAGES = classify("POST", ("messages",))
EMBEDDINGS = classify("POST", ("embeddings",))
TRANSCRIPTIONS = classify("POST", ("audio", "transcriptions"))
OTHER = classify("POST", ("rerank",))


def listen(
    operation: Operation, stream: bytes, *cuts: int, content_type: bytes | None = SSE, coding: bytes | None = None
) -> tuple[Usage | None, str | None, bool | None, bool]:
    """Usage, model, end and error, as heard of one answer."""
    tap = UsageTap(operation, content_type, coding)
    for start, end in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        tap.feed(stream[start:end])
    tap.close()
    tap.close()
    return tap.usage, tap.served_model, tap.saw_end, tap.saw_error


def data(*documents: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % (d if isinstance(d, bytes) else json.dumps(d).encode()) for d in documents)


def named(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\n" % d["type"].encode() + data(d) for d in documents)


# ── golden streams, as the providers document them ───────────────────────────────────────

# platform.openai.com/docs/api-reference/chat-streaming
CHUNK = {
    "id": "chatcmpl-123",
    "object": "chat.completion.chunk",
    "created": 1694268190,
    "model": "gpt-4o-mini",
    "system_fingerprint": "fp_44709d6fcb",
    "choices": [{"index": 0, "delta": {"content": 'Say "usage": {"prompt_tokens": 9}'}, "finish_reason": None}],
    "usage": None,
}
CHAT_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
CHAT_STREAM = data(CHUNK, CHUNK, {**CHUNK, "choices": [], "usage": CHAT_USAGE}, b"[DONE]")

# platform.openai.com/docs/api-reference/responses-streaming
RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "error": None, "model": "gpt-5-2025-08-07"}
RESPONSE_USAGE = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 48,
}
RESPONSE_BEGINNING = named(
    {"type": "response.created", "response": {**RESPONSE, "usage": None}, "sequence_number": 0},
    {"type": "response.in_progress", "response": {**RESPONSE, "usage": None}, "sequence_number": 1},
    {"type": "response.output_text.delta", "item_id": "msg_1", "delta": '"response": "usage"', "sequence_number": 2},
)


def response_end(kind: str, **fields: Any) -> bytes:
    response = {**RESPONSE, "status": kind, "usage": RESPONSE_USAGE, **fields}
    return named({"type": f"response.{kind}", "response": response, "sequence_number": 3})


RESPONSE_STREAM = RESPONSE_BEGINNING + response_end("completed")

# docs.anthropic.com/en/docs/build-with-claude/streaming
MESSAGE_STREAM = named(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": "claude-sonnet-4-20250514",
            "stop_reason": None,
            "usage": {
                "input_tokens": 25,
                "cache_creation_input_tokens": 100,
                "cache_read_input_tokens": 1000,
                "output_tokens": 1,
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_delta", "delta": {}, "usage": {"input_tokens": None, "output_tokens": 15}},
    {"type": "message_stop"},
)

CHAT_HEARD = (Usage(19, 16, 0, 10, 4), "gpt-4o-mini", True, False)
RESPONSE_HEARD = (Usage(37, 8, 0, 11, 3), "gpt-5-2025-08-07", True, False)
MESSAGE_HEARD = (Usage(1125, 1000, 100, 15), "claude-sonnet-4-20250514", True, False)
STREAMS = [
    pytest.param(CHAT, CHAT_STREAM, CHAT_HEARD, id="chat"),
    pytest.param(RESPONSES, RESPONSE_STREAM, RESPONSE_HEARD, id="responses"),
    pytest.param(MESSAGES, MESSAGE_STREAM, MESSAGE_HEARD, id="messages"),
]


@pytest.mark.parametrize(("operation", "stream", "expected"), STREAMS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_every_cut_of_a_stream_is_heard_alike(
    operation: Operation, stream: bytes, expected: tuple[Any, ...], line_end: bytes
) -> None:
    stream = stream.replace(b"\n", line_end)
    assert listen(operation, stream) == expected
    for cut in range(len(stream) + 1):
        assert listen(operation, stream, cut) == expected, cut
    assert listen(operation, stream, *range(1, len(stream))) == expected


@pytest.mark.parametrize(("operation", "stream", "expected"), STREAMS)
def test_coded_streams_are_heard(operation: Operation, stream: bytes, expected: tuple[Any, ...]) -> None:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    coded = {
        b"gzip": gzip.compress(stream),
        b" GZIP": gzip.compress(stream),
        b"x-gzip": gzip.compress(stream),
        b"deflate": zlib.compress(stream),
        b"Deflate": coder.compress(stream) + coder.flush(),
        b"identity": stream,
    }
    for coding, body in coded.items():
        for cut in range(0, len(body) + 1, 7):
            assert listen(operation, body, cut, coding=coding) == expected, coding


# ── how streams end ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("operation", "stream", "saw_end", "saw_error"),
    [
        (CHAT, data(CHUNK), False, False),
        (CHAT, b"", False, False),
        (CHAT, data(CHUNK, b"[DON"), False, False),
        (CHAT, data(CHUNK) + b"data: [DONE]", True, False),  # the empty line is missing
        (CHAT, data(CHUNK) + b"data:[DONE]\n\n", True, False),
        (CHAT, data({**CHUNK, "choices": [{"delta": {"content": "[DONE]"}}]}), False, False),
        (CHAT, data(CHUNK, {"error": {"message": "overloaded", "code": 502}}), True, True),
        (CHAT, data([{"error": {"code": 503, "status": "UNAVAILABLE"}}]), True, True),  # Gemini
        (CHAT, data({**CHUNK, "error": None}), False, False),
        (CHAT, b": ping\n\n", False, False),
        (RESPONSES, RESPONSE_BEGINNING, False, False),
        (RESPONSES, RESPONSE_BEGINNING + response_end("completed"), True, False),
        (RESPONSES, RESPONSE_BEGINNING + response_end("incomplete"), True, False),
        (RESPONSES, RESPONSE_BEGINNING + response_end("failed", error={"code": "server_error"}), True, True),
        (RESPONSES, RESPONSE_BEGINNING + named({"type": "error", "code": "x", "message": "y"}), True, True),
        (RESPONSES, b"event: error\ndata: not json\n\n", True, True),
        (MESSAGES, MESSAGE_STREAM[: MESSAGE_STREAM.index(b"event: message_stop")], False, False),
        (MESSAGES, named({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}), True, True),
        (RESPONSES, data({"type": {"response": []}}, {"type": ["error"]}), False, False),
        (OTHER, data({"type": "x"}), None, False),
        (OTHER, data({"error": {"message": "x"}}), None, True),
    ],
)
def test_ends_and_errors(operation: Operation, stream: bytes, saw_end: bool | None, saw_error: bool) -> None:
    assert listen(operation, stream)[2:] == (saw_end, saw_error)


@pytest.mark.parametrize(
    ("operation", "stream", "expected"),
    [
        # Gemini repeats a growing report on every chunk: the last one counts.
        (
            CHAT,
            data(
                {"model": "gemini-2.5-flash", "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
                {
                    "model": "gemini-2.5-flash",
                    "usage": {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10},
                },
            ),
            Usage(3, output_tokens=7),
        ),
        # Groq
        (
            CHAT,
            data({"usage": None, "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}}),
            Usage(3, 0, 0, 2),
        ),
        (CHAT, data({**CHUNK, "usage": {"prompt_tokens": -3, "completion_tokens": 2}}), None),
        (CHAT, data(CHUNK, b'{"usage": {', b"usage", b'"usage"', b'["usage"]'), None),
        (CHAT, data({**CHUNK, "usage": "much"}, {**CHUNK, "usage": [1]}), None),
        (
            CHAT,
            b'data: {"usage":\ndata: {"prompt_tokens":4,\ndata: "completion_tokens":1}}\n\n',
            Usage(4, output_tokens=1),
        ),
        # a bad report does not take the good one's place
        (
            CHAT,
            data({"usage": {"prompt_tokens": 3}}, {"usage": {"prompt_tokens": 2**70, "completion_tokens": 1}}),
            Usage(3),
        ),
        # platform.openai.com/docs/api-reference/audio/transcript-text-done-event
        (
            TRANSCRIPTIONS,
            data(
                {"type": "transcript.text.done", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 31}}
            ),
            Usage(14, output_tokens=31),
        ),
    ],
)
def test_reports_in_streams(operation: Operation, stream: bytes, expected: Usage | None) -> None:
    assert listen(operation, stream)[0] == expected


# ── documents ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("operation", "document", "expected"),
    [
        (
            CHAT,
            {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [], "usage": CHAT_USAGE},
            (Usage(19, 16, 0, 10, 4), "gpt-4o", None, False),
        ),
        (
            RESPONSES,
            {**RESPONSE, "status": "completed", "usage": RESPONSE_USAGE},
            (Usage(37, 8, 0, 11, 3), "gpt-5-2025-08-07", None, False),
        ),
        (
            EMBEDDINGS,
            {"data": [], "model": "text-embedding-3-small", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            (Usage(8), "text-embedding-3-small", None, False),
        ),
        (
            MESSAGES,
            {"type": "message", "model": "claude-x", "usage": {"input_tokens": 10, "output_tokens": 5}},
            (Usage(10, output_tokens=5), "claude-x", None, False),
        ),
        (OTHER, {"model": "m", "usage": {"prompt_tokens": 1}}, (Usage(1), "m", None, False)),
        (CHAT, {"error": {"message": "no", "type": "invalid_request_error"}}, (None, None, None, True)),
        (CHAT, [{"error": {"code": 400}}], (None, None, None, True)),
        (MESSAGES, {"type": "error", "error": {"type": "overloaded_error"}}, (None, None, None, True)),
        (CHAT, [], (None, None, None, False)),
        (CHAT, {"model": "m" * 300}, (None, None, None, False)),
        (CHAT, 5, (None, None, None, False)),
    ],
)
def test_documents(operation: Operation, document: Any, expected: tuple[Any, ...]) -> None:
    raw = json.dumps(document).encode()
    for cut in range(len(raw) + 1):
        assert listen(operation, raw, cut, content_type=JSON) == expected
    assert listen(operation, gzip.compress(raw), content_type=JSON, coding=b"gzip") == expected


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"usage"', b"[" * 5_000])
def test_a_document_that_is_none_says_nothing(raw: bytes) -> None:
    assert listen(CHAT, raw, content_type=JSON) == (None, None, None, False)


def large_document(end: bytes) -> bytes:
    vector = b'{"object":"embedding","embedding":[' + b"0.0123456789," * 1_500 + b"0]},"
    body = b'{"object":"list","data":[' + vector * 250 + b'{"text":"\\"usage\\": {\\"prompt_tokens\\":1}"}],' + end
    assert len(body) > 4_194_304
    return body


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b'"model":"embed","usage":{"prompt_tokens":8,"total_tokens":8}}', (Usage(8), "embed", None, False)),
        (b'"usage" : {"prompt_tokens":8,"prompt_tokens_details":{"a":"}"}}\n}', (Usage(8), None, None, False)),
        (b'"usage":{"prompt_tokens":8},"more":{"usage":{"x":1}}}', (Usage(8), None, None, False)),
        (b'"usage":null}', (None, None, None, False)),
        (b'"usage":{"prompt_tokens":8', (None, None, None, False)),
    ],
)
def test_of_a_large_document_the_end_is_read(end: bytes, expected: tuple[Any, ...]) -> None:
    body = large_document(end)
    assert listen(EMBEDDINGS, body, *range(65_536, len(body), 65_536), content_type=JSON) == expected
    assert listen(EMBEDDINGS, body, content_type=JSON) == expected


# ── what stands beside the report ────────────────────────────────────────────────────────

IMAGES = classify("POST", ("images", "generations"))
SPEECH = classify("POST", ("audio", "speech"))
TOOL_ITEMS = [
    {"type": "web_search_call", "action": {"type": "search", "query": "x"}},
    {"type": "web_search_call", "action": {"type": "open_page"}},
    {"type": "code_interpreter_call", "container_id": "cntr_1"},
    {"type": "code_interpreter_call", "container_id": "cntr_1"},
    {"type": "file_search_call"},
    {"type": "function_call", "name": "web_search"},
    {"type": "message"},
]
TOOLS_RAN = (("web_search", 1), ("code_interpreter", 1), ("file_search", 1))


@pytest.mark.parametrize(
    ("operation", "document", "expected"),
    [
        (CHAT, {"usage": CHAT_USAGE, "service_tier": "priority"}, Usage(19, 16, 0, 10, 4, service_tier="priority")),
        (CHAT, {"usage": CHAT_USAGE, "service_tier": 7}, Usage(19, 16, 0, 10, 4)),
        (
            RESPONSES,
            {**RESPONSE, "usage": RESPONSE_USAGE, "service_tier": "flex", "output": TOOL_ITEMS},
            Usage(37, 8, 0, 11, 3, tool_calls=TOOLS_RAN, service_tier="flex"),
        ),
        # a picture's output is image tokens, unless the report parts them
        (
            IMAGES,
            {"data": [{}, {}], "usage": {"input_tokens": 9, "output_tokens": 544}},
            Usage(9, output_tokens=544, image_output_tokens=544, images=2),
        ),
        (
            IMAGES,
            {
                "data": [{}],
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 300,
                    "output_tokens_details": {"text_tokens": 28, "image_tokens": 272},
                },
            },
            Usage(9, output_tokens=300, image_output_tokens=272, images=1),
        ),
        (IMAGES, {"data": [{}, {}, {}]}, Usage(images=3)),
        (TRANSCRIPTIONS, {"text": "x", "duration": 8.47}, Usage(audio_ms=8_470)),
        (TRANSCRIPTIONS, {"duration": 8.47, "usage": {"type": "duration", "seconds": 9}}, Usage(audio_ms=9_000)),
        (
            SPEECH,
            {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101}},
            Usage(14, output_tokens=101, audio_output_tokens=101),
        ),
    ],
)
def test_what_stands_beside_the_report(operation: Operation, document: dict[str, Any], expected: Usage) -> None:
    assert listen(operation, json.dumps(document).encode(), content_type=JSON)[0] == expected


def test_the_tier_of_a_stream_may_come_before_its_report() -> None:
    stream = data({**CHUNK, "service_tier": "priority"}, {**CHUNK, "choices": [], "usage": CHAT_USAGE}, b"[DONE]")
    assert listen(CHAT, stream)[0] == Usage(19, 16, 0, 10, 4, service_tier="priority")
    end = response_end("completed", service_tier="flex", output=TOOL_ITEMS)
    assert listen(RESPONSES, RESPONSE_BEGINNING + end)[0] == Usage(
        37, 8, 0, 11, 3, tool_calls=TOOLS_RAN, service_tier="flex"
    )


# ── what is not listened to ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "coding"),
    [
        (SSE, b"br"),
        (SSE, b"gzip, deflate"),
        (b"audio/mpeg", None),
        (b"text/plain", None),
        (None, None),
        (JSON, b"zstd"),
    ],
)
def test_what_cannot_be_read_is_left_alone(content_type: bytes | None, coding: bytes | None) -> None:
    assert listen(CHAT, CHAT_STREAM, content_type=content_type, coding=coding) == (None, None, None, False)


def test_a_bomb_ends_the_listening_quietly() -> None:
    bomb = gzip.compress(data(CHUNK, {**CHUNK, "usage": CHAT_USAGE}) + b": " + b"x" * 40_000_000 + b"\n\n")
    usage, model, saw_end, saw_error = listen(CHAT, bomb, coding=b"gzip")
    assert (usage, saw_end, saw_error) == (None, None, False)
    assert model == "gpt-4o-mini"


@pytest.mark.parametrize("content_type", [SSE, JSON])
def test_a_broken_coding_ends_the_listening_quietly(content_type: bytes) -> None:
    body = gzip.compress(CHAT_STREAM)[:60] + b"\xff" * 60
    assert listen(CHAT, body, content_type=content_type, coding=b"gzip")[0] is None
    assert listen(CHAT, b"not gzip at all", content_type=content_type, coding=b"gzip") == (None, None, None, False)


def test_an_event_too_large_ends_the_listening_quietly() -> None:
    stream = data(CHUNK) + b"data: " + b"x" * 4_200_000 + b"\n\n" + data({**CHUNK, "usage": CHAT_USAGE}, b"[DONE]")
    assert listen(CHAT, stream, *range(65_536, len(stream), 65_536)) == (None, "gpt-4o-mini", None, False)


def test_an_end_that_was_heard_stays_heard() -> None:
    whole = gzip.compress(CHAT_STREAM, mtime=0)
    second = b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 50
    tap = UsageTap(CHAT, SSE, b"gzip")
    tap.feed(whole)
    tap.feed(second)
    tap.close()
    assert (tap.usage, tap.saw_end) == (CHAT_HEARD[0], True)


# ── whatever comes ───────────────────────────────────────────────────────────────────────

SCRAPS = st.sampled_from(
    [
        b"data: ",
        b"\n\n",
        b"\r",
        b'{"usage":',
        b'{"prompt_tokens":',
        b"1}}",
        b"[DONE]",
        b'{"type":"error"}',
        b'{"response":{"usage":[]}}',
        b'{"message":{"usage":{"input_tokens":"x"}}}',
        b'{"x_groq":{"usage":7},"model":[]}',
        b"event: error",
        b"\x1f\x8b",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([CHAT, RESPONSES, MESSAGES, EMBEDDINGS, OTHER]),
    st.lists(SCRAPS | st.binary(max_size=12), max_size=12),
    st.sampled_from([SSE, JSON, None]),
    st.sampled_from([None, b"gzip", b"deflate", b"br"]),
)
def test_nothing_that_comes_makes_the_tap_raise(
    operation: Operation, chunks: list[bytes], content_type: bytes | None, coding: bytes | None
) -> None:
    tap = UsageTap(operation, content_type, coding)
    for chunk in chunks:
        tap.feed(chunk)
    tap.close()
    tap.feed(b"data: late\n\n")
    whole = listen(operation, b"".join(chunks), content_type=content_type, coding=coding)
    assert (tap.usage, tap.served_model, tap.saw_end, tap.saw_error) == whole


EVENTS = st.sampled_from(
    [
        *(data(CHUNK), data({**CHUNK, "usage": None}), data({**CHUNK, "usage": CHAT_USAGE}), data(b"[DONE]")),
        data({"model": "other", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        data({"service_tier": "flex", "choices": [{"delta": {"content": "[DONE] error"}}]}),
        data({"choices": [], "usage": {"prompt_tokens": 3}, "a": {"usage": None}}),
        b'event: error\ndata: {"a": 1}\n\n',
        b'event: x\ndata: {"model":\ndata: "m"}\n\n',
        *(b": error\n\n", b"\n", b"\n\n", b"data: a\r\n\r\n"),
        *named({"type": "response.completed", "response": {"model": "r", "usage": {"input_tokens": 5}}}).splitlines(
            True
        ),
        *(data({"type": "message_stop"}), data({"error": {"message": "x"}})),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([CHAT, RESPONSES, MESSAGES, OTHER]), st.lists(EVENTS, max_size=7))
@example(CHAT, [data(b"[DONE]"), data({"choices": [{"delta": {"content": "[DONE] error"}}]})])
def test_many_events_at_once_are_heard_as_each_by_itself(operation: Operation, events: list[bytes]) -> None:
    stream = b"".join(events)
    by_byte = listen(operation, stream, *range(1, len(stream)))
    assert listen(operation, stream) == by_byte
    ends = [sum(map(len, events[:count])) for count in range(1, len(events))]
    assert listen(operation, stream, *ends) == by_byte
