"""Provider keys that tenants store: put, listed, rotated and deleted. None is ever shown again."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from proxy.administration.changes import Changes
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.administration.refusals import ProviderKeyUnknown, ProviderTakesNoKey, ProviderUnknown
from proxy.core.clock import Clock
from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.identity.tenant_store import TenantStore
from proxy.keyring.record import ProviderKeyRecord, ProviderKeyState
from proxy.keyring.shape import require_names, require_secret
from proxy.keyring.store import shredded
from proxy.ledger.change import Action
from proxy.settings.model import AuthMode, ProviderSettings, Settings, TransportKind
from proxy.settings.suggest import did_you_mean

_NO_NOTES: Final = ()


class StoredProviderKey(NamedTuple):
    """A provider key: its newest version, and what is known of those before it, the newest first. `notes`: why it
    may not pay for what was hoped for."""

    newest: ProviderKeyRecord
    past: tuple[ProviderKeyRecord, ...] = ()
    notes: tuple[str, ...] = _NO_NOTES


class ProviderKeyAdministration:
    """Puts, lists, rotates and deletes provider keys. Every method raises StateUnavailable where the store does not
    answer in time, and ChangeRefused where it does nothing."""

    __slots__ = ("_changes", "_clock", "_keyring", "_settings", "_tenants")

    def __init__(
        self, settings: Settings, keyring: KeyringAtHand, tenants: TenantStore, changes: Changes, clock: Clock
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._tenants = tenants
        self._changes = changes
        self._clock = clock

    async def put(self, tenant_id: str, provider: str, user: str | None, secret: Secret) -> StoredProviderKey:
        """Store one for the place where its provider is now; the next version where there is one already.

        Raises:
            InvalidParameter: a user's name that can never match a call, or a secret that no header can carry.
            ProviderUnknown, ProviderTakesNoKey, KeyringMissing
            TenantShredded, KeyringUnavailable, ProviderKeyUnreadable: as `Keyring.put`.
        """
        origin = origin_of(self._known_provider(provider).base_url)
        require_names(tenant_id, provider, user, origin)
        require_secret(secret)
        keyring = self._keyring.required()
        await self.refuse_shredded(tenant_id)
        notes = await self._notes(tenant_id)
        details = _details(provider, user, origin=origin)
        await self._changes.announce(tenant_id, Action.PROVIDER_KEY_PUT, details)
        record = await keyring.put(tenant_id, provider, user, origin, secret, self._clock.now_ms())
        self._changes.made(tenant_id)
        return StoredProviderKey(record, notes=tuple(notes))

    async def rotate(self, tenant_id: str, provider: str, user: str | None, secret: Secret) -> StoredProviderKey:
        """Put another secret in the place of one that is stored, for the same origin, and wipe that one.

        Raises:
            ProviderKeyUnknown: none is stored there.
            InvalidParameter, KeyringMissing, TenantShredded, KeyringUnavailable, ProviderKeyUnreadable: as `put`.
        """
        require_secret(secret)
        keyring = self._keyring.required()
        await self.refuse_shredded(tenant_id)
        before = await self._stored_at(tenant_id, provider, user)
        details = _details(provider, user, id=before.credential_id)
        await self._changes.announce(tenant_id, Action.PROVIDER_KEY_ROTATE, details)
        record = await keyring.rotate(tenant_id, provider, user, secret, self._clock.now_ms())
        if record is None:
            raise ProviderKeyUnknown(tenant_id)
        self._changes.made(tenant_id)
        notes = [*await self._notes(tenant_id), *_misplaced(record, self._settings)]
        return StoredProviderKey(record, notes=tuple(notes))

    async def delete(self, tenant_id: str, provider: str, user: str | None) -> StoredProviderKey:
        """Wipe one. Raises ProviderKeyUnknown, TenantShredded."""
        await self.refuse_shredded(tenant_id)
        before = await self._stored_at(tenant_id, provider, user)
        details = _details(provider, user, id=before.credential_id)
        await self._changes.announce(tenant_id, Action.PROVIDER_KEY_DELETE, details)
        record = await self._keyring.delete(tenant_id, provider, user, self._clock.now_ms())
        if record is None:
            raise ProviderKeyUnknown(tenant_id)
        self._changes.made(tenant_id)
        return StoredProviderKey(record)

    async def active(self, tenant_id: str) -> Sequence[ProviderKeyRecord]:
        """Those that calls can be paid with."""
        return [record for record in await self._keyring.store.list(tenant_id) if _is_active(record)]

    async def list(self, tenant_id: str) -> Sequence[StoredProviderKey]:
        """All that a tenant has and had, the oldest first."""
        by_id: dict[str, list[ProviderKeyRecord]] = {}
        for record in await self._keyring.store.list(tenant_id):
            by_id.setdefault(record.credential_id, []).append(record)
        found = []
        for records in by_id.values():
            newest, *past = sorted(records, key=lambda one: one.version, reverse=True)
            found.append(StoredProviderKey(newest, tuple(past)))
        return found

    async def find(self, tenant_id: str, provider_key_id: str) -> StoredProviderKey:
        """One by its id. Raises ProviderKeyUnknown."""
        for stored in await self.list(tenant_id):
            if stored.newest.credential_id == provider_key_id:
                return stored
        raise ProviderKeyUnknown(tenant_id)

    async def refuse_shredded(self, tenant_id: str) -> None:
        """Raises TenantShredded for an id that is used up."""
        if await self._keyring.store.shredded_at_ms(tenant_id) is not None:
            raise shredded(tenant_id)

    async def shredded_among(self, tenant_ids: Sequence[str]) -> Mapping[str, int]:
        """Those of them whose ids are used up, and since when, in ms."""
        return await self._keyring.store.shredded_among(tenant_ids)

    async def _stored_at(self, tenant_id: str, provider: str, user: str | None) -> ProviderKeyRecord:
        for record in await self.active(tenant_id):
            if (record.provider, record.user) == (provider, user):
                return record
        raise ProviderKeyUnknown(tenant_id)

    def _known_provider(self, name: str) -> ProviderSettings:
        provider = self._settings.providers.get(name)
        if provider is None:
            raise ProviderUnknown(name, did_you_mean(name, self._settings.providers))
        if provider.transport is TransportKind.SIMULATED:
            raise ProviderTakesNoKey(name)
        return provider

    async def _notes(self, tenant_id: str) -> Sequence[str]:
        notes = []
        if self._settings.auth.mode is AuthMode.PASSTHROUGH:
            notes.append(f'auth.mode is "{AuthMode.PASSTHROUGH}": callers bring their keys, and no stored one pays.')
        if not await is_known_tenant(tenant_id, self._settings, self._tenants):
            notes.append(
                f"{tenant_id} is not under [tenants], nor was it put with `tollway tenants put`, and "
                "auth.known_tenants_only is true: its calls are refused."
            )
        return notes


async def is_known_tenant(tenant_id: str, settings: Settings, tenants: TenantStore) -> bool:
    """Whether the gateway will serve this tenant's calls; the store is asked only where that depends on it."""
    auth = settings.auth
    if not auth.known_tenants_only or tenant_id in settings.tenants or tenant_id == auth.default_tenant:
        return True
    return await tenants.find(tenant_id) is not None


def _is_active(record: ProviderKeyRecord) -> bool:
    return record.state is ProviderKeyState.ACTIVE


def _details(provider: str, user: str | None, **others: str) -> dict[str, object]:
    return {"provider": provider, **({} if user is None else {"user": user}), **others}


def _misplaced(record: ProviderKeyRecord, settings: Settings) -> list[str]:
    """A rotation keeps the place that the key is for; the provider may have moved since."""
    provider = settings.providers.get(record.provider)
    if provider is None:
        return [f"the configuration has no provider {record.provider!r} any more: nothing is paid with this key."]
    origin = origin_of(provider.base_url)
    if origin == record.origin:
        return []
    return [
        f"it is for {record.origin}, and {record.provider} is at {origin} now: calls are refused until it is put again."
    ]
