"""Two ports on one loop, and how they end: drained on the first signal, at once on the second.

Order at the end: readiness says no, the data port stops accepting, what is under way is
finished within `drain_s`, the rest is cancelled and waited for, and only then does the admin
port close, so that the drain can be watched. Whoever called `serve` then settles and leaves.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, cast

import uvicorn
from starlette.types import ASGIApp

from proxy.edge.health import Readiness
from proxy.edge.protocol import OnRefused, TollwayProtocol
from proxy.edge.sockets import BindFailed, address_of, bind, remove_unix_file
from proxy.settings.model import ServerSettings

__all__ = ["BindFailed", "serve"]

_logger = logging.getLogger("tollway.edge")


# Longer than common clients keep an idle connection (5 s to 60 s): who closes last is never
# surprised by the other's close while it sends.
_KEEP_ALIVE_S: Final = 75
_ADMIN_DRAIN_S: Final = 2.0
# For tasks that were cancelled: long enough for what a `finally` has to write.
_CANCELLED_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.05
_BACKLOG_CONNECTIONS: Final = 2048


class _Stop:
    """What the signals ask for."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def ask(self) -> None:
        """Drain; asked again: end now."""
        self._readiness.draining = True
        if self.asked.is_set():
            self.now.set()
        self.asked.set()


class _Port(uvicorn.Server):
    """One listening port. uvicorn opens it; the end is ours.

    uvicorn's own end cancels tasks without waiting for them, which loses what their `finally`
    blocks write, and leaves open a connection that was accepted just before it.
    """

    def __init__(self, app: ASGIApp, bound: socket.socket, on_refused: OnRefused | None = None) -> None:
        config = uvicorn.Config(
            app,
            # It is called, and nothing else: a class with an argument filled in serves as well.
            http=cast("type[asyncio.Protocol]", partial(TollwayProtocol, on_refused=on_refused)),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,  # one of each reaches the client, and that is the upstream's
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            backlog=_BACKLOG_CONNECTIONS,
        )
        super().__init__(config)
        self._bound = bound

    async def open(self) -> None:
        """Accept connections."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets=[self._bound])

    async def drain(self, within_s: float, now: asyncio.Event) -> None:
        """Stop accepting, let what is under way finish, and end what does not."""
        self.stop_accepting()
        state = self.server_state
        loop = asyncio.get_running_loop()
        until_s = loop.time() + within_s
        while state.connections and not now.is_set() and loop.time() < until_s:
            for connection in tuple(state.connections):  # each time: one may have been accepted last
                connection.shutdown()
            await asyncio.sleep(_LOOK_EVERY_S)
        await self.end(now)

    async def end(self, now: asyncio.Event) -> None:
        """Cancel what is left, and wait for its last words."""
        state = self.server_state
        tasks = set(state.tasks)
        if tasks and not now.is_set() and not state.connections:
            # The answers are out; what a task still does after that is its own bookkeeping.
            _, tasks = await asyncio.wait(tasks, timeout=_CANCELLED_S)
        if tasks:
            _logger.warning("%d requests did not end in time, and are cut off", len(tasks))
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_CANCELLED_S)
        if tasks:
            _logger.error("%d requests did not end even when they were cancelled", len(tasks))
        self.kill_connections()

    def stop_accepting(self) -> None:
        """Close the listening socket."""
        for server in getattr(self, "servers", ()):  # uvicorn sets it when the port opens
            server.close()
        self._bound.close()

    def kill_connections(self) -> None:
        """Close every connection that is left."""
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, TollwayProtocol):
                connection.kill()


async def serve(
    *,
    data_app: ASGIApp,
    admin_app: ASGIApp,
    server_settings: ServerSettings,
    readiness: Readiness,
    on_reload: Callable[[], None],
    on_refused: OnRefused | None = None,
    announce: Callable[[str], None],
) -> None:
    """Serve both ports until SIGTERM or SIGINT, then drain and return.

    A second SIGTERM or SIGINT ends the drain at once; SIGHUP calls `on_reload`. `announce`
    gets one line for each port, once both accept connections, and one more where a drain has
    something to wait for: whoever pressed Ctrl-C must not take that for a process that hangs.

    Raises:
        BindFailed: an address is in use, or not this machine's. Nothing has started then.
    """
    stop = _Stop(readiness)
    with _bound(server_settings) as (data_socket, admin_socket):
        data, admin = _Port(data_app, data_socket, on_refused), _Port(admin_app, admin_socket)
        try:
            with _signals(stop, on_reload):
                await data.open()
                await admin.open()
                announce(f"Tollway listens on {_url(data_socket)}")
                announce(f"Health and metrics: {_url(admin_socket)}")
                await stop.asked.wait()  # as long as the process is to live
                if under_way := len(data.server_state.tasks):
                    announce(_farewell(under_way, server_settings.drain_s))
                await data.drain(server_settings.drain_s, stop.now)
                await admin.drain(_ADMIN_DRAIN_S, stop.now)
        finally:
            for port in (data, admin):
                port.stop_accepting()
                port.kill_connections()


@contextmanager
def _bound(settings: ServerSettings) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both sockets, or neither."""
    data_socket = bind(settings.bind, "[server] bind")
    try:
        admin_socket = bind(settings.admin_bind, "[server] admin_bind")
        try:
            yield data_socket, admin_socket
        finally:
            admin_socket.close()
            remove_unix_file(settings.admin_bind)
    finally:
        data_socket.close()
        remove_unix_file(settings.bind)


@contextmanager
def _signals(stop: _Stop, on_reload: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.ask)
    loop.add_signal_handler(signal.SIGINT, stop.ask)
    loop.add_signal_handler(signal.SIGHUP, on_reload)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _farewell(under_way: int, drain_s: float) -> str:
    what = "1 request is" if under_way == 1 else f"{under_way} requests are"
    return f"Stopping. {what} under way, for {drain_s:g} s at most; a second signal ends now."


def _url(bound: socket.socket) -> str:
    address = address_of(bound)
    return str(address) if address.unix_path is not None else f"http://{address}"
