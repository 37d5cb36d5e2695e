"""One length of time that many waits may take, each for itself, over one timer for all of them.

`asyncio.timeout` makes a timer for each wait, and nearly none ever fires: with uvloop, making one and
letting go of it takes longer than a wait's own work. Waits of one length end in the order in which they
began, so the timer has to look at the oldest alone.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


class _Wait:
    """One that is under way."""

    __slots__ = ("cancelling", "due_at_s", "is_late", "task")

    def __init__(self, task: "asyncio.Task[object]", due_at_s: float) -> None:
        self.task = task
        self.due_at_s = due_at_s
        self.cancelling = task.cancelling()  # others may have asked to cancel it, and are not to be forgotten
        self.is_late = False


class TimeBound:
    """So many seconds for each wait. Of one event loop: the first that it is used in."""

    __slots__ = ("_loop", "_seconds", "_timer", "_waits")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits: dict[_Wait, None] = {}  # the oldest first

    async def wait_for(self, work: Awaitable[_Result]) -> _Result:
        """What `work` comes to. It is awaited in this task, not in one of its own.

        Raises:
            TimeoutError: it took too long, and was cancelled.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "a wait belongs to a task"
        wait = _Wait(task, loop.time() + self._seconds)
        self._waits[wait] = None
        if self._timer is None:
            self._timer = loop.call_at(wait.due_at_s, self._look)
        try:
            return await work
        except asyncio.CancelledError as error:
            # As asyncio.Timeout has it: where somebody else has asked as well, theirs is the word.
            if wait.is_late and task.cancelling() - 1 <= wait.cancelling:
                raise TimeoutError from error
            raise
        finally:
            del self._waits[wait]
            if wait.is_late:
                task.uncancel()

    def _look(self) -> None:
        """End what is late, and come again when the next one would be."""
        assert self._loop is not None
        self._timer = None
        now_s = self._loop.time()
        for wait in self._waits:
            if wait.is_late:
                continue
            if wait.due_at_s > now_s:
                self._timer = self._loop.call_at(wait.due_at_s, self._look)
                return
            wait.is_late = True
            wait.task.cancel()
