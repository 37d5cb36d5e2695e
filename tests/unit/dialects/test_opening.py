"""How a stream begins: an answer, an error of the caller's own making, or one that another may not make."""

import pytest

from proxy.dialects.opening import HELD_BYTES_MAX, Opening, read_opening

CHAT = b'data: {"id":"c","choices":[{"delta":{"content":"hi"}}]}'
PING = b": ping\n\n"


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (CHAT + b"\n\n", Opening.ANSWER),
        (CHAT + b"\r\n\r\n", Opening.ANSWER),
        (CHAT, Opening.PENDING),  # half an event
        (CHAT + b"\n", Opening.PENDING),
        (b"", Opening.PENDING),
        (PING, Opening.PENDING),
        (PING + PING + CHAT + b"\n\n", Opening.ANSWER),
        (b'event: ping\ndata: {"type":"ping"}\n\n', Opening.PENDING),
        (b"retry: 100\n\n", Opening.PENDING),
        (b"\xef\xbb\xbf" + CHAT + b"\n\n", Opening.ANSWER),
        (b"data: [DONE]\n\n", Opening.ANSWER),
        (b'event: message_start\ndata: {"type":"message_start"}\n\n', Opening.ANSWER),
        # errors: OpenAI's, Anthropic's, the Responses API's
        (b'data: {"error":{"message":"x","type":"server_error"}}\n\n', Opening.ERROR),
        (PING + b'data: {"error":{"message":"x","type":"server_error"}}\n\n', Opening.ERROR),
        (b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n', Opening.ERROR),
        (b'event: error\ndata: {"type":"error","code":"server_error","message":"x"}\n\n', Opening.ERROR),
        (b"event: error\ndata: no JSON\n\n", Opening.ERROR),
        (b"event: error\ndata: [1]\n\n", Opening.ERROR),
        (b'data: {"error":"x"}\n\n', Opening.ERROR),
        (b'event: response.failed\ndata: {"type":"response.failed","response":{"error":{}}}\n\n', Opening.ERROR),
        # the caller's own
        (b'data: {"error":{"message":"x","type":"invalid_request_error"}}\n\n', Opening.REFUSAL),
        (b'event: error\ndata: {"type":"error","error":{"type":"not_found_error"}}\n\n', Opening.REFUSAL),
        # the word alone is none
        (b'data: {"id":"c","error":null,"choices":[]}\n\n', Opening.ANSWER),
        (b'data: {"choices":[{"delta":{"content":"an error"}}]}\n\n', Opening.ANSWER),
        (b"data: error\n\n", Opening.ANSWER),
        # what comes after an answer has begun is not looked at
        (CHAT + b'\n\ndata: {"error":{"type":"server_error"}}\n\n', Opening.ANSWER),
        # many bytes are an answer, whatever they are
        (b"data: " + b"x" * HELD_BYTES_MAX, Opening.ANSWER),
    ],
)
def test_read_opening(held, expected):
    assert read_opening(held) is expected


@pytest.mark.parametrize("event", [CHAT, b'data: {"error":{"type":"server_error"}}'])
def test_cut_anywhere_it_waits_for_the_whole_event(event):
    whole = PING + event + b"\n\n"
    for length in range(len(whole)):
        assert read_opening(whole[:length]) is Opening.PENDING
    assert read_opening(whole) is not Opening.PENDING
