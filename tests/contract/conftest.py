"""The same stores over Redis and over SQLite: each test here runs against both."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.store import RedisVirtualKeyStore, VirtualKeyStore
from proxy.identity.tenant_store import RedisTenantStore, TenantStore
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.store import LedgerStore, RedisLedgerStore


@dataclass(frozen=True, slots=True)
class Stores:
    virtual_keys: VirtualKeyStore
    tenants: TenantStore
    ledger: LedgerStore


@pytest.fixture(params=["redis", "sqlite"])
async def stores(request, tmp_path) -> AsyncIterator[Stores]:
    if request.param == "redis":
        async with RedisDoor(request.getfixturevalue("redis_url")) as redis:
            await redis.call("FLUSHALL")
            yield Stores(RedisVirtualKeyStore(redis), RedisTenantStore(redis), RedisLedgerStore(redis))
    else:
        async with SqliteDoor(tmp_path / "tollway.db") as sqlite:
            yield Stores(EmbeddedVirtualKeyStore(sqlite), EmbeddedTenantStore(sqlite), EmbeddedLedgerStore(sqlite))


@pytest.fixture
def virtual_keys(stores) -> VirtualKeyStore:
    return stores.virtual_keys


@pytest.fixture
def tenants(stores) -> TenantStore:
    return stores.tenants


@pytest.fixture
def ledger(stores) -> LedgerStore:
    return stores.ledger
