"""Names for runs."""

import os
from typing import Final

_RANDOM_CHARACTERS: Final = 20
_POOL_BYTES: Final = 4_000


class RunIds:
    """Names for runs: they sort by time, and cannot be guessed (48 bits of milliseconds, 80
    random ones). The system is asked for random bytes once in four hundred runs."""

    __slots__ = ("_at", "_pool", "_prefix", "_prefix_ms")

    def __init__(self) -> None:
        self._pool = ""  # hexadecimal
        self._at = 0
        self._prefix = ""
        self._prefix_ms = -1

    def next(self, started_at_ms: int) -> str:
        """A name that no run had before."""
        at, self._at = self._at, self._at + _RANDOM_CHARACTERS
        if at >= len(self._pool):
            self._pool = os.urandom(_POOL_BYTES).hex()
            at, self._at = 0, _RANDOM_CHARACTERS
        if started_at_ms != self._prefix_ms:
            self._prefix_ms = started_at_ms
            self._prefix = f"run_{started_at_ms:012x}"
        return self._prefix + self._pool[at : self._at]
