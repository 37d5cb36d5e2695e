"""One request and its answer on a connection: who waits for what, until when, and its end.

State, all of it here: `_connection` is set while the round trip owns one, and exactly one of
three things takes it away: the answer is complete, something failed, the caller let go.
`is_sent` says that the request is out; `head` that the answer's head is in; `_ended` that the
whole answer is; `_error` what broke it. Chunks that arrived are given out before an error is.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import httpx

from proxy.adapters.http.framing import ResponseHead, ResponseReader
from proxy.adapters.http.upload import Upload

if TYPE_CHECKING:
    from proxy.adapters.http.connection import Connection

WAITING_BYTES_MAX: Final = 32_768  # of a body: what is larger has no reader who waits for the next one
BUFFERED_BYTES_MAX: Final = 65_536  # beyond this nothing is read until the caller has taken it

Timeouts: TypeAlias = Mapping[str, float | None]
"""Seconds, by name: connect, pool, write, first_byte, idle, total; httpx's read stands in for
first_byte and idle. What is absent or None does not bound."""


class Bounds(NamedTuple):
    """How long each wait may last, in seconds, to be kept; infinite where nothing bounds it."""

    connect: float = math.inf
    pool: float = math.inf
    write: float = math.inf
    first_byte: float = math.inf
    idle: float = math.inf
    total: float = math.inf

    @staticmethod
    def of(timeouts: Timeouts) -> "Bounds":
        """What `timeouts` say."""
        told = {name: bound for name, bound in timeouts.items() if bound is not None}
        read = told.get("read", math.inf)
        told = {"first_byte": read, "idle": read, **told}
        return Bounds(*(told.get(name, math.inf) for name in Bounds._fields))


class RoundTrip(httpx.AsyncByteStream):
    """The stream of one answer's raw body, and everything that happens until its end."""

    __slots__ = (
        "_bounds",
        "_buffered_bytes",
        "_chunks",
        "_connection",
        "_ended",
        "_error",
        "_loop",
        "_phase",
        "_phase_until",
        "_total_until",
        "_unsent_bytes",
        "_upload",
        "_waiter",
        "head",
        "is_sent",
    )

    def __init__(self, connection: "Connection", bounds: Bounds, total_until: float) -> None:
        self.head: ResponseHead | None = None
        self.is_sent = False
        self._loop = connection.loop
        self._connection: Connection | None = connection
        self._bounds = bounds
        self._total_until = total_until
        self._phase = ""  # which bound holds, if any: write, first_byte, or idle once the body has begun
        self._phase_until = math.inf
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._buffered_bytes = 0
        self._ended = False
        self._error: BaseException | None = None
        self._unsent_bytes = 0
        self._upload: Upload | None = None

    # What the caller does.

    def send(self, head: bytes, content: bytes, *, bodiless: bool, may_wait: bool) -> None:
        """Write a whole request, whose answer will have no body if `bodiless`; where it may wait, and is not large, at
        the end of the loop's turn."""
        connection = self._connection
        assert connection is not None
        connection.begin(self, bodiless=bodiless)
        if may_wait and len(content) <= WAITING_BYTES_MAX:
            connection.write_soon(head + content)
            return
        connection.write(head, content)
        self.left()

    def send_streamed(
        self, head: bytes, body: AsyncIterator[bytes], content_length: int | None, *, bodiless: bool
    ) -> None:
        """Write a head now, and the body as it comes, in a task of its own: the answer may
        come first, and ends it."""
        connection = self._connection
        assert connection is not None
        connection.begin(self, bodiless=bodiless)
        connection.write(head, b"")
        connection.wake_by(self._total_until)
        self._upload = Upload(
            connection,
            body,
            content_length,
            on_sent=self._upload_sent,
            on_stalled=self._upload_stalled,
            on_failed=self.fail,
        )

    async def wait_head(self) -> ResponseHead:
        """Wait for the answer's head.

        Raises:
            httpx.ReadTimeout, WriteTimeout, ReadError, WriteError, RemoteProtocolError,
            httpx.LocalProtocolError: a streamed body that is not as long as was said.
            Whatever a streamed body itself raises.
        """
        if self.head is None and self._error is None:
            await self._wait()
        if self.head is not None:
            return self.head
        assert self._error is not None
        raise self._error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes of the body, as they came: never empty.

        Raises:
            httpx.ReadTimeout, ReadError, RemoteProtocolError: the body broke off.
        """
        while True:
            if self._buffered_bytes:
                return self.take()
            if self._ended:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            if self._phase == "idle":
                self._enter("idle", self._loop.time() + self._bounds.idle)
            await self._wait()

    def take(self) -> bytes:
        """What has come of the body by now and was not taken yet; often nothing."""
        chunks = self._chunks
        chunk = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._buffered_bytes = 0
        if self._connection is not None:
            self._connection.resume_reading()
        return chunk

    async def aclose(self) -> None:
        """Let go: of the connection too, unless the answer is complete. Safe at any moment."""
        if self._connection is not None or self._buffered_bytes:
            self.abort()

    def abort(self) -> None:
        """`aclose`, at once."""
        is_unread = bool(self._chunks)
        self._chunks.clear()
        self._buffered_bytes = 0
        if self._connection is not None:
            self.fail(httpx.ReadError("the answer was closed before its end"))
        elif is_unread:
            # A complete answer that was not read: who iterates now must not take it for an empty one.
            self._ended = False
            self._error = httpx.ReadError("the answer was closed before it was read")

    # What the connection tells.

    def left(self) -> None:
        """The request was written."""
        connection = self._connection
        assert connection is not None
        if connection.is_write_paused:
            self._await_drain(connection)
            return
        self.is_sent = True
        self._await_first_byte()

    def advance(self, reader: ResponseReader) -> None:
        """Take what the reader has read so far, and wake whoever waits for it. If that is the whole
        answer, the connection goes its own way."""
        if self.head is None:
            if reader.head is None:
                return
            self.head = reader.head
            if not self.is_sent:
                self._stop_sending()
        pieces = reader.pieces
        if pieces:
            chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._chunks.append(chunk)
            self._buffered_bytes += len(chunk)
        if reader.is_complete:
            self._connection = None
            self._ended = True
        elif self._buffered_bytes:
            self._phase = "idle"  # which is bounded only while somebody waits
            self._phase_until = math.inf
            if self._buffered_bytes > BUFFERED_BYTES_MAX:
                assert self._connection is not None
                self._connection.pause_reading()
        self._wake()

    def fail(self, error: BaseException) -> None:
        """There will be no more of this answer. Takes the connection down."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._error = error
        if self._upload is not None:
            self._upload.stop()
        connection.close()
        self._wake()

    def lost(self, reason: Exception | None) -> None:
        """The connection is gone."""
        because = f": {reason}" if reason is not None else ""
        if self.head is not None:
            self.fail(httpx.ReadError(f"the upstream closed the connection in the middle of its answer{because}"))
        elif self.is_sent:
            self.fail(httpx.ReadError(f"the upstream closed the connection before answering{because}"))
        else:
            self.fail(httpx.WriteError(f"the upstream closed the connection while the request was sent{because}"))

    def drained(self) -> None:
        """All that was written is on its way."""
        self._phase_until = math.inf
        if self._upload is None:
            self._sent()
        else:
            self._upload.room_came()

    def expire(self, now: float) -> None:
        """The deadline that the connection was told may have come: see which, if any."""
        connection = self._connection
        assert connection is not None
        if now >= self._total_until:
            self.fail(httpx.ReadTimeout(f"no complete answer within the total of {self._bounds.total:g} s"))
            return
        if now >= self._phase_until:
            if self._phase != "write":
                self.fail(httpx.ReadTimeout(self._overdue()))
                return
            unsent_bytes = connection.unsent_bytes
            if unsent_bytes >= self._unsent_bytes:
                self.fail(httpx.WriteTimeout(self._overdue()))
                return
            self._await_drain(connection)
        connection.wake_by(min(self._phase_until, self._total_until))

    def _overdue(self) -> str:
        bounds = self._bounds
        waited_for, bound_s = {
            "write": ("nothing of the request could be sent", bounds.write),
            "first_byte": ("no first byte of an answer", bounds.first_byte),
            "idle": ("nothing more of the answer", bounds.idle),
        }[self._phase]
        return f"{waited_for} within {bound_s:g} s ({self._phase})"

    # Inside.

    def _enter(self, phase: str, until: float) -> None:
        connection = self._connection
        assert connection is not None
        self._phase = phase
        self._phase_until = until
        connection.wake_by(until if until < self._total_until else self._total_until)

    def _await_first_byte(self) -> None:
        self._enter("first_byte", self._loop.time() + self._bounds.first_byte)

    def _await_drain(self, connection: "Connection") -> None:
        # A large body may take long: the bound is on progress.
        self._unsent_bytes = connection.unsent_bytes
        self._enter("write", self._loop.time() + self._bounds.write)

    def _sent(self) -> None:
        self.is_sent = True
        if self.head is None:
            self._await_first_byte()

    def _stop_sending(self) -> None:
        # Answered early: what is left of a streamed body need not be sent any more. Said before the
        # caller is woken, so that it finds its body's source let go.
        if self._upload is not None:
            self._upload.stop()
        self._await_first_byte()

    async def _wait(self) -> None:
        assert self._waiter is None, "one reader at a time"
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _upload_sent(self) -> None:
        if self._connection is not None:
            self._sent()

    def _upload_stalled(self) -> None:
        assert self._connection is not None, "who let go of it has stopped the upload"
        self._await_drain(self._connection)
