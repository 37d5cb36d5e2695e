"""Promise: at every endpoint whose answers may be kept, what comes again has the bytes and the form that came first:
sound, streams, compressed answers, and answers that were said in another API than the provider's."""

import gzip
import json
from contextlib import suppress

import pytest

from tests.behaviour.test_cache import DONE, EVENTS, ask, chat, completion, configuration, said, served
from tests.gateway import BrokenOff, Gateway, running_gateway
from tests.providers.server import provider_server
from tests.scripted_upstream import Step, answer, scripted_upstream, stream, until

MESSAGES = [{"role": "user", "content": "hello there"}]
GZIP = (b"content-encoding", b"gzip")
ACCEPTS_GZIP = (b"accept-encoding", b"gzip, br")
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","response":{"output":[]}}\n\n'

ENDPOINTS: dict[str, tuple[str, dict[str, object], list[Step]]] = {
    "embeddings": ("/v1/embeddings", {"input": "x"}, answer(b'{"data":[{"embedding":[0.1]}]}')),
    "moderations": ("/v1/moderations", {"input": "x"}, answer(b'{"results":[{"flagged":false}]}')),
    "speech": (
        "/v1/audio/speech",
        {"input": "x", "voice": "alloy"},
        answer(b"ID3\x00\xff\r\n", headers=[(b"content-type", b"audio/mpeg")]),
    ),
    "speech as it comes": (
        "/v1/audio/speech",
        {"input": "x", "voice": "alloy"},
        stream(b"ID3\x00", b"\xff\r\n", content_type=b"audio/mpeg"),
    ),
    "completions": ("/v1/completions", {"prompt": "x"}, answer(b'{"choices":[{"text":"y"}]}')),
    "a response": ("/v1/responses", {"input": "x", "store": False}, answer(b'{"output":[],"error":null}')),
    "a response's stream": (
        "/v1/responses",
        {"input": "x", "store": False, "stream": True},
        stream(b'event: response.created\ndata: {"type":"response.created"}\n\n', COMPLETED),
    ),
    "a message": ("/v1/messages", {"max_tokens": 9, "messages": MESSAGES}, answer(b'{"content":[],"usage":{}}')),
    "a message's stream": (
        "/v1/messages",
        {"max_tokens": 9, "messages": MESSAGES, "stream": True},
        stream(b"event: ping\ndata: {}\n\n", b'event: message_start\ndata: {"type":"message_start"}\n\n', STOP),
    ),
    "a count of tokens": ("/v1/messages/count_tokens", {"messages": MESSAGES}, answer(b'{"input_tokens":3}')),
}
OF_ANTHROPICS = ("a message", "a message's stream", "a count of tokens")


@pytest.fixture(params=["memory", "store"])
def more(request, monkeypatch) -> str:
    """Of the configuration: what is kept is found in the process, or in the store alone."""
    return "" if request.param == "memory" else "[cache]\nmemory_bytes_max = 0\n"


async def at_rest(gateway: Gateway) -> None:
    """Wait until nothing is on its way to the store."""
    await gateway.idle()
    await until(lambda: not gateway.app._shelf._tasks)


@pytest.mark.parametrize("name", list(ENDPOINTS))
async def test_what_an_endpoint_answered_comes_again_byte_for_byte(name, more):
    path, body, steps = ENDPOINTS[name]
    async with scripted_upstream(steps) as upstream:
        text = configuration(upstream.base_url, more=more)
        if name in OF_ANTHROPICS:
            text = text.replace("[providers.openai]", '[providers.openai]\ndialect = "anthropic"')
        async with running_gateway(text) as gateway:
            call = json.dumps({"model": "m", **body}).encode()
            status, made, first = await ask(gateway, call, path=path)
            assert (status, said(made)) == (200, "miss"), first
            await at_rest(gateway)
            status, kept, again = await ask(gateway, call, path=path)
            assert (status, said(kept), again) == (200, "hit", first)
            assert kept[b"content-type"] == made[b"content-type"]
            assert len(upstream.received) == 1


# ── of the provider's own kind ───────────────────────────────────────────────────────────


async def test_a_compressed_answer_comes_again_as_it_was_to_whoever_reads_it(more):
    packed = gzip.compress(completion())
    async with served(more=more) as (gateway, upstream):
        upstream.script = lambda _: answer(packed, headers=[GZIP])
        first = await ask(gateway, None, ACCEPTS_GZIP)
        assert (first[0], said(first[1]), first[2]) == (200, "miss", packed)
        await at_rest(gateway)
        _, head, body = await ask(gateway, None, ACCEPTS_GZIP)
        assert (said(head), head[b"content-encoding"], body) == ("hit", b"gzip", packed)
        assert head[b"content-length"] == b"%d" % len(packed)
        # Whoever cannot read it has one of its own.
        upstream.script = lambda _: answer(completion())
        for expected in ("miss", "hit"):
            _, head, body = await ask(gateway)
            assert (said(head), head.get(b"content-encoding"), body) == (expected, None, completion())
            await at_rest(gateway)
        assert [received.header(b"accept-encoding") for received in upstream.received] == [b"gzip", b"identity"]


PACKED = gzip.compress(completion())
UNREADABLE: dict[str, list[Step]] = {
    "cut off within": answer(PACKED[:-20], headers=[GZIP]),
    "of which a byte has changed": answer(PACKED[:30] + b"\xff\xff\xff\xff" + PACKED[34:], headers=[GZIP]),
    "not compressed at all": answer(completion(), headers=[GZIP]),
    "in a coding that nobody here reads": answer(PACKED, headers=[(b"content-encoding", b"br")]),
    "an error": answer(gzip.compress(b'{"error":{"message":"no"},"choices":[]}'), headers=[GZIP]),
    "without a report": answer(gzip.compress(b'{"ok":true}'), headers=[GZIP]),
    "another's page": answer(gzip.compress(b"<html>Sign in</html>"), headers=[(b"content-type", b"text/html"), GZIP]),
}


@pytest.mark.parametrize("which", list(UNREADABLE))
async def test_a_compressed_answer_that_cannot_be_read_is_not_kept(which, asked_once):
    async with served() as (gateway, upstream):
        upstream.script = lambda _: UNREADABLE[which]
        with suppress(BrokenOff):
            await ask(gateway, None, ACCEPTS_GZIP)
        await gateway.idle()
        assert gateway.metric('tollway_cache_not_kept_total{reason="not_whole"}') == 1
        upstream.script = lambda _: answer(PACKED, headers=[GZIP])
        _, head, body = await ask(gateway, None, ACCEPTS_GZIP)
        assert (said(head), body) == ("miss", PACKED)


# ── said in another API ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("dialect", "path"), [("anthropic", "/v1/chat/completions"), ("openai", "/v1/messages")], ids=["chat", "messages"]
)
async def test_a_translated_answer_comes_again_as_the_caller_got_it(dialect, path, streams, more):
    async with provider_server(dialect) as server:
        text = server.configuration() + '[tenants.acme]\ncache = { mode = "all" }\n' + more
        async with running_gateway(text) as gateway:
            call = json.dumps({"model": "m", "messages": MESSAGES, "max_tokens": 50, "stream": streams}).encode()
            status, made, first = await ask(gateway, call, path=path)
            assert (status, said(made)) == (200, "miss"), first
            assert made[b"x-tollway-translated"]
            await at_rest(gateway)
            status, kept, again = await ask(gateway, call, path=path)
            assert (status, said(kept), again) == (200, "hit", first)
            assert kept[b"content-type"] == made[b"content-type"]
            assert len(server.upstream.received) == 1
            if streams:
                assert first.rstrip().endswith(b"[DONE]" if dialect == "anthropic" else b'"type":"message_stop"}')


@pytest.mark.parametrize("last", [DONE, DONE[:-1]], ids=["", "without its last empty line"])
async def test_a_stream_whose_report_was_taken_out_comes_again_without_it(last, more):
    """What is kept is what the caller got, to its last byte, and not what the provider sent."""
    async with served(more=more, plan="usd_per_day = 1") as (gateway, upstream):
        upstream.script = lambda _: stream(*EVENTS, last)
        body = chat(stream=True, max_tokens=10)
        _, made, first = await ask(gateway, body)
        assert (said(made), first) == ("miss", b"".join((*EVENTS[:2], last)))
        await at_rest(gateway)
        _, kept, again = await ask(gateway, body)
        assert (said(kept), again) == ("hit", first)
        assert len(upstream.received) == 1
