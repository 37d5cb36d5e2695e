import asyncio
import os
import socket

import httpx
import pytest
import respx

from proxy.adapters.http.framing import LAST_CHUNK, Ask, Target, frame_chunk, frame_head
from proxy.adapters.http.round_trip import Bounds
from proxy.adapters.http.transport import Transport, WholeBody
from tests.unit.adapters.http.raw_server import (
    CHUNKED_HEAD,
    OK,
    RawServer,
    answering,
    fetch,
    read,
    request,
    sending,
    silent,
)


async def test_a_request_and_its_answer(transport):
    answer = b"HTTP/1.1 201 Made\r\nX-One: 1\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 3\r\n\r\nabc"
    async with RawServer(answering(answer)) as server:
        asked = request(f"{server.url}/v1/x?y=z", "POST", b"hello", headers=[(b"X-Up", b"1"), (b"x-up", b"2")])
        response = await transport.handle_async_request(asked)
        body = await read(response)
    assert response.status_code == 201
    assert response.extensions == {"http_version": b"HTTP/1.1", "reason_phrase": b"Made"}
    assert response.headers.raw == [
        (b"x-one", b"1"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"content-length", b"3"),
    ]
    assert body == b"abc"
    host = server.url.removeprefix("http://").encode()
    assert server.requests == [
        b"POST /v1/x?y=z HTTP/1.1\r\nHost: " + host + b"\r\nX-Up: 1\r\nx-up: 2\r\nContent-Length: 5\r\n\r\nhello"
    ]


async def test_asked_without_httpxs_objects(transport):
    async with RawServer(answering(b"HTTP/1.1 404 Nope\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nabc")) as server:
        ask = Ask("POST", Target.of(httpx.URL(server.url)), [(b"host", b"up")])
        round_trip = await transport.ask(frame_head(ask), b"hello", Bounds(total=9.0))
        await round_trip.wait_head()
        headers = [(b"x-one", b"1"), (b"content-length", b"3")]
        assert round_trip.head == (404, b"Nope", b"HTTP/1.1", headers, dict(headers))
        assert [chunk async for chunk in round_trip] == [b"abc"]
        assert server.requests == [b"POST / HTTP/1.1\r\nhost: up\r\nContent-Length: 5\r\n\r\nhello"]
        assert transport.idle_connections == 1


async def test_a_connection_serves_one_request_after_the_other(transport):
    async with RawServer(answering(OK)) as server:
        for _ in range(5):
            assert await fetch(transport, request(server.url)) == (200, b"hi")
            assert (transport.open_connections, transport.idle_connections) == (1, 1)
        assert (server.accepted, len(server.requests)) == (1, 5)


async def test_a_connection_is_free_once_its_answer_is_here_even_if_nobody_has_read_it(transport):
    async with RawServer(answering(OK)) as server:
        first = await transport.handle_async_request(request(server.url))
        second = await transport.handle_async_request(request(server.url))
        assert (server.accepted, transport.idle_connections) == (1, 1)
        assert (await read(first), await read(second)) == (b"hi", b"hi")


async def test_large_bodies_both_ways(transport):
    body = bytes(range(256)) * 20_000  # 5 MB
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with RawServer(answering(answer, OK)) as server:
        assert await fetch(transport, request(server.url, "POST", body)) == (200, body)
        assert server.requests[0].endswith(b"\r\n\r\n" + body)
        assert await fetch(transport, request(server.url, "POST", body)) == (200, b"hi")
        assert server.accepted == 1


async def test_each_chunk_is_given_out_when_it_arrives(transport):
    """An event every 20 ms arrives as an event every 20 ms: none waits for the next one."""
    arrived = asyncio.Event()

    async def script(side):
        await side.request()
        await side.send(CHUNKED_HEAD)
        for number in range(10):
            await side.send(frame_chunk(b"data: %d\n\n" % number))
            await arrived.wait()  # the next is not sent before this one was read
            arrived.clear()
            await asyncio.sleep(0.02)
        await side.send(LAST_CHUNK)

    async with RawServer(script) as server, asyncio.timeout(10):
        response = await transport.handle_async_request(request(server.url))
        seen = []
        async for chunk in response.stream:
            seen.append(chunk)
            arrived.set()
    assert seen == [b"data: %d\n\n" % number for number in range(10)]


async def test_a_body_in_every_cut(transport):
    message = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED_HEAD + b"3\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\nT: x\r\n\r\n"

    async def script(side):
        for cut in range(1, len(message)):
            await side.request()
            await side.send(message[:cut])
            await asyncio.sleep(0)
            await side.send(message[cut:])

    async with RawServer(script) as server:
        for _ in range(1, len(message)):
            assert await fetch(transport, request(server.url)) == (200, b"abc\r\n\r\n")


async def test_a_stream_can_be_taken_up_again_where_it_was_left(transport):
    async with RawServer(sending(CHUNKED_HEAD, b"1\r\na\r\n", b"1\r\nb\r\n", LAST_CHUNK, pause_s=0.02)) as server:
        response = await transport.handle_async_request(request(server.url))
        chunks = aiter(response.stream)
        seen = []
        async for chunk in chunks:
            seen.append(chunk)
            break
        assert b"".join(seen + [chunk async for chunk in chunks]) == b"ab"
        assert [chunk async for chunk in chunks] == []


async def test_a_body_until_the_end_of_the_stream(transport):
    async with RawServer(sending(b"HTTP/1.1 200 OK\r\n\r\nabc", b"def", pause_s=0.01)) as server:
        assert await fetch(transport, request(server.url)) == (200, b"abcdef")
        assert transport.open_connections == 0


@pytest.mark.parametrize(
    ("method", "answer", "status"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        ("HEAD", CHUNKED_HEAD, 200),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304),
        ("POST", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ],
)
async def test_an_answer_without_a_body(transport, method, answer, status):
    async with RawServer(answering(answer, OK)) as server:
        assert await fetch(transport, request(server.url, method)) == (status, b"")
        assert await fetch(transport, request(server.url)) == (200, b"hi")
        assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more",
        OK + OK,
    ],
)
async def test_a_connection_that_cannot_be_trusted_again_is_closed(transport, answer):
    async with RawServer(answering(answer)) as server:
        for _ in range(3):
            assert await fetch(transport, request(server.url)) == (200, b"hi")
            assert transport.open_connections == 0
        assert server.accepted == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 300_000,
    ],
    ids=["html", "0.9", "both", "gzip", "101", "endless"],
)
async def test_a_malformed_answer_is_an_error_and_closes_the_connection(transport, answer):
    async with RawServer(answering(answer)) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await fetch(transport, request(server.url))
        assert transport.open_connections == 0


async def test_a_fault_in_the_body_comes_after_what_was_good(transport):
    async with RawServer(sending(CHUNKED_HEAD + b"2\r\nhi\r\nzz\r\n")) as server:
        response = await transport.handle_async_request(request(server.url))
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"hi"
        for _ in range(2):  # and it stays an error, never a clean end
            with pytest.raises(httpx.RemoteProtocolError, match="malformed"):
                await anext(chunks)
        assert transport.open_connections == 0


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_upstream_that_hangs_up_before_it_answers(transport, part):
    async with RawServer(sending(part)) as server:
        with pytest.raises(httpx.ReadError, match="before answering"):
            await fetch(transport, request(server.url))
        assert transport.open_connections == 0


@pytest.mark.parametrize(
    "part",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", CHUNKED_HEAD + b"2\r\nhi\r\n", CHUNKED_HEAD + b"5\r\nhi"],
)
async def test_an_upstream_that_breaks_off_in_the_middle(transport, part):
    async with RawServer(sending(part)) as server:
        response = await transport.handle_async_request(request(server.url))
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"hi"
        with pytest.raises(httpx.ReadError, match="in the middle"):
            await anext(chunks)
        assert transport.open_connections == 0


async def test_an_upstream_that_resets_the_connection(transport):
    async def script(side):
        await side.request()
        await side.send(CHUNKED_HEAD + b"2\r\nhi\r\n")
        await asyncio.sleep(0.02)
        side.writer.transport.abort()

    async with RawServer(script) as server:
        with pytest.raises(httpx.ReadError):
            await fetch(transport, request(server.url))
        assert transport.open_connections == 0


async def test_closing_the_stream_early_closes_the_connection_at_once(transport):
    async with RawServer(sending(CHUNKED_HEAD, b"2\r\nhi\r\n", b"", pause_s=10)) as server:
        response = await transport.handle_async_request(request(server.url))
        assert transport.open_connections == 1
        for _ in range(3):
            await response.stream.aclose()
            assert transport.open_connections == 0
        with pytest.raises(httpx.ReadError, match="closed"):
            await read(response)


async def test_closing_a_stream_that_is_being_read_ends_the_reading(transport):
    async with RawServer(sending(CHUNKED_HEAD, pause_s=10)) as server:
        response = await transport.handle_async_request(request(server.url))
        reading = asyncio.ensure_future(read(response))
        await asyncio.sleep(0.01)
        await response.stream.aclose()
        with pytest.raises(httpx.ReadError, match="closed"):
            await asyncio.wait_for(reading, 10)


async def test_closing_after_the_end_keeps_the_connection(transport):
    async with RawServer(answering(OK)) as server:
        response = await transport.handle_async_request(request(server.url))
        assert await read(response) == b"hi"
        await response.stream.aclose()
        await response.stream.aclose()
        assert (transport.open_connections, transport.idle_connections) == (1, 1)
        assert [chunk async for chunk in response.stream] == []


async def test_a_whole_answer_that_was_closed_unread_is_no_empty_one(transport):
    async with RawServer(answering(OK)) as server:
        response = await transport.handle_async_request(request(server.url))
        await response.stream.aclose()
        assert transport.idle_connections == 1
        with pytest.raises(httpx.ReadError, match="closed"):
            await read(response)


async def test_an_origin_that_nobody_listens_at(transport):
    async with RawServer(silent) as server:
        url = server.url
    with pytest.raises(httpx.ConnectError, match=url.removeprefix("http://")):
        await fetch(transport, request(url))
    assert transport.open_connections == 0


@pytest.mark.parametrize("url", ["http://no-such-name.invalid/", "http://" + "a" * 64 + ".example/"])
async def test_a_name_that_does_not_exist(transport, url):
    with pytest.raises(httpx.ConnectError):
        await fetch(transport, request(url))
    assert transport.open_connections == 0


@pytest.mark.parametrize("url", ["ftp://up.example/", "/v1/x", "http:///v1"])
async def test_a_url_that_leads_nowhere(transport, url):
    with pytest.raises(httpx.UnsupportedProtocol):
        await fetch(transport, request(url))


async def test_a_request_that_is_not_http_is_refused_before_a_connection_is_taken(transport):
    async with RawServer(answering(OK)) as server:
        with pytest.raises(httpx.LocalProtocolError):
            await fetch(transport, request(server.url, headers=[(b"x", b"a\r\nb: c")]))
        assert server.accepted == 0
        assert transport.open_connections == 0


async def test_a_redirect_is_an_answer_like_any_other(transport):
    answer = b"HTTP/1.1 302 Found\r\nLocation: http://other.invalid/\r\nContent-Length: 0\r\n\r\n"
    async with RawServer(answering(answer)) as server:
        assert await fetch(transport, request(server.url)) == (302, b"")


async def test_a_compressed_body_stays_as_it_is(transport):
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n\x1f\x8bxyz"
    async with RawServer(answering(answer)) as server:
        assert await fetch(transport, request(server.url)) == (200, b"\x1f\x8bxyz")


async def test_closing_the_transport_ends_everything():
    transport = Transport(connections_max=1)
    async with RawServer(silent) as server:
        using = asyncio.ensure_future(fetch(transport, request(server.url)))
        waiting = asyncio.ensure_future(fetch(transport, request(server.url)))
        await asyncio.sleep(0.05)
        await transport.aclose()
        for task, error in ((using, httpx.ReadError), (waiting, httpx.ConnectError)):
            with pytest.raises(error):
                await task
        assert transport.open_connections == 0
        for url in (server.url, "http://127.0.0.2:1"):
            with pytest.raises(httpx.ConnectError, match="closed"):
                await fetch(transport, request(url))


async def test_packets_leave_at_once(transport):
    """TCP_NODELAY: a head and a chunk after it must not wait for each other's acknowledgement."""
    async with RawServer(answering(OK)) as server:
        await fetch(transport, request(server.url))
        (pool,) = transport._pools.values()
        (connection,) = pool._idle
        descriptor = os.dup(connection._transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as same:
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ── other transports and clients take the same requests ──────────────────────────────────


async def test_a_whole_body_fits_any_httpx_transport():
    async with RawServer(answering(OK)) as server:
        async with httpx.AsyncHTTPTransport() as stock:
            asked = request(server.url, "POST", b"hello", headers=[(b"host", b"h"), (b"content-length", b"5")])
            assert await fetch(stock, asked) == (200, b"hi")
        assert server.requests[0].endswith(b"\r\n\r\nhello")


async def test_respx_fits_behind_the_same_call():
    router = respx.Router()
    route = router.post("http://up.example/v1/chat").respond(201, content=b"mocked")
    asked = request("http://up.example/v1/chat", "POST", b"hello")
    assert await fetch(httpx.MockTransport(router.async_handler), asked) == (201, b"mocked")
    assert route.calls.last.request.content == b"hello"


async def test_httpx_itself_can_use_the_transport(transport):
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n" + b'{"a": 1}'
    async with RawServer(answering(answer)) as server, httpx.AsyncClient(transport=transport) as client:
        assert (await client.get(server.url)).json() == {"a": 1}
        assert (await client.post(server.url, json={"b": 2})).json() == {"a": 1}
        assert server.requests[1].endswith(b'{"b":2}')
        assert server.accepted == 1


async def test_a_whole_body_gives_its_content_once():
    assert [piece async for piece in WholeBody(b"abc")] == [b"abc"]
    assert [piece async for piece in WholeBody(b"")] == []


async def test_a_peer_that_vanishes_without_a_word_is_probed_for(transport):
    async with RawServer(answering(OK)) as server:
        target = Target.of(httpx.URL(server.url))
        round_trip = await transport.ask(frame_head(Ask("GET", target, [])), b"", Bounds(total=9.0))
        await round_trip.wait_head()
        assert [chunk async for chunk in round_trip]
        (connection,) = transport._pools[target.origin]._idle
        wire = connection._transport.get_extra_info("socket")
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
