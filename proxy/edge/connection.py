"""One request and its answer, as the application sees them: ASGI's two calls, and hanging up.

State lives here for the length of one request; the wire itself (`edge.protocol`) outlives it.
Told in one place: `request_complete`, `head_sent`, `complete` and `disconnected` only ever go
from False to True.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from proxy.core.errors import InternalError
from proxy.edge.answer_head import encode_head
from proxy.edge.head import Head
from proxy.edge.problems import render

if TYPE_CHECKING:
    from proxy.edge.protocol import TollwayProtocol

CONNECTION_EXTENSION: Final = "tollway.connection"
"""Where the scope's `extensions` carry the `Connection`."""

_JOINED_BYTES_MAX: Final = 65_536  # what is larger is not copied for the sake of one write

_logger = logging.getLogger("tollway.edge")


class Connection:
    """The caller of one request. In `scope["extensions"]`, so that no task has to wait for a hang-up."""

    __slots__ = (
        "_aborted",
        "_arrived",
        "_bodiless",
        "_body_given",
        "_buffered_bytes",
        "_callback",
        "_chunks",
        "_headers",
        "_http_1_0",
        "_length_left",
        "_unwritten_head",
        "_wire",
        "announced_bytes",
        "awaits_continue",
        "complete",
        "disconnected",
        "head",
        "head_sent",
        "keep_alive",
        "request_complete",
        "task",
    )

    def __init__(
        self,
        wire: "TollwayProtocol",
        head: Head,
        headers: list[tuple[bytes, bytes]] | None,
        announced_bytes: int | None,
    ) -> None:
        """`headers` as they came; None: those of a head that was told again."""
        self.head = head
        self.announced_bytes = announced_bytes  # of the request's body; None: there is none, or it comes in chunks
        self._wire = wire
        self._headers = headers
        self._bodiless = head.method == "HEAD"
        self._http_1_0 = head.http_version == "1.0"
        self._chunks: list[bytes] = []
        self._buffered_bytes = 0
        self._body_given = False
        self._arrived: asyncio.Event | None = None
        self._callback: Callable[[], object] | None = None
        self._aborted = False
        self._unwritten_head = b""
        self._length_left: int | None = None  # None: chunks, or until the connection's end
        self.awaits_continue = head.awaits_continue  # until it is told to go on, or does so unasked
        self.keep_alive = head.keep_alive
        self.request_complete = False  # the body's last byte is here
        self.head_sent = False
        self.complete = False  # the answer's last byte is written
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None  # what runs the application, set by the wire

    # ── for the application ──────────────────────────────────────────────────────────────

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        """Call back once, at once, when the caller hangs up before its answer is complete.

        One callback: a later one takes the place of an earlier one, None takes it away. If the
        caller is gone already, it is called now. It is not called for `abort`. A hang-up behind
        body that the application has not read is seen only once it reads on.
        """
        self._callback = callback
        if self.disconnected:
            self._tell()

    def abort(self) -> None:
        """Close without a clean end, so that nobody takes what was sent for a whole answer.

        What was written before is still delivered where the framing shows that it is cut.
        """
        if self.disconnected or self.complete:
            return
        self._aborted = True
        self._callback = None
        if self._unwritten_head:
            self._write(b"")
        self.lost()
        framed = self._length_left is not None or not self._http_1_0
        self._wire.cut(flush=self.head_sent and framed)

    async def write_drained(self) -> None:
        """Wait until the caller has taken what was written, so that more may be.

        A caller that takes nothing for `write_stall_s` is cut off; then, too, this returns.
        """
        wire = self._wire
        while (writable := wire.writable) is not None and not self.disconnected:
            pending_bytes = wire.pending_bytes()
            try:
                async with asyncio.timeout(wire.limits.write_stall_s):
                    await writable.wait()
            except TimeoutError:
                if wire.pending_bytes() >= pending_bytes:
                    self.lost()
                    wire.cut(flush=False)

    def take_scope(self) -> Scope:
        """ASGI's scope of the request: to be asked for once, and the application's own then."""
        head, headers, wire = self.head, self._headers, self._wire
        self._headers = None
        if not head.scope:
            head.scope = http_scope(head)
        if headers is None:
            assert self.announced_bytes is not None, "only a head that tells a length is told again"
            headers = head.with_length(self.announced_bytes)
        return {
            **head.scope,
            "scheme": wire.scheme,
            "client": wire.client,
            "server": wire.server,
            "headers": headers,
            "extensions": {CONNECTION_EXTENSION: self},
        }

    async def receive(self) -> Message:
        """ASGI's receive: the body in pieces, then `http.disconnect` once the exchange is over."""
        while not (self.disconnected or self.complete):
            if self._chunks or (self.request_complete and not self._body_given):
                body = self._take_body()
                return {"type": "http.request", "body": body, "more_body": not self.request_complete}
            if self.awaits_continue:
                self.awaits_continue = False
                self._wire.send_continue()
            if self._arrived is None:
                self._arrived = asyncio.Event()
            self._arrived.clear()
            # Bounded by the wire, which ends a request whose body stays away.
            await self._arrived.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's send. Returns when more may be written; says nothing to a caller who is gone."""
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body":
            self.put(message.get("body", b""), more=message.get("more_body", False))
        elif kind == "http.response.start":
            self.start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"the ASGI message {kind!r} has no place in an answer")
        if self.is_slow:
            await self.write_drained()

    def whole_body(self) -> bytes | None:
        """The request's body, if all of it is here and none was taken: `receive` without its wait."""
        if self._body_given or not self.request_complete or self.disconnected:
            return None
        return self._take_body()

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begin the answer: `http.response.start` without its message. Says nothing to a caller who is gone."""
        if self.disconnected:
            return
        if self.head_sent:
            raise RuntimeError("the answer has begun already")
        self._send_head(status, headers)

    def put(self, body: bytes, *, more: bool) -> None:
        """Go on with the answer, and end it unless there is more: `http.response.body`. Wait for
        `write_drained` before the next where `is_slow`."""
        if self.disconnected:
            return
        if self.complete or not self.head_sent:
            raise RuntimeError("a piece of the body has no place at this point of the answer")
        self._send_body(body, more)

    @property
    def is_slow(self) -> bool:
        """True while the caller is behind with taking what was written."""
        return self._wire.writable is not None and not self.complete

    # ── for the wire ─────────────────────────────────────────────────────────────────────

    async def run(self, serve: "Serve") -> None:
        """Let the application answer, and end the answer for it where it does not."""
        try:
            await serve(self)
            if not (self.complete or self.disconnected):
                raise RuntimeError("the application returned before its answer was complete")
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception:
            if not self._aborted:
                _logger.exception("A request failed inside the application.")
            self._fail()
        finally:
            self._callback = None
            self._wire.served(self)

    def feed(self, body: bytes) -> None:
        """Take a piece of the body off the wire."""
        self._chunks.append(body)
        self._buffered_bytes += len(body)
        if self._buffered_bytes > self._wire.limits.body_buffer_bytes_max:
            self._wire.pause_reading()
        if self._arrived is not None:
            self._arrived.set()

    def feed_end(self) -> None:
        """The body is complete."""
        self.request_complete = True
        if self._arrived is not None:
            self._arrived.set()

    def lost(self) -> None:
        """The caller is gone, or is to be treated so."""
        if self.disconnected or self.complete:
            return
        self.disconnected = True
        if self._arrived is not None:
            self._arrived.set()
        self._tell()

    # ── inside ───────────────────────────────────────────────────────────────────────────

    def _take_body(self) -> bytes:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered_bytes = 0
        self._body_given = self.request_complete
        self._wire.resume_reading()
        return body

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._bodiless = self._bodiless or status in (204, 304)
        block, length, close = encode_head(
            status,
            headers,
            bodiless=self._bodiless,
            chunked_allowed=not self._http_1_0,
            close=not (self.keep_alive and self.request_complete),
        )
        self.head_sent = True
        self.awaits_continue = False
        self.keep_alive = not close
        self._length_left = 0 if self._bodiless else length
        # It waits for the body's first piece: each write is a system call and wakes the client.
        self._unwritten_head = block

    def _write(self, data: bytes) -> None:
        head, self._unwritten_head = self._unwritten_head, b""
        if head and len(data) <= _JOINED_BYTES_MAX:
            data = head + data
        elif head:
            self._wire.write(head)
        if data:
            self._wire.write(data)

    def _send_body(self, body: bytes, more: bool) -> None:
        if self._bodiless:
            self._write(b"")
        elif self._length_left is not None:
            left = self._length_left - len(body)
            if left < 0 or (left > 0 and not more):
                raise RuntimeError("the answer's body is not as long as its content-length")
            self._length_left = left
            if body or not more:
                self._write(body)
        elif self._http_1_0:
            self._write(body)
        elif body:
            self._write(b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else b"0\r\n\r\n"))
        elif not more:
            self._write(b"0\r\n\r\n")
        if not more:
            self.complete = True
            if self._arrived is not None:
                self._arrived.set()
            self._callback = None
            self._wire.answer_complete(keep_alive=self.keep_alive)

    def _fail(self) -> None:
        if self.head_sent:
            self.abort()
        elif not self.disconnected:
            status, headers, body = render(InternalError("The gateway failed. Try again."), None)
            self.keep_alive = False
            self._send_head(status, headers)
            self._send_body(body, more=False)

    def _tell(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


Serve: TypeAlias = Callable[[Connection], Awaitable[None]]


def serving(app: ASGIApp) -> Serve:
    """How the application serves a connection: as it is, where it says so, else by the scope that it is told of."""

    async def serve_by_scope(connection: Connection) -> None:
        await app(connection.take_scope(), connection.receive, connection.send)

    own: Serve | None = getattr(app, "serve_connection", None)
    return serve_by_scope if own is None else own


def connection_of(scope: Scope) -> Connection | None:
    """Our own wire's connection; None behind a host application's server."""
    connection: Connection | None = (scope.get("extensions") or {}).get(CONNECTION_EXTENSION)
    return connection


def http_scope(head: Head) -> dict[str, Any]:
    """ASGI's scope of a request, less its headers, its extensions and the addresses."""
    raw_path, _, query = head.target.partition(b"?")  # in ASCII, says `check_head`
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.http_version,
        "method": head.method,
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
    }


def socket_address(name: object) -> tuple[str, int] | None:
    """A peer's host and port; None on a Unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
