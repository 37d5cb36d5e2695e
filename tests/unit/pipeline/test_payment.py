"""Whose provider key pays, where what is stored changes while a call is under way."""

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.admission.terms import Demand, RunStep, outline_of
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable, TenantShredded
from proxy.core.secret import Secret
from proxy.core.types import Caller, InboundRequest, KeySource
from proxy.dialects.openai import classify
from proxy.keyring.keyring import Keyring
from proxy.keyring.store import KeyringStore
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.payment import Payment
from proxy.pipeline.snapshot import Snapshot
from proxy.pipeline.ticket import Ticket
from proxy.settings.model import AuthMode, AuthSettings, PlanSettings, ProviderSettings, TenantSettings
from tests.keyrings import ORIGIN, Ring, local_kek

OLD, NEW = Secret("sk-old-0123456789abcdef"), Secret("sk-new-0123456789abcdef")
OPENAI = ProviderSettings("openai", ORIGIN, provider_key=Secret("sk-gateways"), provider_key_wanted=True)


@pytest.fixture
async def store(tmp_path):
    from proxy.adapters.sqlite import SqliteDoor
    from proxy.keyring.embedded import EmbeddedKeyringStore

    async with SqliteDoor(tmp_path / "tollway.db") as door:
        yield EmbeddedKeyringStore(door)


def call() -> Exchange:
    """One that is under way, and not admitted yet."""
    settings = SimpleNamespace(
        auth=AuthSettings(mode=AuthMode.TRUSTED_HEADERS), plans={"default": PlanSettings("default")}
    )
    snapshot = cast(Snapshot, SimpleNamespace(settings=settings))
    exchange = Exchange("run_1", cast(InboundRequest, None), snapshot, classify("POST", ("chat", "completions")), 0, 0)
    exchange.caller, exchange.tenant = Caller("acme"), TenantSettings("acme")
    return exchange


async def admit(exchange: Exchange, store: KeyringStore) -> None:
    demand = Demand(RunStep("acme", "run_1", 0), 0, 0, outline_of(()), 1_000, None, b"")
    epoch = await store.epoch("acme")
    exchange.ticket = Ticket(demand, 0, keyring_epoch=epoch)


async def paid_with(payment: Payment, exchange: Exchange) -> str:
    payer = payment.known(exchange, OPENAI) or await payment.find(exchange, OPENAI)
    assert payer.provider_key is not None
    return payer.provider_key.reveal()


async def test_what_a_call_was_told_before_its_admission_is_not_used_though_another_call_has_heard_since(store):
    kek = local_kek()
    ours, elsewhere = Ring(store, [kek]), Keyring([kek], store, Clock(), lambda _: None)
    payment = Payment(ours.keyring)
    await ours.put(secret=OLD)
    first, second = call(), call()
    told = payment.known(first, OPENAI) or await payment.find(first, OPENAI)
    assert told.provider_key == OLD
    await elsewhere.rotate("acme", "openai", None, NEW, 2)
    await admit(first, store)
    await admit(second, store)
    other = await payment.confirmed(second, OPENAI, told)  # from here on this process knows the new one
    assert other.provider_key == NEW
    assert (await payment.confirmed(first, OPENAI, told)).provider_key == NEW


@pytest.mark.parametrize("how", ["deleted", "stored", "shredded"])
async def test_a_call_that_was_admitted_for_another_payer_is_not_sent(store, how):
    kek = local_kek()
    ours, elsewhere = Ring(store, [kek]), Keyring([kek], store, Clock(), lambda _: None)
    payment = Payment(ours.keyring)
    if how != "stored":
        await ours.put(secret=OLD)
    exchange = call()
    told = payment.known(exchange, OPENAI) or await payment.find(exchange, OPENAI)
    assert told.source is (KeySource.GATEWAY if how == "stored" else KeySource.TENANT)
    if how == "stored":
        await elsewhere.put("acme", "openai", None, ORIGIN, NEW, 2)
    elif how == "deleted":
        await elsewhere.delete("acme", "openai", None, 2)
    else:
        await elsewhere.shred("acme", 2)
    await admit(exchange, store)
    with pytest.raises(TenantShredded if how == "shredded" else StateUnavailable):
        await payment.confirmed(exchange, OPENAI, told)
    if how != "shredded":
        assert await paid_with(payment, call()) == ("sk-gateways" if how == "deleted" else NEW.reveal())


async def test_where_nothing_is_limited_no_admission_tells_of_a_change_and_what_is_known_holds(store):
    ours = Ring(store, [local_kek()])
    payment = Payment(ours.keyring)
    await ours.put(secret=OLD)
    exchange = call()
    told = payment.known(exchange, OPENAI) or await payment.find(exchange, OPENAI)
    assert await payment.confirmed(exchange, OPENAI, told) is told


@pytest.mark.parametrize(
    ("stored", "user", "is_looked_for", "expected"),
    [
        ("users", "ann", True, True),
        ("both", "ann", True, True),
        ("tenants", "ann", True, False),
        ("tenants", "ann", False, True),  # nobody here knows whose it is
        ("users", None, True, False),  # nobody's own can pay for nobody
        ("tenants", None, True, False),
        ("tenants", None, False, False),
    ],
)
async def test_whose_own_a_stored_key_may_be(store, stored, user, is_looked_for, expected):
    ours = Ring(store, [local_kek()])
    payment = Payment(ours.keyring)
    if stored != "tenants":
        await ours.put(user="ann", secret=OLD)
    if stored != "users":
        await ours.put(secret=NEW)
    exchange = call()
    exchange.caller = Caller("acme", user=user)
    if is_looked_for:
        await payment.find(exchange, OPENAI)
    else:
        ours.keyring.drop("acme")
    assert payment.may_be_users_own(exchange, OPENAI) is expected
    assert not Payment(None).may_be_users_own(exchange, OPENAI)
