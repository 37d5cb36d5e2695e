"""What a worker last told of its counts, in memory that outlives it.

A sum that fell while a worker is silent, or when it is replaced, would look to Prometheus like a restart of the
whole, and all that the others had counted like new. So the next worker in that place goes on from what the last one
was seen to have, and whoever sums up takes this for one that does not answer.
"""

import mmap
from typing import Final

BYTES_MAX: Final = 4 * 1_048_576  # the kernel gives out what is written to, and no more
_NUMBER_BYTES: Final = 8
_HEAD_BYTES: Final = 2 * _NUMBER_BYTES  # the count of changes, odd while one is under way; and the length


class Keepsake:
    """One for each place, made before any worker is forked. That place's worker puts, and any takes."""

    __slots__ = ("_memory", "_numbers")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD_BYTES + BYTES_MAX)
        self._numbers = memoryview(self._memory)[:_HEAD_BYTES].cast("Q")

    def put(self, data: bytes) -> None:
        """Leave this in the place of what was there. One that is killed over it, or leaves too much, leaves nothing."""
        changes = self._numbers[0] | 1
        self._numbers[0] = changes
        kept = data if len(data) <= BYTES_MAX else b""
        self._memory[_HEAD_BYTES : _HEAD_BYTES + len(kept)] = kept
        self._numbers[1] = len(kept)
        self._numbers[0] = changes + 1

    def take(self) -> bytes | None:
        """What was left here; None where nothing was, or it is just being changed."""
        changes, length = self._numbers[0], self._numbers[1]
        if changes % 2 or not length:
            return None
        data = self._memory[_HEAD_BYTES : _HEAD_BYTES + length]
        return data if self._numbers[0] == changes else None
