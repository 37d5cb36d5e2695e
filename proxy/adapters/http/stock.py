"""httpx's own transport, for what ours does not do: HTTP/2, or a corporate proxy.

It knows neither a bound to the whole answer nor one to the first byte; this adds them. Its
pool is slow and can leak slots when calls are cancelled under contention (httpcore 1.0.9,
issue 1093), so it is chosen by name and never the default.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping

import httpx

from proxy.adapters.http.transport import WholeBody


class StockTransport(httpx.AsyncBaseTransport):
    """`httpx.AsyncHTTPTransport` under the time-outs that our callers set."""

    def __init__(self, *, connections_max: int, ssl_context: ssl.SSLContext, proxy_url: str | None = None) -> None:
        limits = httpx.Limits(max_connections=connections_max, max_keepalive_connections=connections_max)
        self._inner = httpx.AsyncHTTPTransport(
            verify=ssl_context, http2=True, limits=limits, trust_env=False, retries=0, proxy=proxy_url
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the time-outs are those that `Transport` takes."""
        bounds_s: Mapping[str, float] = request.extensions.get("timeout", {})
        deadline_s = _deadline(bounds_s.get("total"))
        request.extensions["timeout"] = {
            "connect": bounds_s.get("connect"),
            "pool": bounds_s.get("pool"),
            "write": bounds_s.get("write"),
            "read": bounds_s.get("idle"),
        }
        if not isinstance(request.stream, WholeBody | httpx.ByteStream) and "content-length" not in request.headers:
            # Below httpx's client nobody frames a body of unknown length; HTTP/2 drops the field again.
            request.headers["transfer-encoding"] = "chunked"
        first_s = _deadline(bounds_s.get("first_byte"))
        nearest_s = min((at for at in (deadline_s, first_s) if at is not None), default=None)
        try:
            async with asyncio.timeout_at(nearest_s):
                response = await self._inner.handle_async_request(request)
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer within its time", request=request) from error
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, deadline_s, _length(response))
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    """A body that must end by a deadline (seconds of the loop's clock)."""

    def __init__(self, inner: httpx.AsyncByteStream, deadline_s: float | None, length_bytes: int | None) -> None:
        self._inner = inner
        self._deadline_s = deadline_s
        self._left_bytes = length_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._inner)
        while (chunk := await self._next(chunks)) is not None:
            if self._left_bytes is not None:
                self._left_bytes -= len(chunk)
                if self._left_bytes == 0:
                    # Who knows the length asks no further, and httpcore closes a connection whose
                    # answer was not read to its end.
                    await self._next(chunks)
            yield chunk

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._deadline_s):
                return await anext(chunks, None)
        except TimeoutError as error:
            raise httpx.ReadTimeout("the answer did not end within its time") from error

    async def aclose(self) -> None:
        await self._inner.aclose()


def _length(response: httpx.Response) -> int | None:
    """The length of an answer behind which nothing more of it can come: not so in HTTP/2."""
    length = response.headers.get("content-length", "")
    return int(length) if length.isdigit() and response.extensions.get("http_version") == b"HTTP/1.1" else None


def _deadline(bound_s: float | None) -> float | None:
    return None if bound_s is None else asyncio.get_running_loop().time() + bound_s
