"""Looks now and then how old the oldest data key is, and says so when its rotation is due."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.core.clock import Clock
from proxy.core.errors import GatewayError
from proxy.keyring.keyring import Keyring

LOOK_EVERY_S: Final = 3_600.0
LOOK_AGAIN_S: Final = 60.0  # where the store was away, or a rotation is due: it may be under way
MS_PER_DAY: Final = 86_400_000

OnAge: TypeAlias = Callable[[float, bool], object]
"""Hears how old the oldest data key in use is, in seconds (0 where there is none), and whether that is too old."""

_log = logging.getLogger("tollway.keyring")


class RotationSchedule:
    """When the data keys of a keyring are due. `overdue` says so in words, or is None."""

    __slots__ = ("_clock", "_keyring", "_looking", "_on_age", "_rotate_after_days", "overdue")

    def __init__(self, keyring: Keyring, rotate_after_days: int, clock: Clock, on_age: OnAge) -> None:
        self._keyring = keyring
        self._rotate_after_days = rotate_after_days
        self._clock = clock
        self._on_age = on_age
        self._looking: asyncio.Task[None] | None = None
        self.overdue: str | None = None

    def start(self) -> None:
        """Begin to look, now and then once an hour."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """Look no more. Safe to repeat."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def look(self) -> None:
        """Look once. Raises StateUnavailable."""
        oldest_at_ms = await self._keyring.oldest_at_ms()
        age_ms = 0 if oldest_at_ms is None else max(0, self._clock.now_ms() - oldest_at_ms)
        is_overdue = age_ms > self._rotate_after_days * MS_PER_DAY
        self._on_age(age_ms / 1_000, is_overdue)
        before, self.overdue = self.overdue, None
        if is_overdue:
            age_days = age_ms // MS_PER_DAY
            self.overdue = (
                f"the oldest data key of stored provider keys is {age_days} days old, and keyring.rotate_after_days is "
                f"{self._rotate_after_days}: run `tollway keyring rotate-dek --due`"
            )
            if before is None:
                _log.warning("%s", self.overdue)

    async def _look_on(self) -> None:
        while True:
            is_settled = False
            try:
                await self.look()
                is_settled = self.overdue is None
            except GatewayError:
                pass
            except Exception:  # noqa: BLE001  whatever it is, the next look may do
                _log.exception("how old the oldest data key is could not be seen")
            await asyncio.sleep(LOOK_EVERY_S if is_settled else LOOK_AGAIN_S)
