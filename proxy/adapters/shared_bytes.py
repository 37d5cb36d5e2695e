"""Bytes in memory that several processes have, and that outlives whoever left them there.

One writes and any reads, without a lock that a dead process could hold: what is put goes beside what was there, and
counts once it is whole.
"""

import mmap
from typing import Final

_NUMBER_BYTES: Final = 8
_HEAD_BYTES: Final = 3 * _NUMBER_BYTES  # how often something was put, and how long each of the two is
_TRIES_MAX: Final = 8


class SharedBytes:
    """Made before the processes are forked."""

    __slots__ = ("_bytes_max", "_memory", "_numbers")

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max`: of one text; the kernel gives out what is written to, and no more."""
        assert bytes_max > 0
        self._bytes_max = bytes_max
        self._memory = mmap.mmap(-1, _HEAD_BYTES + 2 * bytes_max)
        self._numbers = memoryview(self._memory)[:_HEAD_BYTES].cast("Q")

    def put(self, data: bytes) -> bool:
        """Leave this in the place of what was there. Who is killed over it, or leaves too much (False), leaves what
        was there."""
        if len(data) > self._bytes_max:
            return False
        puts = self._numbers[0] + 1
        at = self._at(puts)
        self._memory[at : at + len(data)] = data
        self._numbers[1 + puts % 2] = len(data)
        self._numbers[0] = puts
        return True

    def take(self) -> bytes | None:
        """What was left here last; None where nothing was."""
        for _ in range(_TRIES_MAX):
            puts = self._numbers[0]
            if not puts:
                return None
            at = self._at(puts)
            data = self._memory[at : at + self._numbers[1 + puts % 2]]
            if self._numbers[0] == puts:  # else the next but one may have been written over it
                return data
        return None

    def _at(self, puts: int) -> int:
        return _HEAD_BYTES + puts % 2 * self._bytes_max
