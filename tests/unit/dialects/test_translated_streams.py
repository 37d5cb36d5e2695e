"""What a stream's translator holds is bounded, whatever the provider sends; it says the same however that is cut."""

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import InvalidParameter, UpstreamMalformed
from proxy.dialects.chat_to_messages.stream import EVENT_BYTES_MAX, THINKING_CHARACTERS_MAX, ChatStream
from proxy.dialects.chat_to_messages.translate import translate
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.messages_to_chat.stream import CALLS_MAX, HELD_CHARACTERS_MAX, MessagesStream
from proxy.dialects.translation import TargetModel

PIECE = "x" * 262_144


def sse(document):
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def thinking_stream():
    stream = ChatStream(0, reports_usage=False)
    stream.feed(sse({"type": "message_start", "message": {"id": "msg_1", "model": "m"}}))
    block = {"type": "thinking", "thinking": "", "signature": ""}
    stream.feed(sse({"type": "content_block_start", "index": 0, "content_block": block}))
    return stream


def thought(text):
    return sse({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": text}})


def chunk(**delta):
    return sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]})


def call(index, arguments):
    return chunk(tool_calls=[{"index": index, "id": f"t{index}", "function": {"name": "f", "arguments": arguments}}])


def test_thinking_that_does_not_end():
    stream, fits = thinking_stream(), THINKING_CHARACTERS_MAX // len(PIECE)
    for _ in range(fits):
        stream.feed(thought(PIECE))
    with pytest.raises(UpstreamMalformed, match="thinking"):
        stream.feed(thought(PIECE))


def test_thinking_in_many_small_pieces_comes_back_whole():
    stream = thinking_stream()
    for number in range(20_000):
        stream.feed(thought(f"{number} "))
    stream.feed(sse({"type": "content_block_stop", "index": 0}))
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    said = stream.feed(sse({"type": "content_block_start", "index": 1, "content_block": block}))
    (told,) = json.loads(said[6:])["choices"][0]["delta"]["tool_calls"]
    (kept,) = told["extra_content"]["tollway"]["thinking_blocks"]
    assert kept["thinking"] == "".join(f"{number} " for number in range(20_000))


def test_arguments_that_do_not_end():
    stream = MessagesStream()
    stream.feed(call(0, "{"))
    for _ in range(HELD_CHARACTERS_MAX // len(PIECE) - 1):
        stream.feed(call(1, PIECE))
    with pytest.raises(UpstreamMalformed, match="arguments"):
        stream.feed(call(1, PIECE))


def test_calls_that_do_not_end():
    stream = MessagesStream()
    for index in range(CALLS_MAX):
        stream.feed(call(index, "{}"))
    with pytest.raises(UpstreamMalformed, match="tools"):
        stream.feed(call(CALLS_MAX, "{}"))


@pytest.mark.parametrize("stream", [ChatStream(0, reports_usage=False), MessagesStream()], ids=["chat", "messages"])
def test_an_event_that_does_not_end(stream):
    with pytest.raises(UpstreamMalformed, match="bytes"):
        for _ in range(EVENT_BYTES_MAX // len(PIECE) + 2):
            stream.feed(b"data: " + PIECE.encode())


def test_a_conversation_that_does_not_end():
    messages = [{"role": "user", "content": "a"}] * 100_001
    with pytest.raises(InvalidParameter, match="100000"):
        translate({"messages": messages}, TargetModel("claude-opus-5-5", DIALECTS["anthropic"]), 0)


CASES = json.loads((Path(__file__).parents[2] / "vectors/chat_to_messages/streams.json").read_text())


@given(st.sampled_from(CASES), st.lists(st.floats(0, 1), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_however_the_bytes_are_cut(case, cuts, line_end):
    whole = b"".join(sse(event) for event in case["in"]).replace(b"\n", line_end)
    at_once, in_pieces = ChatStream(0, reports_usage=True), ChatStream(0, reports_usage=True)
    bounds = [0, *sorted(int(cut * len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(bounds)]
    said = b"".join([*(in_pieces.feed(piece) for piece in pieces), in_pieces.close()])
    assert said == at_once.feed(whole) + at_once.close()
    assert said.startswith(b"data: {")
