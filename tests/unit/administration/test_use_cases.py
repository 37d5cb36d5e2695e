"""What is changed has a row that was written before it, beside a real SQLite store."""

import json
from dataclasses import dataclass, replace

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.administration.desk import open_desk
from proxy.administration.refusals import (
    CallsUnderWay,
    PlanUnknown,
    TenantInFile,
    TenantUnknown,
    VirtualKeysWork,
    VirtualKeyUnknown,
)
from proxy.administration.virtual_keys import Wanted
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.cache.embedded import EmbeddedCacheBook
from proxy.core.clock import Clock
from proxy.core.errors import InvalidParameter, StateUnavailable
from proxy.core.limits import ScopeLimits
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.virtual_key import VirtualKeyState, digest
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.ledger.chain import Chain
from proxy.ledger.cursor import Cursor
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.page import seal
from proxy.ledger.usage import Summary
from proxy.routing.embedded import EmbeddedSwitchStore
from proxy.settings.caching import CacheMode, CachePolicy
from proxy.settings.model import AuthMode, AuthSettings, PlanSettings, Settings, TenantSettings
from tests.admission_stores import adjusted
from tests.virtual_keys import by_digest

PEPPER = b"p" * 32
SETTINGS = Settings(
    plans={"default": PlanSettings("default"), "pro": PlanSettings("pro")},
    tenants={"in-file": TenantSettings("in-file")},
    version="abcdef012345",
)


@dataclass
class Stores:
    virtual_keys: EmbeddedVirtualKeyStore
    tenants: EmbeddedTenantStore
    admission: EmbeddedAdmissionStore
    ledger: EmbeddedLedgerStore
    keyring: EmbeddedKeyringStore
    switches: EmbeddedSwitchStore
    cache_book: EmbeddedCacheBook


class Away:
    """A store that has just gone."""

    def __getattr__(self, _name):
        async def call(*_arguments):
            raise StateUnavailable("away")

        return call


class Busy:
    """An admission store in which two calls are under way."""

    async def pending(self, _tenant_id):
        return 2


@pytest.fixture
async def stores(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        yield Stores(
            EmbeddedVirtualKeyStore(door),
            EmbeddedTenantStore(door),
            EmbeddedAdmissionStore(door, Clock(), adjusted),
            EmbeddedLedgerStore(door),
            EmbeddedKeyringStore(door),
            EmbeddedSwitchStore(door),
            EmbeddedCacheBook(door),
        )


def desk(stores, settings=SETTINGS, heard=None):
    def on_changed(*change):
        if heard is not None:
            heard.append(change)

    return open_desk(settings, stores, lambda: PEPPER, Clock(), "ci", on_changed)


async def rows(stores, tenant_id):
    return [json.loads(data) for _, data in await stores.ledger.read(tenant_id)]


async def told(stores, tenant_id):
    return [(row["action"], row["virtual_key_id"], row["details"]) for row in await rows(stores, tenant_id)]


# ── tenants ──────────────────────────────────────────────────────────────────────────────


async def test_a_put_says_who_what_and_when(stores):
    put = await desk(stores).tenants.put("acme", {"plan": "pro", "allow_unmetered": True})
    assert (put.is_new, put.known.tenant.plan, put.known.tenant.allow_unmetered) == (True, "pro", True)
    again = await desk(stores).tenants.put("acme", {"timezone": "Asia/Tokyo"})
    assert (again.is_new, again.known.tenant.plan, again.known.tenant.timezone) == (False, "pro", "Asia/Tokyo")
    first, second = await rows(stores, "acme")
    assert {
        name: first[name] for name in ("kind", "tenant", "actor", "action", "config_version", "virtual_key_id")
    } == {
        "kind": "audit",
        "tenant": "acme",
        "actor": "ci",
        "action": "tenant.put",
        "config_version": "abcdef012345",
        "virtual_key_id": None,
    }
    assert first["details"] == {"is_new": True, "plan": "pro", "allow_unmetered": True}
    assert second["details"] == {"is_new": False, "timezone": "Asia/Tokyo"}
    assert first["started_at"] <= second["started_at"]
    assert first["run_id"] != second["run_id"]


async def test_what_is_said_of_a_cache_stands_in_the_row_and_is_taken_back(stores):
    put = await desk(stores).tenants.put("acme", {"cache": CachePolicy(CacheMode.ALL, 60)})
    assert put.known.tenant.cache == CachePolicy(CacheMode.ALL, 60)
    await desk(stores).tenants.put("acme", {"plan": "pro"})
    assert (await desk(stores).tenants.find("acme")).tenant.cache == CachePolicy(CacheMode.ALL, 60)
    await desk(stores).tenants.put("acme", {"cache": None})
    assert (await desk(stores).tenants.find("acme")).tenant.cache is None
    kept = {"mode": "all", "ttl_s": 60, "share": "tenant", "events_per_s": None}
    assert [details for _, _, details in await told(stores, "acme")] == [
        {"is_new": True, "cache": kept},
        {"is_new": False, "plan": "pro"},
        {"is_new": False, "cache": None},
    ]


@pytest.mark.parametrize(
    ("cache", "zero_retention", "notes"),
    [
        (CachePolicy(CacheMode.ALL), True, 1),
        (CachePolicy(CacheMode.OFF), True, 0),
        (CachePolicy(CacheMode.ALL), False, 0),
        (None, True, 0),
    ],
)
async def test_a_cache_that_does_nothing_comes_with_a_note(stores, cache, zero_retention, notes):
    put = await desk(stores).tenants.put("acme", {"cache": cache, "zero_retention": zero_retention})
    assert len([note for note in put.notes if "zero_retention" in note]) == notes


@pytest.mark.parametrize(
    ("tenant_id", "given", "refusal"),
    [("in-file", {}, TenantInFile), ("acme", {"plan": "prp"}, PlanUnknown)],
)
async def test_what_is_refused_has_no_row_and_changes_nothing(stores, tenant_id, given, refusal):
    with pytest.raises(refusal):
        await desk(stores).tenants.put(tenant_id, given)
    assert await stores.tenants.list() == []
    assert await stores.ledger.tenants() == []


async def test_the_nearest_plan_is_offered(stores):
    with pytest.raises(PlanUnknown) as caught:
        await desk(stores).tenants.put("acme", {"plan": "prp"})
    assert caught.value.suggestion == 'Did you mean "pro"?'


async def test_file_and_store_are_listed_together(stores):
    await desk(stores).tenants.put("acme", {})
    named_too = replace(SETTINGS, tenants={"acme": TenantSettings("acme", plan="pro"), **SETTINGS.tenants})
    listed = await desk(stores, named_too).tenants.list()
    assert [(one.tenant.id, one.tenant.plan, one.record is None, one.is_in_force) for one in listed] == [
        ("acme", "pro", True, True),
        ("acme", "default", False, False),
        ("in-file", "default", True, True),
    ]
    assert (await desk(stores, named_too).tenants.find("acme")).tenant.plan == "pro"
    assert (await desk(stores).tenants.find("acme")).tenant.plan == "default"
    with pytest.raises(TenantUnknown):
        await desk(stores).tenants.find("nobody")


async def test_a_forced_delete_has_a_row_for_each_key_that_it_ends(stores):
    heard: list[tuple[str, str | None]] = []
    await desk(stores).tenants.put("acme", {})
    ids = [(await desk(stores).virtual_keys.issue(Wanted("acme"))).virtual_key.id for _ in range(3)]
    await desk(stores).virtual_keys.revoke(ids[0])
    with pytest.raises(VirtualKeysWork) as caught:
        await desk(stores).tenants.delete("acme", force=False)
    assert caught.value.virtual_keys == 2
    before = len(await rows(stores, "acme"))
    deleted = await desk(stores, heard=heard).tenants.delete("acme", force=True)
    assert set(deleted.revoked) == set(ids[1:])
    assert (await told(stores, "acme"))[before:] == [
        *(("virtual_key.revoke", one, {}) for one in deleted.revoked),
        ("tenant.delete", None, {"force": True}),
    ]
    assert heard == [*(("acme", one) for one in deleted.revoked), ("acme", None)]
    with pytest.raises(TenantUnknown):
        await desk(stores).tenants.delete("acme", force=True)


async def test_calls_under_way_keep_a_tenant_unless_it_is_forced(stores):
    await desk(stores).tenants.put("acme", {})
    stores.admission = Busy()
    with pytest.raises(CallsUnderWay) as caught:
        await desk(stores).tenants.delete("acme", force=False)
    assert caught.value.calls == 2
    await desk(stores).tenants.delete("acme", force=True)
    assert await stores.tenants.list() == []


# ── virtual keys ─────────────────────────────────────────────────────────────────────────


async def test_an_issued_key_works_and_its_row_has_no_secret(stores):
    limits = ScopeLimits(requests_per_minute=60, per_day_nusd=1_500_000_000)
    wanted = Wanted("acme", "ada", "report", frozenset({"b", "a"}), 60_000, limits)
    issued = await desk(stores).virtual_keys.issue(wanted)
    token = issued.token.reveal()
    assert await by_digest(stores.virtual_keys, [digest(token, PEPPER)]) == issued.virtual_key
    (row,) = await rows(stores, "acme")
    assert (row["action"], row["virtual_key_id"]) == ("virtual_key.issue", issued.virtual_key.id)
    assert row["details"] == {
        "user": "ada",
        "feature": "report",
        "models": ["a", "b"],
        "limits": {"requests_per_minute": 60, "burst": 60, "usd_per_day": "1.50"},
        "expires_at": row["details"]["expires_at"],
    }
    text = json.dumps(row)
    assert token[4:20] not in text
    assert digest(token, PEPPER) not in text


async def test_a_key_is_ended_once(stores):
    issued = await desk(stores).virtual_keys.issue(Wanted("acme"))
    first = await desk(stores).virtual_keys.revoke(issued.virtual_key.id)
    again = await desk(stores).virtual_keys.revoke(issued.virtual_key.id)
    assert first.state(0) is VirtualKeyState.REVOKED
    assert again == first
    assert [action for action, _, _ in await told(stores, "acme")] == ["virtual_key.issue", "virtual_key.revoke"]
    assert await desk(stores).virtual_keys.find(issued.virtual_key.id) == first
    assert await desk(stores).virtual_keys.list("acme") == [first]


async def test_what_cannot_be_a_key_is_refused_without_a_row(stores):
    for wanted in (Wanted("a b"), Wanted("acme", user=""), Wanted("acme", allowed_models=frozenset())):
        with pytest.raises(InvalidParameter):
            await desk(stores).virtual_keys.issue(wanted)
    for step in (desk(stores).virtual_keys.revoke, desk(stores).virtual_keys.find):
        with pytest.raises(VirtualKeyUnknown):
            await step("vk_nobody")
    assert await stores.ledger.tenants() == []
    assert await stores.virtual_keys.list(None) == []


@pytest.mark.parametrize(
    ("auth", "models", "said"),
    [
        (AuthSettings(mode=AuthMode.TRUSTED_HEADERS), None, "does not ask for virtual keys"),
        (AuthSettings(known_tenants_only=True), None, "its calls are refused"),
        (AuthSettings(), frozenset({"nothing"}), "no model is called 'nothing'"),
    ],
)
async def test_a_key_that_will_not_do_what_was_hoped_comes_with_a_note(stores, auth, models, said):
    issued = await desk(stores, replace(SETTINGS, auth=auth)).virtual_keys.issue(Wanted("acme", allowed_models=models))
    (note,) = issued.notes
    assert said in note


# ── the order ────────────────────────────────────────────────────────────────────────────


async def test_without_its_row_no_change_is_made(stores):
    await desk(stores).tenants.put("acme", {})
    issued = (await desk(stores).virtual_keys.issue(Wanted("acme"))).virtual_key
    deaf = replace(stores, ledger=Away())
    for step in (
        lambda: desk(deaf).tenants.put("late", {}),
        lambda: desk(deaf).tenants.delete("acme", force=True),
        lambda: desk(deaf).virtual_keys.issue(Wanted("acme")),
        lambda: desk(deaf).virtual_keys.revoke(issued.id),
    ):
        with pytest.raises(StateUnavailable):
            await step()
    assert [record.id for record in await stores.tenants.list()] == ["acme"]
    assert await stores.virtual_keys.list(None) == [issued]


async def test_a_change_that_breaks_off_leaves_its_row(stores):
    heard: list[tuple[str, str | None]] = []
    broken = replace(stores, virtual_keys=Away())
    with pytest.raises(StateUnavailable):
        await desk(broken, heard=heard).virtual_keys.issue(Wanted("acme"))
    assert [action for action, _, _ in await told(stores, "acme")] == ["virtual_key.issue"]
    assert heard == []


async def test_rows_of_changes_are_in_the_chain_and_in_no_sum(stores):
    await desk(stores).tenants.put("acme", {})
    await desk(stores).virtual_keys.issue(Wanted("acme"))
    page = seal("acme", Cursor(), await stores.ledger.read("acme"))
    chain = Chain("acme")
    rows_again = chain.follow(1, page.data).rows
    assert chain.rows == 2
    summary = Summary(("tenant",))
    summary.add(rows_again)
    assert summary.groups() == []
    assert summary.counted_nusd == 0
