"""Connecting to a provider's host, over real sockets."""

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager, suppress

import pytest

from proxy.cli.reach import endpoint_of, reach
from proxy.settings.model import ProviderSettings, TimeoutSettings


def provider(base_url):
    return ProviderSettings("p", base_url, timeouts_s=TimeoutSettings(connect=5.0))


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.example/v1", "api.example:443"),
        ("http://127.0.0.1/v1", "127.0.0.1:80"),
        ("http://[::1]:9/v1", "[::1]:9"),
    ],
)
def test_endpoint(base_url, expected):
    assert endpoint_of(provider(base_url)) == expected


@asynccontextmanager
async def listening(greeting):
    """A port that greets whoever connects, and the connections' ends, one for each."""
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def accept(reader, writer):
        writer.write(greeting)
        await reader.read()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        ended.put_nowait(None)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            await ended.get()


async def test_a_host_that_listens_is_reached_and_hung_up_on():
    async with listening(b"") as port:
        await reach(provider(f"http://127.0.0.1:{port}"))


async def test_a_host_that_does_not_listen_is_not():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await reach(provider(f"http://127.0.0.1:{port}"))


async def test_a_host_that_speaks_no_tls_is_not_reached_over_https():
    async with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(ssl.SSLError):
            await reach(provider(f"https://127.0.0.1:{port}"))
