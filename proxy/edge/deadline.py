"""One deadline that moves often, over a timer that is armed seldom."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls back once when its time has come, unless it was moved or cleared before.

    The timer is late on purpose: a deadline that moves back, or is cleared, leaves it as it is,
    and it looks again when it fires. So a keep-alive connection arms one in a minute, not two
    in a request.
    """

    __slots__ = ("_due_at_s", "_loop", "_on_due", "_timer", "_timer_at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], object]) -> None:
        self._loop = loop
        self._on_due = on_due
        self._due_at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0

    def set(self, in_s: float) -> None:
        """Be due in so many seconds, whatever held before."""
        self._due_at_s = due_at_s = self._loop.time() + in_s
        if self._timer is None:
            self._arm(due_at_s)
        elif due_at_s < self._timer_at_s:
            self._timer.cancel()
            self._arm(due_at_s)

    def clear(self) -> None:
        """Be due never."""
        self._due_at_s = None

    def take(self) -> float | None:
        """Clear it; give the seconds that were left, at least 0, or None if none was set."""
        due_at_s, self._due_at_s = self._due_at_s, None
        return None if due_at_s is None else max(due_at_s - self._loop.time(), 0.0)

    def close(self) -> None:
        """Let go of the timer: the owner is gone."""
        self._due_at_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at_s: float) -> None:
        self._timer_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due_at_s is None:
            return
        if self._loop.time() < self._due_at_s:
            self._arm(self._due_at_s)
        else:
            self._due_at_s = None
            self._on_due()
