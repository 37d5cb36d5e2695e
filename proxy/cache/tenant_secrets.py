"""The secrets of tenants, as this process knows them: read by one call for all who ask, and once a minute anew, since
a tenant that was deleted and put again has another."""

import asyncio
from typing import Final

from proxy.cache.book import CacheBook
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable

TENANTS_MAX: Final = 10_000
WAIT_S: Final = 0.3  # as long as for anything else of the state store
AWAY_US: Final = 1_000_000
READ_ANEW_US: Final = 30_000_000  # beside the calls that go by it
KNOWN_US: Final = 60_000_000
"""So long a process goes by a secret that it has read."""


class TenantSecrets:
    """Belongs to one event loop."""

    __slots__ = ("_away_until_us", "_book", "_clock", "_known", "_reading")

    def __init__(self, book: CacheBook, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._away_until_us = 0
        self._known: dict[str, tuple[bytes, int]] = {}  # and when it was asked for
        self._reading: dict[str, asyncio.Task[bytes]] = {}

    def at_hand(self, tenant_id: str) -> bytes | None:
        """The secret, if this process has read it of late."""
        known = self._known.get(tenant_id)
        if known is None:
            return None
        secret, asked_at_us = known
        now_us = self._clock.monotonic_us()
        if now_us - asked_at_us >= READ_ANEW_US and tenant_id not in self._reading and now_us >= self._away_until_us:
            self._read(tenant_id)
        return secret if now_us - asked_at_us < KNOWN_US else None

    async def read(self, tenant_id: str) -> bytes:
        """The secret. Raises StateUnavailable: it cannot be had within 300 ms; for a second after that nobody waits."""
        if self._clock.monotonic_us() < self._away_until_us:
            raise _unavailable()
        reading = self._reading.get(tenant_id) or self._read(tenant_id)
        done, _ = await asyncio.wait((reading,), timeout=WAIT_S)
        if not done:
            self._away_until_us = self._clock.monotonic_us() + AWAY_US
            raise _unavailable()
        return reading.result()

    def _read(self, tenant_id: str) -> "asyncio.Task[bytes]":
        reading = self._reading[tenant_id] = asyncio.get_running_loop().create_task(self._book.secret(tenant_id))
        asked_at_us = self._clock.monotonic_us()
        reading.add_done_callback(lambda done: self._end(tenant_id, done, asked_at_us))
        return reading

    def _end(self, tenant_id: str, done: "asyncio.Task[bytes]", asked_at_us: int) -> None:
        del self._reading[tenant_id]
        if done.cancelled():
            return
        if done.exception() is not None:
            self._away_until_us = self._clock.monotonic_us() + AWAY_US
            return
        if len(self._known) >= TENANTS_MAX:
            self._known.clear()
        self._known[tenant_id] = done.result(), asked_at_us


def _unavailable() -> StateUnavailable:
    return StateUnavailable("The gateway's state store did not answer in time. Try again shortly.")
