"""What wakes the supervisor: signals, and sockets. Signals are kept in order, and none is lost between two looks."""

import os
import select
import signal
import socket
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Final, Self

_HEARD: Final = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_READ_BYTES: Final = 256


class Wakeups:
    """A context, in a process's main thread. Signals are as they were before once it ends."""

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        for end in (self._read_end, self._write_end):
            os.set_blocking(end, False)
        self._before = {number: signal.signal(number, _heard) for number in _HEARD}
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)  # Python writes each number there
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, sockets: Sequence[socket.socket], timeout_s: float) -> tuple[bytes, list[socket.socket]]:
        """The numbers of the signals that have come, and which of the sockets can be read."""
        waited_for: list[int | socket.socket] = [self._read_end, *sockets]
        readable, _, _ = select.select(waited_for, [], [], timeout_s)
        numbers = os.read(self._read_end, _READ_BYTES) if self._read_end in readable else b""
        return numbers, [each for each in sockets if each in readable]

    def fork(self) -> int:
        """fork(2). In the child none of this is left: SIGTERM ends it, and what is meant for the whole of a process
        group (SIGINT, SIGHUP) is for the parent to hear."""
        # A signal that came between would be heard by the child through the parent's pipe.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            process = os.fork()
            if process == 0:
                signal.set_wakeup_fd(-1)
                os.close(self._read_end)
                os.close(self._write_end)
                for number in (signal.SIGTERM, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                for number in (signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return process


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the number is in the pipe."""
