"""The wire to a client, over real sockets with raw bytes, on asyncio's loop and on uvloop."""

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvicorn
from uvicorn.server import ServerState

from proxy.edge.connection import CONNECTION_EXTENSION, Connection
from proxy.edge.framing import ProtocolLimits
from proxy.edge.head import KnownHeads
from proxy.edge.protocol import TollwayProtocol
from tests.polls import CountedPoll

PATIENCE_S = 10.0  # beyond this it hangs
LONG_S = 600.0  # never, for a test


@pytest.fixture(params=[False, True], ids=["alone", "among others"], autouse=True)
def others(request, monkeypatch):
    """Whether another request is being served all the while: then what is written waits for the end of a turn."""
    monkeypatch.setattr(f"{__name__}.HAS_OTHERS", request.param)


HAS_OTHERS = False


@dataclass
class Served:
    """A listening server, and what its application saw."""

    port: int
    state: ServerState
    scopes: list = field(default_factory=list)
    other: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """What serves the test's own requests."""
        return self.state.tasks - {self.other}

    @property
    def wires(self) -> list[TollwayProtocol]:
        """The open connections."""
        return [wire for wire in self.state.connections if isinstance(wire, TollwayProtocol)]


@asynccontextmanager
async def serving(app, *, keep_alive_s: int = 30, **limits) -> AsyncIterator[Served]:
    narrowed = replace(ProtocolLimits(), **limits)
    seen: list = []

    async def watched(scope, receive, send):
        seen.append(scope)
        await app(scope, receive, send)

    config = uvicorn.Config(watched, log_config=None, lifespan="off", ws="none", interface="asgi3", proxy_headers=False)
    config.timeout_keep_alive = keep_alive_s
    config.load()
    state, known_heads = ServerState(), KnownHeads()
    server = await asyncio.get_running_loop().create_server(
        lambda: TollwayProtocol(config, state, {}, limits=narrowed, known_heads=known_heads), "127.0.0.1", 0
    )
    served = Served(server.sockets[0].getsockname()[1], state, seen)
    if HAS_OTHERS:
        served.other = asyncio.get_running_loop().create_task(asyncio.sleep(LONG_S))
        state.tasks.add(served.other)
    try:
        yield served
    finally:
        server.close()
        for task in tuple(state.tasks):
            task.cancel()
        if state.tasks:
            await asyncio.wait(tuple(state.tasks), timeout=PATIENCE_S)
        for wire in served.wires:
            wire.kill()
        await asyncio.sleep(0)


async def echo(scope, receive, send):
    """Answers with the body, of known length."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await send(start(200, length=len(body)))
    await send(chunk(body, more=False))


async def streamed(scope, receive, send):
    """Answers in three chunks, of unknown length."""
    await send(start(200))
    for piece in (b"one", b"two", b"three"):
        await send(chunk(piece))
    await send(chunk(b"", more=False))


def start(status, *, length=None, headers=()):
    headers = list(headers)
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": headers}


def chunk(body, *, more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


@asynccontextmanager
async def connected(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def to_the_end(reader) -> bytes:
    return await asyncio.wait_for(reader.read(), PATIENCE_S)


async def say(port: int, *pieces: bytes) -> bytes:
    """Send, then read until the server closes."""
    async with connected(port) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        return await to_the_end(reader)


async def read_answer(reader) -> tuple[bytes, bytes]:
    """One answer of known length, leaving the connection open."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None, head
    return head, await asyncio.wait_for(reader.readexactly(int(found[1])), PATIENCE_S)


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def refused(answer: bytes) -> tuple[int, str]:
    """The status and code of a refusal, after a look at its form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert b"connection: close" in lines
    assert b"content-type: application/json" in lines
    assert b"content-length: %d" % len(body) in lines  # and nothing follows it
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status_of(answer), error["code"]


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
MALFORMED = (400, "malformed_request")


# ── what a head may be ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED, id="cl+te"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", MALFORMED, id="te+cl"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED, id="te gzip, chunked"),
        pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n", MALFORMED, id="te identity"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED, id="two te"
        ),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", MALFORMED, id="two cl"),
        pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", MALFORMED, id="cl list"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", MALFORMED, id="cl sign"),
        pytest.param(GET + b"Host: b\r\n\r\n", MALFORMED, id="two hosts"),
        pytest.param(GET + b"Authorization: a\r\nAuthorization: b\r\n\r\n", MALFORMED, id="two authorizations"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", MALFORMED, id="no host"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", MALFORMED, id="no host 1.0"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a/../b?c\r\n\r\n", MALFORMED, id="host with a path"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", MALFORMED, id="host with a user"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", MALFORMED, id="empty host"),
        pytest.param(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED, id="absolute form"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED, id="asterisk form"),
        pytest.param(b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED, id="fragment"),
        pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", MALFORMED, id="raw utf-8 in the path"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", (405, "method_not_allowed"), id="connect"),
        pytest.param(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", (405, "method_not_allowed"), id="trace"),
        pytest.param(b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", (405, "method_not_allowed"), id="propfind"),
        pytest.param(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", MALFORMED, id="websocket"),
        pytest.param(
            POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
            MALFORMED,
            id="h2c",
        ),
        pytest.param(GET + b"Upgrade: h2c\r\n\r\n", MALFORMED, id="upgrade alone"),
        pytest.param(GET + b"X-A: a\r\n b\r\n\r\n", MALFORMED, id="obs-fold"),
        pytest.param(GET + b"X-A : a\r\n\r\n", MALFORMED, id="space before the colon"),
        pytest.param(GET + b"X_A: a\r\n\r\n", MALFORMED, id="underscore"),
        pytest.param(GET + b"X-A: a\x00b\r\n\r\n", MALFORMED, id="nul in a value"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", MALFORMED, id="bare lf"),
        pytest.param(GET + b"X: a\nY: b\r\n\r\n", MALFORMED, id="bare lf between headers"),
        pytest.param(b"GET /\r\n\r\n", MALFORMED, id="http/0.9"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", MALFORMED, id="http/2.0"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", MALFORMED, id="http/2 preface"),
        pytest.param(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", MALFORMED, id="http/1.2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", MALFORMED, id="a TLS hello"),
        pytest.param(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", MALFORMED, id="te in 1.0"),
    ],
)
async def test_a_head_that_two_readers_could_read_differently_never_reaches_the_application(request_bytes, expected):
    answered = []

    async def app(scope, receive, send):
        message = await receive()
        if message["type"] != "http.disconnect":
            answered.append(scope["path"])

    async with serving(app) as served:
        assert refused(await say(served.port, request_bytes)) == expected
        await until(lambda: not served.state.connections)
        assert answered == []


async def test_headers_that_every_honest_client_sends_are_taken():
    request_bytes = (
        b"POST /v1/chat/completions?beta=true HTTP/1.1\r\nHost: my_service.internal:8080\r\nAccept: */*\r\n"
        b"Authorization: Bearer x\r\nX-Stainless-Lang: python\r\nCookie: a=b\r\nCookie: c=d\r\nX-Latin: \xe9\r\n"
        b"TE: trailers\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
    )
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        writer.write(request_bytes)
        _, body = await read_answer(reader)
        assert body == b"hi"
        scope = served.scopes[0]
        assert (scope["path"], scope["query_string"]) == ("/v1/chat/completions", b"beta=true")
        assert (b"cookie", b"c=d") in scope["headers"]
        assert scope["client"][0] == "127.0.0.1"


async def test_the_path_is_decoded_once_and_kept_as_sent():
    async with serving(echo) as served:
        await say(served.port, b"GET /v1/models/a%2Fb%253A?x=%2F HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        scope = served.scopes[0]
        assert scope["path"] == "/v1/models/a/b%3A"
        assert scope["raw_path"] == b"/v1/models/a%2Fb%253A"
        assert scope["query_string"] == b"x=%2F"


# ── sizes ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([GET + b"X: " + b"a" * 33_000 + b"\r\n\r\n"], (431, "headers_too_large"), id="whole"),
        pytest.param([GET + b"X: ", *[b"a" * 9_000] * 6], (431, "headers_too_large"), id="one value without end"),
        pytest.param([GET, *[b"X: %b\r\n" % (b"a" * 9_000)] * 6], (431, "headers_too_large"), id="headers without end"),
        pytest.param([GET + b"X: a\r\n" * 100 + b"\r\n"], (431, "headers_too_large"), id="101 headers"),
        pytest.param([GET, b"X: a\r\n" * 101], (431, "headers_too_large"), id="102 headers, no end"),
        pytest.param([b"GET /" + b"a" * 8_192 + b" HTTP/1.1\r\n"], (414, "target_too_long"), id="target"),
        pytest.param([b"GET /", *[b"a" * 5_000] * 2], (414, "target_too_long"), id="target without end"),
    ],
)
async def test_a_head_beyond_its_bounds_is_refused_before_it_ends(pieces, expected):
    async with serving(echo) as served:
        assert refused(await say(served.port, *pieces)) == expected


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(GET + b"X: " + b"a" * 32_000 + b"\r\nConnection: close\r\n\r\n", id="32 kB of headers"),
        pytest.param(GET + b"X: a\r\n" * 98 + b"Connection: close\r\n\r\n", id="100 headers"),
        pytest.param(b"GET /" + b"a" * 8_191 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", id="target"),
        pytest.param(
            b"GET /" + b"a" * 8_000 + b" HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 32_000 + b"\r\nConnection: close\r\n\r\n",
            id="both",
        ),
    ],
)
async def test_a_head_within_its_bounds_is_served(request_bytes):
    async with serving(echo) as served:
        halves = request_bytes[: len(request_bytes) // 2], request_bytes[len(request_bytes) // 2 :]
        assert status_of(await say(served.port, request_bytes)) == 200
        assert status_of(await say(served.port, *halves)) == 200


async def test_chunk_framing_without_a_body_in_it_is_refused():
    async with serving(echo) as served:
        head = POST + b"Transfer-Encoding: chunked\r\n\r\n3"
        assert refused(await say(served.port, head, *[b";a=" + b"x" * 5_000] * 5)) == MALFORMED


async def test_trailers_are_refused_and_the_headers_that_the_application_holds_stay_as_they_were():
    async with serving(echo) as served:
        answer = await say(
            served.port,
            POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"0\r\nAuthorization: stolen\r\n\r\n",
        )
        assert refused(answer) == MALFORMED
        assert served.scopes[0]["headers"] == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


async def test_a_bad_chunk_in_the_middle_of_a_body_ends_it_for_the_application_too():
    seen = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] != "http.disconnect":
            seen.append(message["body"])
        seen.append("gone")

    async with serving(app, linger_s=LONG_S) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await until(lambda: seen)
        writer.write(b"zz\r\n")
        assert refused(await to_the_end(reader)) == MALFORMED  # half-closed: its end is seen at once
        await until(lambda: "gone" in seen)
        assert seen == [b"abc", "gone"]


# ── time ─────────────────────────────────────────────────────────────────────────────────


async def test_a_head_that_does_not_end_in_time_is_408():
    async with serving(echo, head_s=0.1) as served:
        assert refused(await say(served.port, GET)) == (408, "request_timeout")


async def test_a_connection_that_says_nothing_is_closed_without_a_word():
    async with serving(echo, head_s=0.1) as served:
        assert await say(served.port) == b""


async def test_a_slow_head_cannot_be_kept_alive_by_single_bytes():
    async with serving(echo, head_s=0.2) as served, connected(served.port) as (reader, writer):
        answer = asyncio.ensure_future(to_the_end(reader))
        for byte in GET + b"X: " + b"a" * 10_000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
            if answer.done():
                break
        assert refused(answer.result()) == (408, "request_timeout")


async def test_the_second_request_of_a_connection_has_the_same_bounds():
    async with serving(echo, head_s=0.1) as served, connected(served.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await read_answer(reader)
        writer.write(GET)
        assert refused(await to_the_end(reader)) == (408, "request_timeout")


async def test_an_idle_connection_is_closed_without_a_word():
    async with serving(echo, keep_alive_s=1) as served, connected(served.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        await read_answer(reader)
        assert await to_the_end(reader) == b""


async def test_a_body_that_does_not_begin_is_408():
    async with serving(echo, body_first_byte_s=0.1) as served:
        assert refused(await say(served.port, POST + b"Content-Length: 5\r\n\r\n")) == (408, "request_timeout")
        assert len(served.scopes) == 1


async def test_a_body_that_trickles_is_408():
    async with serving(echo, body_first_byte_s=0.1, body_window_s=0.1, body_bytes_per_s_min=1_000) as served:
        async with connected(served.port) as (reader, writer):
            writer.write(POST + b"Content-Length: 50000\r\n\r\n")
            answer = asyncio.ensure_future(to_the_end(reader))
            while not answer.done():
                writer.write(b"x")
                await asyncio.sleep(0.01)
            assert refused(answer.result()) == (408, "request_timeout")


async def test_a_body_that_is_slow_but_steady_is_taken():
    async with serving(echo, body_first_byte_s=0.2, body_window_s=0.2, body_bytes_per_s_min=1_000) as served:
        async with connected(served.port) as (reader, writer):
            writer.write(POST + b"Content-Length: 40000\r\n\r\n")
            for _ in range(40):
                writer.write(b"x" * 1_000)
                await asyncio.sleep(0.02)
            _, body = await read_answer(reader)
            assert len(body) == 40_000


async def test_a_slow_application_is_not_the_clients_fault():
    async def app(scope, receive, send):
        await asyncio.sleep(0.4)  # four windows; our buffer is full by then, and reading paused
        await receive()
        await asyncio.sleep(0.4)
        length = 0
        while (message := await receive())["more_body"]:
            length += len(message["body"])
        await send(start(200, length=2))
        await send(chunk(b"ok", more=False))

    body = b"x" * 20_000_000
    async with serving(app, body_first_byte_s=0.1, body_window_s=0.1, body_bytes_per_s_min=1_000) as served:
        async with connected(served.port) as (reader, writer):
            writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert (await read_answer(reader))[1] == b"ok"


# ── bodies and answers ───────────────────────────────────────────────────────────────────


async def test_one_connection_serves_many_requests():
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        for number in range(5):
            body = b"%d" % number * 100
            writer.write(POST + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            head, answer = await read_answer(reader)
            assert answer == body
            assert b"connection: close" not in head
        assert served.state.total_requests == 5


@pytest.mark.parametrize("others", [False], indirect=True)
async def test_after_the_last_answer_the_next_request_is_waited_for_awake_until_it_comes(monkeypatch):
    poll, hold, asked = CountedPoll(), asyncio.Event(), asyncio.Event()

    async def answer(scope, receive, send):
        asked.set()
        assert not poll.is_on, "it is here"
        if scope["path"] == "/slow":
            await hold.wait()
        await send(start(200, length=2))
        await send(chunk(b"hi", more=False))

    monkeypatch.setattr("proxy.edge.protocol.BusyPoll", lambda _loop: poll)
    async with serving(answer) as served, connected(served.port) as (reader, writer):
        for number in range(1, 4):
            writer.write(GET + b"\r\n")
            await read_answer(reader)
            assert (poll.begun, poll.is_on) == (number, True)
        asked.clear()
        async with connected(served.port) as (slow_reader, slow_writer):
            slow_writer.write(GET.replace(b"/", b"/slow", 1) + b"\r\n")
            await asked.wait()
            writer.write(GET + b"\r\n")
            await read_answer(reader)
            assert (poll.begun, poll.is_on) == (3, False), "another is still being served"
            hold.set()
            await read_answer(slow_reader)
            assert (poll.begun, poll.is_on) == (4, True)


@pytest.mark.parametrize("others", [True], indirect=True)
async def test_answers_of_one_turn_leave_at_its_end_and_in_order():
    served_now, go_on = [], asyncio.Event()

    async def app(scope, receive, send):
        connection = scope["extensions"][CONNECTION_EXTENSION]
        served_now.append(connection)
        await go_on.wait()
        await send(start(200, length=9))
        for piece in (b"one", b"two", b"six"):
            await send(chunk(piece, more=piece != b"six"))
        assert connection._wire.pending_bytes() > 0, "it has not left yet"

    async with serving(app) as served, connected(served.port) as first, connected(served.port) as second:
        for _, writer in (first, second):
            writer.write(GET + b"\r\n")
        await until(lambda: len(served_now) == 2)
        go_on.set()
        for reader, _ in (first, second):
            assert (await read_answer(reader))[1] == b"onetwosix"


@pytest.mark.parametrize("others", [True], indirect=True)
async def test_what_waits_for_the_end_of_a_turn_is_bounded():
    waiting_bytes = []

    async def app(scope, receive, send):
        wire = scope["extensions"][CONNECTION_EXTENSION]._wire
        await send(start(200, length=100 * 1_000))
        for number in range(100):
            await send(chunk(b"x" * 1_000, more=number < 99))
            waiting_bytes.append(len(wire._unwritten))

    async with serving(app) as served, connected(served.port) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await read_answer(reader))[1] == b"x" * 100_000
        assert 30_000 < max(waiting_bytes) <= ProtocolLimits().write_buffer_bytes_max


@pytest.mark.parametrize("others", [True], indirect=True)
async def test_an_answer_that_waits_leaves_before_the_refusal_of_what_follows_it():
    async def app(scope, receive, send):
        await receive()
        await send(start(200, length=2))
        await send(chunk(b"hi", more=False))
        scope["extensions"][CONNECTION_EXTENSION]._wire.data_received(b"NONSENSE\r\n\r\n")  # in the same turn

    async with serving(app) as served:
        said = await say(served.port, GET + b"\r\n")
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert re.search(rb"\r\n\r\nhiHTTP/1.1 400 ", said)


KEYED = POST + b"Content-Length: %d\r\nX-Key: %b\r\n\r\n%b"


async def test_a_head_that_comes_again_is_served_as_the_first_one_however_it_is_cut():
    first, body = KEYED % (3, b"one", b"abc"), b"another body"
    again = KEYED % (len(body), b"one", body)
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        for cut in range(len(again)):
            for request, answer in ((first, b"abc"), (again, body)):
                writer.write(request[:cut])
                await writer.drain()
                await asyncio.sleep(0.001)
                writer.write(request[cut:])
                assert (await read_answer(reader))[1] == answer
        parsed, told = served.scopes[0], served.scopes[1]
        assert dict(told["headers"]) == {b"host": b"a", b"content-length": b"12", b"x-key": b"one"}
        assert [name for name, _ in told["headers"]] == [name for name, _ in parsed["headers"]]
        differing = {name for name in parsed if parsed[name] != told[name]}
        assert differing == {"headers", "extensions"}


async def test_what_an_application_does_to_its_scope_is_not_seen_by_the_next_request():
    seen = []

    async def vandal(scope, receive, send):
        seen.append((scope["path"], len(scope["headers"])))
        scope["headers"].clear()
        scope["path"] = "/elsewhere"
        await echo(scope, receive, send)

    async with serving(vandal) as served, connected(served.port) as (reader, writer):
        for _ in range(3):
            writer.write(KEYED % (3, b"one", b"abc"))
            await read_answer(reader)
    assert seen == [("/", 3)] * 3


async def test_another_head_between_is_another_request():
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        for name in (b"one", b"two", b"two", b"one", b"one"):
            writer.write(KEYED % (3, name, b"abc"))
            await read_answer(reader)
        seen = [dict(scope["headers"])[b"x-key"] for scope in served.scopes]
        assert seen == [b"one", b"two", b"two", b"one", b"one"]


async def test_connections_that_send_one_head_share_it_and_nothing_of_each_other():
    async with serving(echo) as served, connected(served.port) as one, connected(served.port) as other:
        for _ in range(2):
            for (reader, writer), body in ((one, b"from one"), (other, b"from the other")):
                writer.write(KEYED % (len(body), b"same", body))
                assert (await read_answer(reader))[1] == body
        heads = [scope["extensions"][CONNECTION_EXTENSION].head for scope in served.scopes]
        assert all(head is heads[0] for head in heads)
        clients = [scope["client"] for scope in served.scopes]
        assert clients[0] == clients[2] != clients[1] == clients[3]
        lengths = [dict(scope["headers"])[b"content-length"] for scope in served.scopes]
        assert lengths == [b"8", b"14", b"8", b"14"]


async def test_what_follows_a_body_whose_head_came_again_is_not_served():
    request = KEYED % (3, b"one", b"abc")
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        writer.write(request)
        await read_answer(reader)
        writer.write(request + request)
        answer = await to_the_end(reader)
        assert answer.endswith(b"\r\n\r\nabc")
        assert answer.count(b"HTTP/1.1 200") == 1
        assert len(served.scopes) == 2


async def test_a_body_whose_head_came_again_has_the_same_bounds():
    async with serving(echo, body_first_byte_s=0.1) as served, connected(served.port) as (reader, writer):
        writer.write(KEYED % (3, b"one", b"abc"))
        await read_answer(reader)
        writer.write(KEYED % (3, b"one", b""))
        assert refused(await to_the_end(reader)) == (408, "request_timeout")


async def test_an_empty_line_between_requests_is_forgiven():
    async with serving(echo, head_s=0.1) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Content-Length: 2\r\n\r\nhi\r\n")
        await read_answer(reader)
        await asyncio.sleep(0.2)
        writer.write(b"\r\n" + POST + b"Content-Length: 2\r\n\r\nho")
        assert (await read_answer(reader))[1] == b"ho"


async def test_a_large_body_arrives_whole_with_reading_paused_between():
    body = bytes(range(256)) * 8_000
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await read_answer(reader))[1] == body


async def test_a_chunked_body_arrives_whole():
    async with serving(echo) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.01)
        writer.write(b"4;x=y\r\ndefg\r\n0\r\n\r\n")
        assert (await read_answer(reader))[1] == b"abcdefg"


async def test_an_answer_of_unknown_length_is_chunked():
    async with serving(streamed) as served:
        answer = await say(served.port, GET + b"Connection: close\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.split(b"\r\n")
        assert body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_a_chunk_is_sent_when_it_is_written():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        await send(start(200))
        await send(chunk(b"first"))
        await go_on.wait()
        await send(chunk(b"second", more=False))

    async with serving(app) as served, connected(served.port) as (reader, writer):
        writer.write(GET + b"Connection: close\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"5\r\nfirst\r\n"), PATIENCE_S)
        go_on.set()
        assert await to_the_end(reader) == b"6\r\nsecond\r\n0\r\n\r\n"


async def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection():
    async with serving(streamed) as served:
        answer = await say(served.port, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head.split(b"\r\n")
        assert body == b"onetwothree"


async def test_head_gets_the_length_and_no_body():
    async def app(scope, receive, send):
        await send(start(200, length=5))
        await send(chunk(b"hello", more=False))

    async with serving(app) as served, connected(served.port) as (reader, writer):
        writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert b"content-length: 5" in head.split(b"\r\n")
        writer.write(GET + b"Connection: close\r\n\r\n")  # what follows is the next answer
        assert (await to_the_end(reader)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body_get_no_framing(status):
    async def app(scope, receive, send):
        await send(start(status, headers=[(b"etag", b"x")]))
        await send(chunk(b"", more=False))

    async with serving(app) as served:
        answer = await say(served.port, GET + b"Connection: close\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status_of(answer) == status
        assert body == b""
        assert b"transfer-encoding" not in head


async def test_100_continue_is_sent_when_the_application_wants_the_body():
    asked = asyncio.Event()

    async def app(scope, receive, send):
        await asked.wait()
        await echo(scope, receive, send)

    # A client that holds its body back waits for us: that is not its slowness.
    async with serving(app, body_first_byte_s=0.1) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(0.2)
        asked.set()
        line = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert line == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await read_answer(reader))[1] == b"hi"


async def test_a_body_after_100_continue_must_begin_in_time():
    async with serving(echo, body_first_byte_s=0.1) as served:
        answer = await say(served.port, POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        interim, _, final = answer.partition(b"\r\n\r\n")
        assert interim == b"HTTP/1.1 100 Continue"
        assert refused(final) == (408, "request_timeout")


async def test_an_answer_before_the_body_needs_no_100_continue():
    async def app(scope, receive, send):
        await send(start(401, length=2))
        await send(chunk(b"no", more=False))

    async with serving(app) as served:
        answer = await say(served.port, POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert status_of(answer) == 401
        assert b"connection: close" in answer.split(b"\r\n")


async def test_no_date_and_no_server_header_is_added():
    async with serving(echo) as served:
        head = (await say(served.port, GET + b"Connection: close\r\n\r\n")).lower()
        assert b"date:" not in head
        assert b"server:" not in head


# ── pipelining ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "in two pieces"])
@pytest.mark.parametrize("head_first", [True, False], ids=["head is out", "head is not out"])
async def test_a_pipelined_request_is_not_started_and_the_first_one_is_answered(together, head_first):
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if head_first:
            await send(start(200))
        await go_on.wait()
        if not head_first:
            await send(start(200))
        await send(chunk(b"first", more=False))

    async with serving(app) as served, connected(served.port) as (reader, writer):
        second = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
        writer.write(GET + b"\r\n" + (second if together else b""))
        await until(lambda: served.scopes)
        if not together:
            writer.write(second)
        await asyncio.sleep(0.05)
        go_on.set()
        answer = await to_the_end(reader)
        assert answer.endswith(b"5\r\nfirst\r\n0\r\n\r\n")
        assert answer.count(b"HTTP/1.1") == 1
        assert [scope["path"] for scope in served.scopes] == ["/"]
        assert len(served.wires) == 1  # half-closed, and read on: no reset overtakes the answer


@pytest.mark.parametrize(
    ("request_bytes", "more"),
    [
        pytest.param(GET + b"\r\n", b"", id="alone"),
        pytest.param(GET + b"\r\n", GET + b"\r\n", id="with a second request behind it"),
        pytest.param(POST + b"Content-Length: 2000\r\n\r\n" + b"x" * 2_000, b"", id="with a body that nobody reads"),
    ],
)
async def test_a_hang_up_is_told_at_once(request_bytes, more):
    told = asyncio.Event()
    ended = asyncio.Event()

    async def app(scope, receive, send):
        scope["extensions"][CONNECTION_EXTENSION].on_disconnect(told.set)
        await told.wait()
        ended.set()

    async with serving(app, body_buffer_bytes_max=1_000) as served:
        async with connected(served.port) as (_reader, writer):
            writer.write(request_bytes)
            await until(lambda: served.scopes)
            writer.write(more)
            await asyncio.sleep(0.05)
            assert not told.is_set()
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
        assert served.scopes[0]["extensions"][CONNECTION_EXTENSION].disconnected


async def test_too_many_pipelined_bytes_end_the_connection():
    gone = asyncio.Event()

    async def app(scope, receive, send):
        scope["extensions"][CONNECTION_EXTENSION].on_disconnect(gone.set)
        await gone.wait()

    async with serving(app) as served, connected(served.port) as (_reader, writer):
        writer.write(GET + b"\r\n")
        await until(lambda: served.scopes)
        writer.write(b"x" * 70_000)
        await asyncio.wait_for(gone.wait(), PATIENCE_S)


# ── hanging up, cutting off ──────────────────────────────────────────────────────────────


async def test_the_callback_is_not_called_for_an_answer_that_was_complete():
    calls = []

    async def app(scope, receive, send):
        scope["extensions"][CONNECTION_EXTENSION].on_disconnect(lambda: calls.append(1))
        await echo(scope, receive, send)

    async with serving(app) as served:
        await say(served.port, GET + b"Connection: close\r\n\r\n")
        await until(lambda: not served.state.connections)
        assert calls == []


async def test_a_callback_that_comes_after_the_hang_up_is_called_at_once():
    calls = []
    go_on = asyncio.Event()
    late: list[Connection] = []

    async def app(scope, receive, send):
        late.append(scope["extensions"][CONNECTION_EXTENSION])
        await go_on.wait()
        late[0].on_disconnect(lambda: calls.append(1))
        assert (await receive())["type"] == "http.request"  # what came before it
        assert (await receive())["type"] == "http.disconnect"
        await send(start(200))  # to nobody, without an error

    async with serving(app) as served:
        async with connected(served.port) as (_reader, writer):
            writer.write(GET + b"\r\n")
            await until(lambda: late)
        await until(lambda: late[0].disconnected)
        go_on.set()
        await until(lambda: not served.tasks)
        assert calls == [1]


async def test_an_abort_delivers_what_was_written_and_no_clean_end():
    async def app(scope, receive, send):
        connection = scope["extensions"][CONNECTION_EXTENSION]
        connection.on_disconnect(lambda: pytest.fail("our own abort is no hang-up"))
        await send(start(200))
        await send(chunk(b"half"))
        connection.abort()
        assert connection.disconnected

    async with serving(app) as served:
        answer = await say(served.port, GET + b"\r\n")
        assert answer.endswith(b"4\r\nhalf\r\n")


async def test_an_abort_to_an_http_1_0_client_is_a_reset():
    async def app(scope, receive, send):
        await send(start(200))
        await send(chunk(b"half"))
        await asyncio.sleep(0.05)
        scope["extensions"][CONNECTION_EXTENSION].abort()

    async with serving(app) as served:
        with pytest.raises(ConnectionResetError):
            await say(served.port, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")


async def test_an_application_that_fails_before_the_head_is_a_500_and_one_log_line(caplog):
    async def app(scope, receive, send):
        raise ValueError("a fault")

    async with serving(app) as served:
        answer = await say(served.port, GET + b"\r\n")
        assert refused(answer) == (500, "internal_error")
        assert b"a fault" not in answer
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("fails", [True, False], ids=["raises", "returns"])
async def test_an_application_that_fails_after_the_head_gets_no_clean_end(fails, caplog):
    async def app(scope, receive, send):
        await send(start(200))
        await send(chunk(b"half"))
        if fails:
            raise ValueError("a fault")

    async with serving(app) as served:
        answer = await say(served.port, GET + b"\r\n")
        assert answer.endswith(b"4\r\nhalf\r\n")
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_error_that_follows_our_own_abort_is_not_logged(caplog):
    async def app(scope, receive, send):
        scope["extensions"][CONNECTION_EXTENSION].abort()
        raise RuntimeError("because of it")

    async with serving(app) as served:
        with pytest.raises(ConnectionResetError):
            await say(served.port, GET + b"\r\n")
        await until(lambda: not served.tasks)
        assert caplog.records == []


@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"1\r\nset-cookie: a=b"),
        (b"x-a", b"1\n2"),
        (b"x-a", b"\0"),
        (b"x a", b"1"),
        (b"x:a", b"1"),
        (b"", b"1"),
    ],
)
async def test_a_header_that_would_split_the_answer_is_never_written(header):
    async def app(scope, receive, send):
        await send(start(200, length=0, headers=[header]))

    async with serving(app) as served:
        answer = await say(served.port, GET + b"\r\n")
        assert refused(answer) == (500, "internal_error")
        assert b"set-cookie" not in answer


@pytest.mark.parametrize("body", [b"longer than five", b"four"])
async def test_a_body_that_is_not_as_long_as_it_said_gets_no_clean_end(body):
    async def app(scope, receive, send):
        await send(start(200, length=5))
        await send(chunk(body, more=False))

    async with serving(app) as served:
        answer = await say(served.port, GET + b"\r\n")
        assert answer.endswith(b"\r\n\r\n")


async def test_a_stalled_reader_is_cut_off_and_holds_little_memory():
    gone = asyncio.Event()

    async def app(scope, receive, send):
        scope["extensions"][CONNECTION_EXTENSION].on_disconnect(gone.set)
        await send(start(200))
        while not gone.is_set():
            await send(chunk(b"x" * 16_384))

    async with serving(app, write_stall_s=0.2) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as stalled:
            stalled.sendall(GET + b"\r\n")
            await until(lambda: served.wires)
            (wire,) = served.wires
            held = []
            while not gone.is_set():
                held.append(wire._transport.get_write_buffer_size())
                await asyncio.sleep(0.005)
            await until(lambda: not served.state.connections)
        assert 0 < max(held) <= 65_536


async def test_a_slow_reader_is_not_a_stalled_one():
    async def app(scope, receive, send):
        await send(start(200))
        for _ in range(400):
            await send(chunk(b"x" * 16_384))
        await send(chunk(b"", more=False))

    async with serving(app, write_stall_s=0.3) as served, connected(served.port) as (reader, writer):
        writer.write(GET + b"Connection: close\r\n\r\n")
        taken = b""
        for _ in range(20):
            taken += await asyncio.wait_for(reader.read(100_000), PATIENCE_S)
            await asyncio.sleep(0.05)
        taken += await to_the_end(reader)
        assert taken.endswith(b"0\r\n\r\n")


# ── answers before the body's end ────────────────────────────────────────────────────────


async def test_a_refusal_during_a_50_mb_upload_is_read_by_the_client():
    async def app(scope, receive, send):
        await receive()
        await send(start(413, length=4))
        await send(chunk(b"much", more=False))

    async with serving(app) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Content-Length: 50000000\r\n\r\n")
        piece = b"x" * 1_000_000
        for _ in range(50):
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), PATIENCE_S)
        answer = await to_the_end(reader)
        assert status_of(answer) == 413
        assert answer.endswith(b"much")
        assert b"connection: close" in answer.split(b"\r\n")


async def test_lingering_has_an_end():
    async def app(scope, receive, send):
        await send(start(413, length=0))
        await send(chunk(b"", more=False))

    async with serving(app, linger_s=0.1) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Content-Length: 50000000\r\n\r\n")
        assert status_of(await to_the_end(reader)) == 413  # half-closed: the answer's end is seen
        await until(lambda: not served.state.connections)
    async with serving(app, linger_bytes_max=100_000) as served, connected(served.port) as (reader, writer):
        writer.write(POST + b"Content-Length: 50000000\r\n\r\n")
        assert status_of(await to_the_end(reader)) == 413
        writer.write(b"x" * 1_000_000)
        await until(lambda: not served.state.connections)


async def test_draining_closes_idle_connections_and_lets_the_others_end():
    go_on = asyncio.Event()

    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await go_on.wait()
        await echo(scope, receive, send)

    async with serving(app) as served, connected(served.port) as (idle, idle_writer):
        idle_writer.write(GET + b"\r\n")
        await read_answer(idle)
        async with connected(served.port) as (busy, busy_writer):
            busy_writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await until(lambda: len(served.scopes) == 2)
            for wire in served.wires:
                wire.shutdown()
            assert await to_the_end(idle) == b""
            go_on.set()
            answer = await to_the_end(busy)
            assert status_of(answer) == 200
            assert b"connection: close" in answer.split(b"\r\n")
