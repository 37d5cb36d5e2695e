"""The wire to one client: HTTP/1.1 in, under limits, and answers out. uvicorn's `http=` class.

It stands on httptools itself and takes from uvicorn only what that gives to every protocol
class: uvicorn's own has no limit on a head's size or on time, starts pipelined requests and
so loses sight of hang-ups, and leaves a chunk that nobody reads waiting for ever.

    HEAD ──head complete──▶ BODY ──last byte──▶ ANSWERING ──answer complete──▶ HEAD
      │                      │                      │
      └──────refused─────────┴──answered too early──┴──pipelined, or no keep-alive──▶ CLOSING

A limit that is passed is answered in OpenAI's envelope; then the connection is half-closed
and read on for a moment, so that the client reads the answer instead of a reset.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from proxy.adapters.busy_poll import BusyPoll
from proxy.adapters.queued_writes import QueuedWrites
from proxy.core.errors import GatewayError, RequestTimedOut
from proxy.edge.connection import Connection, serving, socket_address
from proxy.edge.deadline import Deadline
from proxy.edge.framing import ProtocolLimits
from proxy.edge.head import Head, KnownHeads
from proxy.edge.pace import BodyPace
from proxy.edge.problems import render_raw
from proxy.edge.reader import RequestReader
from proxy.edge.sockets import reset_on_close, unsent_bytes

OnRefused: TypeAlias = Callable[[GatewayError, tuple[str, int] | None], None]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LIMITS: Final = ProtocolLimits()


class _Phase(Enum):
    HEAD = "head"  # between requests, too
    BODY = "body"
    ANSWERING = "answering"  # the request is complete, its answer is not
    CLOSING = "closing"  # nothing more is served; what still comes is thrown away


_HEAD, _BODY, _ANSWERING, _CLOSING = _Phase  # CPython 3.11 takes ten times as long to find one through its class


class TollwayProtocol(asyncio.Protocol):
    """One client's connection, within the limits that it was given."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ProtocolLimits = _LIMITS,
        known_heads: KnownHeads | None = None,
        busy_poll: BusyPoll | None = None,
        writes: QueuedWrites | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        """`known_heads`, `busy_poll`, by which a next request is waited for, and `writes` are those of all connections;
        `on_refused` hears of what is refused before the application, and by whom it was sent."""
        if not config.loaded:
            config.load()
        self._serve = serving(config.loaded_app)
        self._keep_alive_s = config.timeout_keep_alive
        self._state = server_state
        self._connections = cast("set[asyncio.Protocol]", server_state.connections)
        self._tasks = server_state.tasks
        self._loop = _loop or asyncio.get_running_loop()
        self.limits = limits
        self._on_refused = on_refused
        self._known_heads = KnownHeads() if known_heads is None else known_heads
        self._busy_poll = BusyPoll(self._loop) if busy_poll is None else busy_poll
        self._writes = QueuedWrites(self._loop) if writes is None else writes
        self._unwritten = b""  # what leaves at the end of the loop's turn
        self._reader: RequestReader | None = None
        self._transport: asyncio.Transport
        self._phase = _HEAD
        self._connection: Connection | None = None
        self._closes_pipelined = False
        self._discarded_bytes = 0
        self._closing_bytes = 0
        self._pace = BodyPace(self.limits)
        self._read_paused = False
        self._deadline = Deadline(self._loop, self._expired)
        self._body_left_s: float | None = None  # what the body's window still has, while we do not read
        self.writable: asyncio.Event | None = None  # set only while the client is slow

    # ── asyncio's side ───────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        high = self.limits.write_buffer_bytes_max
        self._transport.set_write_buffer_limits(high=high, low=high // 4)
        self.client = socket_address(transport.get_extra_info("peername"))
        self.server = socket_address(transport.get_extra_info("sockname"))
        peer = None if self.client is None else self.client[0]
        self._reader = RequestReader(self, self.limits, self._known_heads, peer)
        self.scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self._connections.add(self)
        self._deadline.set(self.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._phase = _CLOSING
        self._unwritten = b""
        self._deadline.close()
        self.resume_writing()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lost()

    def eof_received(self) -> None:
        """Half-closed counts as gone: a hang-up looks the same."""
        # Told now: the transport first waits until what was written is taken, by one who may never read.
        if self._connection is not None:
            self._connection.lost()
        self._close()

    def pause_writing(self) -> None:
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def data_received(self, data: bytes) -> None:
        self._busy_poll.end()
        phase = self._phase
        if phase is _ANSWERING or phase is _CLOSING:
            self._discard(data)
            return
        reader = self._reader
        assert reader is not None
        is_new = False
        try:
            if phase is _HEAD:
                is_new = reader.feed_head(data)
            else:
                self._pace.feed_wire(len(data))
                reader.feed_body(data)
        except GatewayError as refusal:
            if self._phase is _ANSWERING:
                self._stop_at_pipelined()  # the request is whole; what follows it in the same bytes is not served
            else:
                self._refuse(refusal)
            return
        # A request that came whole is being answered by now: nothing to watch.
        if self._phase is _BODY:
            self._watch_body(new=phase is _HEAD)
        elif is_new and self._phase is _HEAD:
            self._deadline.set(self.limits.head_s)

    # ── the reader's side ────────────────────────────────────────────────────────────────

    def request_begun(self, head: Head, headers: list[tuple[bytes, bytes]] | None, announced_bytes: int | None) -> None:
        connection = self._connection = Connection(self, head, headers, announced_bytes)
        self._phase = _BODY
        self._pace.begin()
        task = connection.task = self._loop.create_task(connection.run(self._serve))
        self._tasks.add(task)

    def body_came(self, body: bytes) -> None:
        connection = self._connection
        assert connection is not None
        self._pace.feed(len(body))
        if connection.awaits_continue:  # it was announced that it would wait, and it did not
            connection.awaits_continue = False
            self._begin_body_window()
        connection.feed(body)

    def request_ended(self) -> None:
        assert self._connection is not None
        self._phase = _ANSWERING
        self._deadline.clear()
        # Nothing of this request is to come: from here on we read to see the client hang up.
        self.resume_reading()
        self._connection.feed_end()

    # ── the connection's side ────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Write: at once for a caller who is alone, else at the end of the loop's turn."""
        unwritten = self._unwritten
        if len(self._tasks) == 1 and not unwritten:
            self._transport.write(data)
        elif len(unwritten) + len(data) > self.limits.write_buffer_bytes_max:
            self._write_at_once(data)  # of so much it has to be known whether the client takes it
        elif unwritten:
            self._unwritten = unwritten + data
        else:
            self._unwritten = data
            self._writes.add(self._write_unwritten)

    def pending_bytes(self) -> int:
        """What was written and has not reached the client's machine: in this process, and in its kernel.

        Without the kernel's megabytes a slow reader would look like one that has stopped.
        """
        in_process = len(self._unwritten) + self._transport.get_write_buffer_size()
        return in_process + unsent_bytes(self._transport.get_extra_info("socket"))

    def send_continue(self) -> None:
        """Tell a client that holds its body back that it may send it; its time begins now."""
        self._write_at_once(_CONTINUE)
        self._begin_body_window()

    def pause_reading(self) -> None:
        """Stop reading a body that the application is slow to take; the client's time stops too."""
        if self._read_paused or self._transport.is_closing():
            return
        self._read_paused = True
        self._transport.pause_reading()
        self._body_left_s = self._deadline.take()

    def resume_reading(self) -> None:
        """Read on, if we had stopped."""
        if not self._read_paused:
            return
        self._read_paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        if self._body_left_s is not None and self._phase is _BODY:
            self._deadline.set(self._body_left_s)

    def served(self, connection: Connection) -> None:
        """The application has done its part. Its own task says so, since to be called back at its end costs more."""
        assert connection.task is not None
        self._tasks.discard(connection.task)

    def answer_complete(self, *, keep_alive: bool) -> None:
        """The answer's last byte is written: the next request, or the end."""
        self._state.total_requests += 1
        if self._transport.is_closing():
            return
        if self._phase is _BODY or self._closes_pipelined:
            self._linger()
        elif not keep_alive:
            self._close()
        else:
            self._phase = _HEAD
            if self._reader is not None:
                self._reader.begin_next()
            self._discarded_bytes = 0
            self._deadline.set(self._keep_alive_s)
            if len(self._tasks) == 1:  # this request's: nobody else is being served
                self._busy_poll.begin()

    def cut(self, *, flush: bool) -> None:
        """End the connection in the middle of an answer.

        With `flush` what was written is still sent: the framing shows that it is not all.
        Without, a client that must take the connection's end for the answer's end sees a reset.
        """
        if flush:
            self._close()
            return
        if not self._transport.is_closing():
            reset_on_close(self._transport.get_extra_info("socket"))
        self._phase = _CLOSING
        self._transport.abort()

    # ── the server's side ────────────────────────────────────────────────────────────────

    @property
    def is_new(self) -> bool:
        """True until its first request has begun: its caller has just connected, and is sending it."""
        return self._connection is None and self._phase is _HEAD

    def shutdown(self) -> None:
        """Drain: close now if nothing is under way, else after the answer. May be repeated."""
        if self._phase is _HEAD:
            self._close()
        elif self._connection is not None:
            self._connection.keep_alive = False

    def kill(self) -> None:
        """End the connection now, whatever is under way."""
        self._transport.abort()

    # ── limits ───────────────────────────────────────────────────────────────────────────

    def _watch_body(self, *, new: bool) -> None:
        connection = self._connection
        assert connection is not None
        if new:
            self._deadline.clear()
            if not connection.awaits_continue:
                self._begin_body_window()
        try:
            self._pace.check_framing()
        except GatewayError as refusal:
            self._refuse(refusal)

    def _begin_body_window(self) -> None:
        window_s = self._pace.begin_window()
        if self._read_paused:
            self._body_left_s = window_s
        else:
            self._deadline.set(window_s)

    def _expired(self) -> None:
        if self._phase is _HEAD:
            if self._reader is not None and self._reader.begun:
                self._refuse(RequestTimedOut(f"The headers did not arrive within {self.limits.head_s:g} s."))
            else:
                self._close()
        elif self._phase is _BODY:
            self._body_window_ended()
        elif self._phase is _CLOSING:
            if not self._transport.is_closing() or self.pending_bytes() < self._closing_bytes:
                self._close()  # lingered enough; or slow, but it takes what is left
            else:
                self._transport.abort()

    def _body_window_ended(self) -> None:
        assert self._connection is not None
        if self._connection.head_sent:  # answered early: the rest is not waited for
            return
        try:
            self._deadline.set(self._pace.end_window())
        except GatewayError as refusal:
            self._refuse(refusal)

    # ── writing ──────────────────────────────────────────────────────────────────────────

    def _write_at_once(self, data: bytes) -> None:
        self._write_unwritten()
        self._transport.write(data)

    def _write_unwritten(self) -> None:
        unwritten, self._unwritten = self._unwritten, b""
        if unwritten and not self._transport.is_closing():
            self._transport.write(unwritten)

    # ── endings ──────────────────────────────────────────────────────────────────────────

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._phase is _CLOSING:
            if self._discarded_bytes > self.limits.linger_bytes_max:
                self._transport.abort()
            return
        if data.strip(b"\r\n"):  # an empty line after a body is an old client's habit
            self._stop_at_pipelined()
        if self._discarded_bytes > self.limits.pipelined_bytes_max:
            self._transport.abort()

    def _stop_at_pipelined(self) -> None:
        assert self._connection is not None
        self._closes_pipelined = True
        self._connection.keep_alive = False

    def _refuse(self, error: GatewayError) -> None:
        """Answer before the application, or instead of it, and close."""
        if self._transport.is_closing():
            return
        if self._on_refused is not None:
            self._on_refused(error, self.client)
        connection = self._connection
        if connection is not None and not connection.complete:
            connection.lost()
            if connection.head_sent:  # two answers are worse than half a one
                self.cut(flush=False)
                return
        self._write_at_once(render_raw(error))
        self._linger()

    def _linger(self) -> None:
        self._write_unwritten()
        self._phase = _CLOSING
        self._discarded_bytes = 0
        self.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._deadline.set(self.limits.linger_s)

    def _close(self) -> None:
        self._write_unwritten()
        self._phase = _CLOSING
        # What is left in the buffer is sent first, to a client that may never read it.
        self._closing_bytes = self.pending_bytes()
        self._transport.close()
        self._deadline.set(self.limits.write_stall_s)
