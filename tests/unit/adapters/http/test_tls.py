import asyncio
import ssl

import httpx
import pytest

from proxy.adapters.http.framing import LAST_CHUNK, frame_chunk
from proxy.adapters.http.transport import Transport, verified_context
from tests.authority import Authority, found
from tests.unit.adapters.http.raw_server import (
    CHUNKED_HEAD,
    OK,
    RawServer,
    answering,
    eventually,
    fetch,
    request,
    sending,
    silent,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return found(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def tls(authority):
    transport = Transport(ssl_context=verified_context(authority.ca_file))
    yield transport
    await transport.aclose()
    assert transport.open_connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_certificate_of_the_authority_for_this_host(tls, authority, host):
    async with RawServer(answering(OK), ssl_context=authority.server_context("good")) as server:
        url = server.url.replace("127.0.0.1", host)
        for _ in range(3):
            assert await fetch(tls, request(url, "POST", b"hello")) == (200, b"hi")
        assert server.accepted == 1
        assert server.requests[0].endswith(b"\r\n\r\nhello")


async def test_a_certificate_for_another_host_is_refused(tls, authority):
    async with RawServer(answering(OK), ssl_context=authority.server_context("other")) as server:
        with pytest.raises(httpx.ConnectError, match="not valid for"):
            await fetch(tls, request(server.url))
        assert tls.open_connections == 0
        assert server.requests == []


async def test_an_unknown_authority_is_refused(authority, tmp_path):
    stranger = found(tmp_path)
    for context in (verified_context(stranger.ca_file), verified_context(None), None):
        transport = Transport(ssl_context=context)
        async with RawServer(answering(OK), ssl_context=authority.server_context("good")) as server:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await fetch(transport, request(server.url))
            assert transport.open_connections == 0
            assert server.requests == []
        await transport.aclose()


async def test_the_server_is_told_the_name_and_the_protocol(tls, authority):
    seen = []
    context = authority.server_context("good")
    context.sni_callback = lambda connection, name, _: seen.append((name, connection))
    async with RawServer(answering(OK), ssl_context=context) as server:
        await fetch(tls, request(server.url.replace("127.0.0.1", "localhost")))
    ((name, connection),) = seen
    assert name == "localhost"
    assert connection.selected_alpn_protocol() == "http/1.1"
    assert connection.version() in ("TLSv1.2", "TLSv1.3")


async def test_tls_older_than_1_2_is_refused(tls, authority):
    context = authority.server_context("good")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with RawServer(answering(OK), ssl_context=context) as server:
        with pytest.raises(httpx.ConnectError):
            await fetch(tls, request(server.url))
        assert server.requests == []


async def test_an_upstream_that_speaks_no_tls(tls):
    async def script(side):
        await side.reader.read(1)
        await side.send(OK)
        await side.until_closed()

    async with RawServer(script) as server:
        with pytest.raises(httpx.ConnectError):
            await fetch(tls, request(server.url.replace("http:", "https:"), connect=5.0))
        assert tls.open_connections == 0


async def test_a_handshake_that_does_not_end_in_time(tls):
    async with RawServer(silent) as server:
        with pytest.raises(httpx.ConnectTimeout, match=r"0\.1 s"):
            await fetch(tls, request(server.url.replace("http:", "https:"), connect=0.1))
        assert tls.open_connections == 0
        await eventually(lambda: server.live == 0)


async def test_cancelled_during_the_handshake_the_socket_closes_at_once(tls):
    async with RawServer(silent) as server:
        asked = asyncio.ensure_future(fetch(tls, request(server.url.replace("http:", "https:"), connect=9.0)))
        await eventually(lambda: server.live == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert tls.open_connections == 0
        await eventually(lambda: server.live == 0)


async def test_a_stream_over_tls(tls, authority):
    pieces = [frame_chunk(b"data: %d\n\n" % number) for number in range(20)]
    script = sending(CHUNKED_HEAD, *pieces, LAST_CHUNK, pause_s=0.005)
    async with RawServer(script, ssl_context=authority.server_context("good")) as server:
        response = await tls.handle_async_request(request(server.url))
        chunks = [chunk async for chunk in response.stream]
        assert b"".join(chunks) == b"".join(b"data: %d\n\n" % number for number in range(20))
        assert len(chunks) > 5, "given out as they came"


async def test_large_bodies_both_ways_over_tls(tls, authority):
    body = bytes(range(256)) * 20_000
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with RawServer(answering(answer), ssl_context=authority.server_context("good")) as server:
        for _ in range(2):
            assert await fetch(tls, request(server.url, "POST", body, write=5.0, idle=5.0)) == (200, body)
            assert server.requests[-1].endswith(b"\r\n\r\n" + body)
        assert server.accepted == 1


async def test_what_is_read_ahead_over_tls_is_bounded(tls, authority):
    sent_bytes = 0

    async def script(side):
        nonlocal sent_bytes
        await side.request()
        await side.send(CHUNKED_HEAD)
        for _ in range(2_000):
            await side.send(frame_chunk(b"x" * 16_000))
            sent_bytes += 16_000
        await side.send(LAST_CHUNK)

    async with RawServer(script, ssl_context=authority.server_context("good")) as server:
        response = await tls.handle_async_request(request(server.url, idle=5.0))
        before = -1
        while sent_bytes != before:
            before = sent_bytes
            await asyncio.sleep(0.1)
        assert sent_bytes < 16_000_000
        assert sum([len(chunk) async for chunk in response.stream]) == 32_000_000


async def test_a_connection_lost_at_rest_over_tls(tls, authority):
    hang_up = asyncio.Event()

    async def script(side):
        await side.request()
        await side.send(OK)
        await hang_up.wait()

    async with RawServer(script, ssl_context=authority.server_context("good")) as server:
        await fetch(tls, request(server.url))
        assert tls.idle_connections == 1
        hang_up.set()
        await eventually(lambda: tls.open_connections == 0)


async def test_closing_early_over_tls(tls, authority):
    async def script(side):
        await side.request()
        await side.send(CHUNKED_HEAD, frame_chunk(b"hi"))
        await side.until_closed()

    async with RawServer(script, ssl_context=authority.server_context("good")) as server:
        response = await tls.handle_async_request(request(server.url))
        assert await anext(aiter(response.stream)) == b"hi"
        await response.stream.aclose()
        assert tls.open_connections == 0
        await eventually(lambda: server.live == 0)


def test_a_verified_context_verifies(authority):
    for context in (verified_context(authority.ca_file), verified_context(None)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_ca_file_names_the_only_authorities(authority):
    subjects = [entry["subject"] for entry in verified_context(authority.ca_file).get_ca_certs()]
    assert subjects == [((("commonName", "throw-away authority"),),)]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_holds_none(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError):  # noqa: PT011 - the message is the library's
        verified_context(path)
