"""The stores that a configuration names, and what belongs beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import URL_PREFIX, SqliteDoor, boot_id, sqlite_path
from proxy.admission.absorption import AbsorptionStore, RedisAbsorptionStore
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.admission.embedded_absorption import EmbeddedAbsorptionStore
from proxy.admission.keys import TENANT
from proxy.admission.store import AdmissionStore, RedisAdmissionStore
from proxy.app.caching import connect_cache
from proxy.app.keyring import keyring_store
from proxy.cache.book import CacheBook, RedisCacheBook
from proxy.cache.embedded import EmbeddedCacheBook
from proxy.cache.store import CacheStore
from proxy.core.clock import Clock
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes
from proxy.identity.store import RedisVirtualKeyStore, VirtualKeyStore
from proxy.identity.tenant_store import RedisTenantStore, TenantStore
from proxy.keyring.store import KeyringStore
from proxy.ledger.audit import SpentTotal
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import adjustment
from proxy.ledger.sink import LedgerSink
from proxy.ledger.sinks import connect_sink
from proxy.ledger.store import LedgerStore, RedisLedgerStore
from proxy.routing.embedded import EmbeddedSwitchStore
from proxy.routing.store import RedisSwitchStore, SwitchStore
from proxy.settings.model import Settings

_TOTAL_PERIOD: Final = "t"  # `admission.terms.window_of`'s name for it


@dataclass(frozen=True, slots=True)
class Stores:
    """What outlives the process."""

    virtual_keys: VirtualKeyStore
    tenants: TenantStore
    ledger: LedgerStore
    admission: AdmissionStore
    absorption: AbsorptionStore
    switches: SwitchStore
    keyring: KeyringStore
    cache_book: CacheBook
    cache: CacheStore | None  # None: answers are kept in each process's memory alone
    door: SqliteDoor | RedisDoor
    sink: LedgerSink | None
    spent_total_nusd: SpentTotal


def _spent_total(admission: AdmissionStore) -> SpentTotal:
    async def spent_total_nusd(tenant_id: str) -> int | None:
        total = (await admission.read(tenant_id, TENANT)).periods.get(_TOTAL_PERIOD)
        return None if total is None else total.spent_nusd

    return spent_total_nusd


def connect_stores(settings: Settings, clock: Clock) -> Stores:
    """The stores that the configuration names. Nothing is opened until the first call."""
    url = settings.state.url
    sink = connect_sink(settings.ledger.sink, settings.state.folder)
    if url.startswith(URL_PREFIX):
        embedded = SqliteDoor(sqlite_path(url, settings.state.folder))
        kept = EmbeddedAdmissionStore(embedded, clock, adjustment, boot_id())
        return Stores(
            EmbeddedVirtualKeyStore(embedded),
            EmbeddedTenantStore(embedded),
            EmbeddedLedgerStore(embedded),
            kept,
            EmbeddedAbsorptionStore(embedded),
            EmbeddedSwitchStore(embedded),
            keyring_store(embedded),
            EmbeddedCacheBook(embedded),
            connect_cache(settings, clock),
            embedded,
            sink,
            _spent_total(kept),
        )
    shared = RedisDoor(url)
    counted = RedisAdmissionStore(shared, adjustment)
    return Stores(
        RedisVirtualKeyStore(shared),
        RedisTenantStore(shared),
        RedisLedgerStore(shared),
        counted,
        RedisAbsorptionStore(shared),
        RedisSwitchStore(shared),
        keyring_store(shared),
        RedisCacheBook(shared),
        connect_cache(settings, clock),
        shared,
        sink,
        _spent_total(counted),
    )


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """The stores, for a command that works beside a running gateway. What is not there is made by the first write."""
    stores = connect_stores(settings, Clock())
    try:
        yield stores
    finally:
        await stores.door.close()
        if stores.cache is not None:
            await stores.cache.close()


def peppers_of(settings: Settings) -> tuple[bytes, ...]:
    """The peppers of virtual keys, newest first; one is made in the state folder if none is written."""
    peppers = settings.auth.peppers or (load_or_make_pepper(settings.state.folder),)
    return tuple(pepper_bytes(pepper) for pepper in peppers)
