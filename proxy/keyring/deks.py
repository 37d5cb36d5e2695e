"""Unwraps data keys: one call to the KEK for all who wait for the same one, and its answer kept for a while."""

from proxy.core.clock import Clock
from proxy.keyring.dek import Dek, StoredDek, context_of
from proxy.keyring.dek_cache import DekCache, Unwrapped
from proxy.keyring.kek import Keks
from proxy.keyring.shared_calls import SharedCalls


class Deks:
    """The data keys of all tenants, unwrapped on demand."""

    __slots__ = ("_cache", "_calls", "_clock", "_keks")

    def __init__(self, keks: Keks, clock: Clock) -> None:
        self._keks = keks
        self._clock = clock
        self._cache = DekCache()
        self._calls: SharedCalls[Unwrapped] = SharedCalls(clock)

    async def open(self, stored: StoredDek) -> Unwrapped:
        """The data key in the clear. Waits for as long as the KEK takes: whoever cannot, waits less. Where it is
        known, nothing is waited for.

        Raises:
            KeyringUnavailable, ProviderKeyUnreadable: as `Kek`.
        """
        now_us = self._clock.monotonic_us()
        known = self._cache.find(stored.tenant_id, stored.id, context_of(stored.tenant_id), now_us)
        if known is not None:
            return known
        name = (stored.tenant_id, stored.id, stored.wrapped.ciphertext)
        return await self._calls.answer(
            name, lambda: self._unwrap(stored, now_us), lambda unwrapped: self._keep(stored, unwrapped)
        )

    def keep(self, stored: StoredDek, dek: Dek) -> None:
        """Remember a data key that was made here."""
        self._keep(stored, Unwrapped(dek, stored.tenant_id, self._clock.monotonic_us()))

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's, and what is being unwrapped for it."""
        self._cache.drop(tenant_id)
        self._calls.drop(tenant_id)

    async def connect(self) -> None:
        """Make the KEKs ready. Raises nothing."""
        await self._keks.connect()

    async def stop(self) -> None:
        """End what is under way, forget everything, and let go of the KEKs. Safe to repeat."""
        await self._calls.stop()
        self.clear()
        self._keks.close()

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()
        self._calls.clear()

    def _keep(self, stored: StoredDek, unwrapped: Unwrapped) -> None:
        self._cache.keep(stored.id, context_of(stored.tenant_id), unwrapped)

    async def _unwrap(self, stored: StoredDek, asked_at_us: int) -> Unwrapped:
        dek = await self._keks.unwrap(stored.wrapped, context_of(stored.tenant_id))
        return Unwrapped(dek, stored.tenant_id, asked_at_us)
