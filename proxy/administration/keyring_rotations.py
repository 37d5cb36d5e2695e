"""The keyring as a whole: what it holds, a tenant's data key prepared, KEKs and data keys rotated.

A rotation visits one tenant after another. It may be broken off and run again: what is done is passed over.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from proxy.administration.changes import Changes
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.core.clock import Clock
from proxy.core.errors import ProviderKeyUnreadable, TenantShredded
from proxy.keyring.dek import StoredDek
from proxy.keyring.store import KeyringStore
from proxy.ledger.change import Action
from proxy.settings.model import Settings

TENANTS_AT_ONCE: Final = 100  # their data keys are asked for together
_MS_PER_DAY: Final = 86_400_000

OnVisited: TypeAlias = Callable[[int], object]
"""Hears that so many more tenants were visited."""


class KekUse(NamedTuple):
    """A KEK, and how many data keys it wraps."""

    kek_id: str
    place: str | None  # as the configuration names it; None: it does not, and these data keys cannot be opened
    is_current: bool
    data_keys: int


@dataclass(frozen=True, slots=True)
class KeyringStatus:
    """What is sealed by what."""

    keks: tuple[KekUse, ...]
    tenants: int  # that have a data key
    data_keys: int
    oldest_at_ms: int | None  # when the oldest data key was made
    rotate_after_days: int
    due: int  # tenants with a data key that is older, or whose rotation was broken off


@dataclass(frozen=True, slots=True)
class RotationDone:
    """What a rotation did."""

    tenants: int = 0  # that were visited
    rotated: int = 0  # that had something to do
    changed: int = 0  # data keys that were rewrapped, or provider keys that were sealed anew
    failed: tuple[str, ...] = ()  # tenants of which something cannot be read; the log names it, and it stays as it is


class _Deks(NamedTuple):
    tenant_id: str
    current_dek_id: str | None
    deks: Sequence[StoredDek]

    def is_due(self, made_before_ms: int) -> bool:
        """Whether one was made before that, or a rotation was broken off."""
        return len(self.deks) > 1 or any(dek.created_at_ms < made_before_ms for dek in self.deks)


class KeyringAdministration:
    """Looks after the keyring. Every method raises KeyringMissing, StateUnavailable and KeyringUnavailable: run
    it again, and it goes on."""

    __slots__ = ("_changes", "_clock", "_keyring", "_settings")

    def __init__(self, settings: Settings, keyring: KeyringAtHand, changes: Changes, clock: Clock) -> None:
        self._settings = settings
        self._keyring = keyring
        self._changes = changes
        self._clock = clock

    async def status(self) -> KeyringStatus:
        """Count what there is. Asks the store twice for each tenant."""
        kek_ids = self._keyring.required().kek_ids
        due_before_ms = self.due_before_ms()
        wrapped: Counter[str] = Counter()
        tenants, due, oldest_at_ms = 0, 0, None
        async for found in _every_tenants(self._keyring.store):
            tenants += bool(found.deks)
            due += found.is_due(due_before_ms)
            wrapped.update(dek.wrapped.kek_id for dek in found.deks)
            for dek in found.deks:
                oldest_at_ms = dek.created_at_ms if oldest_at_ms is None else min(oldest_at_ms, dek.created_at_ms)
        keyring = self._settings.keyring
        places = [f"{kek.kind}:{kek.place}" for kek in keyring.kek]
        keks = [
            KekUse(kek_id, place, kek_id == kek_ids[0], wrapped.pop(kek_id, 0))
            for kek_id, place in dict(zip(kek_ids, places, strict=True)).items()
        ]
        keks += [KekUse(kek_id, None, False, count) for kek_id, count in sorted(wrapped.items())]
        data_keys = sum(kek.data_keys for kek in keks)
        return KeyringStatus(tuple(keks), tenants, data_keys, oldest_at_ms, keyring.rotate_after_days, due)

    async def prepare(self, tenant_id: str) -> bool:
        """Make a tenant's data key, unseen; False: it has one.

        Raises:
            TenantShredded, ProviderKeyUnreadable: as `Keyring.prepare`.
        """
        keyring = self._keyring.required()
        current_dek_id, _ = await self._keyring.store.deks(tenant_id)
        if current_dek_id is not None:
            return False
        await self._changes.announce(tenant_id, Action.KEYRING_PREPARE, {})
        await keyring.prepare(tenant_id, self._clock.now_ms())
        return True

    async def rotate_kek(self, on_visited: OnVisited) -> RotationDone:
        """Have the current KEK wrap every data key. The older ones have to stay configured until then."""
        keyring = self._keyring.required()
        current, done = keyring.kek_ids[0], RotationDone()
        async for found in _every_tenants(self._keyring.store):
            changed, failed = 0, False
            if is_due := any(dek.wrapped.kek_id != current for dek in found.deks):
                await self._changes.announce(found.tenant_id, Action.KEYRING_ROTATE_KEK, {"kek": current})
                rewrapped = await keyring.rewrap(found.tenant_id)
                changed, failed = rewrapped.changed, rewrapped.failed > 0
            done = _added(done, found.tenant_id, is_due=is_due, changed=changed, failed=failed)
            on_visited(1)
        return done

    async def rotate_dek(self, tenant_id: str) -> RotationDone:
        """Have a tenant's provider keys sealed by a new data key; a rotation that was broken off is ended.

        Raises:
            TenantShredded
        """
        current_dek_id, deks = await self._keyring.store.deks(tenant_id)
        return await self._rotate_dek(_Deks(tenant_id, current_dek_id, deks), RotationDone(), is_due=bool(deks))

    async def rotate_old_deks(self, made_before_ms: int, on_visited: OnVisited) -> RotationDone:
        """Rotate the data key of each tenant that has one from before that moment, or an unfinished rotation."""
        done = RotationDone()
        async for found in _every_tenants(self._keyring.store):
            try:
                done = await self._rotate_dek(found, done, is_due=found.is_due(made_before_ms))
            except TenantShredded:  # in the meantime
                pass
            on_visited(1)
        return done

    def due_before_ms(self) -> int:
        """A data key from before this moment is due, by `rotate_after_days`."""
        return self._clock.now_ms() - self._settings.keyring.rotate_after_days * _MS_PER_DAY

    async def _rotate_dek(self, found: _Deks, done: RotationDone, *, is_due: bool) -> RotationDone:
        keyring, tenant_id = self._keyring.required(), found.tenant_id
        changed, failed = 0, False
        if is_due:
            await self._changes.announce(tenant_id, Action.KEYRING_ROTATE_DEK, {"data_key": found.current_dek_id})
            try:
                rotated = await keyring.rotate_dek(tenant_id, self._clock.now_ms(), _ignore)
                changed, failed = rotated.changed, rotated.failed > 0
            except ProviderKeyUnreadable:  # one tenant's fault keeps no other waiting
                failed = True
        return _added(done, tenant_id, is_due=is_due, changed=changed, failed=failed)


async def _every_tenants(store: KeyringStore) -> AsyncIterator[_Deks]:
    """The data keys of each tenant that ever had some."""
    after = ""
    while tenant_ids := await store.tenants(after, TENANTS_AT_ONCE):
        together = await asyncio.gather(*(store.deks(tenant_id) for tenant_id in tenant_ids))
        for tenant_id, (current_dek_id, deks) in zip(tenant_ids, together, strict=True):
            yield _Deks(tenant_id, current_dek_id, deks)
        after = tenant_ids[-1]


def _added(done: RotationDone, tenant_id: str, *, is_due: bool, changed: int, failed: bool) -> RotationDone:
    return RotationDone(
        done.tenants + 1,
        done.rotated + is_due,
        done.changed + changed,
        (*done.failed, tenant_id) if failed else done.failed,
    )


def _ignore(_progress: object) -> None:
    """A tenant is the step that is shown."""
