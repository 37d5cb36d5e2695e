"""Names for runs."""

import os
from typing import Final

_RANDOM_BYTES: Final = 10
_POOL_BYTES: Final = 4_000


class RunIds:
    """Names for runs: they sort by time, and cannot be guessed (48 bits of milliseconds, 80
    random ones). The system is asked for random bytes once in four hundred runs."""

    __slots__ = ("_at", "_pool")

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def next(self, started_at_ms: int) -> str:
        """A name that no run had before."""
        if self._at >= len(self._pool):
            self._pool = os.urandom(_POOL_BYTES)
            self._at = 0
        random = self._pool[self._at : self._at + _RANDOM_BYTES]
        self._at += _RANDOM_BYTES
        return f"run_{started_at_ms:012x}{random.hex()}"
