"""Who tells a process to stop or to read its configuration anew: signals, or the supervisor of several workers.

A worker takes its orders from a socket and not by signals. A terminal's Ctrl-C, or a service manager that tells
every process of a group, would else reach each worker twice, and twice means "now"; and when the supervisor is
gone, however it went, the socket ends.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from proxy.edge.health import Readiness

# From the supervisor: a byte each.
DRAIN: Final = b"d"
END: Final = b"e"
RELOAD: Final = b"r"
# To it.
BEGUN: Final = b"b"  # both ports accept connections
CLOSED: Final = b"c"  # neither does any more

_READ_BYTES: Final = 64

_log = logging.getLogger("tollway.edge")


class Stop:
    """What was asked for."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def ask(self) -> None:
        """Drain; asked again: end now."""
        if self.asked.is_set():
            self.now.set()
        self.drain()

    def drain(self) -> None:
        """Drain, however often this is said."""
        self._readiness.draining = True
        self.asked.set()

    def end(self) -> None:
        """End now."""
        self.drain()
        self.now.set()


@contextmanager
def signals_heard(stop: Stop, on_reload: Callable[[], None]) -> Iterator[None]:
    """A process of its own: SIGTERM and SIGINT drain, and end it the second time; SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.ask)
    loop.add_signal_handler(signal.SIGINT, stop.ask)
    loop.add_signal_handler(signal.SIGHUP, on_reload)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


@contextmanager
def orders_heard(stop: Stop, on_reload: Callable[[], None], supervisor: socket.socket) -> Iterator[None]:
    """A worker: `supervisor` says what to do, and its end is an order to drain. So is SIGTERM, to this one alone."""
    loop = asyncio.get_running_loop()

    def hear() -> None:
        try:
            said = supervisor.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said = b""
        if not said:
            _log.error("the supervisor is gone, or has hung up: this worker finishes what is under way, and ends")
            loop.remove_reader(supervisor)
            stop.drain()
        if RELOAD in said:
            on_reload()
        if DRAIN in said:
            stop.drain()
        if END in said:
            stop.end()

    supervisor.setblocking(False)
    loop.add_signal_handler(signal.SIGTERM, stop.drain)
    loop.add_reader(supervisor, hear)
    try:
        yield
    finally:
        loop.remove_reader(supervisor)
        loop.remove_signal_handler(signal.SIGTERM)


def tell(supervisor: socket.socket, what: bytes) -> None:
    """Say how far this worker is."""
    try:
        supervisor.send(what)
    except OSError:
        pass  # it is gone, which is heard at once
