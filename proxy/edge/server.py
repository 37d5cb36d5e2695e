"""Two ports on one loop, and how they end: drained on the first signal, at once on the second.

Order at the end: readiness says no, the data port stops accepting, what is under way is
finished within `drain_s`, the rest is cancelled and waited for, and only then does the admin
port close, so that the drain can be watched. Whoever called `serve` then settles and leaves.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final, cast

import uvicorn
from starlette.types import ASGIApp

from proxy.adapters.busy_poll import BusyPoll
from proxy.adapters.queued_writes import QueuedWrites
from proxy.edge.acceptor import Acceptor
from proxy.edge.head import KnownHeads
from proxy.edge.health import Readiness
from proxy.edge.orders import BEGUN, CLOSED, Stop, orders_heard, signals_heard, tell
from proxy.edge.place import Place
from proxy.edge.protocol import OnRefused, TollwayProtocol
from proxy.edge.sockets import ADMIN_SETTING, DATA_SETTING, BindFailed, both_bound, listen, url_of
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
# A connection that one of several workers accepted just before it was to stop: a sibling would have served it.
_NEW_S: Final = 1.0
_BACKLOG_CONNECTIONS: Final = 2048


class _Port(uvicorn.Server):
    """One listening port. uvicorn opens it; the end is ours.

    uvicorn's own end cancels tasks without waiting for them, which loses what their `finally`
    blocks write, and leaves open a connection that was accepted just before it.
    """

    def __init__(
        self,
        app: ASGIApp,
        bound: socket.socket,
        setting: str,
        on_refused: OnRefused | None = None,
        place: Place | None = None,
        *,
        takes_its_part: bool = False,
    ) -> None:
        """
        Args:
            setting: what names the address, for whom it is in use.
            place: where several processes listen on the socket, which one this is.
            takes_its_part: no more connections than the others have, if it can be helped.
        """
        self._make_protocol = partial(
            TollwayProtocol,
            known_heads=KnownHeads(),
            busy_poll=BusyPoll(asyncio.get_running_loop()),
            writes=QueuedWrites(asyncio.get_running_loop()),
            on_refused=on_refused,
        )
        config = uvicorn.Config(
            app,
            # It is called, and nothing else: a class with an argument filled in serves as well.
            http=cast("type[asyncio.Protocol]", self._make_protocol),
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
        self._setting = setting
        self._acceptor: Acceptor | None = None
        self._new_s = 0.0 if place is None else _NEW_S
        if place is not None and takes_its_part:
            connections = self.server_state.connections
            self._acceptor = Acceptor(bound, place.crowd, place.number, self._connect, lambda: len(connections))

    async def open(self) -> None:
        """Accept connections.

        Raises:
            BindFailed: another process was first.
        """
        listen(self._bound, self._setting, _BACKLOG_CONNECTIONS)
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        if self._acceptor is None:
            await self.startup(sockets=[self._bound])
        else:
            self._acceptor.start()

    async def _connect(self, accepted: socket.socket) -> None:
        protocol = partial(self._make_protocol, self.config, self.server_state, {})
        await asyncio.get_running_loop().connect_accepted_socket(protocol, accepted)

    async def drain(self, within_s: float, now: asyncio.Event) -> None:
        """Stop accepting, let what is under way finish, and end what does not."""
        self.stop_accepting()
        state = self.server_state
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while self._is_connected() and not now.is_set() and (passed_s := loop.time() - began_s) < within_s:
            for connection in tuple(state.connections):  # each time: one may have been accepted last
                if passed_s >= self._new_s or not (isinstance(connection, TollwayProtocol) and connection.is_new):
                    connection.shutdown()
            await asyncio.sleep(_LOOK_EVERY_S)
        await self.end(now)

    def _is_connected(self) -> bool:
        return bool(self.server_state.connections) or (self._acceptor is not None and self._acceptor.connecting > 0)

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
        """Close the listening socket: with siblings, this process's part in it."""
        if self._acceptor is not None:
            self._acceptor.stop()
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
    place: Place | None = None,
) -> None:
    """Serve both ports until SIGTERM or SIGINT, then drain and return.

    A second SIGTERM or SIGINT ends the drain at once; SIGHUP calls `on_reload`. `announce`
    gets one line for each port, once both accept connections, and one more where a drain has
    something to wait for: whoever pressed Ctrl-C must not take that for a process that hangs.

    With a `place` this is one of several workers: the ports are bound, the supervisor gives the
    orders, and what is said of the ports is its business.

    Raises:
        BindFailed: an address is in use, or not this machine's. No call was answered then.
    """
    stop = Stop(readiness)
    with ExitStack() as open_until_the_end:
        if place is None:
            data_socket, admin_socket = open_until_the_end.enter_context(both_bound(server_settings))
        else:
            data_socket, admin_socket = place.data_socket, place.admin_socket
        data = _Port(data_app, data_socket, DATA_SETTING, on_refused, place, takes_its_part=True)
        admin = _Port(admin_app, admin_socket, ADMIN_SETTING, place=place)

        def opened() -> None:
            if place is not None:
                tell(place.supervisor, BEGUN)
                return
            announce(f"Tollway listens on {url_of(data_socket)}")
            announce(f"Health and metrics: {url_of(admin_socket)}")

        heard = signals_heard(stop, on_reload) if place is None else orders_heard(stop, on_reload, place.supervisor)
        try:
            with heard:
                await _serve_both(data, admin, stop, server_settings.drain_s, opened, announce)
        finally:
            for port in (data, admin):
                port.stop_accepting()
                port.kill_connections()
            if place is not None:
                tell(place.supervisor, CLOSED)


async def _serve_both(
    data: _Port, admin: _Port, stop: Stop, drain_s: float, opened: Callable[[], None], announce: Callable[[str], None]
) -> None:
    await data.open()
    await admin.open()
    opened()
    await stop.asked.wait()  # as long as the process is to live
    if under_way := len(data.server_state.tasks):
        announce(_farewell(under_way, drain_s))
    await data.drain(drain_s, stop.now)
    await admin.drain(_ADMIN_DRAIN_S, stop.now)


def _farewell(under_way: int, drain_s: float) -> str:
    what = "1 request is" if under_way == 1 else f"{under_way} requests are"
    return f"Stopping. {what} under way, for {drain_s:g} s at most; a second signal ends now."
