"""Which new calls a process turns away that is late with its work, or too large.

Pure. Over a bound, tenants that have more than their part of what is under way are shed first; at twice the bound,
everybody is. It goes on until the pressure is well below the bound again, so that it does not flap.
"""

from typing import Final

_CALM: Final = 0.8
_EVERYBODY: Final = 2.0


class Shedding:
    """One process's."""

    __slots__ = ("is_on", "pressure")

    def __init__(self) -> None:
        self.pressure = 0.0
        self.is_on = False

    def measured(self, lag_ms: float, lag_ms_max: int, memory_bytes: int | None, memory_bytes_max: int | None) -> None:
        """How late the event loop was, and how much memory is resident (None: nobody knows)."""
        self.pressure = lag_ms / lag_ms_max
        if memory_bytes is not None and memory_bytes_max is not None:
            self.pressure = max(self.pressure, memory_bytes / memory_bytes_max)
        self.is_on = self.pressure > (_CALM if self.is_on else 1.0)

    def sheds(self, held: int, in_flight: int, tenants: int) -> bool:
        """True where a new call of a tenant that has so many of the calls under way is turned away."""
        if not self.is_on:
            return False
        return self.pressure >= _EVERYBODY or held * max(1, tenants) > in_flight
