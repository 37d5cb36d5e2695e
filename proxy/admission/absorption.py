"""What the operator bears of fallbacks that are dearer than what was asked for: a sum for each day, over all tenants.

A run holds its worst case before such a fallback is tried, and puts what it came to in its place. A run whose process
has vanished keeps its hold until the day is over: the bound errs on the operator's side.

In Redis, per day: `tollway:1:@:absorbed:{day}`, a hash that goes three days after its last change.
"""

from typing import NamedTuple, Protocol

from proxy.adapters.redis import RedisDoor, Script, shared_name
from proxy.core.errors import StateUnavailable


class AbsorptionFigures(NamedTuple):
    """One day's."""

    held_nusd: int
    spent_nusd: int


class AbsorptionStore(Protocol):
    """Keeps the sums. `day` is a date in UTC, as `2026-11-26`. Every method raises StateUnavailable."""

    async def hold(self, run_id: str, day: str, nusd: int, cap_nusd: int) -> bool:
        """Let a run hold so much of the day's amount, in the place of what it held; False: that would go beyond the
        cap, and it holds what it held. Safe to repeat."""
        ...

    async def settle(self, run_id: str, day: str, nusd: int) -> None:
        """Put what the run came to in the place of what it holds, even if that is more. A run that holds nothing
        changes nothing: safe to repeat."""
        ...

    async def figures(self, day: str) -> AbsorptionFigures:
        """The day's sums."""
        ...


class RedisAbsorptionStore:
    """The sums in Redis."""

    __slots__ = ("_absorb", "_door")

    def __init__(self, door: RedisDoor) -> None:
        self._door = door
        self._absorb = Script.beside(__file__, "absorb.lua")

    async def hold(self, run_id: str, day: str, nusd: int, cap_nusd: int) -> bool:
        reply = await self._door.run(self._absorb, [_name(day)], [run_id, nusd, cap_nusd])
        return reply == [1]

    async def settle(self, run_id: str, day: str, nusd: int) -> None:
        await self._door.run(self._absorb, [_name(day)], [run_id, nusd, ""])

    async def figures(self, day: str) -> AbsorptionFigures:
        reply = await self._door.call("HMGET", _name(day), "held_nusd", "spent_nusd")
        if not isinstance(reply, list):
            raise StateUnavailable("The state store gave no list for a day's sums. Try again.")
        held, spent = (int(value) if isinstance(value, bytes | str) else 0 for value in reply)
        return AbsorptionFigures(held, spent)


def _name(day: str) -> str:
    return shared_name(f"absorbed:{day}")
