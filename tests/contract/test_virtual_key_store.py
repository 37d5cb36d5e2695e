"""What every store of virtual keys promises."""

import asyncio
from dataclasses import replace

import pytest

from proxy.identity.store import Found
from proxy.identity.virtual_key import UNKNOWN_PEPPER, PepperedDigest, VirtualKey, VirtualKeyState
from tests.virtual_keys import by_digest

KEY = VirtualKey(
    id="vk_1",
    tenant_id="acme",
    created_at_ms=1_000,
    last_four="abcd",
    user="Zoë",
    feature="report",
    allowed_models=frozenset({"gpt-5", "house-llama"}),
    expires_at_ms=9_007_199_254_740_991,
)


def key(number: int, tenant_id: str = "acme", created_at_ms: int = 1_000) -> VirtualKey:
    return VirtualKey(id=f"vk_{number}", tenant_id=tenant_id, created_at_ms=created_at_ms, last_four="0000")


async def test_a_key_that_was_put_is_found_whole_by_its_digest(virtual_keys):
    await virtual_keys.put(KEY, "d1")
    assert await by_digest(virtual_keys, ["d1"]) == KEY


async def test_an_unknown_digest_finds_nothing(virtual_keys):
    assert await by_digest(virtual_keys, ["nobody"]) is None
    assert await by_digest(virtual_keys, ["nobody", "nobody-else"]) is None


async def test_a_key_is_found_by_its_id_until_and_after_its_end(virtual_keys):
    await virtual_keys.put(KEY, "d1")
    await virtual_keys.put(key(2), "d2")
    assert await virtual_keys.find_by_id("vk_1") == KEY
    assert await virtual_keys.find_by_id("vk_3") is None
    await virtual_keys.revoke("vk_1", 7_000)
    assert await virtual_keys.find_by_id("vk_1") == replace(KEY, revoked_at_ms=7_000)


async def test_of_several_digests_the_first_known_one_counts(virtual_keys):
    await virtual_keys.put(key(1), "under-the-old-pepper")
    await virtual_keys.put(key(2), "under-the-new-pepper")
    assert await by_digest(virtual_keys, ["unknown", "under-the-old-pepper"]) == key(1)
    assert await by_digest(virtual_keys, ["under-the-new-pepper", "under-the-old-pepper"]) == key(2)


async def test_a_listing_is_the_tenants_own_by_age_and_then_by_id(virtual_keys):
    for number, tenant_id, created_at_ms in [(3, "acme", 20), (2, "acme", 20), (4, "acme", 10), (1, "other", 5)]:
        await virtual_keys.put(key(number, tenant_id, created_at_ms), f"d{number}")
    assert [k.id for k in await virtual_keys.list("acme")] == ["vk_4", "vk_2", "vk_3"]
    assert [k.id for k in await virtual_keys.list("other")] == ["vk_1"]
    assert [k.id for k in await virtual_keys.list(None)] == ["vk_1", "vk_4", "vk_2", "vk_3"]
    assert list(await virtual_keys.list("nobody")) == []


async def test_a_listing_is_whole_beyond_one_page(virtual_keys):
    expected = {f"vk_{number}" for number in range(1_203)}
    for start in range(0, 1_203, 50):
        numbers = range(start, min(start + 50, 1_203))
        await asyncio.gather(*(virtual_keys.put(key(number), f"d{number}") for number in numbers))
    listed = await virtual_keys.list("acme")
    assert len(listed) == 1_203
    assert {k.id for k in listed} == expected


async def test_a_tenants_id_that_is_the_start_of_anothers_sees_nothing_of_it(virtual_keys):
    await virtual_keys.put(key(1, "acme-eu"), "d1")
    await virtual_keys.put(key(2, "ACME"), "d2")
    assert list(await virtual_keys.list("acme")) == []


async def test_a_revoked_key_is_found_and_listed_as_revoked(virtual_keys):
    await virtual_keys.put(KEY, "d1")
    revoked = replace(KEY, revoked_at_ms=5_000)
    assert await virtual_keys.revoke("vk_1", 5_000) == revoked
    assert await by_digest(virtual_keys, ["d1"]) == revoked
    assert list(await virtual_keys.list("acme")) == [revoked]
    assert revoked.state(now_ms=0) is VirtualKeyState.REVOKED


async def test_the_first_revocation_stays(virtual_keys):
    await virtual_keys.put(KEY, "d1")
    await virtual_keys.revoke("vk_1", 5_000)
    again = await virtual_keys.revoke("vk_1", 4_000)
    assert again is not None
    assert again.revoked_at_ms == 5_000


async def test_concurrent_revocations_agree(virtual_keys):
    await virtual_keys.put(KEY, "d1")
    answers = await asyncio.gather(*(virtual_keys.revoke("vk_1", at_ms) for at_ms in range(100, 120)))
    found = await by_digest(virtual_keys, ["d1"])
    assert found is not None
    assert {answer.revoked_at_ms for answer in answers} == {found.revoked_at_ms}
    assert list(await virtual_keys.list("acme")) == [found]


async def test_revoking_what_nobody_issued_says_so_and_makes_nothing(virtual_keys):
    assert await virtual_keys.revoke("vk_none", 1) is None
    assert list(await virtual_keys.list(None)) == []


async def test_putting_again_does_not_bring_a_revoked_key_back(virtual_keys):
    await virtual_keys.put(KEY, "d1")
    await virtual_keys.revoke("vk_1", 5_000)
    await virtual_keys.put(KEY, "d1")
    found = await by_digest(virtual_keys, ["d1"])
    assert found is not None
    assert found.revoked_at_ms == 5_000
    assert len(await virtual_keys.list("acme")) == 1


async def test_expired_keys_stay_to_be_told_apart_from_unknown_ones(virtual_keys):
    expired = replace(KEY, expires_at_ms=2)
    await virtual_keys.put(expired, "d1")
    assert await by_digest(virtual_keys, ["d1"]) == expired
    assert list(await virtual_keys.list("acme")) == [expired]


@pytest.mark.parametrize("tenant_id", ["", "a b", "a}:b", "{acme}", "a:b", "a" * 65, "acme\n", "ä", "*"])
async def test_a_text_that_is_no_tenant_id_reaches_no_store(virtual_keys, tenant_id):
    with pytest.raises(ValueError, match="tenant id"):
        await virtual_keys.put(key(1, tenant_id), "d1")
    with pytest.raises(ValueError, match="tenant id"):
        await virtual_keys.list(tenant_id)
    assert await by_digest(virtual_keys, ["d1"]) is None


async def test_every_tenant_id_of_the_pattern_works(virtual_keys):
    for number, tenant_id in enumerate(["-", "_", "0", "a" * 64, "A-b_9"]):
        await virtual_keys.put(key(number, tenant_id), f"d{number}")
        assert [k.tenant_id for k in await virtual_keys.list(tenant_id)] == [tenant_id]


async def test_ping_answers(virtual_keys):
    await virtual_keys.ping()


# ── peppers ──────────────────────────────────────────────────────────────────────────────

OLD, NEW, NEWER = PepperedDigest("d-old", "aaa"), PepperedDigest("d-new", "bbb"), PepperedDigest("d-newer", "ccc")


async def test_a_find_says_by_which_digest_and_under_which_pepper(virtual_keys):
    await virtual_keys.put(KEY, *OLD)
    assert await virtual_keys.find(["nobody", "d-old"]) == Found(KEY, 1, "aaa")
    await virtual_keys.put(key(2), "d2")
    assert await virtual_keys.find(["d2"]) == Found(key(2), 0, UNKNOWN_PEPPER)
    assert await virtual_keys.peppers(["vk_1", "vk_none", "vk_2"]) == [{"aaa"}, set(), {UNKNOWN_PEPPER}]


async def test_a_key_is_found_by_each_of_its_digests_and_listed_once(virtual_keys):
    await virtual_keys.put(KEY, *OLD)
    for _ in range(2):  # again changes nothing
        await virtual_keys.add_digest("vk_1", OLD, NEW)
        assert await virtual_keys.find(["d-new", "d-old"]) == Found(KEY, 0, "bbb")
        assert await virtual_keys.find(["d-old"]) == Found(KEY, 0, "aaa")
        assert await virtual_keys.peppers(["vk_1"]) == [{"aaa", "bbb"}]
        assert await virtual_keys.find_by_id("vk_1") == KEY
        assert list(await virtual_keys.list("acme")) == [KEY]


async def test_a_pepper_that_nobody_had_noted_is_noted(virtual_keys):
    await virtual_keys.put(KEY, "d-new")
    await virtual_keys.add_digest("vk_1", NEW, NEW)
    assert await virtual_keys.find(["d-new"]) == Found(KEY, 0, "bbb")
    assert await virtual_keys.peppers(["vk_1"]) == [{"bbb"}]
    await virtual_keys.put(key(2), "d-old")
    await virtual_keys.add_digest("vk_2", OLD, NEWER)
    assert await virtual_keys.find(["d-old"]) == Found(key(2), 0, "aaa")
    assert await virtual_keys.peppers(["vk_2"]) == [{"aaa", "ccc"}]


async def test_a_revoked_key_stops_by_each_of_its_digests(virtual_keys):
    await virtual_keys.put(KEY, *OLD)
    await virtual_keys.add_digest("vk_1", OLD, NEW)
    await virtual_keys.revoke("vk_1", 5_000)
    await virtual_keys.add_digest("vk_1", OLD, NEWER)  # by a gateway that had not seen it yet
    for digest in ("d-old", "d-new", "d-newer"):
        found = await by_digest(virtual_keys, [digest])
        assert found is not None
        assert found.revoked_at_ms == 5_000


@pytest.mark.parametrize("turn", range(20))
async def test_a_key_that_is_revoked_while_a_digest_is_added_works_by_none(virtual_keys, turn):
    await virtual_keys.put(KEY, *OLD)

    async def later(turns: int, doing):
        for _ in range(turns):
            await asyncio.sleep(0)
        await doing

    await asyncio.gather(
        later(turn, virtual_keys.revoke("vk_1", 5_000)), later(10, virtual_keys.add_digest("vk_1", OLD, NEW))
    )
    for digest in ("d-old", "d-new"):
        found = await by_digest(virtual_keys, [digest])
        assert found is None or found.revoked_at_ms == 5_000
    assert await by_digest(virtual_keys, ["d-old"]) is not None


async def test_a_digest_is_not_added_to_a_key_that_is_not_known_by_the_other(virtual_keys):
    await virtual_keys.put(KEY, *NEW)
    await virtual_keys.add_digest("vk_1", OLD, NEWER)
    await virtual_keys.add_digest("vk_none", OLD, NEWER)
    assert await virtual_keys.find(["d-newer", "d-old"]) is None
    assert await virtual_keys.peppers(["vk_1"]) == [{"bbb"}]


async def test_a_retired_peppers_digest_is_forgotten_where_there_is_another_one(virtual_keys):
    await virtual_keys.put(KEY, *OLD)
    assert not await virtual_keys.drop_digest("vk_1", "aaa")  # its only one
    assert await by_digest(virtual_keys, ["d-old"]) == KEY
    await virtual_keys.add_digest("vk_1", OLD, NEW)
    for _ in range(2):
        assert await virtual_keys.drop_digest("vk_1", "aaa")
    assert await by_digest(virtual_keys, ["d-old"]) is None
    assert await virtual_keys.find(["d-new"]) == Found(KEY, 0, "bbb")
    assert await virtual_keys.peppers(["vk_1"]) == [{"bbb"}]
    assert await virtual_keys.find_by_id("vk_1") == KEY
    assert await virtual_keys.revoke("vk_1", 7) == replace(KEY, revoked_at_ms=7)
    assert await by_digest(virtual_keys, ["d-new"]) == replace(KEY, revoked_at_ms=7)
