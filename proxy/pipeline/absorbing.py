"""What the operator bears of fallbacks that are dearer than what was asked for, within a bound for each day.

Where no bound is set, nothing is asked of the store.
"""

import asyncio
import logging
from datetime import UTC, datetime

from proxy.admission.absorption import AbsorptionStore
from proxy.admission.estimate import HELD_NUSD_MAX
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.worst import Worst

_log = logging.getLogger("tollway.absorbing")

_SETTLE_TRIES = 5
_SETTLE_RETRY_S = 1.0


class Absorbing:
    """Asks whether the day has room, and says afterwards what it came to."""

    __slots__ = ("_clock", "_settling", "_store")

    def __init__(self, store: AbsorptionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._settling: set[asyncio.Task[None]] = set()

    def is_bounded(self, exchange: Exchange) -> bool:
        """True where the operator bears no more than so much a day."""
        return exchange.snapshot.settings.fallback.absorb_nusd_per_day is not None

    async def hold(self, exchange: Exchange, worst: Worst | None, borne_nusd: int) -> bool:
        """Hold what a fallback may cost the operator beside what the run's earlier attempts may; False: the day has
        no room for it, or nobody knows what it may come to, or the store is away."""
        bound_nusd = exchange.snapshot.settings.fallback.absorb_nusd_per_day
        if bound_nusd is None:
            return True
        if worst is None or worst.estimate is None:
            return False
        needed_nusd = min(borne_nusd + worst.absorbed_nusd, HELD_NUSD_MAX)  # what no day has room for
        if not needed_nusd:
            return True
        day = exchange.absorption_day or f"{datetime.fromtimestamp(self._clock.now_ms() / 1_000, UTC):%Y-%m-%d}"
        try:
            is_held = await self._store.hold(exchange.run_id, day, needed_nusd, bound_nusd)
        except StateUnavailable:
            is_held = False
            exchange.absorption_day = day  # it may be held all the same: the end of the run frees it
        if is_held:
            exchange.absorption_day = day
        return is_held

    def settle(self, exchange: Exchange, absorbed_nusd: int) -> None:
        """Say what the run came to. Waits for nothing."""
        if exchange.absorption_day is None:
            return
        task = asyncio.get_running_loop().create_task(
            self._settle(exchange.run_id, exchange.absorption_day, min(absorbed_nusd, HELD_NUSD_MAX))
        )
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=timeout_s)

    async def _settle(self, run_id: str, day: str, absorbed_nusd: int) -> None:
        for _ in range(_SETTLE_TRIES):
            try:
                await self._store.settle(run_id, day, absorbed_nusd)
            except StateUnavailable:
                await asyncio.sleep(_SETTLE_RETRY_S)
            else:
                return
        # What it held stays held until the day is over: the bound errs on the operator's side.
        _log.error("run %s: what was absorbed, %d nano-dollars, could not be settled", run_id, absorbed_nusd)
