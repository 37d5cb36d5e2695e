"""One line of JSON for each request, on standard output.

The request never waits for the log: lines are gathered and written by a thread of their
own. A reader that stops reading costs lines, which are counted, and never latency.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from proxy.core import jsonio
from proxy.telemetry.sink import Sink, write_whole

_PENDING_BYTES_MAX: Final = 4 * 1024 * 1024
_GATHER_S: Final = 0.05
# What a pipe takes as one on Linux (PIPE_BUF, pipe(7)): of more, another process's lines may come in between.
_BLOCK_BYTES_MAX: Final = 4_096
_SHORT_CHARACTERS: Final = 256  # so much is left of a caller's text in a line that would not fit into that


class AccessLog:
    """Gathers lines and writes them in batches."""

    def __init__(self, sink: Sink, on_dropped: Callable[[int], None], *, is_shared: bool = False) -> None:
        """`is_shared`: other processes write lines to the same sink."""
        self._sink = sink
        self._is_shared = is_shared
        self._on_dropped = on_dropped
        # One thread puts in and counts what it took, the other takes out and counts what it wrote: no lock is needed.
        self._lines: deque[bytes] = deque()
        self._taken_bytes = 0
        self._written_bytes = 0
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="access-log", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._writer.start()

    def write(self, fields: dict[str, Any]) -> None:
        """Take one line. Never blocks; drops the line when its reader has fallen 4 MiB behind."""
        line = jsonio.encode(fields)
        if self._is_shared and len(line) >= _BLOCK_BYTES_MAX:
            line = jsonio.encode({name: _shortened(value) for name, value in fields.items()})
        taken_bytes = self._taken_bytes + len(line)
        if taken_bytes - self._written_bytes > _PENDING_BYTES_MAX:
            self._on_dropped(1)
            return
        self._taken_bytes = taken_bytes
        self._lines.append(line)
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
            waiting = self._lines
            lines = [waiting.popleft() for _ in range(len(waiting))]
            if lines:
                self._write(lines)
            if closing:
                return

    def _write(self, lines: list[bytes]) -> None:
        for block in _blocks(lines, _BLOCK_BYTES_MAX) if self._is_shared else (lines,):
            self._write_block(block)

    def _write_block(self, lines: list[bytes]) -> None:
        block = b"\n".join(lines) + b"\n"
        try:
            write_whole(self._sink, block)
        except (OSError, ValueError):  # the reader is gone; requests go on
            self._on_dropped(len(lines))
        self._written_bytes += len(block) - len(lines)


def _shortened(value: object) -> object:
    return value[:_SHORT_CHARACTERS] + "…" if isinstance(value, str) and len(value) > _SHORT_CHARACTERS else value


def _blocks(lines: list[bytes], bytes_max: int) -> Iterator[list[bytes]]:
    """The lines in pieces of so many bytes at most, their ends counted; a longer line is alone."""
    block: list[bytes] = []
    block_bytes = 0
    for line in lines:
        if block and block_bytes + len(line) + 1 > bytes_max:
            yield block
            block, block_bytes = [], 0
        block.append(line)
        block_bytes += len(line) + 1
    if block:
        yield block
