"""How many connections each worker has, and whether it turns, in memory that all of them share.

The kernel wakes every worker for a new connection, and the one that is awake already takes it: of 32
connections one of two workers got all. So whoever has more than another leaves it the next one.
"""

import mmap
from typing import Final

BEAT_S: Final = 0.1  # between two notes of a worker that accepts
_SILENT_MS: Final = 500  # who has noted nothing for so long is starting, stopped or gone: nothing is left to it
_FIGURES: Final = 3  # of each worker: when it noted, and what; and its turns
_FIGURE_BYTES: Final = 8


class Crowd:
    """One for all workers, made before they are forked; each writes its own figures alone."""

    __slots__ = ("_figures",)

    def __init__(self, workers: int) -> None:
        assert workers > 0
        self._figures = memoryview(mmap.mmap(-1, workers * _FIGURES * _FIGURE_BYTES)).cast("q")

    def note(self, number: int, connections: int, now_ms: int) -> None:
        """A worker, counted from 1, has so many connections. `now_ms` is the machine's monotonic time."""
        at = (number - 1) * _FIGURES
        self._figures[at + 1] = connections
        self._figures[at] = now_ms

    def has_most_to_spare(self, number: int, now_ms: int) -> bool:
        """True where no other worker that turns has fewer connections than this one."""
        figures = self._figures
        own = figures[(number - 1) * _FIGURES + 1]
        return all(
            figures[at + 1] >= own or now_ms - figures[at] > _SILENT_MS for at in range(0, len(figures), _FIGURES)
        )

    def turn(self, number: int) -> None:
        """A worker's event loop turns, whether it still accepts or not."""
        self._figures[(number - 1) * _FIGURES + 2] += 1

    def turns(self, number: int) -> int:
        """How often it has said so, with those before it in its place."""
        return self._figures[(number - 1) * _FIGURES + 2]
