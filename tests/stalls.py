"""How long the machine itself stood still while a test measured a time.

A test machine has neighbours, and a disk that may hold everything up: what that takes from a measured time says
nothing of the code. A thread that only sleeps tells of it; while this process is at work itself, that is no such stall.
"""

import threading
import time
from types import TracebackType
from typing import Self

_NAP_S = 0.005
_STALL_S = 0.02  # a nap that is so much too long was not the scheduler's usual
_AT_WORK = 0.5  # of the time that it was too long, in processor time of this process


class Stalls:
    """`with Stalls() as machine:` around what is measured; then `machine.stalled_s`."""

    def __init__(self) -> None:
        self.stalled_s = 0.0
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            began_s, worked_s = time.monotonic(), time.process_time()
            time.sleep(_NAP_S)
            too_long_s = time.monotonic() - began_s - _NAP_S
            if too_long_s > _STALL_S and time.process_time() - worked_s < _AT_WORK * too_long_s:
                self.stalled_s += too_long_s
