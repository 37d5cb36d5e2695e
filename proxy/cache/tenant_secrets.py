"""The secrets of tenants, as this process knows them: read once, by one call for all who ask."""

import asyncio
from typing import Final

from proxy.cache.book import CacheBook
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable

TENANTS_MAX: Final = 10_000
WAIT_S: Final = 0.3  # as long as for anything else of the state store
AWAY_US: Final = 1_000_000


class TenantSecrets:
    """Belongs to one event loop."""

    __slots__ = ("_away_until_us", "_book", "_clock", "_known", "_reading")

    def __init__(self, book: CacheBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._away_until_us = 0
        self._known: dict[str, bytes] = {}
        self._reading: dict[str, asyncio.Task[bytes]] = {}

    def at_hand(self, tenant_id: str) -> bytes | None:
        """The secret, if this process knows it."""
        return self._known.get(tenant_id)

    async def read(self, tenant_id: str) -> bytes:
        """The secret. Raises StateUnavailable: it cannot be had within 300 ms; for a second after that nobody waits."""
        if self._clock.monotonic_us() < self._away_until_us:
            raise _unavailable()
        reading = self._reading.get(tenant_id)
        if reading is None:
            reading = self._reading[tenant_id] = asyncio.get_running_loop().create_task(self._book.secret(tenant_id))
            reading.add_done_callback(lambda done: self._end(tenant_id, done))
        done, _ = await asyncio.wait((reading,), timeout=WAIT_S)
        if not done:
            self._away_until_us = self._clock.monotonic_us() + AWAY_US
            raise _unavailable()
        return reading.result()

    def _end(self, tenant_id: str, done: "asyncio.Task[bytes]") -> None:
        del self._reading[tenant_id]
        if done.cancelled():
            return
        if done.exception() is not None:
            self._away_until_us = self._clock.monotonic_us() + AWAY_US
            return
        if len(self._known) >= TENANTS_MAX:
            self._known.clear()
        self._known[tenant_id] = done.result()


def _unavailable() -> StateUnavailable:
    return StateUnavailable("The gateway's state store did not answer in time. Try again shortly.")
