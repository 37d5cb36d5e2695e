"""Measures how late this process is with its work, and how large it is."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

EVERY_S: Final = 0.1
_MEMORY_EVERY: Final = 10  # of those
_STATM: Final = Path("/proc/self/statm")  # proc(5); its second number is the resident pages


class PressureGauge:
    """A timer that notes how late it is called: so late is everything else on this event loop."""

    def __init__(self, on_measured: Callable[[float, int | None], object]) -> None:
        """`on_measured` hears, ten times a second, by how many ms the timer was late and how many bytes are resident
        (None where there is no /proc)."""
        self._on_measured = on_measured
        self._memory_bytes: int | None = None
        self._due_s = 0.0
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self._due_s = asyncio.get_running_loop().time() + EVERY_S
        self._timer = asyncio.get_running_loop().call_at(self._due_s, self._measure)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        if self._turn % _MEMORY_EVERY == 0:
            self._memory_bytes = _resident_bytes()
        self._turn += 1
        self._on_measured(max(0.0, loop.time() - self._due_s) * 1_000, self._memory_bytes)
        self._due_s = loop.time() + EVERY_S
        self._timer = loop.call_at(self._due_s, self._measure)


def _resident_bytes() -> int | None:
    try:
        pages = int(_STATM.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
