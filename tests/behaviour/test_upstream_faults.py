"""Promise: however a provider fails, the caller gets a clear error or an answer that visibly
breaks off, never half an answer with a clean end; the row and the log say what happened, and
the next call is served."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.gateway import BrokenOff, Gateway, error_of, gateway_before, plain_request, raw_request
from tests.scripted_upstream import Do, Step, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
PLAIN = b'{"model":"m","messages":[]}'
STREAM = b'{"model":"m","stream":true,"messages":[]}'
REQUESTS = {"plain": PLAIN, "stream": STREAM}
# Short, and each longer than the one before by enough that none is taken for another.
TIMEOUTS = "[providers.scripted.timeouts_s]\nconnect = 0.5\nfirst_byte = 0.3\nidle = 0.3\ntotal = 0.6\n"
PATIENT = "[providers.scripted.timeouts_s]\nconnect = 10\nfirst_byte = 10\nidle = 10\ntotal = 20\n"  # nothing is late

EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
HALF = b'{"id":"c","choi'
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_100 = OK + b"content-type: application/json\r\ncontent-length: 100\r\n\r\n"
GOOD = answer(b'{"id":"good"}')


@dataclass(frozen=True)
class Refused:
    """Nothing of an answer came: the gateway says so."""

    status: int
    code: str
    says: str = ""  # which bound it was, for instance


@dataclass(frozen=True)
class Cut:
    """A part of an answer came: what is relayed of it has no clean end."""

    body: bytes
    code: str
    repeated: bool = False  # the body came again and again: how often, the clock decides


@dataclass(frozen=True)
class Whole:
    """There is no fault in it for the caller to see."""

    status: int
    body: bytes


Outcome = Refused | Cut | Whole


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


UNREACHABLE = Refused(502, "upstream_unreachable")
MALFORMED = Refused(502, "upstream_malformed")
TRUNCATED = Refused(502, "upstream_truncated")
OVER_TOTAL = Refused(504, "upstream_timeout", "total")
OVER_FIRST_BYTE = Refused(504, "upstream_timeout", "first_byte")

# What the provider does; what a plain call and a stream get. None: the fault is of the other kind of call.
FAULTS: dict[str, tuple[list[Step], Outcome | None, Outcome | None]] = {
    "reset before the head": ([Do.RESET], UNREACHABLE, UNREACHABLE),
    "closed before the head": ([Do.CLOSE], UNREACHABLE, UNREACHABLE),
    "reset within the head": ([OK + b"content-type: appl", Do.RESET], UNREACHABLE, UNREACHABLE),
    "closed within the head": ([OK + b"content-type: appl", Do.CLOSE], UNREACHABLE, UNREACHABLE),
    "hangs before the head": ([Do.HANG], OVER_TOTAL, OVER_FIRST_BYTE),
    "hangs within the head": ([OK, Do.HANG], OVER_TOTAL, OVER_FIRST_BYTE),
    "hangs after the head": ([CHUNKED, Do.HANG], OVER_TOTAL, OVER_FIRST_BYTE),
    "hangs after a part of the body": ([JSON_100 + HALF, Do.HANG], Cut(HALF, "upstream_timeout"), None),
    "hangs after an event": ([CHUNKED + chunk(EVENT), Do.HANG], None, Cut(EVENT, "upstream_timeout")),
    "not HTTP": ([b"SSH-2.0-OpenSSH_9.9\r\n", Do.HANG], MALFORMED, MALFORMED),
    "HTTP/2 unasked": ([b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Do.HANG], MALFORMED, MALFORMED),
    "a status that is none": ([b"HTTP/1.1 abc OK\r\n\r\n", Do.HANG], MALFORMED, MALFORMED),
    "a header without a colon": ([OK + b"nonsense\r\n\r\n", Do.HANG], MALFORMED, MALFORMED),
    "two lengths": ([OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}"], MALFORMED, MALFORMED),
    "length and chunks": (
        [OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
        MALFORMED,
        MALFORMED,
    ),
    "a head without end": ([OK + b"x: " + b"y" * 200_000, Do.HANG], MALFORMED, MALFORMED),
    "101 unasked": ([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", Do.HANG], MALFORMED, MALFORMED),
    "a malformed first chunk": ([CHUNKED + b"zz\r\nhi\r\n"], MALFORMED, MALFORMED),
    "a malformed later chunk": (
        [CHUNKED + chunk(EVENT), 0.05, b"zz\r\nhi\r\n", Do.HANG],
        Cut(EVENT, "upstream_malformed"),
        Cut(EVENT, "upstream_malformed"),
    ),
    "reset after the head": ([JSON_100, 0.05, Do.RESET], TRUNCATED, TRUNCATED),
    "closed after the head": ([JSON_100, Do.CLOSE], TRUNCATED, TRUNCATED),
    "reset within the body": ([JSON_100 + HALF, 0.05, Do.RESET], Cut(HALF, "upstream_truncated"), None),
    "closed within the body": ([JSON_100 + HALF, Do.CLOSE], Cut(HALF, "upstream_truncated"), None),
    "reset between events": ([CHUNKED + chunk(EVENT), 0.05, Do.RESET], None, Cut(EVENT, "upstream_truncated")),
    "closed between events": ([CHUNKED + chunk(EVENT), Do.CLOSE], None, Cut(EVENT, "upstream_truncated")),
    "closed within a chunk": (
        [CHUNKED + chunk(EVENT) + b"ff\r\ndata: {", 0.05, Do.CLOSE],
        Cut(EVENT + b"data: {", "upstream_truncated"),
        Cut(EVENT + b"data: {", "upstream_truncated"),
    ),
    "closed after [DONE], before the last chunk": (
        [CHUNKED + chunk(EVENT) + chunk(DONE), Do.CLOSE],
        None,
        Cut(EVENT + DONE, "upstream_truncated"),
    ),
    "no last event, but a clean end": (stream(EVENT), None, Cut(EVENT, "upstream_truncated")),
    "no last event, and no length": (
        [OK + b"content-type: text/event-stream\r\n\r\n" + EVENT, Do.CLOSE],
        None,
        Cut(EVENT, "upstream_truncated"),
    ),
    "no event at all": (stream(), None, Cut(b"", "upstream_truncated")),
    "drips beyond the total": (
        [JSON_100, *[step for _ in range(90) for step in (b"x", 0.05)]],
        Cut(b"x", "upstream_timeout", repeated=True),
        Cut(b"x", "upstream_timeout", repeated=True),
    ),
    "events beyond the total": (
        [CHUNKED, *[step for _ in range(90) for step in (chunk(EVENT), 0.05)]],
        Cut(EVENT, "upstream_timeout", repeated=True),
        Cut(EVENT, "upstream_timeout", repeated=True),
    ),
    # What looks like a fault and is none.
    "103 before the head": (
        [b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", *answer(b"{}")],
        Whole(200, b"{}"),
        Whole(200, b"{}"),
    ),
    "100 and 102 before the head": (
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", *answer(b"{}")],
        Whole(200, b"{}"),
        Whole(200, b"{}"),
    ),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], Whole(204, b""), Whole(204, b"")),
    "connection: close": (
        [OK + b"content-length: 2\r\nconnection: close\r\n\r\n{}", Do.CLOSE],
        Whole(200, b"{}"),
        Whole(200, b"{}"),
    ),
    "the connection's end is the body's": ([OK + b"\r\n{}", Do.CLOSE], Whole(200, b"{}"), None),
    "a whole stream that ends with the connection": (
        [OK + b"content-type: text/event-stream\r\n\r\n" + EVENT + DONE, Do.CLOSE],
        None,
        Whole(200, EVENT + DONE),
    ),
    "reset after the whole answer": ([*answer(b"{}"), Do.RESET], Whole(200, b"{}"), Whole(200, b"{}")),
}


def cases() -> Iterator[object]:
    for name, (steps, plain, streamed) in FAULTS.items():
        for kind, outcome in (("plain", plain), ("stream", streamed)):
            if outcome is not None:
                yield pytest.param(steps, REQUESTS[kind], outcome, id=f"{name}, {kind}")


async def check_caller(gateway: Gateway, body: bytes, outcome: Outcome) -> int:
    """Make the call, compare what the caller gets; the status that it saw."""
    if isinstance(outcome, Cut):
        with pytest.raises(BrokenOff) as broken:
            await plain_request(gateway, "POST", CHAT, body)
        got = broken.value.body
        times = max(2, got.count(outcome.body)) if outcome.repeated else 1
        assert got == outcome.body * times
        return 200
    status, head, got = await plain_request(gateway, "POST", CHAT, body)
    if isinstance(outcome, Whole):
        assert (status, got) == (outcome.status, outcome.body)
        assert b"x-tollway-error-source" not in head
        return status
    assert (status, error_of(got)["code"]) == (outcome.status, outcome.code)
    assert head[b"x-tollway-error-source"] == b"upstream"
    message = error_of(got)["message"]
    assert message.startswith("scripted ")  # which provider
    assert outcome.says in message
    return status


@pytest.mark.parametrize(("steps", "body", "outcome"), list(cases()))
async def test_a_fault_is_what_the_caller_the_row_and_the_log_say(steps, body, outcome):
    timeouts = PATIENT if isinstance(outcome, Whole) else TIMEOUTS
    async with scripted_upstream(steps) as upstream, gateway_before(upstream, timeouts) as gateway:
        status = await check_caller(gateway, body, outcome)
        code = None if isinstance(outcome, Whole) else outcome.code
        source = None if isinstance(outcome, Whole) else "upstream"
        await gateway.idle()
        (row,) = await gateway.rows()
        assert (row["status"], row["error_source"], row["attempts"]) == (status, source, 1)
        assert row["stream"] is (body == STREAM)
        (line,) = await gateway.log_lines(1)
        assert (line["status"], line["error"], line["error_source"]) == (status, code, source)
        assert line["run_id"] == row["run_id"]
        # One send: a call that may have been billed is not made twice.
        assert len(upstream.received) == 1

        upstream.script = lambda _request: GOOD
        assert (await plain_request(gateway, "POST", CHAT, body))[2] == b'{"id":"good"}'


@pytest.mark.parametrize("said", [b"", OK, JSON_100 + HALF])
async def test_a_scripted_reset_is_one_and_no_clean_end(said):
    async with scripted_upstream([said, 0.05, Do.RESET] if said else [Do.RESET]) as upstream:
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: upstream\r\n\r\n")
            assert await reader.readexactly(len(said)) == said
            with pytest.raises(ConnectionResetError):
                await reader.read(1)


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
async def test_a_port_where_nobody_listens(body):
    async with scripted_upstream(GOOD) as upstream, gateway_before(upstream, TIMEOUTS) as gateway:
        port = upstream.port
        with socket.socket() as taken:  # bound, and not listening: nobody else can take it meanwhile
            taken.bind(("127.0.0.1", 0))
            upstream.port = taken.getsockname()[1]
            async with gateway_before(upstream, TIMEOUTS) as refused:
                await check_caller(refused, body, UNREACHABLE)
                await refused.idle()
                (row,) = await refused.rows()
                assert (row["status"], row["error_source"], row["first_byte_ms"]) == (502, "upstream", None)
                (line,) = await refused.log_lines(1)
                assert (line["error"], line["body_bytes"]) == ("upstream_unreachable", 0)
        upstream.port = port
        assert (await plain_request(gateway, "POST", CHAT, body))[0] == 200


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
async def test_a_backlog_that_is_full(body):
    """The provider's machine is there, and nobody accepts: the bound is `connect`."""
    with socket.socket() as deaf, contextlib.ExitStack() as held:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        async with scripted_upstream(GOOD) as upstream:
            upstream.port = deaf.getsockname()[1]
            async with gateway_before(upstream, TIMEOUTS) as gateway:
                await check_caller(gateway, body, Refused(504, "upstream_timeout", "no connection"))


async def test_head_gets_the_head_alone():
    head = OK + b"content-type: application/json\r\ncontent-length: 17\r\n\r\n"
    async with scripted_upstream([head]) as upstream, gateway_before(upstream) as gateway:
        for _ in range(2):  # the second shows that the upstream's connection is still in step
            raw = b"".join([piece async for piece in raw_request(gateway, "HEAD", "/v1/moderations/x", b"")])
            got_head, _, body = raw.partition(b"\r\n\r\n")
            assert got_head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\ncontent-length: 17" in got_head.lower()
            assert body == b""
        assert [request.method for request in upstream.received] == ["HEAD", "HEAD"]
        assert upstream.connections_made == 1


@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
async def test_an_answer_to_head_that_has_a_body_reaches_nobody_else(body):
    async with scripted_upstream(answer(b"poison")) as upstream, gateway_before(upstream) as gateway:
        assert (await plain_request(gateway, "HEAD", "/v1/moderations/x"))[2] == b""
        upstream.script = lambda _request: GOOD
        assert (await plain_request(gateway, "POST", CHAT, body))[2] == b'{"id":"good"}'


@pytest.mark.parametrize("ending", [Do.CLOSE, Do.RESET])
@pytest.mark.parametrize("body", REQUESTS.values(), ids=REQUESTS)
async def test_a_connection_that_went_stale_while_it_rested_costs_no_call(body, ending):
    async with scripted_upstream([*GOOD, 0.02, ending]) as upstream, gateway_before(upstream) as gateway:
        for made in range(1, 6):
            status, _, got = await plain_request(gateway, "POST", CHAT, body)
            assert (status, got) == (200, b'{"id":"good"}')
            assert upstream.connections_made == made
            await until(lambda: upstream.open_connections == 0)


async def test_bytes_after_an_answer_are_nobodys():
    """What a provider sends unasked must not become the next caller's answer."""
    two = b"".join(step for step in [*GOOD, *answer(b"poison")] if isinstance(step, bytes))
    async with scripted_upstream([two]) as upstream, gateway_before(upstream) as gateway:
        assert (await plain_request(gateway, "POST", CHAT, PLAIN))[2] == b'{"id":"good"}'
        upstream.script = lambda _request: GOOD
        assert (await plain_request(gateway, "POST", CHAT, PLAIN))[2] == b'{"id":"good"}'
        assert upstream.connections_made == 2


async def test_a_stream_with_a_length_is_whole_only_with_its_last_event():
    event = b'data: {"choices":[]}\n\n'
    script = answer(event, headers=[(b"content-type", b"text/event-stream")])
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        with pytest.raises(BrokenOff):
            await plain_request(gateway, "POST", "/v1/chat/completions", b'{"model":"m","stream":true}')
        upstream.script = lambda _request: answer(
            event + b"data: [DONE]\n\n", headers=[(b"content-type", b"text/event-stream")]
        )
        status, _, body = await plain_request(gateway, "POST", "/v1/chat/completions", b'{"model":"m","stream":true}')
        assert (status, body) == (200, event + b"data: [DONE]\n\n")
