"""What a tenant stores, beside a real SQLite store and a local KEK: who may, what is said of it, and its rows."""

import json
from dataclasses import dataclass, replace

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.administration.desk import Desk, open_desk
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.administration.provider_keys import StoredProviderKey
from proxy.administration.refusals import (
    KeyringMissing,
    ProviderKeysStored,
    ProviderKeyUnknown,
    ProviderTakesNoKey,
    ProviderUnknown,
    TenantUnknown,
)
from proxy.administration.virtual_keys import Wanted
from proxy.admission.embedded import EmbeddedAdmissionStore
from proxy.cache.embedded import EmbeddedCacheBook
from proxy.core.clock import Clock
from proxy.core.errors import InvalidParameter, KeyringUnavailable, StateUnavailable, TenantShredded
from proxy.core.secret import Secret
from proxy.identity.embedded import EmbeddedTenantStore, EmbeddedVirtualKeyStore
from proxy.identity.virtual_key import VirtualKeyState
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.kek import Kek
from proxy.keyring.keyring import Keyring
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.routing.embedded import EmbeddedSwitchStore
from proxy.settings.model import (
    AuthMode,
    AuthSettings,
    KekKind,
    KekSettings,
    KeyringSettings,
    PlanSettings,
    ProviderSettings,
    Settings,
    TenantSettings,
    TransportKind,
)
from tests.admission_stores import adjusted
from tests.keyrings import OTHER_SECRET, SECRET, HandClock, local_kek

DAY_US = 86_400_000_000
SETTINGS = Settings(
    providers={
        "openai": ProviderSettings("openai", "https://API.openai.com:443/v1"),
        "simulated": ProviderSettings("simulated", "http://s.invalid", transport=TransportKind.SIMULATED),
    },
    plans={"default": PlanSettings("default")},
    tenants={"in-file": TenantSettings("in-file")},
    keyring=KeyringSettings(kek=(KekSettings(KekKind.FILE, "kek"),), rotate_after_days=30),
    version="abcdef012345",
)


@dataclass
class Stores:
    virtual_keys: EmbeddedVirtualKeyStore
    tenants: EmbeddedTenantStore
    admission: EmbeddedAdmissionStore
    keyring: EmbeddedKeyringStore
    switches: EmbeddedSwitchStore
    cache_book: EmbeddedCacheBook
    ledger: EmbeddedLedgerStore


class Away:
    """A store that has just gone."""

    def __getattr__(self, _name):
        async def call(*_arguments):
            raise StateUnavailable("away")

        return call


class Office:
    """A desk, the keyring that its calls would be served with, and a clock."""

    def __init__(self, door: SqliteDoor) -> None:
        self.clock = HandClock()
        self.clock.us = 10_000 * DAY_US
        self.keks: list[Kek] = [local_kek()]
        self.stores = Stores(
            EmbeddedVirtualKeyStore(door),
            EmbeddedTenantStore(door),
            EmbeddedAdmissionStore(door, Clock(), adjusted),
            EmbeddedKeyringStore(door),
            EmbeddedSwitchStore(door),
            EmbeddedCacheBook(door),
            EmbeddedLedgerStore(door),
        )
        self.keyring = self.another_keyring()

    def another_keyring(self, *keks: Kek) -> Keyring:
        return Keyring(keks or self.keks, self.stores.keyring, self.clock, lambda _reason: None)

    def desk(self, settings: Settings = SETTINGS, keyring: Keyring | None = None, stores: Stores | None = None) -> Desk:
        at_hand = KeyringAtHand(self.stores.keyring, keyring or self.keyring)
        stores = stores or self.stores
        return open_desk(settings, stores, lambda: b"p" * 32, self.clock, "ci", keyring=at_hand)

    async def opened(self, tenant_id: str = "acme", user: str | None = None) -> str | None:
        found = await self.keyring.open(tenant_id, "openai", user)
        return None if found is None else found.secret.reveal()

    async def told(self, tenant_id: str = "acme") -> list[tuple[str, dict[str, object]]]:
        rows = [json.loads(data) for _, data in await self.stores.ledger.read(tenant_id)]
        return [(row["action"], row["details"]) for row in rows]


@pytest.fixture
async def office(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        office = Office(door)
        yield office
        await office.keyring.stop()


async def put(office: Office, tenant_id: str = "acme", user: str | None = None, secret: Secret = SECRET):
    return await office.desk().provider_keys.put(tenant_id, "openai", user, secret)


def said(stored: StoredProviderKey) -> tuple[int, str, str, int]:
    return stored.newest.version, str(stored.newest.state), stored.newest.last_four, len(stored.past)


# ── put, rotate, delete ──────────────────────────────────────────────────────────────────


async def test_each_change_has_its_row_and_holds_at_once(office):
    first = await put(office)
    assert said(first) == (1, "active", "ghij", 0)
    assert await office.opened() == SECRET.reveal()
    rotated = await office.desk().provider_keys.rotate("acme", "openai", None, OTHER_SECRET)
    assert (rotated.newest.credential_id, said(rotated)) == (first.newest.credential_id, (2, "active", "3210", 0))
    assert await office.opened() == OTHER_SECRET.reveal()
    again = await put(office)
    assert said(again) == (3, "active", "ghij", 0)
    (listed,) = await office.desk().provider_keys.list("acme")
    assert [(past.version, str(past.state)) for past in listed.past] == [(2, "retired"), (1, "retired")]
    assert listed.newest.origin == "https://api.openai.com"
    ended = await office.desk().provider_keys.delete("acme", "openai", None)
    assert str(ended.newest.state) == "deleted"
    assert await office.opened() is None
    one = {"provider": "openai", "id": first.newest.credential_id}
    placed = {"provider": "openai", "origin": "https://api.openai.com"}
    assert await office.told() == [
        ("provider_key.put", placed),
        ("provider_key.rotate", one),
        ("provider_key.put", placed),
        ("provider_key.delete", one),
    ]


async def test_users_have_places_of_their_own_and_a_place_that_was_emptied_begins_anew(office):
    await put(office)
    await put(office, user="ada", secret=OTHER_SECRET)
    assert (await office.opened(user="ada"), await office.opened(user="bob")) == (
        OTHER_SECRET.reveal(),
        SECRET.reveal(),
    )
    gone = await office.desk().provider_keys.delete("acme", "openai", "ada")
    assert await office.opened(user="ada") == SECRET.reveal()
    back = await put(office, user="ada")
    assert (back.newest.version, back.newest.credential_id != gone.newest.credential_id) == (1, True)
    listed = await office.desk().provider_keys.list("acme")
    assert sorted((one.newest.user or "", str(one.newest.state)) for one in listed) == [
        ("", "active"),
        ("ada", "active"),
        ("ada", "deleted"),
    ]
    found = await office.desk().provider_keys.find("acme", gone.newest.credential_id)
    assert str(found.newest.state) == "deleted"
    with pytest.raises(ProviderKeyUnknown):
        await office.desk().provider_keys.find("other", gone.newest.credential_id)  # nobody else's


@pytest.mark.parametrize(
    ("provider", "user", "secret", "refusal"),
    [
        ("opemai", None, SECRET, ProviderUnknown),
        ("simulated", None, SECRET, ProviderTakesNoKey),
        ("openai", "", SECRET, InvalidParameter),
        ("openai", "a\nb", SECRET, InvalidParameter),
        ("openai", None, Secret("short"), InvalidParameter),
        ("openai", None, Secret("with a space in it"), InvalidParameter),
        ("openai", None, Secret("sk-ünïcode-in-it"), InvalidParameter),
        ("openai", None, Secret("twk_a_virtual_key"), InvalidParameter),
    ],
)
async def test_what_is_refused_has_no_row_and_shows_no_secret(office, provider, user, secret, refusal):
    with pytest.raises(refusal) as caught:
        await office.desk().provider_keys.put("acme", provider, user, secret)
    assert secret.reveal() not in str(caught.value)
    assert await office.stores.ledger.tenants() == []
    assert await office.desk().provider_keys.list("acme") == []


async def test_what_is_not_there_is_neither_rotated_nor_deleted_and_has_no_row(office):
    await put(office, user="ada")
    for user in (None, "bob"):
        with pytest.raises(ProviderKeyUnknown):
            await office.desk().provider_keys.rotate("acme", "openai", user, SECRET)
        with pytest.raises(ProviderKeyUnknown):
            await office.desk().provider_keys.delete("acme", "openai", user)
    assert len(await office.told()) == 1


async def test_without_its_row_nothing_is_changed(office):
    await put(office)
    deaf = office.desk(stores=replace(office.stores, ledger=Away()))
    for step in (
        lambda: deaf.provider_keys.put("acme", "openai", "ada", SECRET),
        lambda: deaf.provider_keys.rotate("acme", "openai", None, OTHER_SECRET),
        lambda: deaf.provider_keys.delete("acme", "openai", None),
        lambda: deaf.shredding.shred("acme"),
        lambda: deaf.keyring.prepare("other"),
        lambda: deaf.keyring.rotate_dek("acme"),
    ):
        with pytest.raises(StateUnavailable):
            await step()
    assert await office.opened() == SECRET.reveal()
    assert [said(one) for one in await office.desk().provider_keys.list("acme")] == [(1, "active", "ghij", 0)]
    assert await office.stores.keyring.deks("other") == (None, ())


async def test_without_a_kek_nothing_is_sealed_and_everything_can_be_wiped(office):
    await put(office)
    await put(office, "globex")
    bare = open_desk(SETTINGS, office.stores, lambda: b"p" * 32, office.clock, "ci")
    for step in (
        lambda: bare.provider_keys.put("acme", "openai", None, SECRET),
        lambda: bare.provider_keys.rotate("acme", "openai", None, SECRET),
        lambda: bare.keyring.status(),
        lambda: bare.keyring.rotate_kek(lambda _visited: None),
    ):
        with pytest.raises(KeyringMissing):
            await step()
    assert len(await bare.provider_keys.list("acme")) == 1
    await bare.provider_keys.delete("acme", "openai", None)
    await bare.shredding.shred("globex")
    assert await bare.provider_keys.list("globex") == []


@pytest.mark.parametrize(
    ("auth", "note"),
    [
        (AuthSettings(), None),
        (AuthSettings(known_tenants_only=True), "its calls are refused"),
        (AuthSettings(mode=AuthMode.PASSTHROUGH), "no stored one pays"),
    ],
)
async def test_a_key_that_will_not_pay_as_hoped_comes_with_a_note(office, auth, note):
    desk = office.desk(replace(SETTINGS, auth=auth))
    notes = (await desk.provider_keys.put("acme", "openai", None, SECRET)).notes
    assert (len(notes), note is None or note in notes[0]) == (int(note is not None), True)
    assert (await desk.provider_keys.put("in-file", "openai", None, SECRET)).notes == notes[:1] * (
        auth.mode is AuthMode.PASSTHROUGH
    )


async def test_a_rotation_keeps_the_place_and_says_where_the_provider_is_now(office):
    await put(office)
    moved = replace(SETTINGS, providers={"openai": ProviderSettings("openai", "https://eu.openai.com/v1")})
    rotated = await office.desk(moved).provider_keys.rotate("acme", "openai", None, OTHER_SECRET)
    assert rotated.newest.origin == "https://api.openai.com"
    assert "https://eu.openai.com" in rotated.notes[0]
    again = await office.desk(moved).provider_keys.put("acme", "openai", None, SECRET)
    assert (again.newest.origin, again.notes) == ("https://eu.openai.com", ())


# ── a tenant goes ────────────────────────────────────────────────────────────────────────


async def test_a_tenant_is_not_deleted_over_its_provider_keys_unless_that_is_forced(office):
    await office.desk().tenants.put("acme", {})
    stored = [await put(office), await put(office, user="ada")]
    with pytest.raises(ProviderKeysStored) as caught:
        await office.desk().tenants.delete("acme", force=False)
    assert caught.value.provider_keys == 2
    deleted = await office.desk().tenants.delete("acme", force=True)
    assert set(deleted.wiped) == {one.newest.credential_id for one in stored}
    assert await office.opened() is None
    assert [action for action, _ in await office.told()][-3:] == [
        "provider_key.delete",
        "provider_key.delete",
        "tenant.delete",
    ]
    await office.desk().tenants.put("acme", {})  # the id is another customer's, who finds nothing
    assert await office.opened() is None


async def test_a_shredded_id_is_used_up(office):
    await office.desk().tenants.put("acme", {})
    await put(office)
    virtual_key = (await office.desk().virtual_keys.issue(Wanted("acme"))).virtual_key
    before = len(await office.told())
    done = await office.desk().shredding.shred("acme")
    assert (done.revoked, done.notes) == ((virtual_key.id,), ())
    assert (await office.told())[before:] == [("tenant.shred", {}), ("virtual_key.revoke", {})]
    found = await office.stores.virtual_keys.find_by_id(virtual_key.id)
    assert found is not None
    assert found.state(office.clock.now_ms()) is VirtualKeyState.REVOKED
    for step in (
        lambda: office.opened(),
        lambda: put(office),
        lambda: office.desk().provider_keys.rotate("acme", "openai", None, SECRET),
        lambda: office.desk().provider_keys.delete("acme", "openai", None),
        lambda: office.desk().tenants.put("acme", {}),
        lambda: office.desk().virtual_keys.issue(Wanted("acme")),
        lambda: office.desk().keyring.prepare("acme"),
    ):
        with pytest.raises(TenantShredded):
            await step()
    rows = await office.told()
    office.clock.us += DAY_US
    assert (await office.desk().shredding.shred("acme")).shredded_at_ms == done.shredded_at_ms
    assert [row for row in await office.told() if row not in rows] == []
    await office.desk().tenants.delete("acme", force=False)  # its record can be forgotten; the id stays used up
    with pytest.raises(TenantShredded):
        await office.desk().tenants.put("acme", {})


async def test_an_id_that_nobody_knows_is_not_used_up_by_a_slip(office):
    with pytest.raises(TenantUnknown):
        await office.desk().shredding.shred("acmf")
    assert await office.stores.ledger.tenants() == []
    assert "still names in-file" in (await office.desk().shredding.shred("in-file")).notes[0]
    bare = replace(SETTINGS, keyring=KeyringSettings())
    assert "no KEK" in (await office.desk(bare).shredding.shred("default")).notes[0]


# ── rotations ────────────────────────────────────────────────────────────────────────────


async def test_the_status_says_what_wraps_what_and_what_is_due(office):
    status = await office.desk().keyring.status()
    assert (status.tenants, status.data_keys, status.oldest_at_ms, status.due) == (0, 0, None, 0)
    await put(office)
    made_at_ms = office.clock.now_ms()
    office.clock.us += 31 * DAY_US
    await put(office, "globex")
    old, new = office.keks[0], local_kek()
    two = replace(
        SETTINGS, keyring=replace(SETTINGS.keyring, kek=(KekSettings(KekKind.FILE, "new"), *SETTINGS.keyring.kek))
    )
    status = await office.desk(two, office.another_keyring(new, old)).keyring.status()
    assert (status.tenants, status.data_keys, status.oldest_at_ms, status.due) == (2, 2, made_at_ms, 1)
    assert [(kek.kek_id, kek.place, kek.is_current, kek.data_keys) for kek in status.keks] == [
        (new.kek_id, "file:new", True, 0),
        (old.kek_id, "file:kek", False, 2),
    ]
    lost = await office.desk(SETTINGS, office.another_keyring(new)).keyring.status()
    assert [(kek.kek_id, kek.place, kek.data_keys) for kek in lost.keks] == [
        (new.kek_id, "file:kek", 0),
        (old.kek_id, None, 2),
    ]


async def test_a_kek_is_rotated_with_a_row_only_where_something_is_to_do_and_goes_on_after_a_break(office):
    for tenant_id in ("a", "b", "c"):
        await put(office, tenant_id)
    new = local_kek()
    keyring = office.another_keyring(new, *office.keks)

    def break_off(_visited):
        raise KeyringUnavailable("away")

    with pytest.raises(KeyringUnavailable):
        await office.desk(keyring=keyring).keyring.rotate_kek(break_off)
    visited: list[int] = []
    done = await office.desk(keyring=keyring).keyring.rotate_kek(visited.append)
    assert (done.tenants, done.rotated, done.changed, done.failed, sum(visited)) == (3, 2, 2, (), 3)
    for tenant_id in ("a", "b", "c"):
        assert [details for action, details in await office.told(tenant_id) if action == "keyring.rotate_kek"] == [
            {"kek": new.kek_id}
        ]
        found = await office.another_keyring(new).open(tenant_id, "openai", None)
        assert found is not None
        assert found.secret == SECRET
    assert (await office.desk(keyring=keyring).keyring.rotate_kek(visited.append)).rotated == 0


async def test_old_data_keys_are_rotated_and_young_ones_stay(office):
    await put(office, "old")
    office.clock.us += 31 * DAY_US
    await put(office, "young")
    before = {tenant_id: (await office.stores.keyring.deks(tenant_id))[0] for tenant_id in ("old", "young")}
    keyring = office.desk().keyring
    done = await keyring.rotate_old_deks(keyring.due_before_ms(), lambda _visited: None)
    assert (done.tenants, done.rotated, done.changed, done.failed) == (2, 1, 1, ())
    after = {tenant_id: (await office.stores.keyring.deks(tenant_id))[0] for tenant_id in ("old", "young")}
    assert (after["old"] != before["old"], after["young"] == before["young"]) == (True, True)
    assert (await office.told("old"))[-1] == ("keyring.rotate_dek", {"data_key": before["old"]})
    assert len(await office.told("young")) == 1
    assert await office.opened("old") == SECRET.reveal()
    one = await keyring.rotate_dek("young")  # however young it is, if its name is said
    assert (one.rotated, one.changed) == (1, 1)
    assert (await keyring.rotate_dek("nobody")).rotated == 0
    assert await office.told("nobody") == []


async def test_a_tenant_that_cannot_be_read_is_named_and_keeps_no_other_waiting(office):
    stranger = office.another_keyring(local_kek())
    await office.desk(keyring=stranger).provider_keys.put("a", "openai", None, SECRET)
    await put(office, "b")
    office.clock.us += DAY_US
    done = await office.desk().keyring.rotate_old_deks(office.clock.now_ms(), lambda _visited: None)
    assert (done.rotated, done.changed, done.failed) == (2, 1, ("a",))
    done = await office.desk(keyring=office.another_keyring(local_kek(), *office.keks)).keyring.rotate_kek(
        lambda _: None
    )
    assert done.failed == ("a",)


async def test_a_tenant_is_prepared_once(office):
    assert await office.desk().keyring.prepare("acme")
    assert not await office.desk().keyring.prepare("acme")
    assert await office.told() == [("keyring.prepare", {})]
