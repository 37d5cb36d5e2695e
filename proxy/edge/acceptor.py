"""Accepts connections on a socket that several processes listen on, so that each gets its part.

One connection for each turn of the event loop, and none for a moment while a sibling that is awake has
fewer; a connection that is still there then is taken all the same. It costs a connection something, and
a request nothing.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.edge.crowd import BEAT_S, Crowd

_LEAVE_IT_S: Final = 0.001  # time enough for a sibling that waits in epoll
_FULL_S: Final = 1.0  # without a descriptor or memory: as asyncio's own servers wait

_log = logging.getLogger("tollway.edge")


class Acceptor:
    """One worker's share of a listening socket."""

    def __init__(
        self,
        listening: socket.socket,
        crowd: Crowd,
        number: int,
        connect: Callable[[socket.socket], Awaitable[object]],
        connections: Callable[[], int],
    ) -> None:
        """
        Args:
            number: the worker's, counted from 1.
            connect: makes a connection of what was accepted.
            connections: how many there are now.
        """
        self._listening = listening
        self._crowd = crowd
        self._number = number
        self._connect = connect
        self._connections = connections
        self._connecting: set[asyncio.Future[None]] = set()
        self._beat: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._is_open = False

    @property
    def connecting(self) -> int:
        """How many are accepted, and no connections yet."""
        return len(self._connecting)

    def start(self) -> None:
        """Accept. The socket listens by now."""
        self._is_open = True
        self._note_on()
        self._resume()

    def stop(self) -> None:
        """Accept nothing more. The socket itself is the caller's. Safe to repeat."""
        if not self._is_open:
            return
        self._is_open = False
        for timer in (self._beat, self._pause):
            if timer is not None:
                timer.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)

    def _note_on(self) -> None:
        self._note()
        self._beat = asyncio.get_running_loop().call_later(BEAT_S, self._note_on)

    def _note(self) -> int:
        now_ms = int(asyncio.get_running_loop().time() * 1_000)
        self._crowd.note(self._number, self._connections() + len(self._connecting), now_ms)
        return now_ms

    def _readable(self) -> None:
        if self._crowd.has_most_to_spare(self._number, self._note()):
            self._accept()
        else:
            self._pause_for(_LEAVE_IT_S, self._accept)

    def _pause_for(self, seconds: float, then: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)

        def end() -> None:
            self._resume()
            then()

        self._pause = loop.call_later(seconds, end)

    def _resume(self) -> None:
        asyncio.get_running_loop().add_reader(self._listening, self._readable)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # a sibling was first, or the caller has gone again
        except OSError as error:
            if error.errno == errno.EINVAL:  # it does not listen any more: the supervisor has ended it for all
                self.stop()
                return
            _log.error("no connection can be accepted for a moment: %s", error.strerror)
            self._pause_for(_FULL_S, lambda: None)
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connecting = asyncio.ensure_future(self._serve(accepted))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)
        self._note()

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._connect(accepted)
        except OSError:  # it ended in between
            accepted.close()
