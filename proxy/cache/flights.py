"""Calls that are the same, under way at once: one is asked of the provider, the others wait for its answer.

A flight ends when its answer is kept, or when it is known that none will be; then whoever waited goes on alone.
Belongs to one event loop.
"""

import asyncio
from typing import Final, TypeAlias

from proxy.cache.entry import CacheEntry

WAITING_MAX: Final = 10_000

Flight: TypeAlias = asyncio.Future[CacheEntry | None]


class Flights:
    """Those of this process, by tenant and name."""

    __slots__ = ("_flights", "_waiting")

    def __init__(self) -> None:
        self._flights: dict[tuple[str, str], Flight] = {}
        self._waiting = 0

    def begin(self, tenant_id: str, name: str) -> Flight | None:
        """Begin one; None: there is one, which `wait` waits for."""
        if (tenant_id, name) in self._flights:
            return None
        flight = self._flights[tenant_id, name] = asyncio.get_running_loop().create_future()
        return flight

    async def wait(self, tenant_id: str, name: str, within_s: float) -> CacheEntry | None:
        """Wait for what one comes to, for so long at most; not at all where too many wait already. None: nothing."""
        flight = self._flights.get((tenant_id, name))
        if flight is None or self._waiting >= WAITING_MAX:
            return None
        self._waiting += 1
        try:
            await asyncio.wait((flight,), timeout=within_s)
        finally:
            self._waiting -= 1
        return flight.result() if flight.done() else None

    def end(self, tenant_id: str, name: str, flight: Flight, entry: CacheEntry | None = None) -> None:
        """End one, with the answer that it came to. Safe to repeat: the first end counts."""
        if self._flights.get((tenant_id, name)) is flight:
            del self._flights[tenant_id, name]
        if not flight.done():
            flight.set_result(entry)
