"""The simulated provider over a socket: what gateways are measured against.

    python -m benchmarks.simulated_upstream --port 9000

It plays the scripts of `proxy.simulated` (whose `behaviour` says what a model's name asks for). Answers
that neither wait nor fail are remembered as bytes for the rest of the second, so that this
server is not what a benchmark measures; they repeat their ids for as long. In a test,
`SimulatedServer()` on port 0 remembers nothing.
"""

import argparse
import asyncio
import contextlib
import secrets
import signal
import socket
import ssl
import struct
import time
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple, Self, cast

import httptools
import uvloop

from benchmarks.simulated_wire import end_of, framed, head_of
from proxy.simulated.refusals import too_large
from proxy.simulated.script import refused, script
from proxy.simulated.steps import Fault, Script, Stamp, Step

BODY_BYTES_MAX: Final = 33_554_432
HANG_S_MAX: Final = 600.0
REMEMBERED_MAX: Final = 256
REMEMBERED_BYTES_MAX: Final = 65_536
SENT_NS: Final = b": sent_ns="
"""What a stamped event begins with: a comment with the instant at which it was written."""

COUNT_PATH: Final = "/requests-count"
"""Asked for this, the server says how many requests came before."""

_HEAD_BYTES: Final = 128
_WRITE_BYTES: Final = 65_536
_FLUSH_S: Final = 0.005
_NOT_HTTP: Final = b"HTTP/1.1 2OO Okay\r\n\r\n"
_BACKLOG: Final = 4_096


class Request(NamedTuple):
    """What decides an answer."""

    method: bytes
    target: bytes
    body: bytes
    keeps_alive: bool
    body_bytes: int = 0  # where only the body's beginning is kept


class SimulatedServer:
    """The provider on a port of its own. `async with SimulatedServer() as server: … server.base_url`."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        remembers: bool = False,
        by_head: bool = False,
        stamps_events: bool = False,
        stamps_slow_events: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self.requests_count = 0
        self.connections: set[_Connection] = set()
        self.all_gone = asyncio.Event()  # no connection is open
        self.all_gone.set()
        self._stamps_events, self._stamps_slow_events = stamps_events, stamps_slow_events
        self._by_head = by_head  # bodies that begin alike and are as long get the same remembered answer
        self._certificate = certificate  # PEM, with its secret: what it serves is TLS
        self._host, self._port = host, port
        self._remembers = remembers
        self._remembered: dict[Request, bytes] = {}
        self._remembered_at_s = 0
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL; known once started."""
        return f"{'https' if self._certificate else 'http'}://{self._host}:{self._port}/v1"

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        tls = None
        if self._certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self._certificate)
        self._server = await loop.create_server(
            lambda: _Connection(self), self._host, self._port, backlog=_BACKLOG, ssl=tls
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break every connection."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def answer(self, request: Request) -> bytes | Script:
        """The whole answer as bytes, where it is remembered; else the script to play."""
        self.requests_count += 1
        now_s = int(time.time())
        if now_s != self._remembered_at_s:  # a new second: the `date` and `created` of the old one are stale
            self._remembered.clear()
            self._remembered_at_s = now_s
        asked = request
        if self._by_head:
            asked = request._replace(body=request.body[:_HEAD_BYTES], body_bytes=len(request.body))
        known = self._remembered.get(asked)
        if known is not None:
            return known
        if request.target == COUNT_PATH.encode():
            count = b"%d" % (self.requests_count - 1)
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(count), count)
        stamp = Stamp(now_s, secrets.token_hex(16))
        if len(request.body) > BODY_BYTES_MAX:
            return refused(too_large(), stamp)
        answer = script(request.method.decode("ascii"), request.target.decode("latin-1"), request.body, stamp)
        return self._rendered(asked, answer)

    def stamps(self, answer: Script) -> bool:
        """Whether its events say when they were written."""
        wanted = self._stamps_events or (self._stamps_slow_events and not answer.is_instant)
        return wanted and answer.is_chunked

    def _rendered(self, request: Request, answer: Script) -> bytes | Script:
        if not self._remembers or self.stamps(answer) or not answer.is_instant:
            return answer
        rendered = head_of(answer) + b"".join(framed(step, answer) for step in answer.steps) + end_of(answer)
        if len(rendered) <= REMEMBERED_BYTES_MAX and len(self._remembered) < REMEMBERED_MAX:
            self._remembered[request] = rendered
        return rendered


class _Connection(asyncio.Protocol):
    """One client. One answer is played at a time; what arrives meanwhile waits its turn."""

    __slots__ = (
        "_answer",
        "_body",
        "_body_bytes",
        "_due_s",
        "_is_due",
        "_is_paused",
        "_loop",
        "_next_step",
        "_parser",
        "_pending",
        "_request",
        "_server",
        "_target",
        "_timer",
        "_transport",
    )

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._pending: deque[Request] = deque()
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._target = b""
        self._request: Request | None = None  # what is being answered by a script
        self._answer: Script | None = None
        self._next_step = 0
        self._due_s = 0.0  # when the next step's delay is over, on the loop's clock
        self._is_due = False  # it is over
        self._is_paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    # ── what asyncio and the parser call ─────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have no such base class
        self._server.connections.add(self)
        self._server.all_gone.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        if not self._server.connections:
            self._server.all_gone.set()
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
            return
        # Read on while an answer is played, so that a client that hangs up is noticed, unless it sends more.
        if self._pending and self._transport is not None:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._answer is not None and self._timer is None:
            self._play()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, chunk: bytes) -> None:
        self._body_bytes += len(chunk)
        if self._body_bytes <= BODY_BYTES_MAX + len(chunk):  # one more than is read says that it is too large
            self._body.append(chunk)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(self._parser.get_method(), self._target, body, self._parser.should_keep_alive())
        self._target, self._body, self._body_bytes = b"", [], 0
        if self._answer is None and not self._pending:
            self._respond(request)
        else:
            self._pending.append(request)

    # ── playing a script ─────────────────────────────────────────────────────────────────

    def _respond(self, request: Request) -> None:
        transport = self._transport
        if transport is None:
            return
        answer = self._server.answer(request)
        if isinstance(answer, bytes):
            transport.write(answer)
            if not request.keeps_alive:
                transport.close()
            return
        self._request, self._answer = request, answer
        self._next_step, self._due_s = 0, self._loop.time()
        self._play()

    def _resume(self) -> None:
        self._timer = None
        self._is_due = True
        if not self._is_paused:
            self._play()

    def _play(self) -> None:
        """Write every step that is due; come back for the others. Instants are counted from the
        answer's beginning, so that one late step does not make the others late."""
        answer, size_bytes = self._answer, 0
        out: list[bytes] = []
        assert answer is not None, "nothing is played without a script"
        while self._next_step < len(answer.steps) and not self._is_paused:
            step = answer.steps[self._next_step]
            if step.delay_ms and not self._is_due:
                self._due_s += step.delay_ms / 1_000
                self._write(out)
                self._timer = self._loop.call_at(self._due_s, self._resume)
                return
            self._is_due = False
            if step.fault is not None:
                self._write(out)
                self._fail(step.fault)
                return
            out.append(self._wire(step, answer))
            size_bytes += len(out[-1])
            self._next_step += 1
            if size_bytes >= _WRITE_BYTES:
                self._write(out)
                out, size_bytes = [], 0
        if self._next_step < len(answer.steps):  # the client reads too slowly: `resume_writing` goes on
            self._write(out)
            return
        out.append(end_of(answer))
        self._write(out)
        self._finish()

    def _wire(self, step: Step, answer: Script) -> bytes:
        if self._server.stamps(answer):
            stamped = b"%b%d\n%b" % (SENT_NS, time.monotonic_ns(), step.chunk)
            step = Step(step.delay_ms, stamped)
        wire = framed(step, answer)
        return head_of(answer) + wire if self._next_step == 0 else wire

    def _write(self, out: list[bytes]) -> None:
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def _finish(self) -> None:
        request, self._request, self._answer = self._request, None, None
        if self._transport is None or request is None:
            return
        if not request.keeps_alive:
            self._transport.close()
        elif self._pending:
            self._loop.call_soon(self._next)
        else:
            self._transport.resume_reading()

    def _next(self) -> None:
        while self._answer is None and self._pending:
            self._respond(self._pending.popleft())
        if not self._pending and self._transport is not None:
            self._transport.resume_reading()

    def _fail(self, fault: Fault) -> None:
        if fault is Fault.HANG:
            self._timer = self._loop.call_later(HANG_S_MAX, self.abort)
        elif fault is Fault.RESET:
            self._timer = self._loop.call_later(_FLUSH_S, self._reset)
        elif self._transport is not None:
            self._transport.write(_NOT_HTTP)
            self._transport.close()

    def _reset(self) -> None:
        """Break the connection with a RST, once what was written before is on its way."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._timer = self._loop.call_later(_FLUSH_S, self._reset)
            return
        connection = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError), socket.socket(fileno=socket.dup(connection.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = SimulatedServer(
        arguments.host,
        arguments.port,
        remembers=not arguments.fresh,
        by_head=arguments.by_head,
        stamps_events=arguments.stamp_events,
        stamps_slow_events=arguments.stamp_slow_events,
        certificate=arguments.certificate,
    )
    async with server:
        print(server.base_url, flush=True)
        await stop.wait()  # until a signal: that is what a server does


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulated_upstream",
        description="A provider that makes its answers up, over HTTP/1.1. Prints its base URL once it listens.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9_000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="make every answer anew; slower, but no id repeats")
    parser.add_argument("--by-head", action="store_true", help="one answer for bodies that begin alike and are as long")
    parser.add_argument("--stamp-events", action="store_true", help="say in each event when it was written")
    parser.add_argument("--stamp-slow-events", action="store_true", help="the same, of streams that take time alone")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="serve TLS, with this certificate and its key")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
