"""What holds for a tenant: from the file, from the store, or by default.

A tenant of the file costs a look into a dictionary, and one of the store that was read within
the last 5 s another. A plan that the file no longer has refuses its tenants: another plan in its
place could be one without caps.
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

from proxy.core.clock import Clock
from proxy.core.errors import TenantNotAllowed
from proxy.identity.lookup_cache import Answer, Entry, LookupCache, OnAsked, ignore
from proxy.identity.tenant import settings_of
from proxy.identity.tenant_store import TenantStore
from proxy.settings.model import AuthMode, Settings, TenantSettings
from proxy.settings.values import is_time_zone


class Found(NamedTuple):
    """What was made of the store's answer; `fault` says why it cannot be used, if so."""

    tenant: TenantSettings
    fault: str | None = None


TenantCache: TypeAlias = LookupCache[Found]

_AWAY = "The store that knows tenants did not answer in time. Try again shortly."


def make_tenant_cache(on_asked: OnAsked = ignore) -> TenantCache:
    """An empty one. Most tenants need no record: that there is none is believed as long as a record is."""
    return LookupCache(away=_AWAY, unknown_go_stale=True, on_asked=on_asked)


class Tenants:
    """Every tenant, by one snapshot of the configuration."""

    __slots__ = ("_cache", "_clock", "_default", "_file", "_known_only", "_plans", "_store")

    def __init__(self, settings: Settings, store: TenantStore, cache: TenantCache, clock: Clock) -> None:
        """In the mode passthrough there is but the default tenant, whom nobody names: the store is never asked."""
        auth = settings.auth
        self._file: Mapping[str, TenantSettings] = settings.tenants
        self._plans = frozenset(settings.plans)
        self._default = TenantSettings(auth.default_tenant)
        self._known_only = auth.known_tenants_only
        self._store = None if auth.mode is AuthMode.PASSTHROUGH else store
        self._cache = cache
        self._clock = clock

    def fresh(self, tenant_id: str) -> TenantSettings | None:
        """What holds for the tenant, if that needs no look at the store. Raises TenantNotAllowed as `find`."""
        tenant = self._file.get(tenant_id)
        if tenant is not None:
            return tenant
        if self._store is None:
            assert tenant_id == self._default.id
            return self._default
        entry = self._cache.fresh(tenant_id, self._clock.monotonic_us())
        return None if entry is None else self._allowed(entry)

    async def find(self, tenant_id: str) -> TenantSettings:
        """What holds for the tenant; at most one round trip.

        Raises:
            TenantNotAllowed: nobody knows it and `known_tenants_only` is set, or it has a plan or a
                time zone that this gateway does not know.
            StateUnavailable: the store is away, and said nothing about this tenant in the last minute.
        """
        tenant = self.fresh(tenant_id)
        if tenant is not None:
            return tenant
        assert self._store is not None
        ask = partial(_ask, self._store, tenant_id)
        return self._allowed(await self._cache.lookup(tenant_id, ask, self._clock))

    def _allowed(self, entry: Entry[Found]) -> TenantSettings:
        tenant, fault = entry.value
        if fault is not None:
            raise TenantNotAllowed(fault)
        if not entry.is_known and self._known_only and tenant.id != self._default.id:
            raise TenantNotAllowed(
                f"The tenant {tenant.id} is not known to this gateway. Its operator adds it under `[tenants]`, or with "
                "`tollway tenants put`."
            )
        if tenant.plan not in self._plans:
            raise TenantNotAllowed(
                f"The tenant {tenant.id} has a plan that this gateway's configuration does not have. Its operator "
                "writes it under `[plans]`, or gives the tenant another with `tollway tenants put`."
            )
        return tenant


async def _ask(store: TenantStore, tenant_id: str) -> Answer[Found]:
    record = await store.find(tenant_id)
    if record is None:
        return Answer(Found(TenantSettings(tenant_id)), is_known=False)
    fault = None
    if not is_time_zone(record.timezone):
        # It was put on a machine with a newer copy of the time zones: its days cannot be told here.
        fault = (
            f"The tenant {tenant_id} has the time zone {record.timezone}, which this gateway's machine does not know. "
            "Its operator brings the machine's time zones up to date."
        )
    return Answer(Found(settings_of(record), fault), is_known=True)
