"""Requests that wait for the end of the loop's turn, because many are under way."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from proxy.adapters.http import pool
from proxy.adapters.http.framing import Ask, Target, frame_head
from proxy.adapters.http.round_trip import WAITING_BYTES_MAX, Bounds, RoundTrip
from proxy.adapters.http.transport import Transport
from proxy.adapters.queued_writes import QueuedWrites
from tests.unit.adapters.http.raw_server import OK, RawServer, answering, blocking_upstream, fetch, request

Asking = Callable[..., Awaitable[RoundTrip]]


@pytest.fixture
def crowd(monkeypatch):
    """Whoever asks is one of many."""
    monkeypatch.setattr(pool, "_CROWD_MIN", 0)


def asking(transport: Transport, url: str) -> Asking:
    framed = frame_head(Ask("POST", Target.of(httpx.URL(url)), [(b"host", b"up")]))

    async def ask(body: bytes = b"once", total_s: float = 9.0) -> RoundTrip:
        return await transport.ask(framed, body, Bounds(total=total_s))

    return ask


@asynccontextmanager
async def rested_connection() -> AsyncIterator[tuple[Transport, socket.socket, Asking]]:
    """A connection that has served one request: its other end, and how to ask for another."""
    with blocking_upstream() as (url, listener):
        transport = Transport()
        asked = asyncio.ensure_future(fetch(transport, request(url)))
        await asyncio.sleep(0.02)
        side, _ = listener.accept()
        with side:
            side.recv(65_536)
            side.sendall(OK)
            assert await asked == (200, b"hi")
            side.settimeout(0.05)
            yield transport, side, asking(transport, url)
            await transport.aclose()
            assert transport.open_connections == 0


async def test_a_request_leaves_at_the_end_of_the_turn(crowd):
    async with rested_connection() as (transport, side, ask):
        round_trip = await ask()
        with pytest.raises(TimeoutError):
            side.recv(1)
        assert not round_trip.is_sent
        await asyncio.sleep(0.02)
        assert round_trip.is_sent
        assert side.recv(65_536).endswith(b"\r\n\r\nonce")
        side.sendall(OK)
        assert (await round_trip.wait_head()).status == 200
        assert transport.idle_connections == 1


async def test_one_that_is_large_is_sent_at_once(crowd):
    async with rested_connection() as (_, side, ask):
        assert (await ask(b"x" * (WAITING_BYTES_MAX + 1))).is_sent
        assert side.recv(65_536)


async def test_one_on_a_new_connection_is_sent_at_once(crowd):
    async with RawServer(answering(OK)) as server:
        transport = Transport()
        round_trip = await asking(transport, server.url)()
        assert round_trip.is_sent
        assert (await round_trip.wait_head()).status == 200
        await transport.aclose()


async def test_one_that_is_alone_is_sent_at_once(monkeypatch):
    monkeypatch.setattr(pool, "_CROWD_MIN", 2)
    async with rested_connection() as (_, side, ask):
        assert (await ask()).is_sent
        assert side.recv(65_536)


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"])
async def test_what_an_upstream_does_before_a_request_left_ends_the_connection(crowd, monkeypatch, said, is_heard):
    """Else an answer that nobody asked for would be this request's. It has not left, so it may be made elsewhere."""
    if is_heard:  # by the loop, before the request's turn ends
        add = QueuedWrites.add
        late = lambda writes, write: asyncio.get_running_loop().call_later(0.02, add, writes, write)  # noqa: E731
        monkeypatch.setattr(QueuedWrites, "add", late)
    async with rested_connection() as (transport, side, ask):
        round_trip = await ask()
        if said:
            side.sendall(said)
        else:
            side.shutdown(socket.SHUT_WR)
        with pytest.raises(httpx.WriteError):
            await round_trip.wait_head()
        assert not round_trip.is_sent
        assert transport.open_connections == 0
        assert received(side) == b""


async def test_one_that_is_let_go_before_it_left_is_not_sent(crowd):
    async with rested_connection() as (transport, side, ask):
        round_trip = await ask()
        await round_trip.aclose()
        await asyncio.sleep(0.02)
        assert received(side) == b""
        assert transport.open_connections == 0


async def test_the_total_ends_one_that_has_left(crowd):
    async with rested_connection() as (transport, _, ask):
        round_trip = await ask(total_s=0.05)
        with pytest.raises(httpx.ReadTimeout):
            await round_trip.wait_head()
        assert transport.open_connections == 0


async def test_whoever_comes_after_the_crowd_is_sent_at_once(monkeypatch):
    monkeypatch.setattr(pool, "_CROWD_MIN", 3)
    async with RawServer(answering(OK)) as server:
        transport = Transport()
        ask = asking(transport, server.url)
        answers = await asyncio.gather(*(fetch(transport, request(server.url)) for _ in range(6)))
        assert answers == [(200, b"hi")] * 6
        crowd = [await ask() for _ in range(6)]
        assert [each.is_sent for each in crowd] == [True, True, False, False, False, False]
        for each in crowd:
            assert (await each.wait_head()).status == 200
        alone = []
        for _ in range(3):
            round_trip = await ask()
            alone.append(round_trip.is_sent)
            assert (await round_trip.wait_head()).status == 200
        assert alone == [False, True, True]  # the first is told of a crowd that it finds gone
        await transport.aclose()


def received(side: socket.socket) -> bytes:
    """All that came until the other end was closed, which may have been a reset."""
    with contextlib.suppress(ConnectionResetError):
        return side.recv(65_536)
    return b""
