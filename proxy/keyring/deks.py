"""Unwraps data keys: one call to the KEK for all who wait for the same one, and its answer kept for a while.

A call that was begun goes on when everybody has given up waiting, so that its answer is there for the next who
asks. While the KEK is away or refuses, what it said last holds for a moment: a KMS that is down is not asked anew
by every request.
"""

import asyncio
from typing import Final, NamedTuple

from proxy.core.clock import Clock
from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable
from proxy.keyring.dek import Dek, StoredDek, context_of
from proxy.keyring.dek_cache import DekCache, Unwrapped
from proxy.keyring.kek import Keks

FAILURES_MAX: Final = 4_096
AWAY_US: Final = 1_000_000
REFUSED_US: Final = 5_000_000


class _Failure(NamedTuple):
    error: KeyringUnavailable | ProviderKeyUnreadable
    until_us: int


class Deks:
    """The data keys of all tenants, unwrapped on demand."""

    __slots__ = ("_cache", "_calls", "_clock", "_failures", "_keks")

    def __init__(self, keks: Keks, clock: Clock) -> None:
        self._keks = keks
        self._clock = clock
        self._cache = DekCache()
        self._calls: dict[tuple[str, str, bytes], asyncio.Task[Unwrapped]] = {}
        self._failures: dict[tuple[str, str, bytes], _Failure] = {}

    async def open(self, stored: StoredDek) -> Unwrapped:
        """The data key in the clear. Waits for as long as the KEK takes: whoever cannot, waits less.

        Raises:
            KeyringUnavailable, ProviderKeyUnreadable: as `Kek`.
        """
        now_us = self._clock.monotonic_us()
        known = self._cache.find(stored.tenant_id, stored.id, context_of(stored.tenant_id), now_us)
        if known is not None:
            return known
        name = (stored.tenant_id, stored.id, stored.wrapped.ciphertext)
        failure = self._failures.get(name)
        if failure is not None and now_us < failure.until_us:
            raise failure.error.with_traceback(None)
        call = self._calls.get(name)
        if call is None:
            call = self._calls[name] = asyncio.get_running_loop().create_task(self._unwrap(name, stored, now_us))
            call.add_done_callback(lambda done: self._end(name, done))
        return await asyncio.shield(call)  # who hangs up must not end it for the others

    def keep(self, stored: StoredDek, dek: Dek) -> None:
        """Remember a data key that was made here."""
        unwrapped = Unwrapped(dek, stored.tenant_id, self._clock.monotonic_us())
        self._cache.keep(stored.id, context_of(stored.tenant_id), unwrapped)

    def drop(self, tenant_id: str) -> None:
        """Forget all of a tenant's, and what is being unwrapped for it."""
        self._cache.drop(tenant_id)
        for names in (self._calls, self._failures):
            for name in [name for name in names if name[0] == tenant_id]:
                del names[name]

    async def connect(self) -> None:
        """Make the KEKs ready. Raises nothing."""
        await self._keks.connect()

    async def stop(self) -> None:
        """End what is under way, forget everything, and let go of the KEKs. Safe to repeat."""
        calls = [*self._calls.values()]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self.clear()
        self._keks.close()

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()
        self._calls.clear()
        self._failures.clear()

    async def _unwrap(self, name: tuple[str, str, bytes], stored: StoredDek, asked_at_us: int) -> Unwrapped:
        context = context_of(stored.tenant_id)
        try:
            dek = await self._keks.unwrap(stored.wrapped, context)
        except (KeyringUnavailable, ProviderKeyUnreadable) as error:
            if self._is_wanted(name):
                self._note(name, error)
            raise
        unwrapped = Unwrapped(dek, stored.tenant_id, asked_at_us)
        if self._is_wanted(name):
            self._cache.keep(stored.id, context, unwrapped)
        return unwrapped

    def _is_wanted(self, name: tuple[str, str, bytes]) -> bool:
        """False where it was dropped in the meantime."""
        return self._calls.get(name) is asyncio.current_task()

    def _note(self, name: tuple[str, str, bytes], error: KeyringUnavailable | ProviderKeyUnreadable) -> None:
        if len(self._failures) >= FAILURES_MAX:
            self._failures.clear()
        holds_us = AWAY_US if isinstance(error, KeyringUnavailable) else REFUSED_US
        self._failures[name] = _Failure(error, self._clock.monotonic_us() + holds_us)

    def _end(self, name: tuple[str, str, bytes], done: "asyncio.Task[Unwrapped]") -> None:
        if self._calls.get(name) is done:
            del self._calls[name]
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits for it any more
