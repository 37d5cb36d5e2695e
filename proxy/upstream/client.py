"""Makes one attempt at a provider, over whatever transport was handed in.

The interface is httpx's, so that any of its transports fits; the calls go to the transport
itself, because httpx's own client and pool cost more than the rest of the gateway together.
"""

import logging
import math
from collections.abc import AsyncIterator
from typing import NamedTuple, TypeAlias

import httpx

from proxy.adapters.http.framing import Ask, FramedHead, Target, frame_head
from proxy.adapters.http.round_trip import Bounds
from proxy.adapters.http.transport import Transport, WholeBody
from proxy.core.errors import (
    GatewayError,
    NoDeploymentAvailable,
    ProviderKeyMisplaced,
    UpstreamBrokeOff,
    UpstreamMalformed,
    UpstreamNotConnected,
    UpstreamTimedOut,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from proxy.core.origin import origin_of
from proxy.settings.model import ProviderSettings

_log = logging.getLogger("tollway.upstream")


class ArrivingBody(httpx.AsyncByteStream):
    """A request body that arrives piece by piece."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class StockHead(NamedTuple):
    """The head of an attempt as httpx's own transport takes it."""

    method: str
    url: httpx.URL
    headers: list[tuple[bytes, bytes]]

    def __repr__(self) -> str:  # the headers hold a provider key
        return f"StockHead({self.method!r})"


RequestBody: TypeAlias = bytes | ArrivingBody
PreparedHead: TypeAlias = FramedHead | StockHead


class UpstreamAnswer:
    """A provider's answer: the head at once, the raw body as it arrives. Close it always."""

    __slots__ = ("_next", "_provider", "_stream", "beginning", "fields", "headers", "status")

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        fields: dict[bytes, bytes],
        stream: httpx.AsyncByteStream,
        provider: str,
        beginning: bytes | None = None,
    ) -> None:
        """`headers` have names in lower case; `fields` holds the first value of each; `beginning` is
        what has come of the body already."""
        self.status = status
        self.headers = headers
        self.fields = fields
        self.beginning = beginning  # the first bytes of the body, held until somebody takes them
        self._provider = provider
        self._stream = stream
        self._next = aiter(stream).__anext__

    async def next_chunk(self) -> bytes | None:
        """The next bytes of the body, never empty; None at its end.

        Raises:
            UpstreamTruncated: the body broke off.
            UpstreamTimedOut: a time-out of the provider's settings passed.
            UpstreamMalformed: the body's framing is wrong.
        """
        try:
            while not (chunk := await self._next()):
                pass
        except StopAsyncIteration:
            return None
        except httpx.TransportError as error:
            raise _after_head(error, self._provider) from error
        return chunk

    def take_beginning(self) -> bytes | None:
        """What is held of the body; None: it has none."""
        beginning, self.beginning = self.beginning, None
        return beginning

    @property
    def is_whole(self) -> bool:
        """True where what is held of the body is all of it, by the length that the head tells."""
        length = self.fields.get(b"content-length")
        return length is not None and self.beginning is not None and length == b"%d" % len(self.beginning)

    def let_head_go(self) -> None:
        """All that is in it has been said: a stream may be open for long, and be one of thousands."""
        self.headers.clear()  # and not another list: whoever has read the head still has this one
        self.fields.clear()

    @property
    def is_delimited(self) -> bool:
        """True where the head tells how the body's end is known. Else that is the connection's, whatever ends it."""
        return b"content-length" in self.fields or b"transfer-encoding" in self.fields

    async def aclose(self) -> None:
        """Let go of the connection: back to its pool if the body was read to its end."""
        await self._stream.aclose()


class UpstreamClient:
    """Sends to one provider."""

    __slots__ = (
        "_base",
        "_base_url",
        "_name",
        "_origin",
        "_own_transport",
        "_plain_bounds",
        "_stream_bounds",
        "_transport",
    )

    def __init__(self, provider: ProviderSettings, path_prefix: str, transport: httpx.AsyncBaseTransport) -> None:
        """`path_prefix` stands between the base URL and every path, unless the base URL ends with it."""
        self._name = provider.name
        self._base_url = httpx.URL(provider.base_url)
        self._origin = origin_of(provider.base_url)
        base = Target.of(self._base_url)
        path = base.path.rstrip(b"/")
        self._base = base._replace(path=path.removesuffix(path_prefix.encode()) + path_prefix.encode())
        self._transport = transport
        # Ours can be asked without httpx's request and response, which every call would pay for.
        self._own_transport = transport if isinstance(transport, Transport) else None
        told = provider.timeouts_s
        plain = Bounds(connect=told.connect, pool=told.pool, write=told.idle, total=told.total)
        self._plain_bounds = plain
        self._stream_bounds = plain._replace(first_byte=told.first_byte, idle=told.idle)

    def prepare(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], *, bound_to: str | None = None
    ) -> PreparedHead:
        """The head of an attempt, which may be sent again with another body. `target` is the path
        after the base URL, with its query; `bound_to` the only origin for the provider key in the headers.

        Raises:
            UpstreamMalformed: it cannot be said in HTTP.
            ProviderKeyMisplaced: the key in the headers is for another origin.
        """
        if bound_to is not None and bound_to != self._origin:
            raise ProviderKeyMisplaced(
                f"The provider key that is stored for this call may only go to {bound_to}, and {self._name} is "
                f"{self._origin} now. Store one for that address: `tollway provider-keys put`."
            )
        path = self._base.path + target.encode("ascii")
        if self._own_transport is None:
            return StockHead(method, self._base_url.copy_with(raw_path=path), headers)
        try:
            return frame_head(Ask(method, Target(self._base.origin, self._base.netloc, path), headers))
        except httpx.LocalProtocolError as error:
            raise _before_head(error, self._name) from error

    async def send(
        self, head: PreparedHead, body: RequestBody, *, stream: bool, total_s: float | None = None
    ) -> UpstreamAnswer:
        """Make one attempt. `total_s` bounds all of it where that is sooner than the provider's settings say.

        Raises:
            NoDeploymentAvailable: no connection came free in time.
            UpstreamUnreachable, UpstreamTimedOut, UpstreamMalformed: there is no answer.
        """
        bounds = self._stream_bounds if stream else self._plain_bounds
        if total_s is not None and total_s < bounds.total:
            bounds = bounds._replace(total=total_s)
        try:
            if isinstance(head, StockHead):
                return await self._send_by_httpx(head, body, bounds)
            assert self._own_transport is not None, "it prepared the head"
            round_trip = await self._own_transport.ask(head, body, bounds)
            answer = await round_trip.wait_head()
            begun = round_trip.take() or None
            return UpstreamAnswer(answer.status, answer.headers, answer.fields, round_trip, self._name, begun)
        except httpx.TransportError as error:
            raise _before_head(error, self._name) from error

    async def _send_by_httpx(self, head: StockHead, body: RequestBody, bounds: Bounds) -> UpstreamAnswer:
        headers = [*head.headers, (b"host", self._base.netloc)]
        stream = body if isinstance(body, ArrivingBody) else WholeBody(body)
        if isinstance(stream, WholeBody) and (stream.content or head.method in ("POST", "PUT", "PATCH")):
            headers.append((b"content-length", b"%d" % len(stream.content)))
        timeouts_s = {name: bound for name, bound in bounds._asdict().items() if bound < math.inf}
        extensions = {"timeout": timeouts_s}
        request = httpx.Request(head.method, head.url, headers=headers, stream=stream, extensions=extensions)
        response = await self._transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream), "an asynchronous transport answers with one"
        lowered = [(name.lower(), value) for name, value in response.headers.raw]
        return UpstreamAnswer(response.status_code, lowered, dict(reversed(lowered)), response.stream, self._name)


def _before_head(error: httpx.TransportError, provider: str) -> GatewayError:
    # The error's own words name addresses of the operator's network: they are for its log.
    _log.warning("%s: %s", provider, error)
    if isinstance(error, httpx.PoolTimeout):
        return NoDeploymentAvailable(
            f"Every connection to {provider} is in use. Try again shortly.", retry_after_ms=1_000
        )
    if isinstance(error, httpx.ConnectTimeout):
        return UpstreamNotConnected(f"{provider} did not answer in time: no connection could be made. Try again.")
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimedOut(f"{provider} did not answer in time: {error}.")
    if isinstance(error, httpx.ProtocolError):
        return UpstreamMalformed(f"{provider} sent an answer that is not valid HTTP. Try again.")
    if isinstance(error, httpx.ReadError):  # what could be sent was sent
        return UpstreamBrokeOff(f"{provider} broke off before it answered. Try again.")
    return UpstreamUnreachable(f"{provider} could not be reached, or broke off before it answered. Try again.")


def _after_head(error: httpx.TransportError, provider: str) -> GatewayError:
    _log.warning("%s: %s", provider, error)
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTimedOut(f"{provider} stopped sending: {error}.")
    if isinstance(error, httpx.ProtocolError):
        return UpstreamMalformed(f"{provider} sent a body that is not valid HTTP.")
    return UpstreamTruncated(f"{provider} broke off in the middle of its answer.")
