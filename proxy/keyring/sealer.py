"""Seals kept answers under their tenant's data key, and opens them again.

The warm path waits for nothing: what data keys a tenant has is known in this process for a while, and so are those in
the clear. What is not known is found out once for all who ask: one round trip to the store, and one call to the KEK.
A tenant without a data key gets one when its first answer is sealed; to open one makes none.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.core.clock import Clock
from proxy.core.errors import ProviderKeyUnreadable, StateUnavailable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead, sealed_answer
from proxy.keyring.dek import StoredDek
from proxy.keyring.dek_cache import MAX_AGE_US
from proxy.keyring.deks import Deks
from proxy.keyring.record import FoundDeks
from proxy.keyring.rotation import Rotation
from proxy.keyring.shared_calls import SharedCalls
from proxy.keyring.store import TRIES_MAX, KeyringStore, shredded

TENANTS_MAX: Final = 4_096
LOOK_AGAIN_US: Final = 1_000_000  # for a data key that this process has not heard of: it may have been made since
LARGE_BYTES: Final = 262_144  # what takes a good part of a millisecond is done beside the loop


class _Known(NamedTuple):
    deks: FoundDeks
    asked_at_us: int


class Sealer:
    """For all tenants. Belongs to one event loop.

    Every method that waits does so for as long as the store and the KEK take: whoever cannot, waits less, and what was
    begun goes on. What they failed with holds for a moment (`SharedCalls`)."""

    __slots__ = ("_clock", "_deks", "_finding", "_forget", "_known", "_making", "_rotation", "_store")

    def __init__(self, store: KeyringStore, deks: Deks, rotation: Rotation, clock: Clock) -> None:
        self._store = store
        self._deks = deks
        self._rotation = rotation
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._finding: SharedCalls[_Known] = SharedCalls(clock)
        self._making: SharedCalls[StoredDek] = SharedCalls(clock)
        self._forget: Callable[[str | None], object] = lambda _tenant_id: None

    async def seal(self, tenant_id: str, aad: bytes, plaintext: bytes) -> bytes:
        """The sealed form, under the tenant's current data key. It opens for the same tenant and AAD alone.

        Raises:
            KeyringUnavailable: the KEK did not answer in time.
            ProviderKeyUnreadable: it refuses.
            StateUnavailable: the store is away, or the tenant's keyring keeps changing.
            TenantShredded: the tenant was shredded.
        """
        stored = await self._current(tenant_id)
        dek = (await self._deks.open(stored)).dek
        arguments = (dek, stored.id, secrets.token_bytes(aead.NONCE_BYTES), tenant_id, aad, plaintext)
        if len(plaintext) > LARGE_BYTES:
            return await asyncio.to_thread(sealed_answer.seal, *arguments)
        return sealed_answer.seal(*arguments)

    async def open(self, tenant_id: str, aad: bytes, sealed: bytes) -> bytes:
        """The plaintext.

        Raises:
            ProviderKeyUnreadable: the KEK refuses, the data key is gone, or this was changed, is another tenant's, or
                was sealed with another AAD.
            KeyringUnavailable, StateUnavailable, TenantShredded: as `seal`.
        """
        parts = sealed_answer.parse(sealed)
        stored = (await self._find(tenant_id, MAX_AGE_US)).dek(parts.dek_id)
        if stored is None:
            stored = (await self._find(tenant_id, LOOK_AGAIN_US)).dek(parts.dek_id)
        if stored is None:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
        arguments = (parts, (await self._deks.open(stored)).dek, tenant_id, aad)
        if len(sealed) > LARGE_BYTES:
            return await asyncio.to_thread(sealed_answer.unseal, *arguments)
        return sealed_answer.unseal(*arguments)

    def on_drop(self, forget: Callable[[str | None], object]) -> None:
        """Have what was opened forgotten as well, wherever it is: of a tenant, or with None of everybody."""
        self._forget = forget

    def drop(self, tenant_id: str) -> None:
        """Forget what is known of a tenant's data keys, and what is being found out."""
        self._known.pop(tenant_id, None)
        self._finding.drop(tenant_id)
        self._making.drop(tenant_id)
        self._forget(tenant_id)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._finding.clear()
        self._making.clear()
        self._forget(None)

    async def stop(self) -> None:
        """End what is under way, and forget everything. Safe to repeat."""
        await self._finding.stop()
        await self._making.stop()
        self.clear()

    async def _find(self, tenant_id: str, max_age_us: int) -> FoundDeks:
        """The tenant's data keys, as they were not longer ago than that. What was dropped before it arrived here is
        from before a change, and asked for again: else a data key could be unwrapped after its tenant was shredded."""
        for _ in range(TRIES_MAX):
            known = self._known.get(tenant_id)
            if known is None or self._clock.monotonic_us() - known.asked_at_us >= max_age_us:
                known = await self._finding.answer(
                    (tenant_id,), lambda: self._ask(tenant_id), lambda found: self._keep(tenant_id, found)
                )
            if self._known.get(tenant_id) is known:
                return known.deks
        raise _contended()

    async def _current(self, tenant_id: str) -> StoredDek:
        """The tenant's data key that seals; if it has none, one is made."""
        for _ in range(TRIES_MAX):
            current = (await self._find(tenant_id, MAX_AGE_US)).current
            if current is not None:
                return current
            await self._make(tenant_id)
        raise _contended()

    async def _make(self, tenant_id: str) -> None:
        """Make the tenant's first data key, and know it, if nothing changes meanwhile."""
        asked_at_us = self._clock.monotonic_us()
        await self._making.answer(
            (tenant_id,),
            lambda: self._rotation.add_dek(tenant_id, None, self._clock.now_ms()),
            lambda made: self._keep(tenant_id, _Known(FoundDeks(made.id, (made,)), asked_at_us)),
        )

    async def _ask(self, tenant_id: str) -> _Known:
        asked_at_us = self._clock.monotonic_us()
        found = await self._store.find_deks(tenant_id)
        if found.shredded_at_ms is not None:
            self._known.pop(tenant_id, None)  # where it was another question that found it out
            self._deks.drop(tenant_id)
            raise shredded(tenant_id)
        return _Known(found, asked_at_us)

    def _keep(self, tenant_id: str, found: _Known) -> None:
        self._known.pop(tenant_id, None)
        if len(self._known) >= TENANTS_MAX:
            del self._known[next(iter(self._known))]  # that was asked for longest ago
        self._known[tenant_id] = found


def _contended() -> StateUnavailable:
    return StateUnavailable("Others keep changing this tenant's keyring. Try again.", retry_after_ms=1_000)
