"""How far a command has come, on a terminal, once it takes longer than a second."""

from proxy.cli.terminal import Terminal
from proxy.core.clock import Clock

SILENT_US = 1_000_000
EVERY_US = 200_000


class Progress:
    """A line that counts."""

    __slots__ = ("_clock", "_count", "_next_us", "_terminal", "_what")

    def __init__(self, terminal: Terminal, clock: Clock, what: str) -> None:
        """`what`: what is counted, as in "rows read"."""
        self._terminal = terminal
        self._clock = clock
        self._what = what
        self._count = 0
        self._next_us = clock.monotonic_us() + SILENT_US

    def add(self, count: int) -> None:
        """So many more."""
        self._count += count
        now_us = self._clock.monotonic_us()
        if now_us >= self._next_us:
            self._next_us = now_us + EVERY_US
            self._terminal.progress(f"{self._count:,} {self._what}")

    def end(self) -> None:
        """Take the line away."""
        self._terminal.progress("")
