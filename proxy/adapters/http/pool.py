"""The connections to one origin: at most so many, the most recently used one first.

Invariant: `_open` counts connections that exist or are being made, and slots that were
promised to a waiter; while anybody waits, none of them is idle and none is free.
"""

import asyncio
import math
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import httpx

from proxy.adapters.busy_poll import BusyPoll
from proxy.adapters.http.connection import Connection
from proxy.adapters.http.round_trip import Bounds
from proxy.adapters.queued_writes import QueuedWrites

_CROWD_MIN: Final = 8  # requests under way
_TOGETHER_MIN: Final = 3  # requests that left in one turn


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads."""

    host: str
    port: int
    ssl_context: ssl.SSLContext | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Pool:
    """Lends connections to one origin, and takes them back."""

    __slots__ = (
        "_busy_poll",
        "_connections",
        "_connections_max",
        "_idle",
        "_idle_connections_max",
        "_idle_s",
        "_inbox",
        "_is_closed",
        "_open",
        "_origin",
        "_waiters",
        "_writes",
        "loop",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        inbox: memoryview,
        *,
        connections_max: int,
        idle_connections_max: int,
        idle_s: float,
    ) -> None:
        assert connections_max > 0
        # Kept, since to ask for the running one is a system call (getpid) on CPython 3.11.
        self.loop = loop
        self._origin = origin
        self._inbox = inbox
        self._connections_max = connections_max
        self._idle_connections_max = idle_connections_max
        self._idle_s = idle_s
        self._busy_poll = BusyPoll(loop)
        self._writes = QueuedWrites(loop)
        self._is_closed = False
        self._open = 0
        self._connections: set[Connection] = set()
        # Ordered: the last one in is the first one out, and any one leaves in O(1).
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        # In order of arrival; each gets a connection, or None for a free slot.
        self._waiters: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()

    @property
    def open_connections(self) -> int:
        """Connections that exist or are being made."""
        return self._open

    @property
    def idle_connections(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def is_crowded(self) -> bool:
        """True while so many requests are under way, or were a moment ago, that they better leave together."""
        return self._writes.last_count >= _TOGETHER_MIN or self._open - len(self._idle) >= _CROWD_MIN

    def take_idle(self) -> Connection | None:
        """A connection that is ready, if there is one."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    def await_answer(self) -> None:
        """A request was sent. One alone is waited for awake, if this origin is so near that it pays."""
        if self._open - len(self._idle) == 1:
            self._busy_poll.begin()

    async def acquire(self, bounds: Bounds, total_until: float) -> Connection:
        """A connection: idle, given back by another, or a new one.

        Raises:
            httpx.PoolTimeout: all are in use, and none came free in time.
            httpx.ConnectTimeout, httpx.ConnectError: there is no connection to be had.
        """
        loop = self.loop
        until = min(loop.time() + bounds.pool, total_until)
        is_back = False
        while True:
            if self._is_closed:
                raise httpx.ConnectError(f"the pool of connections to {self._origin} is closed")
            if (idle := self.take_idle()) is not None:
                return idle
            if self._open < self._connections_max:
                self._open += 1
                break
            connection = await self._wait_turn(loop, until, bounds, is_back=is_back)
            if connection is None:
                break
            if connection.is_usable():
                return connection
            # It broke between two hands. Its slot goes to whoever is first: this caller, soon.
            connection.close()
            is_back = True
        return await self._connect(loop, bounds, total_until)

    def give_back(self, connection: Connection) -> None:
        """Take back a connection that can carry another request."""
        if self._is_closed:
            connection.close()
        elif not (self._waiters and self._hand_on(connection)):
            self._idle[connection] = None
            connection.wake_by(self.loop.time() + self._idle_s)
            if len(self._idle) > self._idle_connections_max:
                oldest, _ = self._idle.popitem(last=False)
                oldest.close()

    def forget(self, connection: Connection) -> None:
        """A connection has closed: its slot is free."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._idle.pop(connection, None)
            self._free_slot()

    def close(self) -> None:
        """Close every connection, and send away who waits for one."""
        self._is_closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(httpx.ConnectError(f"the pool of connections to {self._origin} is closed"))
        self._waiters.clear()
        for connection in tuple(self._connections):
            connection.close()

    def _free_slot(self) -> None:
        if not self._hand_on(None):
            self._open -= 1

    def _hand_on(self, connection: Connection | None) -> bool:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    async def _wait_turn(
        self, loop: asyncio.AbstractEventLoop, until: float, bounds: Bounds, *, is_back: bool
    ) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiters[waiter] = None
        if is_back:
            self._waiters.move_to_end(waiter, last=False)
        timer = None
        if until != math.inf:
            bound = min(bounds.pool, bounds.total)
            error = httpx.PoolTimeout(f"no connection to {self._origin} came free within {bound:g} s")
            timer = loop.call_at(until, _expire, waiter, error)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # What was handed over just now must not get lost with this caller.
                connection = waiter.result()
                if connection is None:
                    self._free_slot()
                elif not connection.is_closed:
                    self.give_back(connection)
            raise
        finally:
            self._waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    async def _connect(self, loop: asyncio.AbstractEventLoop, bounds: Bounds, total_until: float) -> Connection:
        origin = self._origin
        if self._is_closed:  # between the slot's promise and now
            self._free_slot()
            raise httpx.ConnectError(f"the pool of connections to {origin} is closed")
        connection = Connection(loop, self._inbox, self._busy_poll, self._writes, self.give_back, self.forget)
        self._connections.add(connection)
        until = min(loop.time() + bounds.connect, total_until)
        deadline = asyncio.timeout_at(None if until == math.inf else until)
        try:
            async with deadline:
                await loop.create_connection(lambda: connection, origin.host, origin.port, ssl=origin.ssl_context)
        except (OSError, UnicodeError) as error:  # refused, no such name, not trusted; TimeoutError is an OSError
            connection.close()
            if deadline.expired():
                bound = min(bounds.connect, bounds.total)
                raise httpx.ConnectTimeout(f"no connection to {origin} within {bound:g} s") from None
            raise httpx.ConnectError(f"no connection to {origin}: {error}") from error
        except BaseException:
            connection.close()
            raise
        if connection.is_closed:
            raise httpx.ConnectError(f"the connection to {origin} was closed at once")
        return connection


def _expire(waiter: "asyncio.Future[Connection | None]", error: httpx.PoolTimeout) -> None:
    if not waiter.done():
        waiter.set_exception(error)
