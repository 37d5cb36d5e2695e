"""Rotating what wraps and what seals, while calls go on.

Each step changes one entry, only if it is still what was read, so a rotation may be broken off, run again, or run
twice at once: it goes on with what is left. No provider key is unreadable at any moment: a data key is deleted only
after none is sealed by it, and none is sealed by it any more once another one is current. Kept answers are not sealed
anew: they are lost with the data key, and asked for again.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from proxy.core.errors import ProviderKeyUnreadable, StateUnavailable, TenantShredded
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead, envelope
from proxy.keyring.dek import StoredDek, context_of
from proxy.keyring.deks import Deks
from proxy.keyring.envelope import Place
from proxy.keyring.kek import Keks
from proxy.keyring.record import ProviderKeyRecord
from proxy.keyring.store import KeyringStore

TENANTS_AT_ONCE: Final = 500
PASSES_MAX: Final = 16

_log = logging.getLogger("tollway.keyring")


@dataclass(frozen=True, slots=True)
class Rotated:
    """How far a rotation has come."""

    seen: int = 0
    changed: int = 0
    failed: int = 0  # entries that cannot be read: the log names them, and they stay as they are


Progress: TypeAlias = Callable[[Rotated], object]


class Rotation:
    """Rotates KEKs and data keys."""

    __slots__ = ("_deks", "_keks", "_store")

    def __init__(self, keks: Keks, deks: Deks, store: KeyringStore) -> None:
        self._keks = keks
        self._deks = deks
        self._store = store

    async def rotate_kek(self, progress: Progress) -> Rotated:
        """Have every data key wrapped by the current KEK. An older KEK has to stay configured until this is done.

        Raises:
            KeyringUnavailable, StateUnavailable: run it again, and it goes on.
        """
        done, after = Rotated(), ""
        while tenant_ids := await self._store.tenants(after, TENANTS_AT_ONCE):
            for tenant_id in tenant_ids:
                done = await self.rewrap(tenant_id, done, progress)
            after = tenant_ids[-1]
        return done

    async def rewrap(self, tenant_id: str, done: Rotated, progress: Progress) -> Rotated:
        """Have one tenant's data keys wrapped by the current KEK, and add that to what is done. Raises as
        `rotate_kek`."""
        _, deks = await self._store.deks(tenant_id)
        for dek in deks:
            done = await self._rewrap(dek, done)
            progress(done)
        return done

    async def rotate_dek(self, tenant_id: str, at_ms: int, progress: Progress) -> Rotated:
        """Have a tenant's provider keys sealed by a new data key, and delete the old one. Where a rotation was
        broken off, this ends that one.

        Raises:
            TenantShredded, KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable: run it again.
        """
        current_dek_id, deks = await self._store.deks(tenant_id)
        if current_dek_id is None:
            return Rotated()  # it never had one
        if all(dek.id == current_dek_id for dek in deks):
            current_dek_id = (await self.add_dek(tenant_id, current_dek_id, at_ms)).id
        done = Rotated()
        for _ in range(PASSES_MAX):
            before = done
            current_dek_id, deks = await self._store.deks(tenant_id)
            by_id = {dek.id: dek for dek in deks}
            done = replace(done, failed=0)
            async for page in self._store.active(tenant_id):
                for record in page:
                    if current_dek_id is not None and record.dek_id != current_dek_id:
                        done = await self._reseal(tenant_id, record, by_id, current_dek_id, done)
                        progress(done)
            if done.failed:
                return done
            if done.seen == before.seen:  # a whole pass found nothing that an old one seals
                for dek in deks:
                    if dek.id != current_dek_id:
                        await self._store.drop_dek(tenant_id, dek.id)
                return done
        raise StateUnavailable("Others keep changing this tenant's provider keys. Try again.", retry_after_ms=1_000)

    async def add_dek(self, tenant_id: str, replaces: str | None, at_ms: int) -> StoredDek:
        """A new data key, made current; the one that another process made meanwhile, if it was first."""
        dek, wrapped = await self._keks.current.generate(context_of(tenant_id))
        stored = StoredDek(tenant_id, f"dek_{secrets.token_hex(12)}", wrapped, at_ms)
        if await self._store.add_dek(stored, replaces):
            self._deks.keep(stored, dek)
            return stored
        return await self._current(tenant_id)

    async def prepare(self, tenant_id: str, at_ms: int) -> StoredDek:
        """The tenant's data key; if it has none, one is made that nobody here sees."""
        current_dek_id, _ = await self._store.deks(tenant_id)
        if current_dek_id is None:
            wrapped = await self._keks.current.generate_wrapped(context_of(tenant_id))
            stored = StoredDek(tenant_id, f"dek_{secrets.token_hex(12)}", wrapped, at_ms)
            await self._store.add_dek(stored, None)
        return await self._current(tenant_id)

    async def oldest_at_ms(self) -> int | None:
        """When the oldest data key in use was made; None: there is none."""
        oldest, after = None, ""
        while tenant_ids := await self._store.tenants(after, TENANTS_AT_ONCE):
            for tenant_id in tenant_ids:
                _, deks = await self._store.deks(tenant_id)
                for dek in deks:
                    oldest = dek.created_at_ms if oldest is None else min(oldest, dek.created_at_ms)
            after = tenant_ids[-1]
        return oldest

    async def _current(self, tenant_id: str) -> StoredDek:
        current_dek_id, deks = await self._store.deks(tenant_id)
        found = next((dek for dek in deks if dek.id == current_dek_id), None)
        if found is None:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
        return found

    async def _rewrap(self, dek: StoredDek, done: Rotated) -> Rotated:
        done = replace(done, seen=done.seen + 1)
        if dek.wrapped.kek_id == self._keks.current.kek_id:
            return done
        try:
            wrapped = await self._keks.rewrap(dek.wrapped, context_of(dek.tenant_id))
            changed = await self._store.rewrap(replace(dek, wrapped=wrapped), dek.wrapped.ciphertext)
        except ProviderKeyUnreadable as error:
            _log.error("data key %s of tenant %s cannot be rewrapped: %s", dek.id, dek.tenant_id, error.reason)
            return replace(done, failed=done.failed + 1)
        except TenantShredded:  # in the meantime
            return done
        return replace(done, changed=done.changed + changed)

    async def _reseal(
        self, tenant_id: str, record: ProviderKeyRecord, by_id: dict[str, StoredDek], current_dek_id: str, done: Rotated
    ) -> Rotated:
        done = replace(done, seen=done.seen + 1)
        current = by_id[current_dek_id]
        place = Place(tenant_id, record.provider, record.user, record.origin, record.credential_id, record.version)
        try:
            sealed = envelope.parse(record.envelope)
            stored = by_id.get(sealed.dek_id)
            if stored is None:
                raise ProviderKeyUnreadable(UnreadableReason.DEK_MISSING)
            secret = envelope.unseal(sealed, (await self._deks.open(stored)).dek, place)
        except ProviderKeyUnreadable as error:
            said = "provider key %s of tenant %s cannot be sealed anew, so its data key stays: %s"
            _log.error(said, record.credential_id, tenant_id, error.reason)
            return replace(done, failed=done.failed + 1)
        dek = (await self._deks.open(current)).dek
        nonce = secrets.token_bytes(aead.NONCE_BYTES)
        data = envelope.seal(dek, current.id, current.wrapped.kek_id, nonce, place, secret)
        changed = await self._store.reseal(replace(record, dek_id=current.id, envelope=data), record.envelope)
        return replace(done, changed=done.changed + changed)
