"""The same stores over Redis and over SQLite: each test here runs against both."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from proxy.adapters import redis, sqlite
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.admission.absorption import AbsorptionStore, RedisAbsorptionStore
from proxy.admission.embedded_absorption import EmbeddedAbsorptionStore
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.store import RedisVirtualKeyStore, VirtualKeyStore
from proxy.identity.tenant_store import RedisTenantStore, TenantStore
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.store import KeyringStore, RedisKeyringStore
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.store import LedgerStore, RedisLedgerStore
from proxy.routing.embedded import EmbeddedSwitchStore
from proxy.routing.store import RedisSwitchStore, SwitchStore
from tests.strict_kms import ALL, StrictKms


@dataclass(frozen=True, slots=True)
class Stores:
    virtual_keys: VirtualKeyStore
    tenants: TenantStore
    ledger: LedgerStore
    absorption: AbsorptionStore
    switches: SwitchStore


# How long a store may take is what these are about.
IMPATIENT = {"test_redis_outage.py", "test_keeper_outage.py", "test_keeper_crash.py", "test_keeper.py"}


@pytest.fixture(autouse=True)
def patient(request, monkeypatch) -> None:
    """What is promised here is not how fast: a busy machine must not look like an outage."""
    if request.path.name in IMPATIENT:
        return
    for adapter, name in ((redis, "CALL_TIMEOUT_S"), (sqlite, "CALL_TIMEOUT_S"), (sqlite, "STEP_TIMEOUT_S")):
        monkeypatch.setattr(adapter, name, 10.0)


@pytest.fixture(params=["redis", "sqlite"])
async def stores(request, tmp_path, patient) -> AsyncIterator[Stores]:
    if request.param == "redis":
        async with RedisDoor(request.getfixturevalue("redis_url")) as shared:
            await shared.call("FLUSHALL")
            yield Stores(
                RedisVirtualKeyStore(shared),
                RedisTenantStore(shared),
                RedisLedgerStore(shared),
                RedisAbsorptionStore(shared),
                RedisSwitchStore(shared),
            )
    else:
        async with SqliteDoor(tmp_path / "tollway.db") as embedded:
            yield Stores(
                EmbeddedVirtualKeyStore(embedded),
                EmbeddedTenantStore(embedded),
                EmbeddedLedgerStore(embedded),
                EmbeddedAbsorptionStore(embedded),
                EmbeddedSwitchStore(embedded),
            )


@pytest.fixture
def virtual_keys(stores) -> VirtualKeyStore:
    return stores.virtual_keys


@pytest.fixture
def tenants(stores) -> TenantStore:
    return stores.tenants


@pytest.fixture
def absorption(stores) -> AbsorptionStore:
    return stores.absorption


@pytest.fixture
def switches(stores) -> SwitchStore:
    return stores.switches


@pytest.fixture
def ledger(stores) -> LedgerStore:
    return stores.ledger


@pytest.fixture(params=["redis", "sqlite"])
async def kept(request, tmp_path, patient) -> AsyncIterator[KeyringStore]:
    """Where a keyring keeps what it has sealed."""
    if request.param == "redis":
        async with RedisDoor(request.getfixturevalue("redis_url")) as shared:
            await shared.call("FLUSHALL")
            yield RedisKeyringStore(shared)
    else:
        async with SqliteDoor(tmp_path / "tollway.db") as door:
            yield EmbeddedKeyringStore(door)


@pytest.fixture(scope="module")
def aws_environment() -> Iterator[None]:
    """What boto3 finds credentials in; nothing of the machine's own."""
    with pytest.MonkeyPatch.context() as patched:
        for name in list(os.environ):
            if name.startswith("AWS_") or name.lower().endswith("_proxy"):
                patched.delenv(name)
        patched.setenv("AWS_ACCESS_KEY_ID", "serving")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def strict(aws_environment) -> Iterator[StrictKms]:
    """Our own KMS, to be left as it was found."""
    with StrictKms() as server:
        yield server


@pytest.fixture
def kms(strict) -> Iterator[StrictKms]:
    """The same, for a test that changes it."""
    strict.calls.clear()
    yield strict
    strict.release()
    strict.allow("serving", *ALL)
    strict.stop()
    strict.start()
