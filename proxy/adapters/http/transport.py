"""Our own HTTP/1.1 transport behind httpx's interface: the upstream hop.

No redirects, no proxies, no environment, no decoding, no second try: what is asked is sent
once, and the answer's bytes are given out as they come. httpx's stock pool loses slots when
callers hang up, and costs more than the rest of the gateway together.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx

from proxy.adapters.http.framing import Ask, FramedHead, Target, frame_head
from proxy.adapters.http.pool import Origin, Pool
from proxy.adapters.http.round_trip import Bounds, RoundTrip

_INBOX_BYTES: Final = 65_536
_IDLE_S: Final = 60.0  # providers' front ends drop a connection after 60 to 120 s at rest


class WholeBody(httpx.AsyncByteStream):
    """A request body that is in memory."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.content:
            yield self.content


class Transport(httpx.AsyncBaseTransport):
    """Sends requests over connections that are kept alive.

    Time-outs are seconds in `request.extensions["timeout"]`: `pool` (for a connection to come
    free), `connect` (name lookup and TLS included), `write` (without progress), `first_byte`
    (from the request's last byte to the body's first), `idle` (between the body's bytes, while
    the caller waits for them) and `total`. What is absent does not bound.
    """

    __slots__ = (
        "_connections_max",
        "_idle_connections_max",
        "_idle_s",
        "_inbox",
        "_is_closed",
        "_pools",
        "_ssl_context",
    )

    def __init__(
        self,
        *,
        connections_max: int = 1_000,
        idle_connections_max: int = 256,
        idle_s: float = _IDLE_S,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Bounds are per origin. Without a context, the machine's certificate authorities are trusted."""
        self._connections_max = connections_max
        self._idle_connections_max = idle_connections_max
        self._idle_s = idle_s
        self._ssl_context = ssl_context
        self._inbox = memoryview(bytearray(_INBOX_BYTES))
        self._pools: dict[tuple[bytes, bytes, int | None], Pool] = {}
        self._is_closed = False

    @property
    def open_connections(self) -> int:
        """Connections in use, being made or idle, over all origins."""
        return sum(pool.open_connections for pool in self._pools.values())

    @property
    def idle_connections(self) -> int:
        """Connections that wait for a request, over all origins."""
        return sum(pool.idle_connections for pool in self._pools.values())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for the answer's head; its stream is the raw body.

        Cancelling closes the connection at once, here and while the stream is read.

        Raises:
            httpx.PoolTimeout, ConnectTimeout, WriteTimeout, ReadTimeout: which bound, in words.
            httpx.ConnectError, WriteError, ReadError: no connection, or one that broke.
            httpx.RemoteProtocolError: the answer is not HTTP/1.1 that can be trusted.
            httpx.LocalProtocolError: the request is not.
            httpx.UnsupportedProtocol: neither http nor https.
        """
        stream = request.stream
        assert isinstance(stream, httpx.AsyncByteStream), "an asynchronous transport sends one"
        body: bytes | httpx.AsyncByteStream = stream
        if isinstance(stream, WholeBody):
            body = stream.content
        elif isinstance(stream, httpx.ByteStream):
            body = b"".join(stream)
        framed = frame_head(Ask(request.method, Target.of(request.url), request.headers.raw))
        round_trip = await self.ask(framed, body, Bounds.of(request.extensions.get("timeout", {})))
        head = await round_trip.wait_head()
        return httpx.Response(
            head.status,
            headers=head.headers,
            stream=round_trip,
            extensions={"http_version": head.http_version, "reason_phrase": head.reason},
        )

    async def ask(self, framed: FramedHead, body: bytes | httpx.AsyncByteStream, bounds: Bounds) -> RoundTrip:
        """`handle_async_request` without httpx's objects, which cost as much as the hop itself:
        the request is sent or on its way; wait for the answer's head, then iterate for its raw
        body. Raises the same, here or there."""
        pool = self._pools.get(framed.target.origin) or self._add_pool(framed.target)
        content = None if isinstance(body, httpx.AsyncByteStream) else body
        request_head, content_length = framed.before(content)
        total_until = pool.loop.time() + bounds.total

        connection, may_wait = pool.take_idle(), pool.is_crowded
        if connection is None:
            connection, may_wait = await pool.acquire(bounds, total_until), False
        # No await until the round trip owns the connection.
        round_trip = RoundTrip(connection, bounds, total_until)
        bodiless = framed.method == "HEAD"
        if isinstance(body, httpx.AsyncByteStream):
            round_trip.send_streamed(request_head, aiter(body), content_length, bodiless=bodiless)
        else:
            round_trip.send(request_head, body, bodiless=bodiless, may_wait=may_wait)
            pool.await_answer()
        return round_trip

    async def aclose(self) -> None:
        """Close every connection, those in use too. Later requests are refused."""
        self._is_closed = True
        for pool in self._pools.values():
            pool.close()

    def _add_pool(self, target: Target) -> Pool:
        if self._is_closed:
            raise httpx.ConnectError("the transport is closed")
        scheme, host, port = target.origin
        if scheme not in (b"http", b"https") or not host:
            raise httpx.UnsupportedProtocol(f"neither http nor https, or no host: {scheme.decode('ascii', 'replace')}")
        ssl_context = None
        if scheme == b"https":
            if self._ssl_context is None:
                self._ssl_context = verified_context(None)
            ssl_context = self._ssl_context
        origin = Origin(host.decode("ascii"), port or (443 if ssl_context else 80), ssl_context)
        pool = Pool(
            asyncio.get_running_loop(),
            origin,
            self._inbox,
            connections_max=self._connections_max,
            idle_connections_max=self._idle_connections_max,
            idle_s=self._idle_s,
        )
        self._pools[target.origin] = pool
        return pool


def verified_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS with verification, 1.2 or later. `ca_file` (PEM) names the only authorities trusted;
    without it, the machine's, or Mozilla's where the machine has none.

    Raises:
        OSError: the file cannot be read, or holds no certificate.
    """
    if ca_file is not None or _has_machine_authorities():
        context = ssl.create_default_context(cafile=ca_file)
    else:
        context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_machine_authorities() -> bool:
    paths = ssl.get_default_verify_paths()  # None where the file or folder does not exist
    return bool(paths.cafile) or bool(paths.capath and os.listdir(paths.capath))
