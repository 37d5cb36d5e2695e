"""Promise: what the caller sends arrives upstream, and what the upstream sends arrives at the
caller, byte for byte."""

import asyncio
import gzip
import hashlib
import json
import os
import zlib

import pytest

from tests.gateway import gateway_before, plain_request, raw_request
from tests.scripted_upstream import answer, scripted_upstream, stream

CHUNK = b'{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"h\xc3\xa9"}}]}'
DONE = b"data: [DONE]\n\n"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


REQUEST_BODIES = {
    "compact": b'{"model":"m","messages":[{"role":"user","content":"hi"}]}',
    "spaced": b'{\n  "model" :\t"m" ,\r\n "messages": [ ]\n}\n',
    "unknown fields": b'{"model":"m","x_future":{"deep":[1,2.50,1e-7,null]},"messages":[]}',
    "big numbers": b'{"model":"m","seed":12345678901234567890123,"temperature":1.0000000000000000001}',
    "escapes": rb'{"model":"m","messages":[{"role":"user","content":"\u00e9\/\ud83d\ude00 \"model\": \"x\""}]}',
    "utf-8": '{"model":"m","messages":[{"role":"user","content":"日本語 ✓"}]}'.encode(),
    "order and repeats inside": b'{"messages":[{"b":1,"a":2,"b":1}],"model":"m"}',
    "1 MB": b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 1_000_000 + b'"}]}',
}


@pytest.mark.parametrize("body", REQUEST_BODIES.values(), ids=REQUEST_BODIES)
async def test_a_request_body_arrives_as_sent(body):
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, _ = await plain_request(gateway, "POST", "/v1/chat/completions", body)
        assert status == 200
        assert upstream.received[0].body_sha256 == sha256(body)
        assert len(upstream.received[0].body) == len(body)


async def test_a_compressed_request_body_arrives_as_sent():
    body = gzip.compress(REQUEST_BODIES["compact"])
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, _ = await plain_request(gateway, "POST", "/v1/chat/completions", body, headers)
        assert status == 200
        assert upstream.received[0].body_sha256 == sha256(body)
        assert upstream.received[0].header(b"content-encoding") == b"gzip"


async def test_a_body_that_is_not_json_is_streamed_as_sent():
    body = os.urandom(3_000_000)
    headers = [(b"content-type", b"application/octet-stream")]
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, _ = await plain_request(gateway, "POST", "/v1/audio/transcriptions?x=%20y", body, headers)
        assert status == 200
        assert upstream.received[0].body_sha256 == sha256(body)
        assert upstream.received[0].target == "/v1/audio/transcriptions?x=%20y"


async def test_only_the_models_name_changes_where_it_must():
    body = b'{ "x":{"model":"alias"},\n"model" : "alias" , "messages":[{"content":"\\"model\\":\\"alias\\""}]}'
    expected = body.replace(b'"model" : "alias"', b'"model" : "m-2026"')
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, _ = await plain_request(gateway, "POST", "/v1/chat/completions", body)
        assert status == 200
        assert upstream.received[0].body == expected


async def test_a_compressed_body_whose_model_changes_is_sent_decompressed():
    body = b'{"model":"alias","messages":[]}'
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, _ = await plain_request(gateway, "POST", "/v1/chat/completions", gzip.compress(body), headers)
        assert status == 200
        assert upstream.received[0].body == b'{"model":"m-2026","messages":[]}'
        assert upstream.received[0].header(b"content-encoding") is None


ANSWERS = {
    "plain": (b'{"id":"x","usage":{"prompt_tokens":1,"completion_tokens":1}}', []),
    "spaces and newlines": (b'{\r\n "a" : 1 }\n\n', []),
    "not json at all": (b"\x00\xff<html>", [(b"content-type", b"text/html")]),
    "empty": (b"", []),
    "gzip": (gzip.compress(b'{"id":"x"}' * 100), [(b"content-encoding", b"gzip")]),
    "deflate": (zlib.compress(b'{"id":"x"}' * 100), [(b"content-encoding", b"deflate")]),
    "1 MB": (b'{"data":"' + b"y" * 1_000_000 + b'"}', []),
    "binary 3 MB": (os.urandom(3_000_000), [(b"content-type", b"audio/mpeg")]),
}


@pytest.mark.parametrize(("body", "headers"), ANSWERS.values(), ids=ANSWERS)
async def test_a_plain_answer_arrives_as_sent(body, headers):
    async with scripted_upstream(answer(body, headers=headers)) as upstream, gateway_before(upstream) as gateway:
        status, head, got = await plain_request(gateway, "POST", "/v1/chat/completions", REQUEST_BODIES["compact"])
        assert status == 200
        assert sha256(got) == sha256(body)
        for name, value in headers:
            assert head[name] == value


ERRORS = {
    "400": (b"400 Bad Request", b'{"error":{"message":"no","type":"invalid_request_error","param":"x","code":null}}'),
    "404": (b"404 Not Found", b'{"error":{"message":"no such model","code":"model_not_found"}}'),
    "429": (b"429 Too Many Requests", b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}\n'),
    "500 html": (b"500 Internal Server Error", b"<html>oops</html>"),
    "529": (b"529 Overloaded", b""),
}


@pytest.mark.parametrize(("status_line", "body"), ERRORS.values(), ids=ERRORS)
async def test_an_error_of_the_provider_keeps_its_bytes_status_and_headers(status_line, body):
    headers = [(b"retry-after-ms", b"1500"), (b"x-should-retry", b"true"), (b"x-request-id", b"req_9")]
    script = answer(body, status=status_line, headers=headers)
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        status, head, got = await plain_request(gateway, "POST", "/v1/chat/completions", REQUEST_BODIES["compact"])
        assert status == int(status_line[:3])
        assert got == body
        assert {name: head[name] for name, _ in headers} == dict(headers)


def events(separator: bytes = b"\n") -> list[bytes]:
    return [b"data: " + CHUNK + separator * 2 for _ in range(5)] + [b"data: [DONE]" + separator * 2]


STREAMS = {
    "plain": events(),
    "crlf": events(b"\r\n"),
    "cr": events(b"\r"),
    "comments and pings": [b": ping\n\n", *events()[:2], b":\n\n", b"event: ping\ndata: {}\n\n", *events()[2:]],
    "no space after colon": [b"data:" + CHUNK + b"\n\n", b"data:[DONE]\n\n"],
    "multi-line data": [b"data: {\ndata: }\n\n", DONE],
    "ids and retry": [b"id: 1\nretry: 3000\ndata: {}\n\n", DONE],
    "bytes after the end": [*events(), b": bye\n\n"],
    "one event in two chunks": [b"da", b"ta: {}\n", b"\n" + DONE],
    "an error as the last event": [events()[0], b'data: {"error":{"message":"boom"}}\n\n'],
    "usage": [b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n', DONE],
    "byte by byte": [bytes([byte]) for byte in b"data: " + CHUNK + b"\r\n\r\n" + DONE],
}


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS)
async def test_a_stream_arrives_as_sent(pieces):
    body = json.dumps({"model": "m", "stream": True, "messages": []}).encode()
    async with scripted_upstream(stream(*pieces)) as upstream, gateway_before(upstream) as gateway:
        status, head, got = await plain_request(gateway, "POST", "/v1/chat/completions", body)
        assert status == 200
        assert head[b"content-type"] == b"text/event-stream"
        assert sha256(got) == sha256(b"".join(pieces))


async def test_a_compressed_stream_arrives_as_sent():
    packed = gzip.compress(b"".join(events()))
    pieces = [packed[i : i + 7] for i in range(0, len(packed), 7)]
    body = b'{"model":"m","stream":true,"messages":[]}'
    script = stream(*pieces, head=b"content-encoding: gzip\r\n")
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        status, head, got = await plain_request(
            gateway, "POST", "/v1/chat/completions", body, [(b"accept-encoding", b"gzip, br")]
        )
        assert (status, head[b"content-encoding"], got) == (200, b"gzip", packed)
        assert upstream.received[0].header(b"accept-encoding") == b"gzip"


async def test_each_event_arrives_by_itself_and_not_with_the_next():
    gap_s = 0.05
    pieces = [piece for event in events() for piece in (event, gap_s)]
    body = b'{"model":"m","stream":true,"messages":[]}'
    async with scripted_upstream(stream(*pieces)) as upstream, gateway_before(upstream) as gateway:
        arrivals = []
        async for chunk in raw_request(gateway, "POST", "/v1/chat/completions", body):
            arrivals.append((asyncio.get_running_loop().time(), chunk))
        seen = [chunk for _, chunk in arrivals if b"data:" in chunk]
        assert len(seen) == len(events())
        spread_s = arrivals[-1][0] - arrivals[0][0]
        assert spread_s > gap_s * (len(events()) - 2)  # not gathered and sent at once


async def test_exactly_one_date_and_one_server_header_reach_the_caller():
    script = answer(b"{}", headers=[(b"server", b"cloudflare")])
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        pieces = [chunk async for chunk in raw_request(gateway, "GET", "/v1/moderations/x", b"")]
        head = b"".join(pieces).partition(b"\r\n\r\n")[0].lower()
        assert head.count(b"\r\ndate:") == 1
        assert head.count(b"\r\nserver:") == 1
