"""A timer that is exact to some 50 µs: uvloop's own count whole milliseconds, and a benchmark's calls are due between.

Linux's timerfd_create(2), which Python has from 3.13 on.
"""

import asyncio
import ctypes
import os
import time
from typing import Final, Self

_ABSOLUTE: Final = 1
_NS_PER_S: Final = 1_000_000_000
_libc = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):
    """struct itimerspec: an interval, which is none, and an instant."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class FineTimer:
    """For one waiter at a time. Leave it by `with`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop.add_reader(self._fd, self._ring)

    async def until(self, at_ns: int) -> None:
        """Wait until `time.perf_counter_ns()`, which is the monotonic clock, says so."""
        self._waiter = self._loop.create_future()
        times = _Times(0, 0, *divmod(max(1, at_ns), _NS_PER_S))
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(times), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._waiter

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew in the meantime
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
