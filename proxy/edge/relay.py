"""The caller's side of an exchange over ASGI: its body in, the answer out.

Under our own protocol (`edge.protocol`) the connection itself tells when the caller hangs
up. Under a host application's server nothing does but `receive()`, so there a task waits
on it while the answer is on its way.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from proxy.core.errors import CallerGone, GatewayError, RequestTooLarge, UpstreamTruncated
from proxy.core.types import Answer, InboundRequest
from proxy.dialects.openai import StreamEnd
from proxy.dialects.sse import next_event_end
from proxy.dialects.usage import UsageTap
from proxy.edge.connection import Connection
from proxy.edge.problems import render, render_event, speaks_anthropic
from proxy.pipeline.meter import Meter
from proxy.pipeline.passage import Passage
from proxy.upstream.client import UpstreamAnswer

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

# Under a host's server: a caller that takes no byte for so long ends the stream.
_WRITE_STALL_S: Final = 30.0
_LENGTH_DIGITS_MAX: Final = 18


class AnswerCutShort(Exception):
    """Leaves the application so that the server closes the connection without a clean end."""


class AsgiDownstream:
    """One request's caller."""

    __slots__ = (
        "_connection",
        "_ended",
        "_gone",
        "_on_gone",
        "_receive",
        "_request",
        "_send",
        "_watcher",
        "announced_bytes",
        "body_bytes",
        "head_sent",
        "task",
    )

    def __init__(
        self,
        connection: Connection | None,
        request: InboundRequest,
        receive: Receive,
        send: Send,
        announced_bytes: int | None,
    ) -> None:
        """`connection` is our own wire's, None behind a host application's server."""
        self._connection = connection
        # Our own wire made the task, and has it at hand; to ask which runs is a system call.
        self.task: asyncio.Task[None] | None = asyncio.current_task() if connection is None else connection.task
        self._receive = receive
        self._send = send
        self._gone = False
        self._on_gone: Callable[[], object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self.announced_bytes = announced_bytes
        self._request = request
        self._ended = False  # the answer's last byte was given
        self.head_sent = False
        self.body_bytes = 0

    def on_gone(self, callback: Callable[[], object]) -> None:
        self._on_gone = callback
        if self._connection is not None:
            self._connection.on_disconnect(self._tell_gone)

    async def read_body(self, bytes_max: int) -> bytes:
        if self._connection is not None and (self.announced_bytes or 0) <= bytes_max:
            whole = self._connection.whole_body()
            if whole is not None:
                if len(whole) > bytes_max:
                    raise _too_large(bytes_max)
                return whole
        message = await self.next_of_body(bytes_max)
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= bytes_max:
            self.body_done()
            return body
        pieces = [body]
        async for piece in self._rest_of_body(message, len(body), bytes_max):
            pieces.append(piece)
        return b"".join(pieces)

    def stream_body(self, bytes_max: int) -> AsyncIterator[bytes]:
        return _ArrivingBody(self, bytes_max)

    async def next_of_body(self, bytes_max: int) -> Message:
        """The next message of the body. Raises RequestTooLarge where more was announced, CallerGone."""
        if self.announced_bytes is not None and self.announced_bytes > bytes_max:
            raise _too_large(bytes_max)
        return await self._next_message()

    async def _rest_of_body(self, message: Message, read_bytes: int, bytes_max: int) -> AsyncIterator[bytes]:
        while True:
            if read_bytes > bytes_max:
                raise _too_large(bytes_max)
            if not message.get("more_body", False):
                break
            message = await self._next_message()
            piece: bytes = message.get("body", b"")
            read_bytes += len(piece)
            if read_bytes <= bytes_max:
                yield piece
        self.body_done()

    async def _next_message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
            raise CallerGone("The caller hung up while it sent the request.")
        return message

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send_head(status, headers)

    async def relay(self, answer: UpstreamAnswer, passage: Passage) -> None:
        tap = passage.tap
        length = answer.fields.get(b"content-length") if passage.rewriter is None else None
        expected_bytes = int(length) if length is not None and length.isdigit() else None
        answer.let_head_go()
        chunk = answer.take_beginning()
        while chunk is not None:
            self.body_bytes += len(chunk)
            if self.body_bytes == expected_bytes:
                # The last byte is known for what it is: no empty message has to follow it.
                _refuse_truncated(tap)
                if passage.copy is not None:
                    passage.copy.take(chunk)
                await self._send_chunk(chunk, more=False)
                return
            if passage.meter is not None and passage.meter.is_low:
                await self._extend(passage.meter, passage.stream_end)
            if passage.rewriter is not None:
                chunk = passage.rewriter.feed(chunk)
            if chunk:
                if passage.copy is not None:
                    passage.copy.take(chunk)
                await self._send_chunk(chunk, more=True)
            del chunk  # thousands of streams would each hold one while they wait
            chunk = await answer.next_chunk()
            if chunk is not None:
                tap.feed(chunk)
        _refuse_truncated(tap)
        rest = b"" if passage.rewriter is None else passage.rewriter.close()
        if rest and passage.copy is not None:
            passage.copy.take(rest)
        await self._send_chunk(rest, more=False)

    async def _extend(self, meter: Meter, stream_end: StreamEnd | None) -> None:
        try:
            await meter.extend()
        except GatewayError as error:
            # It has begun, so all that can be said is said in the stream; then it ends.
            await self._send_chunk(render_event(error, stream_end), more=False)
            raise

    async def replay(self, body: bytes, headers: list[tuple[bytes, bytes]], events_per_s: int | None) -> None:
        connection, begins = self._connection, 0
        if connection is not None and events_per_s is None:  # all of it at once, and nothing to wait for
            self.head_sent = self._ended = True
            self.body_bytes = len(body)
            connection.start(200, headers)
            connection.put(body, more=False)
            return
        await self._send_head(200, headers)
        while events_per_s is not None and (ends := next_event_end(body, begins)) < len(body):
            self.body_bytes = ends
            await self._send_chunk(body[begins:ends], more=True)
            await asyncio.sleep(1 / events_per_s)
            begins = ends
        self.body_bytes = len(body)
        await self._send_chunk(body[begins:] if begins else body, more=False)

    async def send_answer(self, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
        head = [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body)), *headers]
        await self._send_head(answer.status, head)
        await self._send_chunk(answer.body, more=False)

    async def refuse(self, error: GatewayError, headers: list[tuple[bytes, bytes]]) -> None:
        if self._is_gone() or self._ended:
            return
        if self.head_sent:
            self._cut_short()
            return
        run_id = dict(headers).get(b"x-tollway-run-id", b"").decode() or None
        status, own, body = render(error, run_id, anthropic=speaks_anthropic(self._request))
        await self._send_head(status, [*own, *headers])
        await self._send_chunk(body, more=False)

    def close(self) -> None:
        self._on_gone = None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _send_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.head_sent = True
        if self._connection is not None:
            self._connection.start(status, headers)
        else:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send_chunk(self, chunk: bytes, *, more: bool) -> None:
        self._ended = not more
        if self._connection is not None:
            self._connection.put(chunk, more=more)
            if self._connection.is_slow:
                await self._connection.write_drained()  # bounded by the connection's own limits
            return
        message = {"type": "http.response.body", "body": chunk, "more_body": more}
        try:
            async with asyncio.timeout(_WRITE_STALL_S):
                await self._send(message)
        except TimeoutError:
            self._gone = True
            raise CallerGone(f"The caller took no byte for {_WRITE_STALL_S:.0f} s.") from None

    def _cut_short(self) -> None:
        if self._connection is None:
            raise AnswerCutShort("the upstream broke off; the caller must not take this for the whole answer")
        self._connection.abort()

    def _is_gone(self) -> bool:
        return self._gone or (self._connection is not None and self._connection.disconnected)

    def body_done(self) -> None:
        """The body's last byte was taken."""
        if self._connection is None and self._watcher is None and self._on_gone is not None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._tell_gone()
                return

    def _tell_gone(self) -> None:
        self._gone = True
        callback, self._on_gone = self._on_gone, None
        if callback is not None:
            callback()


class _ArrivingBody:
    """A body piece by piece. No generator: whoever stops half-way has nothing to close."""

    __slots__ = ("_bytes_left", "_bytes_max", "_downstream", "_more")

    def __init__(self, downstream: AsgiDownstream, bytes_max: int) -> None:
        self._downstream = downstream
        self._bytes_left = self._bytes_max = bytes_max
        self._more = True

    def __aiter__(self) -> "_ArrivingBody":
        return self

    async def __anext__(self) -> bytes:
        while self._more:
            message = await self._downstream.next_of_body(self._bytes_max)
            self._more = message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            self._bytes_left -= len(piece)
            if self._bytes_left < 0:
                raise _too_large(self._bytes_max)
            if not self._more:
                self._downstream.body_done()
            if piece:
                return piece
        raise StopAsyncIteration


def announced_bytes(scope: Scope) -> int | None:
    """The length of the request's body, where its head tells it in digits."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) <= _LENGTH_DIGITS_MAX else None
    return None


def _refuse_truncated(tap: UsageTap) -> None:
    if tap.saw_end is None:  # no stream, or one whose end nobody knows: its usage is read once it is on its way
        return
    tap.close()
    if tap.saw_end is False:
        raise UpstreamTruncated("The stream ended without its last event: what came is not the whole answer.")


def _too_large(bytes_max: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is larger than the {bytes_max} bytes that this gateway takes.")
