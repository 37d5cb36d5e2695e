"""What the gateway says of itself, on standard error.

The event loop never waits for it: lines are gathered, and written by a thread of their own.
Whoever sends nonsense makes a line each time, so a reader that has stopped (a paused terminal,
a log driver that is behind) would otherwise soon hold up every request. Beyond a bound lines
are dropped, and how many is said once there is room.
"""

import logging
import os
import queue
import select
import threading
from typing import Final

from proxy.telemetry.sink import Sink, write_whole

_LINES_MAX: Final = 2_000
_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
_FORMAT_OF_A_WORKER: Final = "%(levelname)s %(name)s: [worker {number}] %(message)s"


class ErrorLog(logging.Handler):
    """Takes records of `logging` and plain lines, in one order."""

    def __init__(self, sink: Sink, worker: int | None = None) -> None:
        """`worker`: which of several this process is, to be said in each line."""
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT if worker is None else _FORMAT_OF_A_WORKER.format(number=worker)))
        self._sink = sink
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES_MAX)
        self._dropped_lines = 0
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="error-log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record. Never blocks."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  a message that cannot be put together costs itself alone
            line = f"{record.levelname} {record.name}: {record.msg!r}"
        self.say(line)

    def say(self, line: str) -> None:
        """Take a line as it is. Never blocks."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped_lines += 1

    def end(self, timeout_s: float = 2.0) -> None:
        """Write what is left. Waits for a stuck reader no longer than the time-out."""
        self._closing.set()
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            pass  # the thread looks at the event once it gets on
        self._writer.join(timeout_s)

    def _write_on(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped_lines, self._dropped_lines = self._dropped_lines, 0
            if dropped_lines:
                self._write(f"WARNING tollway: {dropped_lines} lines were dropped here: nobody read them in time")
            self._write(line)
            if self._closing.is_set() and self._lines.empty():
                return

    def _write(self, line: str) -> None:
        data = line.encode(errors="backslashreplace") + b"\n"
        try:
            write_whole(self._sink, data)
        except (OSError, ValueError):
            pass  # the reader is gone; nobody is left to tell


class ThreadlessErrorLog(logging.Handler):
    """For a process that may have no thread, since it forks. A line that would have to wait is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter(_FORMAT))
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless nobody reads."""
        self.say(self.format(record))

    def say(self, line: str) -> None:
        """Write a line as it is, likewise."""
        try:
            if select.select([], [self._descriptor], [], 0)[1]:
                os.write(self._descriptor, line.encode(errors="backslashreplace") + b"\n")
        except (OSError, ValueError):
            pass  # the reader is gone; nobody is left to tell
