"""One line of JSON for each request, on standard output.

The request never waits for the log: lines are gathered and written by a thread of their
own. A reader that stops reading costs lines, which are counted, and never latency.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

from proxy.core import jsonio
from proxy.telemetry.sink import Sink, write_whole

_PENDING_BYTES_MAX: Final = 4 * 1024 * 1024
_GATHER_S: Final = 0.05


class AccessLog:
    """Gathers lines and writes them in batches."""

    def __init__(self, sink: Sink, on_dropped: Callable[[int], None]) -> None:
        self._sink = sink
        self._on_dropped = on_dropped
        self._lines: list[bytes] = []
        self._pending_bytes = 0
        self._swap = threading.Lock()
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="access-log", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._writer.start()

    def write(self, fields: dict[str, Any]) -> None:
        """Take one line. Never blocks; drops the line when its reader has fallen 4 MiB behind."""
        line = jsonio.encode(fields)
        with self._swap:
            fits = self._pending_bytes + len(line) <= _PENDING_BYTES_MAX
            if fits:
                self._lines.append(line)
                self._pending_bytes += len(line)
        if not fits:
            self._on_dropped(1)
            return
        if not self._wanted.is_set():
            self._wanted.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, and stop. Waits for a stuck reader no longer than the time-out."""
        self._closing.set()
        self._wanted.set()
        if self._writer.is_alive():
            self._writer.join(timeout_s)

    def _write_on(self) -> None:
        while True:
            self._wanted.wait()
            # A short wait gathers the lines of many requests into one write.
            closing = self._closing.wait(_GATHER_S)
            self._wanted.clear()
            with self._swap:
                lines, self._lines = self._lines, []
            if lines:
                self._write(lines)
            if closing:
                return

    def _write(self, lines: list[bytes]) -> None:
        block = b"\n".join(lines) + b"\n"
        try:
            write_whole(self._sink, block)
        except (OSError, ValueError):  # the reader is gone; requests go on
            self._on_dropped(len(lines))
        with self._swap:
            self._pending_bytes -= len(block) - len(lines)
