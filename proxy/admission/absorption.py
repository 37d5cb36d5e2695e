"""What the operator bears of fallbacks that are dearer than what was asked for: a sum for each day, over all tenants.

A run holds its worst case before such a fallback is tried, and puts what it came to in its place. What is never settled
stays held until the day's sums go: a run whose process has vanished, or a hold whose answer was late and which came
after its run's settlement. The bound errs on the operator's side.

In Redis, per day: `tollway:1:@:absorbed:{day}`, a hash that goes three days after its last change.
"""

from typing import NamedTuple, Protocol

from proxy.adapters.redis import RedisDoor, Script, shared_name
from proxy.adapters.redis_wire import Argument
from proxy.admission.terms import AMOUNT_NUSD_MAX
from proxy.core.errors import StateUnavailable


class AbsorptionFigures(NamedTuple):
    """One day's."""

    held_nusd: int
    spent_nusd: int


class AbsorptionStore(Protocol):
    """Keeps the sums. `day` is a date in UTC, as `2026-11-26`. Every method raises StateUnavailable: it may have been
    carried out. An amount below 0, or from 2**53 on, is a ValueError."""

    async def hold(self, run_id: str, day: str, nusd: int, cap_nusd: int) -> bool:
        """Let a run hold so much of the day's amount, in the place of what it held; False: that would go beyond the
        cap, and it holds what it held. Less than it held always fits. Safe to repeat."""
        ...

    async def settle(self, run_id: str, day: str, nusd: int) -> None:
        """Put what the run came to in the place of what it holds, even if that is more, or beyond the cap: it is what
        happened. A run that holds nothing, or is settled, changes nothing: safe to repeat."""
        ...

    async def figures(self, day: str) -> AbsorptionFigures:
        """The day's sums."""
        ...


class RedisAbsorptionStore:
    """The sums in Redis. Decides nothing: the script does."""

    __slots__ = ("_absorb", "_door")

    def __init__(self, door: RedisDoor, absorb: Script | None = None) -> None:
        """Reads its script: blocks on the disk for a moment."""
        self._door = door
        self._absorb = absorb or Script.beside(__file__, "absorb.lua")

    async def hold(self, run_id: str, day: str, nusd: int, cap_nusd: int) -> bool:
        args: list[Argument] = [run_id, require_amount(nusd), require_amount(cap_nusd)]
        return await self._door.run(self._absorb, [_name(day)], args) == [1]

    async def settle(self, run_id: str, day: str, nusd: int) -> None:
        await self._door.run(self._absorb, [_name(day)], [run_id, require_amount(nusd), ""])

    async def figures(self, day: str) -> AbsorptionFigures:
        reply = await self._door.call("HMGET", _name(day), "held_nusd", "spent_nusd")
        if not isinstance(reply, list):
            raise StateUnavailable("The state store gave no list for a day's sums. Try again.")
        held, spent = (int(value) if isinstance(value, bytes | str) else 0 for value in reply)
        return AbsorptionFigures(held, spent)


def require_amount(nusd: int) -> int:
    """Give an amount back. Raises ValueError for one that no counter may hold."""
    if not 0 <= nusd <= AMOUNT_NUSD_MAX:
        raise ValueError("An amount that the operator bears, or its bound, is out of range.")
    return nusd


def _name(day: str) -> str:
    return shared_name(f"absorbed:{day}")
