"""Gathers what is written to many sockets in one turn of the event loop, and writes it together at the turn's end.

A write to a socket wakes its reader, which on a virtual machine costs more than the write itself; and a reader of
many, as an application beside this process is, or a provider's front end, has gone back to sleep by the time that the
next one is through. Written together, the first wakes it for all of them, and what it sends next comes together again.
"""

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger("tollway")


class QueuedWrites:
    """The writes of all connections of one port, or to one origin."""

    __slots__ = ("_loop", "_waiting", "last_count")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], object]] = []
        self.last_count = 0  # how many were written together when it was done last

    def add(self, write: Callable[[], object]) -> None:
        """Call it at the end of the turn, in the order of the calls of this. It finds for itself whether there is still
        something to be written."""
        if not self._waiting:
            self._loop.call_soon(self._write_all)
        self._waiting.append(write)

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.last_count = len(waiting)
        for write in waiting:
            try:
                write()
            except Exception:  # noqa: BLE001  a fault in one must not keep back what others have written
                _log.exception("what was to be written could not be")
