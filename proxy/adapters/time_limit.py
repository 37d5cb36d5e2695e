"""A bound on many waits that may each take as long: what `asyncio.timeout` is for one of them.

Each call waits for something for which there is one and the same time, and nearly none needs it: so a timer for each
would be made to be thrown away. Here one timer looks at the oldest wait, and then at the next.
"""

import asyncio
from types import TracebackType


class TimeLimit:
    """So much time for each wait. It belongs to one event loop."""

    __slots__ = ("_is_armed", "_loop", "_seconds", "_waits")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None  # that of the first wait
        self._waits: dict[_Wait, float] = {}  # those that have begun, oldest first, and when they are over
        self._is_armed = False

    def wait(self) -> "_Wait":
        """A context in which to wait, from now on. Raises TimeoutError at its end, where the time was over before."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # to ask which runs is a system call
        wait = _Wait(asyncio.current_task(loop), self._waits)
        self._waits[wait] = over_at_s = loop.time() + self._seconds
        if not self._is_armed:
            self._is_armed = True
            loop.call_at(over_at_s, self._look)
        return wait

    def _look(self) -> None:
        loop = self._loop
        assert loop is not None
        now_s = loop.time()
        while self._waits:
            wait, over_at_s = next(iter(self._waits.items()))
            if over_at_s > now_s:
                loop.call_at(over_at_s, self._look)
                return
            del self._waits[wait]
            wait.interrupt()
        self._is_armed = False


class _Wait:
    __slots__ = ("_cancelling", "_is_over", "_task", "_waits")

    def __init__(self, task: asyncio.Task[object] | None, waits: "dict[_Wait, float]") -> None:
        assert task is not None, "only a task can be interrupted"
        self._task = task
        self._cancelling = task.cancelling()  # by somebody else: that is not ours to take back
        self._waits = waits
        self._is_over = False

    def __enter__(self) -> None:
        pass

    def interrupt(self) -> None:
        """Its time is over."""
        self._is_over = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._waits.pop(self, None)
        if self._is_over and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
