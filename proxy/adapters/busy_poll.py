"""Waits awake for what is nearly here: a store's answer, an upstream's, a caller's next request.

A process that sleeps in the kernel is woken tens of microseconds after its bytes came, and finds its code gone from
the processor's caches; a store on the same host has often answered sooner than that. So the event loop, which would
sleep, goes round instead for as long as they may take, and serves whoever else has something for it. The kernel does
the same for sockets and for idle virtual processors (SO_BUSY_POLL in socket(7); KVM's halt polling), and HAProxy where
it is asked to (`busy-polling` in its configuration manual).

Where they take longer, as from another host or from a model that thinks, going round gains nothing: it is soon given
up, and tried again once in a while.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

POLL_S: Final = 0.0001
"""So long at most, each time."""

_CREDIT_MAX: Final = 8
_WON, _LOST = 1, 2  # it is to be worth it two times in three
REST: Final = 500
"""So many times it is slept, once that was not so."""


class BusyPoll:
    """Waits of one kind, one at a time: what was learned of some says whether the next is worth it."""

    __slots__ = ("_credit", "_is_on", "_is_scheduled", "_loop", "_now_s", "_resting", "_until_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, now_s: Callable[[], float] = perf_counter) -> None:
        self._loop = loop
        self._now_s = now_s
        self._credit = _CREDIT_MAX
        self._resting = 0  # how many are still to be slept for
        self._is_on = False
        self._is_scheduled = False  # the loop will look again: once, however often this was begun
        self._until_s = 0.0

    def begin(self) -> None:
        """It is waited for, and there is nothing else to do."""
        if self._resting:
            self._resting -= 1
            return
        self._is_on = True
        self._until_s = self._now_s() + POLL_S
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._look)

    def end(self) -> None:
        """It has come, or never will."""
        if self._is_on:
            self._is_on = False
            self._credit = min(self._credit + _WON, _CREDIT_MAX)

    def _look(self) -> None:
        """Once in each turn of the loop, which does not sleep while this is due."""
        if self._is_on and self._now_s() < self._until_s:
            self._loop.call_soon(self._look)
            return
        self._is_scheduled = False
        if self._is_on:
            self._is_on = False
            self._credit -= _LOST
            if self._credit <= 0:
                self._credit, self._resting = _LOST, REST
