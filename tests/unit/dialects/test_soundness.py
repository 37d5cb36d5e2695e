"""What is whole and went well, by the body's own word."""

import gzip
import zlib

import pytest

from proxy.dialects.soundness import is_sound_document, is_sound_stream

WHOLE = b'{"choices":[{"finish_reason":"stop","message":{}}],"usage":{"prompt_tokens":1}}'
EVENT = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
BYTES_MAX = 4_096


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("chat_completions", WHOLE, True),
        ("chat_completions", WHOLE + b"\n", True),
        ("chat_completions", WHOLE + WHOLE, False),
        ("chat_completions", WHOLE[:-1], False),
        ("chat_completions", b'{"choices":[],"error":null}', True),
        ("chat_completions", b'{"choices":[],"error":"boom"}', False),
        ("chat_completions", b'{"choices":[],"object":"error"}', False),
        ("chat_completions", b'{"choices":[{"error":null,"finish_reason":"length"}]}', True),
        ("chat_completions", b'{"choices":[{"error":{"code":502}}]}', False),
        ("chat_completions", b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"error"}]}', False),
        ("chat_completions", b'{"choices":{}}', False),
        ("chat_completions", b'{"usage":{}}', False),
        ("chat_completions", b"[]", False),
        ("messages", b'{"type":"message","content":[]}', True),
        ("messages", b'{"type":"error","content":[]}', False),
        ("messages_count_tokens", b'{"input_tokens":5}', True),
        ("messages_count_tokens", b'{"input_tokens":true}', False),
        ("responses", b'{"output":[]}', True),
        ("responses", b'{"output":[],"status":"completed","error":null}', True),
        ("responses", b'{"output":[],"status":"failed","error":null}', False),
        ("responses", b'{"output":[],"status":"in_progress"}', False),
        ("responses", b'{"output":[],"status":"incomplete"}', False),
        ("embeddings", b'{"data":[{"embedding":[0.1]}]}', True),
    ],
)
@pytest.mark.parametrize("coding", [None, b"identity", b"gzip", b"deflate"])
def test_a_document(operation, body, expected, coding):
    sent = {b"gzip": gzip.compress(body), b"deflate": zlib.compress(body)}.get(coding or b"", body)
    assert is_sound_document(operation, sent, coding, BYTES_MAX) is expected


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(WHOLE)[:-1]),
        (b"gzip", gzip.compress(WHOLE)[:-8] + bytes(8)),
        (b"gzip", gzip.compress(WHOLE) + b"x"),
        (b"gzip", WHOLE),
        (b"gzip", gzip.compress(WHOLE + b" " * (8 * BYTES_MAX))),  # no end of spaces
        (b"br", WHOLE),
        (None, gzip.compress(WHOLE)),
    ],
)
def test_a_document_that_is_not_what_its_coding_says(coding, body):
    assert not is_sound_document("chat_completions", body, coding, BYTES_MAX)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (EVENT + DONE, True),
        (b"\xef\xbb\xbf" + EVENT + DONE, True),
        (b": wait\n\n" + EVENT + b"event: ping\ndata:\n\n" + DONE + b": bye\n\n", True),
        ((EVENT + DONE).replace(b"\n", b"\r\n"), True),
        (EVENT + b"data: [DONE]", True),
        (b'event: response.completed\ndata: {"type":"response.completed","response":{"error":null}}\n\n', True),
        (DONE, False),
        (b"", False),
        (b": wait\n\n" + DONE, False),
        (EVENT + b"data: {broken\n\n" + DONE, False),
        (EVENT + b"data: [1]\n\n" + DONE, False),
        (EVENT + DONE + EVENT, False),
        (EVENT + DONE + b"garbage", False),
        (b"<html>\n\n" + EVENT + DONE, False),
        (EVENT + b'data: {"error":{"message":"x"}}\n\n' + DONE, False),
        (EVENT + b'data: {"\\u0065rror":{"message":"x"}}\n\n' + DONE, False),
        (EVENT + b'data: {"choices":[{"finish_reason":"error"}]}\n\n' + DONE, False),
        (b'data: {"type":"response.failed","response":{}}\n\n', False),
        (b'data: {"type":"response.incomplete","response":{}}\n\n', False),
        (b'event: error\ndata: {"type":"error"}\n\n', False),
        (b'data: {"type":{},"choices":[]}\n\ndata: {"type":["error"]}\n\n' + DONE, True),  # no word that is known
    ],
)
def test_a_stream(body, expected):
    assert is_sound_stream(body) is expected
