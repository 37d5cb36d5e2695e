"""Tenants that come and go while the gateway runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from proxy.administration.changes import Changes
from proxy.administration.provider_keys import ProviderKeyAdministration
from proxy.administration.refusals import (
    CallsUnderWay,
    PlanUnknown,
    ProviderKeysStored,
    TenantInFile,
    TenantUnknown,
    VirtualKeysWork,
)
from proxy.administration.virtual_key_ends import end_virtual_key, working_virtual_keys
from proxy.admission.hits import CLOCKS_APART_MS
from proxy.admission.store import AdmissionStore
from proxy.cache.book import CacheBook
from proxy.core.clock import Clock
from proxy.identity.lookup_cache import STALE_US
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenant import TenantRecord, settings_of
from proxy.identity.tenant_store import TenantStore
from proxy.ledger.change import Action
from proxy.settings.caching import CacheMode, CachePolicy, in_words
from proxy.settings.model import AuthMode, Settings, TenantSettings
from proxy.settings.routing_checks import NO_REGION, names_no_region
from proxy.settings.suggest import did_you_mean

BELIEVED_MS: Final = STALE_US // 1_000 + 2 * CLOCKS_APART_MS
"""So long after its deletion a process may believe in a tenant and its virtual keys, and what it asks for then is of
that tenant; the rest is for the steps until its record is gone, and for clocks that are apart."""


class KnownTenant(NamedTuple):
    """A tenant as the file or the store describes it."""

    tenant: TenantSettings
    record: TenantRecord | None  # None: the file's
    is_in_force: bool  # False: the file names it too, and wins
    shredded_at_ms: int | None = None  # as far as it was asked for: its id is used up


@dataclass(frozen=True, slots=True)
class PutTenant:
    """What `put` did. `notes` say why the tenant may not be served as was hoped for."""

    known: KnownTenant
    is_new: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """What `delete` did: the ids of the virtual keys that it revoked and of the provider keys that it wiped, and
    whether the file still names the tenant."""

    tenant_id: str
    revoked: tuple[str, ...]
    wiped: tuple[str, ...]
    is_in_file: bool


class TenantAdministration:
    """Puts, lists and deletes tenants. Every method raises StateUnavailable where the store does not
    answer in time, and ChangeRefused where it does nothing."""

    __slots__ = (
        "_admission",
        "_cache_book",
        "_changes",
        "_clock",
        "_provider_keys",
        "_settings",
        "_tenants",
        "_virtual_keys",
    )

    def __init__(
        self,
        settings: Settings,
        tenants: TenantStore,
        virtual_keys: VirtualKeyStore,
        admission: AdmissionStore,
        provider_keys: ProviderKeyAdministration,
        cache_book: CacheBook,
        changes: Changes,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._tenants = tenants
        self._virtual_keys = virtual_keys
        self._admission = admission
        self._provider_keys = provider_keys
        self._cache_book = cache_book
        self._changes = changes
        self._clock = clock

    async def put(self, tenant_id: str, given: Mapping[str, Any]) -> PutTenant:
        """Add a tenant, or change one: what is not given stays as it is.

        Args:
            given: fields of `TenantRecord` (its id and instants apart), each of its type.

        Raises:
            TenantInFile, PlanUnknown
            TenantShredded: the id is used up.
        """
        if tenant_id in self._settings.tenants:
            raise TenantInFile(tenant_id)
        plan = given.get("plan")
        if plan is not None and plan not in self._settings.plans:
            raise PlanUnknown(plan, did_you_mean(plan, self._settings.plans))
        await self._provider_keys.refuse_shredded(tenant_id)
        now_ms = self._clock.now_ms()
        before = await self._tenants.find(tenant_id)
        record = before or TenantRecord(tenant_id, created_at_ms=now_ms, updated_at_ms=now_ms)
        record = replace(record, updated_at_ms=now_ms, **given)
        details = {name: _plain(value) for name, value in given.items()}
        await self._changes.announce(tenant_id, Action.TENANT_PUT, {"is_new": before is None, **details})
        await self._tenants.put(record)
        self._changes.made(tenant_id)
        known = KnownTenant(settings_of(record), record, is_in_force=True)
        return PutTenant(known, before is None, tuple(_notes(record, self._settings)))

    async def list(self) -> Sequence[KnownTenant]:
        """Every tenant that the file or the store names, by id; the file's word before the store's."""
        in_file = self._settings.tenants
        known = [KnownTenant(tenant, None, is_in_force=True) for tenant in in_file.values()]
        for record in await self._tenants.list():
            known.append(KnownTenant(settings_of(record), record, is_in_force=record.id not in in_file))
        return sorted(known, key=lambda one: (one.tenant.id, one.record is not None))

    async def with_ends(self, known: Sequence[KnownTenant]) -> Sequence[KnownTenant]:
        """The same tenants, and which of them were shredded: of a long listing, ask for what is shown."""
        ends = await self._provider_keys.shredded_among([one.tenant.id for one in known])
        return [one._replace(shredded_at_ms=ends.get(one.tenant.id)) for one in known]

    async def find(self, tenant_id: str) -> KnownTenant:
        """What is in force for a tenant.

        Raises:
            TenantUnknown: neither the file nor the store names it.
        """
        record, tenant = None, self._settings.tenants.get(tenant_id)
        if tenant is None:
            record = await self._tenants.find(tenant_id)
            if record is None:
                raise TenantUnknown(tenant_id, is_in_file=False)
            tenant = settings_of(record)
        (known,) = await self.with_ends([KnownTenant(tenant, record, is_in_force=True)])
        return known

    async def delete(self, tenant_id: str, *, force: bool) -> DeletedTenant:
        """Forget a tenant's record; with `force`, revoke its virtual keys and wipe its provider keys first, and
        wait for no call. What was kept of its answers is given to nobody any more.

        While the file names it too, it goes on, and so do its keys.

        Raises:
            TenantUnknown, CallsUnderWay, VirtualKeysWork, ProviderKeysStored
        """
        is_in_file = tenant_id in self._settings.tenants
        if await self._tenants.find(tenant_id) is None:
            raise TenantUnknown(tenant_id, is_in_file=is_in_file)
        under_way = await self._admission.pending(tenant_id)
        if under_way and not force:
            raise CallsUnderWay(tenant_id, under_way)
        stored = [] if is_in_file else await self._provider_keys.active(tenant_id)
        working = [] if is_in_file else await self._working(tenant_id)
        if working and not force:
            raise VirtualKeysWork(tenant_id, len(working))
        if stored and not force:
            raise ProviderKeysStored(tenant_id, len(stored))
        for virtual_key_id in working:
            await end_virtual_key(tenant_id, virtual_key_id, self._virtual_keys, self._changes, self._clock)
        for record in stored:
            await self._provider_keys.delete(tenant_id, record.provider, record.user)
        await self._changes.announce(tenant_id, Action.TENANT_DELETE, {"force": force})
        # Whoever is put under this id later is somebody else.
        await self._cache_book.end(tenant_id, BELIEVED_MS)
        await self._tenants.delete(tenant_id)
        self._changes.made(tenant_id)
        wiped = tuple(record.credential_id for record in stored)
        return DeletedTenant(tenant_id, tuple(working), wiped, is_in_file)

    async def _working(self, tenant_id: str) -> Sequence[str]:
        return await working_virtual_keys(tenant_id, self._virtual_keys, self._clock)


def _notes(record: TenantRecord, settings: Settings) -> list[str]:
    """Why this tenant, though it is there, may not be served as was hoped for."""
    notes = []
    if settings.auth.mode is AuthMode.PASSTHROUGH:
        notes.append(f'auth.mode is "{settings.auth.mode}": this gateway takes its one tenant from the file alone.')
    if record.plan not in settings.plans:
        notes.append(f"the configuration has no plan {record.plan!r}: its calls are refused. Give it another plan.")
    if record.zero_retention and record.cache is not None and record.cache.mode is not CacheMode.OFF:
        notes.append("with zero_retention no answer of its is kept: what is said of its cache does nothing.")
    if record.residency is not None and names_no_region(record.residency, settings):
        notes.append(f"its {NO_REGION}")
    for provider in settings.providers.values():
        if provider.allow_shared_state:
            notes.append(
                f"providers.{provider.name}.allow_shared_state lets it reach what the other tenants left there."
            )
    return notes


def _plain(value: object) -> object:
    """A setting as a row has it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, CachePolicy):
        return in_words(value)
    return value if value is None or isinstance(value, bool) else str(value)
