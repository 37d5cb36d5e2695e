"""Time-outs, back-pressure and streamed uploads: what may happen between a request and its answer."""

import asyncio
import math
import socket
import threading

import httpx
import pytest

from proxy.adapters.http.framing import LAST_CHUNK, frame_chunk
from proxy.adapters.http.round_trip import BUFFERED_BYTES_MAX, Bounds
from proxy.adapters.http.transport import Transport
from tests.unit.adapters.http.raw_server import (
    CHUNKED_HEAD,
    OK,
    Pieces,
    RawServer,
    answering,
    eventually,
    fetch,
    read,
    request,
    sending,
    silent,
)


@pytest.mark.parametrize(
    ("timeouts", "name", "expected"),
    [
        ({"total": 3.0}, "total", 3.0),
        ({}, "total", math.inf),
        ({"pool": None}, "pool", math.inf),
        ({"read": 5.0}, "first_byte", 5.0),
        ({"read": 5.0}, "idle", 5.0),
        ({"read": 5.0, "idle": 1.0}, "idle", 1.0),
        ({"read": 5.0}, "write", math.inf),
        ({"idle": 0.0}, "idle", 0.0),
    ],
)
def test_bounds_are_as_the_timeouts_say(timeouts, name, expected):
    assert getattr(Bounds.of(timeouts), name) == expected


# ── time-outs ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("timeouts", "says"),
    [
        ({"first_byte": 0.05}, r"0\.05 s \(first_byte\)"),
        ({"read": 0.05}, r"0\.05 s \(first_byte\)"),
        ({"total": 0.05}, r"total of 0\.05 s"),
        ({"total": 0.05, "first_byte": 10}, r"total of 0\.05 s"),
        ({"first_byte": 0.05, "total": 10, "idle": 10}, r"0\.05 s \(first_byte\)"),
    ],
)
@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: "])
async def test_an_answer_that_does_not_begin_in_time(transport, start, timeouts, says):
    async with RawServer(sending(start, b"", pause_s=10)) as server:
        with pytest.raises(httpx.ReadTimeout, match=says):
            await fetch(transport, request(server.url, **timeouts))
        assert transport.open_connections == 0


async def test_a_head_alone_is_no_first_byte(transport):
    async with RawServer(sending(CHUNKED_HEAD, b"", pause_s=10)) as server:
        response = await transport.handle_async_request(request(server.url, first_byte=0.05, idle=10.0))
        with pytest.raises(httpx.ReadTimeout, match="first_byte"):
            await read(response)
        assert transport.open_connections == 0


async def test_the_first_byte_is_due_even_if_nobody_reads(transport):
    async with RawServer(sending(CHUNKED_HEAD, b"", pause_s=10)) as server:
        await transport.handle_async_request(request(server.url, first_byte=0.05))
        await eventually(lambda: transport.open_connections == 0)


async def test_a_stream_that_pauses_too_long_ends_after_what_came(transport):
    async with RawServer(sending(CHUNKED_HEAD + b"2\r\nhi\r\n", b"", pause_s=10)) as server:
        response = await transport.handle_async_request(request(server.url, first_byte=10.0, idle=0.05))
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"hi"
        with pytest.raises(httpx.ReadTimeout, match=r"0\.05 s \(idle\)"):
            await anext(chunks)
        assert transport.open_connections == 0


async def test_a_stream_that_goes_on_is_not_idle(transport):
    pieces = [frame_chunk(b"%d" % number) for number in range(10)]
    async with RawServer(sending(CHUNKED_HEAD, *pieces, LAST_CHUNK, pause_s=0.06)) as server:
        asked = request(server.url, first_byte=0.5, idle=0.5, total=10.0)  # less than all pauses together
        assert await fetch(transport, asked) == (200, b"0123456789")


async def test_the_total_bounds_a_stream_that_never_pauses(transport):
    async def script(side):
        await side.request()
        await side.send(CHUNKED_HEAD)
        while True:
            await side.send(frame_chunk(b"x"))
            await asyncio.sleep(0.01)

    async with RawServer(script) as server:
        response = await transport.handle_async_request(request(server.url, first_byte=10, idle=10, total=0.2))
        with pytest.raises(httpx.ReadTimeout, match=r"total of 0\.2 s"):
            await read(response)
        assert transport.open_connections == 0


async def test_idle_counts_only_while_somebody_waits(transport):
    """A slow caller's own pause is not the upstream's."""
    async with RawServer(sending(CHUNKED_HEAD + b"2\r\nhi\r\n", b"1\r\n!\r\n" + LAST_CHUNK, pause_s=0.6)) as server:
        response = await transport.handle_async_request(request(server.url, idle=0.4))
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"hi"
        await asyncio.sleep(0.5)  # the upstream is silent for longer than `idle` allows, and so are we
        assert [chunk async for chunk in chunks] == [b"!"]


async def test_a_time_out_does_not_outlive_its_request(transport):
    async with RawServer(answering(OK)) as server:
        assert await fetch(transport, request(server.url, first_byte=0.05, idle=0.05, total=0.05)) == (200, b"hi")
        await asyncio.sleep(0.15)
        assert transport.idle_connections == 1
        assert await fetch(transport, request(server.url)) == (200, b"hi")
        assert server.accepted == 1


async def test_a_later_request_may_have_a_shorter_time_out(transport):
    async def script(side):
        await side.request()
        await side.send(OK)
        await side.until_closed()

    async with RawServer(script) as server:
        assert await fetch(transport, request(server.url, first_byte=9.0, total=9.0)) == (200, b"hi")
        with pytest.raises(httpx.ReadTimeout, match="first_byte"):
            await fetch(transport, request(server.url, first_byte=0.05, total=9.0))
        assert server.accepted == 1


async def test_a_body_that_nobody_takes(transport):
    async def deaf(side):
        side.writer.transport.pause_reading()
        await asyncio.sleep(10)

    async with RawServer(deaf) as server:
        asked = request(server.url, "POST", b"x" * 30_000_000, write=0.1, first_byte=9.0)
        with pytest.raises(httpx.WriteTimeout, match=r"0\.1 s \(write\)"):
            await fetch(transport, asked)
        assert transport.open_connections == 0


async def test_a_body_that_is_taken_slowly_is_not_late(transport):
    """`write` bounds the wait for progress, not the whole body."""
    body = b"x" * 12_000_000

    async def slow(side):
        taken = 0
        while taken < len(body):
            taken += len(await side.reader.read(65_536))
            if taken % 4 == 0:
                await asyncio.sleep(0.005)
        await side.send(OK)
        await side.until_closed()

    async with RawServer(slow) as server:
        started_at = asyncio.get_running_loop().time()
        assert await fetch(transport, request(server.url, "POST", body, write=0.15)) == (200, b"hi")
        assert asyncio.get_running_loop().time() - started_at > 0.15


async def test_a_connection_that_does_not_come_about_in_time():
    """A full accept queue leaves the handshake unanswered, as a lost packet would."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        host, port = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        transport = Transport()
        try:
            with pytest.raises(httpx.ConnectTimeout, match=r"0\.1 s"):
                await fetch(transport, request(f"http://{host}:{port}", connect=0.1))
            assert transport.open_connections == 0
            with pytest.raises(httpx.ConnectTimeout, match=r"0\.05 s"):
                await fetch(transport, request(f"http://{host}:{port}", connect=9.0, total=0.05))
        finally:
            for filler in fillers:
                filler.close()
            await transport.aclose()


# ── back-pressure ────────────────────────────────────────────────────────────────────────


class Flood:
    """A blocking server in a thread, which counts what the kernel has taken from it."""

    def __init__(self, head: bytes, piece: bytes, pieces: int, end: bytes) -> None:
        self._head, self._piece, self._pieces, self._end = head, piece, pieces, end
        self.sent_bytes = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        # Small, so that what the client does not read stays where it can be seen.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    async def __aenter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()
        await asyncio.to_thread(self._thread.join, 10)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        side, _ = self._socket.accept()
        with side:
            side.recv(65_536)
            try:
                side.sendall(self._head)
                for _ in range(self._pieces):
                    side.sendall(self._piece)
                    self.sent_bytes += len(self._piece)
                side.sendall(self._end)
                side.recv(1)
            except ConnectionError:
                pass


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_nothing_is_read_ahead_for_a_slow_caller(transport, is_chunked):
    piece = b"x" * 16_000
    if is_chunked:
        flood = Flood(CHUNKED_HEAD, frame_chunk(piece), 2_000, LAST_CHUNK)
    else:
        flood = Flood(b"HTTP/1.1 200 OK\r\nContent-Length: 32000000\r\n\r\n", piece, 2_000, b"")
    async with flood as url:
        response = await transport.handle_async_request(request(url, idle=5.0, total=30.0))
        chunks = aiter(response.stream)
        received = len(await anext(chunks))
        before = -1
        while flood.sent_bytes != before:  # until the server is stuck
            before = flood.sent_bytes
            await asyncio.sleep(0.1)
        assert flood.sent_bytes < 16_000_000, "the kernel's buffers fill, and then the server waits"
        assert response.stream._buffered_bytes <= 2 * BUFFERED_BYTES_MAX
        received += sum([len(chunk) async for chunk in chunks])
        assert received == 32_000_000
        assert transport.idle_connections == 1
        await transport.aclose()


async def test_idle_does_not_count_while_reading_is_paused(transport):
    async with Flood(CHUNKED_HEAD, frame_chunk(b"x" * 16_000), 500, LAST_CHUNK) as url:
        response = await transport.handle_async_request(request(url, first_byte=0.2, idle=0.2))
        chunks = aiter(response.stream)
        received = len(await anext(chunks))
        await asyncio.sleep(0.5)
        received += sum([len(chunk) async for chunk in chunks])
        assert received == 500 * 16_000
        await transport.aclose()


async def test_a_slow_caller_may_let_go(transport):
    async with Flood(CHUNKED_HEAD, frame_chunk(b"x" * 16_000), 2_000, LAST_CHUNK) as url:
        response = await transport.handle_async_request(request(url))
        await asyncio.sleep(0.1)
        await response.stream.aclose()
        assert transport.open_connections == 0


async def test_the_total_ends_a_stream_that_is_not_read(transport):
    async with Flood(CHUNKED_HEAD, frame_chunk(b"x" * 16_000), 2_000, LAST_CHUNK) as url:
        response = await transport.handle_async_request(request(url, total=0.2))
        await eventually(lambda: transport.open_connections == 0)
        chunks = aiter(response.stream)
        assert set(await anext(chunks)) == set(b"x")
        with pytest.raises(httpx.ReadTimeout, match="total"):
            await anext(chunks)


async def test_a_connection_that_was_paused_at_the_end_reads_again(transport):
    """A body that ends while it is over the bound: its connection must notice being closed."""
    body = b"x" * (BUFFERED_BYTES_MAX + 30_000)
    hang_up = asyncio.Event()

    async def script(side):
        await side.request()
        await side.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
        await hang_up.wait()

    async with RawServer(script) as server:
        response = await transport.handle_async_request(request(server.url))
        await eventually(lambda: transport.idle_connections == 1)
        hang_up.set()
        await eventually(lambda: transport.open_connections == 0)
        assert await read(response) == body


# ── streamed uploads ─────────────────────────────────────────────────────────────────────


async def test_a_streamed_body_is_chunked(transport):
    async with RawServer(answering(OK)) as server:
        asked = request(server.url, "POST", stream=Pieces(b"abc", b"", b"x" * 17))
        assert await fetch(transport, asked) == (200, b"hi")
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert b"\r\nTransfer-Encoding: chunked" in head
        assert body == b"3\r\nabc\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
        assert transport.idle_connections == 1


async def test_a_streamed_body_whose_length_is_told_goes_as_it_is(transport):
    async with RawServer(answering(OK)) as server:
        told = [(b"content-length", b"6")]
        asked = request(server.url, "POST", stream=Pieces(b"abc", b"", b"def"), headers=told)
        assert await fetch(transport, asked) == (200, b"hi")
        assert server.requests[0].endswith(b"\r\n\r\nabcdef")
        assert transport.idle_connections == 1


async def test_an_empty_streamed_body(transport):
    async with RawServer(answering(OK)) as server:
        assert await fetch(transport, request(server.url, "POST", stream=Pieces())) == (200, b"hi")
        assert server.requests[0].endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_piece_is_sent_when_it_comes(transport):
    gate = asyncio.Event()

    async def script(side):
        await side.reader.readuntil(b"3\r\nabc\r\n")  # while the second piece is still to come
        gate.set()
        await side.reader.readuntil(LAST_CHUNK)
        await side.send(OK)
        await side.until_closed()

    async with RawServer(script) as server:
        asked = request(server.url, "POST", stream=Pieces(b"abc", b"def", gate=gate))
        assert await fetch(transport, asked) == (200, b"hi")


@pytest.mark.parametrize(("told", "says"), [(b"5", "longer"), (b"7", "shorter")])
async def test_a_streamed_body_that_is_not_as_long_as_was_said(transport, told, says):
    async with RawServer(silent) as server:
        asked = request(server.url, "POST", stream=Pieces(b"abc", b"def"), headers=[(b"content-length", told)])
        with pytest.raises(httpx.LocalProtocolError, match=says):
            await fetch(transport, asked)
        assert transport.open_connections == 0


async def test_what_a_streamed_body_raises_comes_out(transport):
    class Gone(Exception):
        pass

    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"abc"
            raise Gone

    async with RawServer(silent) as server:
        with pytest.raises(Gone):
            await fetch(transport, request(server.url, "POST", stream=Broken()))
        assert transport.open_connections == 0


async def test_an_upload_waits_for_a_slow_upstream(transport):
    class Counted(httpx.AsyncByteStream):
        given_bytes = 0

        async def __aiter__(self):
            for _ in range(500):
                self.given_bytes += 64_000
                yield b"x" * 64_000

    body, go_on = Counted(), asyncio.Event()

    async def script(side):
        await go_on.wait()
        await side.reader.readuntil(b"\r\n\r\n")
        await side.reader.readexactly(32_000_000)
        await side.send(OK)
        await side.until_closed()

    async with RawServer(script) as server:
        asked = request(server.url, "POST", stream=body, headers=[(b"content-length", b"32000000")], write=10.0)
        sending_it = asyncio.ensure_future(fetch(transport, asked))
        before = -1
        while body.given_bytes != before:
            before = body.given_bytes
            await asyncio.sleep(0.1)
        assert 0 < body.given_bytes < 16_000_000
        go_on.set()
        assert await sending_it == (200, b"hi")


async def test_an_upload_that_nobody_takes(transport):
    async def deaf(side):
        side.writer.transport.pause_reading()
        await asyncio.sleep(10)

    async with RawServer(deaf) as server:
        asked = request(server.url, "POST", stream=Pieces(*[b"x" * 64_000] * 500), write=0.1)
        with pytest.raises(httpx.WriteTimeout, match="write"):
            await fetch(transport, asked)
        assert transport.open_connections == 0


async def test_an_early_answer_ends_an_upload_that_waits_for_its_source(transport):
    """The caller sends slowly; the upstream has already said no. It must not wait for the rest."""

    async def script(side):
        await side.reader.readuntil(b"abc")
        await side.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await side.until_closed()

    async with RawServer(script) as server:
        body = Pieces(b"abc", b"never", gate=asyncio.Event())
        assert await fetch(transport, request(server.url, "POST", stream=body)) == (413, b"no")
        assert body.given == 1
        assert body.is_over
        assert transport.open_connections == 0
        await eventually(lambda: server.live == 0)


async def test_an_early_head_ends_an_upload_while_its_body_still_comes(transport):
    finish = asyncio.Event()

    async def script(side):
        await side.reader.readuntil(b"abc")
        await side.send(b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n")
        await finish.wait()
        await side.send(b"2\r\nno\r\n", LAST_CHUNK)
        await side.until_closed()

    async with RawServer(script) as server:
        body = Pieces(b"abc", b"never", gate=asyncio.Event())
        response = await transport.handle_async_request(request(server.url, "POST", stream=body, first_byte=5.0))
        assert response.status_code == 413
        await eventually(lambda: body.is_over)
        assert body.given == 1
        finish.set()
        assert await read(response) == b"no"
        assert transport.open_connections == 0


async def test_a_connection_with_unsent_bytes_of_an_answered_request_is_not_used_again(transport):
    """The upstream may never read them, and the next request would wait behind them."""
    answer_now = asyncio.Event()

    class JustTooMuch(httpx.AsyncByteStream):
        async def __aiter__(self):
            (pool,) = transport._pools.values()
            (connection,) = pool._connections
            while connection.unsent_bytes == 0:
                yield b"x" * 20_000
                await asyncio.sleep(0)
            assert not connection.is_write_paused
            answer_now.set()

    async def deaf(side):
        side.writer.transport.pause_reading()
        await answer_now.wait()
        await asyncio.sleep(0.02)
        await side.send(OK)
        await asyncio.sleep(10)

    async with RawServer(deaf) as server:
        assert await fetch(transport, request(server.url, "POST", stream=JustTooMuch())) == (200, b"hi")
        assert transport.open_connections == 0


async def test_an_early_streamed_answer_ends_an_upload_that_is_stuck(transport):
    async def script(side):
        await side.reader.readuntil(b"\r\n\r\n")
        side.writer.transport.pause_reading()
        await side.send(b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n")
        await asyncio.sleep(0.05)
        await side.send(LAST_CHUNK)
        await asyncio.sleep(10)

    async with RawServer(script) as server:
        body = Pieces(*[b"x" * 64_000] * 500)
        assert await fetch(transport, request(server.url, "POST", stream=body, write=5.0)) == (413, b"no")
        assert body.given < 500
        assert transport.open_connections == 0


async def test_an_early_answer_to_a_whole_body_is_read_and_the_connection_closed(transport):
    async def script(side):
        await side.reader.readuntil(b"\r\n\r\n")
        side.writer.transport.pause_reading()
        await side.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(10)

    async with RawServer(script) as server:
        asked = request(server.url, "POST", b"x" * 30_000_000, write=5.0)
        assert await fetch(transport, asked) == (413, b"no")
        assert transport.open_connections == 0


async def test_an_upstream_that_hangs_up_during_an_upload(transport):
    async def script(side):
        await side.reader.readuntil(b"abc")
        side.writer.transport.abort()

    async with RawServer(script) as server:
        body = Pieces(b"abc", b"never", gate=asyncio.Event())
        with pytest.raises(httpx.WriteError, match="while the request was sent"):
            await fetch(transport, request(server.url, "POST", stream=body))
        assert transport.open_connections == 0


async def test_the_total_bounds_an_upload_whose_source_is_silent(transport):
    async with RawServer(silent) as server:
        body = Pieces(b"abc", b"never", gate=asyncio.Event())
        with pytest.raises(httpx.ReadTimeout, match="total"):
            await fetch(transport, request(server.url, "POST", stream=body, total=0.1))
        assert transport.open_connections == 0
        await eventually(lambda: body.is_over)


async def test_the_first_byte_is_due_from_the_end_of_an_upload_on(transport):
    gate = asyncio.Event()

    async def script(side):
        await side.request()
        await side.until_closed()

    async with RawServer(script) as server:
        asked = request(server.url, "POST", stream=Pieces(b"abc", b"def", gate=gate), first_byte=0.1)
        sending_it = asyncio.ensure_future(fetch(transport, asked))
        await asyncio.sleep(0.2)
        assert not sending_it.done(), "the caller's own pause is not the upstream's"
        gate.set()
        with pytest.raises(httpx.ReadTimeout, match="first_byte"):
            await sending_it
