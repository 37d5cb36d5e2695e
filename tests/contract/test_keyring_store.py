"""What every store of the keyring promises."""

import asyncio
from dataclasses import replace

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.errors import TenantShredded
from proxy.keyring import embedded, store
from proxy.keyring import store as store_module
from proxy.keyring.dek import StoredDek, WrappedDek
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.record import SLOTS_MAX, Found, FoundDeks, ProviderKeyRecord, ProviderKeyState, slot_of
from proxy.keyring.store import RedisKeyringStore


def dek(number=1, tenant_id="acme", kek_id="kek_1"):
    return StoredDek(tenant_id, f"dek_{number}", WrappedDek(kek_id, b"wrapped %d \xff" % number), number)


def record(version=1, tenant_id="acme", user=None, dek_id="dek_1", provider="openai", credential_id="pk_1"):
    return ProviderKeyRecord(
        tenant_id=tenant_id,
        provider=provider,
        user=user,
        origin="https://api.openai.com",
        credential_id=credential_id,
        version=version,
        state=ProviderKeyState.ACTIVE,
        fingerprint="0123456789ab",
        last_four="abcd",
        created_at_ms=version * 10,
        dek_id=dek_id,
        envelope=b"envelope %d \xff" % version,
    )


async def test_nothing_is_found_where_nothing_was_put(kept):
    assert await kept.find("acme", "openai", "zoe") == Found(0, slots=frozenset())
    assert await kept.epoch("acme") == 0
    assert list(await kept.list("acme")) == []
    assert await kept.find_deks("acme") == FoundDeks()
    assert await kept.deks("acme") == (None, ())
    assert [page async for page in kept.active("acme") if page] == []
    assert list(await kept.tenants("", 10)) == []
    assert await kept.delete("acme", "openai", None, 1) is None
    assert not await kept.drop_dek("acme", "dek_1")


async def test_what_was_put_is_found_whole(kept):
    assert await kept.add_dek(dek(), None)
    assert await kept.activate(record(), None)
    assert await kept.activate(record(user="Zoë", credential_id="pk_2"), None)
    found = await kept.find("acme", "openai", "Zoë")
    slots = frozenset({slot_of("openai", None), slot_of("openai", "Zoë")})
    assert found == Found(3, None, record(user="Zoë", credential_id="pk_2"), record(), "dek_1", (dek(),), slots)
    assert found.record == record(user="Zoë", credential_id="pk_2")
    assert (await kept.find("acme", "openai", "bob")).record == record()
    assert (await kept.find("acme", "openai", None)).own is None
    assert (await kept.find("acme", "other", "Zoë")).record is None


async def test_one_data_key_follows_the_other_and_both_stay(kept):
    assert await kept.add_dek(dek(1), None)
    assert not await kept.add_dek(dek(2), None)
    assert not await kept.add_dek(dek(2), "dek_9")
    assert await kept.add_dek(dek(2), "dek_1")
    current_dek_id, deks = await kept.deks("acme")
    assert current_dek_id == "dek_2"
    assert sorted(deks, key=lambda each: each.id) == [dek(1), dek(2)]
    found = await kept.find_deks("acme")
    assert (found.current, found.dek("dek_1"), found.dek("dek_9")) == (dek(2), dek(1), None)
    assert not await kept.drop_dek("acme", "dek_2")  # it is current
    assert await kept.drop_dek("acme", "dek_1")
    assert not await kept.drop_dek("acme", "dek_1")
    assert list((await kept.deks("acme"))[1]) == [dek(2)]


async def test_of_many_first_data_keys_one_stays(kept):
    added = await asyncio.gather(*(kept.add_dek(dek(number), None) for number in range(8)))
    assert added.count(True) == 1
    assert await kept.deks("acme") in [(f"dek_{n}", (dek(n),)) for n, won in enumerate(added) if won]


async def test_a_new_version_takes_the_place_of_the_old_one_whose_envelope_is_gone(kept):
    await kept.add_dek(dek(), None)
    await kept.activate(record(1), None)
    assert not await kept.activate(record(2), None)
    assert not await kept.activate(record(3), record(2))
    assert not await kept.activate(record(2, dek_id="dek_9"), record(1))  # a data key that is not current
    assert await kept.activate(record(2), record(1))
    assert (await kept.find("acme", "openai", None)).shared == record(2)
    ended = replace(record(1), state=ProviderKeyState.RETIRED, ended_at_ms=20, envelope=b"")
    assert list(await kept.list("acme")) == [ended, replace(record(2), envelope=b"")]


async def test_of_many_new_versions_at_once_one_wins(kept):
    await kept.add_dek(dek(), None)
    await kept.activate(record(1), None)
    rivals = [replace(record(2), envelope=b"rival %d" % number) for number in range(8)]
    won = await asyncio.gather(*(kept.activate(rival, record(1)) for rival in rivals))
    assert won.count(True) == 1
    assert (await kept.find("acme", "openai", None)).shared == rivals[won.index(True)]
    assert len(await kept.list("acme")) == 2


async def test_a_deleted_one_leaves_its_words_and_nothing_else(kept):
    await kept.add_dek(dek(), None)
    await kept.activate(record(1), None)
    ended = replace(record(1), state=ProviderKeyState.DELETED, ended_at_ms=99, envelope=b"")
    assert await kept.delete("acme", "openai", None, 99) == ended
    assert await kept.delete("acme", "openai", None, 100) is None
    assert (await kept.find("acme", "openai", None)).record is None
    assert list(await kept.list("acme")) == [ended]
    assert await kept.activate(record(1, credential_id="pk_2"), None)


async def test_ended_versions_are_remembered_up_to_a_bound(kept, monkeypatch):
    for module in (store, embedded):
        monkeypatch.setattr(module, "PAST_MAX", 3)
    await kept.add_dek(dek(), None)
    before = None
    for version in range(1, 7):
        await kept.activate(record(version), before)
        before = record(version)
    assert [each.version for each in await kept.list("acme")] == [3, 4, 5, 6]


async def test_a_new_envelope_of_the_same_version_needs_the_old_one_and_the_current_data_key(kept):
    await kept.add_dek(dek(1), None)
    await kept.activate(record(1), None)
    await kept.add_dek(dek(2), "dek_1")
    sealed_anew = replace(record(1, dek_id="dek_2"), envelope=b"anew")
    epoch = await kept.epoch("acme")
    assert not await kept.reseal(sealed_anew, b"another")
    assert not await kept.reseal(replace(sealed_anew, dek_id="dek_1"), record(1).envelope)
    assert await kept.reseal(sealed_anew, record(1).envelope)
    assert not await kept.reseal(sealed_anew, record(1).envelope)
    assert (await kept.find("acme", "openai", None)).shared == sealed_anew
    assert await kept.epoch("acme") == epoch  # it is the same secret
    assert not await kept.reseal(replace(sealed_anew, provider="other"), b"anew")


async def test_a_new_wrap_needs_the_old_one(kept):
    await kept.add_dek(dek(), None)
    anew = replace(dek(), wrapped=WrappedDek("kek_2", b"wrapped anew"))
    assert not await kept.rewrap(anew, b"another")
    assert await kept.rewrap(anew, dek().wrapped.ciphertext)
    assert not await kept.rewrap(anew, dek().wrapped.ciphertext)
    assert list((await kept.deks("acme"))[1]) == [anew]
    assert not await kept.rewrap(replace(anew, id="dek_9"), b"wrapped anew")


async def test_a_shredded_tenant_is_gone_for_ever(kept):
    await kept.add_dek(dek(), None)
    await kept.activate(record(), None)
    await kept.activate(record(2), record())
    epoch = await kept.epoch("acme")
    assert await kept.shred("acme", 500) == 500
    assert await kept.shred("acme", 900) == 500
    assert await kept.find("acme", "openai", None) == Found(epoch + 1, 500, slots=frozenset())
    assert list(await kept.list("acme")) == []
    assert await kept.find_deks("acme") == FoundDeks(shredded_at_ms=500)
    assert await kept.deks("acme") == (None, ())
    for change in (
        kept.add_dek(dek(), None),
        kept.activate(record(), None),
        kept.reseal(record(), b""),
        kept.rewrap(dek(), b""),
        kept.drop_dek("acme", "dek_1"),
        kept.delete("acme", "openai", None, 1),
    ):
        with pytest.raises(TenantShredded, match="acme"):
            await change
    assert (await kept.find("acme", "openai", None)).shredded_at_ms == 500


async def test_a_tenant_that_never_had_anything_can_be_shredded_too(kept):
    assert await kept.shred("acme", 7) == 7
    with pytest.raises(TenantShredded):
        await kept.add_dek(dek(), None)
    assert (await kept.find("acme", "openai", None)).shredded_at_ms == 7


async def test_of_many_tenants_those_that_were_shredded_are_found(kept, monkeypatch):
    monkeypatch.setattr(store_module, "PAGE", 2)
    await kept.shred("acme", 7)
    await kept.shred("zoo", 9)
    await kept.shred("unasked", 9)
    await kept.add_dek(dek(tenant_id="globex"), None)
    assert await kept.shredded_among(["acme", "globex", "nobody", "other", "zoo"]) == {"acme": 7, "zoo": 9}
    assert await kept.shredded_among([]) == {}


async def test_the_epoch_grows_with_every_change_of_the_tenants_own_and_with_no_others(kept):
    epochs = [await kept.epoch("acme")]
    for change in (
        lambda: kept.add_dek(dek(1), None),
        lambda: kept.activate(record(1), None),
        lambda: kept.activate(record(2), record(1)),
        lambda: kept.add_dek(dek(2), "dek_1"),
        lambda: kept.drop_dek("acme", "dek_1"),
        lambda: kept.delete("acme", "openai", None, 1),
        lambda: kept.shred("acme", 1),
    ):
        await change()
        epochs.append(await kept.epoch("acme"))
    assert epochs == sorted(set(epochs))
    assert await kept.epoch("other") == 0


async def test_active_versions_are_all_seen_beyond_one_page(kept, monkeypatch):
    for module in (store, embedded):
        monkeypatch.setattr(module, "PAGE", 7)
    await kept.add_dek(dek(), None)
    users = [f"user {number}" for number in range(40)]
    for user in users:
        await kept.activate(record(user=user, credential_id=f"pk {user}"), None)
    seen = [each async for page in kept.active("acme") for each in page]
    assert sorted({each.user for each in seen}) == sorted(users)
    assert all(each.envelope for each in seen)


async def test_the_places_of_a_tenant_are_told_while_they_are_few(kept):
    await kept.add_dek(dek(), None)
    for number in range(SLOTS_MAX):
        await kept.activate(record(user=f"user {number}", credential_id=f"pk {number}"), None)
    expected = frozenset(slot_of("openai", f"user {number}") for number in range(SLOTS_MAX))
    assert (await kept.find("acme", "openai", None)).slots == expected
    await kept.activate(record(), None)
    assert (await kept.find("acme", "openai", None)).slots is None


async def test_tenants_are_seen_in_order_and_page_by_page(kept):
    for number in range(9):
        await kept.add_dek(dek(tenant_id=f"t{number}"), None)
    seen, after = [], ""
    while page := list(await kept.tenants(after, 4)):
        assert len(page) <= 4
        seen += page
        after = page[-1]
    assert seen == [f"t{number}" for number in range(9)]


async def test_who_follows_hears_of_every_change_once(kept):
    place = (await kept.changes("")).place
    assert (await kept.changes(place)).tenant_ids == frozenset()
    await kept.add_dek(dek(tenant_id="a"), None)
    await kept.activate(record(tenant_id="a"), None)
    await kept.add_dek(dek(tenant_id="b"), None)
    heard = await kept.changes(place)
    assert heard.tenant_ids == {"a", "b"}
    assert (await kept.changes(heard.place)).tenant_ids == frozenset()
    await kept.shred("a", 1)
    heard = await kept.changes(heard.place)
    assert heard.tenant_ids == {"a"}
    assert await kept.delete("b", "openai", None, 1) is None  # nothing changed
    assert (await kept.changes(heard.place)).tenant_ids == frozenset()


async def test_who_was_away_for_too_long_is_told_that_it_may_be_anybody(kept, monkeypatch):
    await kept.add_dek(dek(tenant_id="first"), None)
    place = (await kept.changes("")).place
    for module in (store, embedded):
        monkeypatch.setattr(module, "CHANGES_READ", 5)
    for number in range(9):
        await kept.add_dek(dek(tenant_id=f"t{number}"), None)
    heard = await kept.changes(place)
    assert heard.tenant_ids is None
    assert (await kept.changes(heard.place)).tenant_ids == frozenset()


async def test_a_store_that_lost_its_list_of_changes_says_that_it_may_be_anybody(redis_url, patient):
    async with RedisDoor(redis_url) as shared:
        await shared.call("FLUSHALL")
        kept = RedisKeyringStore(shared)
        await kept.add_dek(dek(tenant_id="a"), None)
        place = (await kept.changes("")).place
        await shared.call("FLUSHALL")
        assert (await kept.changes(place)).tenant_ids is None


async def test_an_older_copy_of_the_file_says_that_it_may_be_anybody(tmp_path, patient):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        assert (await EmbeddedKeyringStore(door).changes("7")).tenant_ids is None


@pytest.mark.parametrize("tenant_id", ["", "a:b", "{acme}", "a" * 65, "acme\n"])
async def test_a_text_that_is_no_tenant_id_reaches_no_store(kept, tenant_id):
    for asked in (
        kept.find(tenant_id, "openai", None),
        kept.epoch(tenant_id),
        kept.add_dek(dek(tenant_id=tenant_id), None),
        kept.activate(record(tenant_id=tenant_id), None),
        kept.delete(tenant_id, "openai", None, 1),
        kept.list(tenant_id),
        kept.deks(tenant_id),
        kept.find_deks(tenant_id),
        kept.shred(tenant_id, 1),
    ):
        with pytest.raises(ValueError, match="tenant id"):
            await asked
    assert list(await kept.tenants("", 10)) == []


async def test_what_was_wiped_is_not_in_the_file_any_more(tmp_path, patient):
    path = tmp_path / "tollway.db"
    async with SqliteDoor(path) as door:
        kept = EmbeddedKeyringStore(door)
        for tenant_id in ("acme", "other"):
            await kept.add_dek(
                replace(dek(tenant_id=tenant_id), wrapped=WrappedDek("k", b"W-" + tenant_id.encode())), None
            )
        await kept.activate(replace(record(), envelope=b"\x01\x02\x03canary"), None)
    written = path.read_bytes()
    assert b"W-acme" in written
    assert b"AQIDY2FuYXJ5" in written  # the envelope, as its record has it
    async with SqliteDoor(path) as door:
        kept = EmbeddedKeyringStore(door)
        await kept.activate(replace(record(2), envelope=b"two"), replace(record(1)))
        await kept.shred("acme", 1)
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"W-acme" not in left
    assert b"AQIDY2FuYXJ5" not in left
    assert b"W-other" in left
