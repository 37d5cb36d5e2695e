"""The same stores over Redis and over SQLite: each test here runs against both."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from proxy.adapters import redis, sqlite
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


@pytest.fixture
def patient(monkeypatch) -> None:
    """What is promised here is not how fast: a busy machine must not look like an outage."""
    for adapter, name in ((redis, "CALL_TIMEOUT_S"), (sqlite, "CALL_TIMEOUT_S"), (sqlite, "STEP_TIMEOUT_S")):
        monkeypatch.setattr(adapter, name, 10.0)


@pytest.fixture(params=["redis", "sqlite"])
async def stores(request, tmp_path, patient) -> AsyncIterator[Stores]:
    if request.param == "redis":
        async with RedisDoor(request.getfixturevalue("redis_url")) as shared:
            await shared.call("FLUSHALL")
            yield Stores(RedisVirtualKeyStore(shared), RedisTenantStore(shared), RedisLedgerStore(shared))
    else:
        async with SqliteDoor(tmp_path / "tollway.db") as embedded:
            yield Stores(
                EmbeddedVirtualKeyStore(embedded), EmbeddedTenantStore(embedded), EmbeddedLedgerStore(embedded)
            )


@pytest.fixture
def virtual_keys(stores) -> VirtualKeyStore:
    return stores.virtual_keys


@pytest.fixture
def tenants(stores) -> TenantStore:
    return stores.tenants


@pytest.fixture
def ledger(stores) -> LedgerStore:
    return stores.ledger
