"""Seals kept answers under their tenant's data key, and opens them again.

The warm path waits for nothing: which data keys a tenant has is known in this process for a while, and so are those in
the clear. What is not known is found out once for all who ask: from the store, and from the KEK. A tenant without a
data key gets one when its first answer is kept.
"""

import asyncio
import secrets
from collections.abc import Mapping
from typing import Final, NamedTuple

from proxy.core.clock import Clock
from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead, sealed_answer
from proxy.keyring.dek import StoredDek
from proxy.keyring.deks import Deks
from proxy.keyring.rotation import Rotation
from proxy.keyring.store import KeyringStore, shredded

TENANTS_MAX: Final = 1_024
KNOWN_US: Final = 300_000_000
LOOK_AGAIN_US: Final = 1_000_000  # for a data key that this process has not heard of


class _Known(NamedTuple):
    """A tenant's data keys, as they were stored at an instant."""

    current: StoredDek | None
    by_id: Mapping[str, StoredDek]
    is_shredded: bool
    as_of_us: int


class Sealer:
    """For all tenants. Belongs to one event loop."""

    __slots__ = ("_clock", "_deks", "_finding", "_known", "_rotation", "_store")

    def __init__(self, store: KeyringStore, deks: Deks, rotation: Rotation, clock: Clock) -> None:
        self._store = store
        self._deks = deks
        self._rotation = rotation
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._finding: dict[str, asyncio.Task[_Known]] = {}

    async def seal(self, tenant_id: str, aad: bytes, plaintext: bytes) -> bytes:
        """The sealed form, under the tenant's current data key; `aad` is needed to open it.

        Raises:
            TenantShredded, KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable.
        """
        current = (await self._keys(tenant_id)).current
        assert current is not None, "whoever has none gets one"
        dek = (await self._deks.open(current)).dek
        return sealed_answer.seal(dek, current.id, secrets.token_bytes(aead.NONCE_BYTES), tenant_id, aad, plaintext)

    async def open(self, tenant_id: str, aad: bytes, sealed: bytes) -> bytes:
        """The plaintext. Raises as `seal`; ProviderKeyUnreadable also for another tenant's, or another place's."""
        parts = sealed_answer.parse(sealed)
        keys = await self._keys(tenant_id)
        stored = keys.by_id.get(parts.dek_id)
        if stored is None and self._clock.monotonic_us() - keys.as_of_us >= LOOK_AGAIN_US:
            self.drop(tenant_id)  # it may have been made meanwhile
            stored = (await self._keys(tenant_id)).by_id.get(parts.dek_id)
        if stored is None:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
        return sealed_answer.unseal(parts, (await self._deks.open(stored)).dek, tenant_id, aad)

    def drop(self, tenant_id: str) -> None:
        """Forget what is known of a tenant, and what is being found out."""
        self._known.pop(tenant_id, None)
        self._finding.pop(tenant_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self._finding.clear()

    async def _keys(self, tenant_id: str) -> _Known:
        known = self._known.get(tenant_id)
        if known is None or self._clock.monotonic_us() - known.as_of_us >= KNOWN_US:
            finding = self._finding.get(tenant_id)
            if finding is None:
                finding = self._finding[tenant_id] = asyncio.get_running_loop().create_task(self._find(tenant_id))
                finding.add_done_callback(lambda done: self._end(tenant_id, done))
            known = await asyncio.shield(finding)  # who hangs up must not end it for the others
        if known.is_shredded:
            raise shredded(tenant_id)
        return known

    async def _find(self, tenant_id: str) -> _Known:
        as_of_us = self._clock.monotonic_us()
        is_shredded = await self._store.shredded_at_ms(tenant_id) is not None
        current_dek_id, deks = await self._store.deks(tenant_id)
        if current_dek_id is None and not is_shredded:
            await self._rotation.add_dek(tenant_id, None, self._clock.now_ms())
            current_dek_id, deks = await self._store.deks(tenant_id)
        by_id = {dek.id: dek for dek in deks}
        current = None if current_dek_id is None else by_id.get(current_dek_id)
        if current is None and not is_shredded:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
        return _Known(current, by_id, is_shredded, as_of_us)

    def _end(self, tenant_id: str, done: "asyncio.Task[_Known]") -> None:
        is_wanted = self._finding.get(tenant_id) is done  # nothing changed meanwhile
        if is_wanted:
            del self._finding[tenant_id]
        if done.cancelled() or done.exception() is not None or not is_wanted:
            return
        if len(self._known) >= TENANTS_MAX:
            self._known.clear()
        self._known[tenant_id] = done.result()
