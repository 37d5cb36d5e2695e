"""Promise: a caller who hangs up, at whatever point, is not worked for any longer: the provider's
connection is closed, and the row says so, with what was heard until then. A caller who does not
read is waited for, in bounded memory."""

import asyncio
import hashlib
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from proxy.adapters.http.transport import Transport
from tests.gateway import (
    Gateway,
    gateway_before,
    passthrough_to,
    plain_request,
    request_bytes,
    running_gateway,
)
from tests.scripted_upstream import Do, Received, Step, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
PLAIN = b'{"model":"alias","messages":[]}'
STREAM = b'{"model":"alias","stream":true,"messages":[]}'
# As Gemini does, each event reports the usage so far.
EVENT = b'data: {"model":"m-2026-05","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"
NOTHING_HEARD = dict.fromkeys(("input_tokens", "output_tokens", "usage_source", "first_byte_ms"))

STEP_BYTES = 65_536
ENDLESS_BYTES = 268_435_456
# What four kernel buffers may hold between a provider that sends and a caller that does not read.
UNREAD_BYTES_MAX = 67_108_864
# What may lie in this process: of the provider's script, of the gateway, of the caller.
HELD_BYTES_MAX = 1_048_576


class Caller:
    """A caller over a bare socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def hang_up(self, how: str) -> None:
        """End it: closed, reset, or only half: nothing more will be said, but it would still listen."""
        if how == "half-closed":
            self.writer.write_eof()
            return
        if how == "reset":
            linger_off = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        self.writer.transport.abort()


@asynccontextmanager
async def calling(gateway: Gateway, sent: bytes) -> AsyncIterator[Caller]:
    """A caller who has sent so much, with a window as small as it can be."""
    with socket.socket() as connected:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", gateway.port))
        # The reader's own limit: beyond twice that, asyncio reads nothing for who does not ask.
        reader, writer = await asyncio.open_connection(sock=connected, limit=4_096)
        try:
            writer.write(sent)
            yield Caller(reader, writer)
        finally:
            writer.close()


def chat(body: bytes) -> bytes:
    return request_bytes("POST", CHAT, body)


async def the_row(gateway: Gateway) -> dict:
    await gateway.idle()
    (row,) = await gateway.rows()
    (line,) = await gateway.log_lines(1)
    assert (line["run_id"], line["status"], line["error"]) == (row["run_id"], row["status"], "caller_gone")
    assert (row["error_source"], line["error_source"]) == ("caller", "caller")
    assert gateway.metric('tollway_attempts_total{deployment="scripted/m-2026",outcome="abandoned"}') == 1
    row["body_bytes"] = line["body_bytes"]
    return row


ENDINGS = ["closed", "reset", "half-closed"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("body", [PLAIN, STREAM], ids=["plain", "stream"])
async def test_before_the_head(body, ending):
    async with scripted_upstream([Do.HANG]) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, chat(body)) as caller:
            await until(lambda: len(upstream.received) == 1)
            caller.hang_up(ending)
            await until(lambda: upstream.open_connections == 0)
            if ending == "half-closed":  # it could listen; there is nothing to hear
                assert await caller.reader.read() == b""
        row = await the_row(gateway)
        assert (row["status"], row["attempts"], row["body_bytes"]) == (499, 1, 0)
        assert NOTHING_HEARD.items() <= row.items()


@pytest.mark.parametrize("ending", ENDINGS)
async def test_between_events(ending):
    async with scripted_upstream(stream(EVENT, Do.HANG)) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, chat(STREAM)) as caller:
            await caller.reader.readuntil(EVENT)
            caller.hang_up(ending)
            await until(lambda: upstream.open_connections == 0)
            if ending == "half-closed":
                assert await caller.reader.read() == b"\r\n"  # the end of a chunk, and not of the body
        row = await the_row(gateway)
        # The status is the one that the caller saw; whose fault it was that there is no more stands beside it.
        assert (row["status"], row["stream"], row["served_model"]) == (200, True, "m-2026-05")
        # What was heard is kept, and is not taken for the whole.
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (3, 1, "estimated")
        assert (row["body_bytes"], row["first_byte_ms"] > 0) == (len(EVENT), True)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_within_a_plain_answer(ending):
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    async with scripted_upstream([head + b'{"id":', Do.HANG]) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, chat(PLAIN)) as caller:
            await caller.reader.readuntil(b'{"id":')
            caller.hang_up(ending)
            await until(lambda: upstream.open_connections == 0)
        row = await the_row(gateway)
        assert (row["status"], row["body_bytes"], row["usage_source"]) == (200, 6, None)


async def test_behind_a_second_request():
    """A request that is sent too early must not hide that its sender leaves."""
    async with scripted_upstream([Do.HANG]) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, chat(PLAIN)) as caller:
            await until(lambda: len(upstream.received) == 1)
            caller.writer.write(chat(PLAIN))
            await caller.writer.drain()
            caller.hang_up("closed")
            await until(lambda: upstream.open_connections == 0)
        assert (await the_row(gateway))["status"] == 499
        assert len(upstream.received) == 1


@pytest.mark.parametrize("ending", ENDINGS)
async def test_within_a_body_that_is_read_whole(ending):
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, chat(PLAIN)[:-5]) as caller:
            await until(lambda: len(gateway.state.tasks) == 1)
            caller.hang_up(ending)
            (line,) = await gateway.log_lines(1)
            assert (line["status"], line["error"]) == (499, "caller_gone")
        assert (upstream.connections_made, await gateway.rows()) == (0, [])


@pytest.mark.parametrize("ending", ENDINGS)
async def test_within_an_upload(ending):
    headers = [(b"content-type", b"application/octet-stream")]
    sent = request_bytes("POST", "/v1/audio/transcriptions", b"x" * 200_000, headers)[:-100_000]
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, sent) as caller:
            await until(lambda: upstream.open_connections == 1)
            caller.hang_up(ending)
            await until(lambda: upstream.open_connections == 0)
        await gateway.idle()
        assert upstream.received == []  # half an upload was never taken for a whole one
        (row,) = await gateway.rows()
        assert (row["status"], row["error_source"]) == (499, "caller")


async def test_while_it_waits_for_a_connection():
    one = {"scripted": Transport(connections_max=1)}
    async with scripted_upstream([Do.HANG]) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url), transports=one) as gateway:
            async with calling(gateway, chat(PLAIN)) as first:
                await until(lambda: len(upstream.received) == 1)
                async with calling(gateway, chat(STREAM)) as second:
                    await until(lambda: len(gateway.state.tasks) == 2)
                    second.hang_up("closed")
                    await until(lambda: len(gateway.state.tasks) == 1)
                first.hang_up("closed")
                await until(lambda: upstream.open_connections == 0)
            await gateway.idle()
            assert len(upstream.received) == 1
            assert [row["status"] for row in await gateway.rows()] == [499, 499]
            # The one connection that there may be is free again.
            upstream.script = lambda _request: answer(b"{}")
            assert (await plain_request(gateway, "POST", CHAT, PLAIN))[0] == 200


def endless(sent: list[int]) -> Iterator[Step]:
    """Event upon event, counted as they leave the script."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b"data: " + b"x" * (STEP_BYTES - 8) + b"\n\n"
    while sum(sent) < ENDLESS_BYTES:
        sent.append(len(event))
        yield b"%x\r\n%b\r\n" % (len(event), event)
    yield b"0\r\n\r\n"


async def stands_still(sent: list[int]) -> None:
    """Wait until the script could send nothing for a quarter of a second."""
    for _ in range(200):
        before = len(sent)
        await asyncio.sleep(0.25)
        if before == len(sent) > 0:
            return
    raise AssertionError("the provider could send without end")


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_caller_who_does_not_read_holds_bounded_memory_and_may_still_hang_up(ending):
    sent: list[int] = []
    async with scripted_upstream(lambda _request: endless(sent)) as upstream, gateway_before(upstream) as gateway:
        tracemalloc.start()
        try:
            async with calling(gateway, chat(STREAM)) as caller:
                await stands_still(sent)
                held_bytes, _ = tracemalloc.get_traced_memory()
                assert sum(sent) < UNREAD_BYTES_MAX
                assert held_bytes < HELD_BYTES_MAX
                caller.hang_up(ending)
                await until(lambda: upstream.open_connections == 0)
        finally:
            tracemalloc.stop()
        row = await the_row(gateway)
        assert (row["status"], 0 < row["body_bytes"] <= sum(sent)) == (200, True)


async def test_a_caller_who_reads_slowly_gets_every_byte():
    pieces = [b"data: " + hashlib.sha256(b"%d" % i).hexdigest().encode() * 256 + b"\n\n" for i in range(256)]

    def script(_request: Received) -> list[Step]:
        return stream(*pieces, DONE)

    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        async with calling(gateway, chat(STREAM)) as caller:
            await asyncio.sleep(0.3)
            head = await caller.reader.readuntil(b"\r\n\r\n")
            assert b"chunked" in head
            got = []
            while size := int(await caller.reader.readuntil(b"\r\n"), 16):
                got.append(await caller.reader.readexactly(size))
                await caller.reader.readexactly(2)
                await asyncio.sleep(0.001)
        assert b"".join(got) == b"".join(pieces) + DONE
        await gateway.idle()
        (row,) = await gateway.rows()
        assert (row["status"], row["error_source"]) == (200, None)
