"""Kept answers under their tenant's data key, over both stores: opened in their own place alone, and by nobody once the
tenant is shredded."""

import asyncio

import pytest

from proxy.adapters.redis import RedisDoor, tenant_name
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable, TenantShredded
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import following, sealer
from proxy.keyring.dek_cache import MAX_AGE_US
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.rotation import Rotated
from proxy.keyring.sealed_answer import parse
from proxy.keyring.sealer import LARGE_BYTES, LOOK_AGAIN_US
from proxy.keyring.shared_calls import AWAY_US, REFUSED_US
from proxy.keyring.store import TRIES_MAX, Changes, RedisKeyringStore
from tests.keyrings import SECRET, Ring, aws_kek, ignore, local_kek

AAD, TEXT = b"name\0head", b"an answer" * 100


@pytest.fixture
async def rings(kept):
    """Two processes' keyrings."""
    keks = [local_kek()]
    made = (Ring(kept, keks), Ring(kept, keks))
    yield made
    for ring in made:
        await ring.keyring.stop()


@pytest.fixture
async def kms_ring(kms, tmp_path, patient):
    """With the strict KMS, over SQLite."""
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        ring = Ring(EmbeddedKeyringStore(door), [aws_kek(kms.add_key(), kms.url)])
        await ring.keyring.connect(10.0)
        yield ring
        kms.release()
        await ring.keyring.stop()


@pytest.fixture
def looks(monkeypatch):
    """The tenants that some process asked the stores for, in order."""
    asked = []
    for store in (RedisKeyringStore, EmbeddedKeyringStore):
        find_deks = store.find_deks

        async def counted(self, tenant_id, find_deks=find_deks):
            asked.append(tenant_id)
            return await find_deks(self, tenant_id)

        monkeypatch.setattr(store, "find_deks", counted)
    return asked


def at_once(coroutine):
    """The result of one that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    coroutine.close()
    raise AssertionError("it waits")


async def reason_of(opening) -> UnreadableReason:
    with pytest.raises(ProviderKeyUnreadable) as refused:
        await opening
    return refused.value.reason


# ── seal and open ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", [TEXT, b"", bytes(2 * LARGE_BYTES)], ids=["text", "nothing", "large"])
async def test_what_one_process_seals_another_opens(rings, text):
    one, other = (ring.keyring.sealer for ring in rings)
    sealed = await one.seal("acme", AAD, text)
    assert not text or text[:9] not in sealed
    assert sealed != await one.seal("acme", AAD, text)
    assert await other.open("acme", AAD, sealed) == text


async def test_it_opens_in_its_own_place_alone(rings):
    sealer = rings[0].keyring.sealer
    sealed = await sealer.seal("acme", AAD, TEXT)
    await sealer.seal("other", AAD, TEXT)
    assert await reason_of(sealer.open("other", AAD, sealed)) is UnreadableReason.DEK_MISSING
    for aad in (b"name\0other", b""):
        assert await reason_of(sealer.open("acme", aad, sealed)) is UnreadableReason.CONTENT
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        await reason_of(sealer.open("acme", AAD, bytes(changed)))
    for cut in range(len(sealed)):
        await reason_of(sealer.open("acme", AAD, sealed[:cut]))
    assert await sealer.open("acme", AAD, sealed) == TEXT


async def test_with_another_tenants_data_key_stored_as_its_own_a_tenant_opens_nothing(rings):
    ring = rings[0]
    sealed = await ring.keyring.sealer.seal("acme", AAD, TEXT)
    await ring.keyring.sealer.seal("evil", AAD, TEXT)
    acmes, evils = [(await ring.store.find_deks(tenant_id)).current for tenant_id in ("acme", "evil")]
    stolen = type(acmes)("evil", acmes.id, acmes.wrapped, 1)
    assert await ring.store.add_dek(stolen, evils.id)
    ring.keyring.drop("evil")
    assert await reason_of(ring.keyring.sealer.open("evil", AAD, sealed)) is UnreadableReason.DEK_REFUSED


async def test_the_warm_path_waits_for_nothing(rings):
    for ring in rings:
        each = ring.keyring.sealer
        sealed = await each.seal("acme", AAD, TEXT)
        assert at_once(each.open("acme", AAD, sealed)) == TEXT
        assert at_once(each.open("acme", AAD, at_once(each.seal("acme", AAD, TEXT)))) == TEXT


async def test_one_data_key_serves_provider_keys_and_answers(rings):
    ring = rings[0]
    sealed = await ring.keyring.sealer.seal("acme", AAD, TEXT)
    await ring.put()
    assert await ring.open() == SECRET.reveal()
    found = await ring.store.find("acme", "openai", None)
    assert [dek.id for dek in found.deks] == [found.shared.dek_id] == [parse(sealed).dek_id]
    opening = ring.keyring.sealer.open("acme", AAD, found.shared.envelope)
    assert await reason_of(opening) is UnreadableReason.FORMAT


async def test_many_at_once_make_one_data_key(rings, looks):
    """In two processes."""
    seals = (ring.keyring.sealer.seal("acme", AAD, b"%d" % number) for number in range(50) for ring in rings)
    sealed = await asyncio.gather(*seals)
    assert len({parse(each).dek_id for each in sealed}) == 1
    assert len((await rings[0].store.find_deks("acme")).deks) == 1
    assert len(looks) < 8
    for number, each in enumerate(sealed):
        assert await rings[number // 2 % 2].keyring.sealer.open("acme", AAD, each) == b"%d" % (number // 2)


async def test_to_open_an_answer_makes_no_data_key(rings, looks):
    ring = rings[0]
    sealed = await ring.keyring.sealer.seal("acme", AAD, TEXT)
    looks.clear()
    for _ in range(5):
        assert await reason_of(ring.keyring.sealer.open("nobody", AAD, sealed)) is UnreadableReason.DEK_MISSING
    assert looks == ["nobody"]
    assert list(await ring.store.tenants("", 10)) == ["acme"]


# ── what is known, and for how long ──────────────────────────────────────────────────────


async def test_once_the_tenant_is_shredded_nobody_opens_it(rings, monkeypatch):
    monkeypatch.setattr(following, "FOLLOW_S", 0.01)
    one, other = rings
    other.keyring.start()
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await asyncio.sleep(0.05)
    assert await other.keyring.sealer.open("acme", AAD, sealed) == TEXT
    await one.keyring.shred("acme", 1)
    await shredded(one.keyring.sealer, sealed)
    await until(lambda: "acme" not in other.keyring.sealer._known)
    await shredded(other.keyring.sealer, sealed)
    assert await one.keyring.sealer.seal("other", AAD, TEXT)


async def until(holds) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


async def shredded(each, sealed) -> None:
    """It says so, and goes on saying so without asking anybody."""
    for work in (each.open("acme", AAD, sealed), each.seal("acme", AAD, TEXT)):
        with pytest.raises(TenantShredded):
            await work
    for work in (each.open("acme", AAD, sealed), each.seal("acme", AAD, TEXT)):
        with pytest.raises(TenantShredded):
            at_once(work)


async def test_a_process_that_heard_of_nothing_stops_in_time(rings):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await other.keyring.sealer.open("acme", AAD, sealed)
    await one.keyring.shred("acme", 1)
    other.clock.us += MAX_AGE_US - 1
    assert await other.keyring.sealer.open("acme", AAD, sealed) == TEXT
    other.clock.us += 1
    await shredded(other.keyring.sealer, sealed)


async def test_a_process_that_hears_of_it_by_another_question_stops_at_once(rings):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await other.keyring.sealer.open("acme", AAD, sealed)
    await one.keyring.shred("acme", 1)
    other.clock.us += LOOK_AGAIN_US
    unheard_of = sealed.replace(parse(sealed).dek_id.encode(), b"dek_000000000000000000000000")
    with pytest.raises(TenantShredded):
        await other.keyring.sealer.open("acme", AAD, unheard_of)
    await shredded(other.keyring.sealer, sealed)


async def test_what_was_being_looked_for_when_the_tenant_was_shredded_is_not_kept(rings, monkeypatch):
    ring, each = rings[0], rings[0].keyring.sealer
    sealed = await each.seal("acme", AAD, TEXT)
    ring.keyring.drop("acme")
    find_deks, is_found, go_on = type(ring.store).find_deks, asyncio.Event(), asyncio.Event()

    async def slow(store, tenant_id):
        found = await find_deks(store, tenant_id)
        is_found.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(type(ring.store), "find_deks", slow)
    under_way = [asyncio.create_task(work) for work in (each.open("acme", AAD, sealed), each.seal("acme", AAD, TEXT))]
    await is_found.wait()
    await ring.keyring.shred("acme", 1)
    go_on.set()
    for work in under_way:  # what they were told is from before it
        with pytest.raises(TenantShredded):
            await work
    assert len(ring.keyring._deks._cache) == 0
    await shredded(each, sealed)


async def test_what_was_being_looked_for_when_changes_were_missed_is_not_kept(rings, monkeypatch):
    one, other = rings
    each = other.keyring.sealer
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    find_deks, is_found, go_on = type(other.store).find_deks, asyncio.Event(), asyncio.Event()

    async def slow(store, tenant_id):
        found = await find_deks(store, tenant_id)
        is_found.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(type(other.store), "find_deks", slow)
    opening = asyncio.create_task(each.open("acme", AAD, sealed))
    await is_found.wait()
    await one.keyring.shred("acme", 1)
    other.keyring._forget()
    go_on.set()
    with pytest.raises(TenantShredded):
        await opening
    assert each._known == {}
    await shredded(each, sealed)


async def test_a_keyring_that_changes_all_the_time_is_looked_at_so_often_and_no_more(rings, looks, monkeypatch):
    ring, each = rings[0], rings[0].keyring.sealer
    sealed = await each.seal("acme", AAD, TEXT)
    ring.keyring.drop("acme")
    find_deks = type(ring.store).find_deks

    async def changing(store, tenant_id):
        found = await find_deks(store, tenant_id)
        ring.keyring.drop(tenant_id)
        return found

    looks.clear()
    with monkeypatch.context() as patched:
        patched.setattr(type(ring.store), "find_deks", changing)
        with pytest.raises(StateUnavailable):
            await each.open("acme", AAD, sealed)
        assert looks == ["acme"] * TRIES_MAX
    assert await each.open("acme", AAD, sealed) == TEXT


async def test_who_missed_changes_forgets_what_is_known_of_everybody(rings, monkeypatch):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await other.keyring.sealer.open("acme", AAD, sealed)
    await one.keyring.shred("acme", 1)

    async def missed(_store, _place):
        return Changes("1", None)

    monkeypatch.setattr(type(other.store), "changes", missed)
    other.keyring.start()
    await until(lambda: not other.keyring.sealer._known)
    await shredded(other.keyring.sealer, sealed)


async def test_a_data_key_that_is_not_heard_of_is_looked_for_once_a_second(rings, looks):
    one, other = rings
    await other.keyring.sealer.seal("acme", AAD, TEXT)
    await one.keyring.rotate_dek("acme", 1, ignore)
    anew = await one.keyring.sealer.seal("acme", AAD, TEXT)
    looks.clear()
    for _ in range(5):
        assert await reason_of(other.keyring.sealer.open("acme", AAD, anew)) is UnreadableReason.DEK_MISSING
    assert looks == []
    other.clock.us += LOOK_AGAIN_US
    assert await other.keyring.sealer.open("acme", AAD, anew) == TEXT
    assert looks == ["acme"]


async def test_of_many_tenants_the_one_that_was_asked_for_longest_ago_is_forgotten(rings, looks, monkeypatch):
    monkeypatch.setattr(sealer, "TENANTS_MAX", 3)
    each = rings[0].keyring.sealer
    for number in range(5):
        await each.seal(f"t{number}", AAD, TEXT)
    assert len(each._known) == 3
    looks.clear()
    await each.seal("t4", AAD, TEXT)
    await each.seal("t0", AAD, TEXT)
    assert looks == ["t0"]


# ── rotation ─────────────────────────────────────────────────────────────────────────────


async def test_a_rotation_leaves_what_the_old_data_key_sealed_unreadable_and_nothing_else(rings):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await one.put()
    await other.keyring.sealer.open("acme", AAD, sealed)
    assert await one.keyring.rotate_dek("acme", 1, ignore) == Rotated(1, 1, 0)
    assert await reason_of(one.keyring.sealer.open("acme", AAD, sealed)) is UnreadableReason.DEK_MISSING
    anew = await one.keyring.sealer.seal("acme", AAD, TEXT)
    assert parse(anew).dek_id == (await one.store.find_deks("acme")).current_dek_id
    assert await one.keyring.sealer.open("acme", AAD, anew) == TEXT
    # Who has not heard of it goes on with the old one, which nobody else opens.
    late = await other.keyring.sealer.seal("acme", AAD, TEXT)
    assert await other.keyring.sealer.open("acme", AAD, late) == TEXT
    assert await reason_of(one.keyring.sealer.open("acme", AAD, late)) is UnreadableReason.DEK_MISSING
    other.keyring.drop("acme")  # as it does when it hears
    assert await reason_of(other.keyring.sealer.open("acme", AAD, sealed)) is UnreadableReason.DEK_MISSING
    assert await other.keyring.sealer.open("acme", AAD, anew) == TEXT


async def test_a_tenant_that_has_answers_alone_is_visited_by_every_rotation(kept):
    old, new = local_kek(), local_kek()
    sealed = await Ring(kept, [old]).keyring.sealer.seal("acme", AAD, TEXT)
    ring = Ring(kept, [new, old])
    assert await ring.keyring.rotate_kek(ignore) == Rotated(1, 1, 0)
    alone = Ring(kept, [new])
    assert await alone.keyring.sealer.open("acme", AAD, sealed) == TEXT
    assert await alone.keyring.rotate_dek("acme", 2, ignore) == Rotated()
    found = await kept.find_deks("acme")
    assert [dek.id for dek in found.deks] == [found.current_dek_id] != [parse(sealed).dek_id]
    assert await alone.keyring.sealer.open("acme", AAD, await alone.keyring.sealer.seal("acme", AAD, TEXT)) == TEXT


async def test_nothing_fails_for_who_seals_and_opens_while_the_data_key_is_rotated(kept):
    """What is sealed meanwhile opens, or is lost; no third thing."""
    keks = [local_kek()]
    ring, stop, opened, lost = Ring(kept, keks), asyncio.Event(), [], []

    async def work() -> None:
        each = Ring(kept, keks)
        while not stop.is_set():
            sealed = await each.keyring.sealer.seal("acme", AAD, TEXT)
            try:
                opened.append(await ring.keyring.sealer.open("acme", AAD, sealed))
            except ProviderKeyUnreadable as error:
                lost.append(error.reason)
            each.keyring.drop("acme")
            ring.clock.us += LOOK_AGAIN_US

    async def rotate() -> None:
        for turn in range(10):
            await Ring(kept, keks).keyring.rotate_dek("acme", turn, ignore)
        stop.set()

    await asyncio.gather(*(work() for _ in range(4)), rotate())
    assert set(opened) == {TEXT}
    assert set(lost) <= {UnreadableReason.DEK_MISSING}


# ── the KMS and the store, counted and away ──────────────────────────────────────────────


async def test_one_call_to_the_kms_for_all_who_ask(kms, kms_ring, looks):
    ring, each = kms_ring, kms_ring.keyring.sealer
    sealed = await asyncio.gather(*(each.seal("acme", AAD, TEXT) for _ in range(50)))
    assert kms.calls == ["GenerateDataKey"]
    ring.keyring.drop("acme")
    kms.calls.clear()
    looks.clear()
    assert await asyncio.gather(*(each.open("acme", AAD, one) for one in sealed)) == [TEXT] * 50
    await asyncio.gather(*(each.seal("acme", AAD, TEXT) for _ in range(50)))
    assert (kms.calls, looks) == (["Decrypt"], ["acme"])
    ring.clock.us += MAX_AGE_US
    await asyncio.gather(*(each.open("acme", AAD, one) for one in sealed))
    assert (kms.calls, looks) == (["Decrypt"] * 2, ["acme"] * 2)


async def test_a_kms_that_is_away_is_asked_once_a_second_and_open_tenants_go_on(kms, kms_ring):
    ring, each = kms_ring, kms_ring.keyring.sealer
    sealed = await each.seal("cold", AAD, TEXT)
    warm = await each.seal("warm", AAD, TEXT)
    ring.keyring.drop("cold")
    kms.stop()
    for tenant_id in ("cold", "new"):
        with pytest.raises(KeyringUnavailable):
            await each.seal(tenant_id, AAD, TEXT)
    kms.start()
    for work in (each.open("cold", AAD, sealed), each.seal("cold", AAD, TEXT), each.seal("new", AAD, TEXT)):
        with pytest.raises(KeyringUnavailable):
            at_once(work)  # what it said last holds
    assert at_once(each.open("warm", AAD, warm)) == TEXT
    ring.clock.us += AWAY_US
    assert await each.open("cold", AAD, sealed) == TEXT
    assert await each.open("new", AAD, await each.seal("new", AAD, TEXT)) == TEXT


async def test_a_call_to_the_kms_goes_on_when_nobody_waits_any_more(kms, kms_ring):
    ring, each = kms_ring, kms_ring.keyring.sealer
    sealed = await each.seal("acme", AAD, TEXT)
    ring.keyring.drop("acme")
    kms.hold()
    kms.calls.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await each.open("acme", AAD, sealed)
    kms.release()
    assert await each.open("acme", AAD, sealed) == TEXT
    assert kms.calls == ["Decrypt"]


async def test_a_gateway_that_may_only_unwrap_seals_for_tenants_that_were_prepared(kms, kms_ring):
    ring, each = kms_ring, kms_ring.keyring.sealer
    kms.allow("serving", "GenerateDataKeyWithoutPlaintext")
    await ring.keyring.prepare("acme", 1)
    kms.allow("serving", "Decrypt")
    assert await each.open("acme", AAD, await each.seal("acme", AAD, TEXT)) == TEXT
    kms.calls.clear()
    for _ in range(5):
        assert await reason_of(each.seal("unprepared", AAD, TEXT)) is UnreadableReason.KEK_DENIED
    assert len(kms.calls) == 1
    kms.allow("serving", "Decrypt", "GenerateDataKey")
    ring.keyring.drop("unprepared")  # as when something of the tenant's changed
    assert await each.seal("unprepared", AAD, TEXT)
    kms.allow("serving", "Decrypt")
    await reason_of(each.seal("another", AAD, TEXT))
    kms.allow("serving", "Decrypt", "GenerateDataKey")
    ring.clock.us += REFUSED_US
    assert await each.seal("another", AAD, TEXT)


async def test_what_is_being_opened_while_the_tenant_is_shredded_is_not_kept(kms, kms_ring):
    ring, each = kms_ring, kms_ring.keyring.sealer
    sealed = await each.seal("acme", AAD, TEXT)
    ring.keyring.drop("acme")
    kms.hold()
    opening = asyncio.create_task(each.open("acme", AAD, sealed))
    await asyncio.sleep(0.05)
    await ring.keyring.shred("acme", 1)
    kms.release()
    await asyncio.gather(opening, return_exceptions=True)
    assert len(ring.keyring._deks._cache) == 0
    await shredded(each, sealed)


async def test_a_store_that_is_away_is_asked_once_a_second_and_what_is_known_goes_on(rings, monkeypatch):
    ring, each = rings[0], rings[0].keyring.sealer
    sealed = await each.seal("warm", AAD, TEXT)
    asked = []

    async def away(_store, tenant_id):
        asked.append(tenant_id)
        raise StateUnavailable("away", retry_after_ms=1)

    with monkeypatch.context() as patched:
        patched.setattr(type(ring.store), "find_deks", away)
        for _ in range(5):
            with pytest.raises(StateUnavailable):
                await each.seal("cold", AAD, TEXT)
        assert at_once(each.open("warm", AAD, sealed)) == TEXT
        assert asked == ["cold"]
    ring.clock.us += AWAY_US
    assert await each.seal("cold", AAD, TEXT)


async def test_a_data_key_that_is_being_made_when_the_tenant_is_shredded_is_not_kept(kms, kms_ring):
    ring, each = kms_ring, kms_ring.keyring.sealer
    kms.hold()
    sealing = asyncio.create_task(each.seal("acme", AAD, TEXT))
    await asyncio.sleep(0.05)
    await ring.keyring.shred("acme", 1)
    kms.release()
    with pytest.raises(TenantShredded):
        await sealing
    assert (len(ring.keyring._deks._cache), each._known) == (0, {})


@pytest.mark.parametrize("is_shredded", [True, False], ids=["shredded", "alive"])
@pytest.mark.parametrize("is_all_forgotten", [True, False], ids=["all", "tenant"])
async def test_a_data_key_that_was_just_stored_when_it_was_forgotten_is_looked_for_again(
    kms_ring, monkeypatch, is_shredded, is_all_forgotten
):
    """Until it is announced, others may change the tenant already."""
    ring, each = kms_ring, kms_ring.keyring.sealer
    add_dek = type(ring.store).add_dek

    async def slow(store, dek, replaces):
        is_added = await add_dek(store, dek, replaces)
        if is_shredded:
            await store.shred("acme", 1)
        if is_all_forgotten:
            ring.keyring._forget()
        else:
            ring.keyring.drop("acme")
        return is_added

    monkeypatch.setattr(type(ring.store), "add_dek", slow)
    if is_shredded:
        with pytest.raises(TenantShredded):
            await each.seal("acme", AAD, TEXT)
        assert (len(ring.keyring._deks._cache), each._known) == (0, {})
    else:
        assert await each.open("acme", AAD, await each.seal("acme", AAD, TEXT)) == TEXT
        assert len((await ring.store.find_deks("acme")).deks) == 1


@pytest.mark.parametrize(
    ("rest", "name", "value"),
    [
        ("deks", b"dek_x", b"no JSON"),
        ("deks", b"\xff", b'{"kek_id": "local:00", "wrapped": "", "created_at_ms": 1}'),
        ("deks", "dek_ü".encode(), b'{"kek_id": "local:00", "wrapped": "", "created_at_ms": 1}'),
        ("deks", b"d" * 256, b'{"kek_id": "local:00", "wrapped": "", "created_at_ms": 1}'),
        ("keyring", b"dek_id", b"\xff"),
        ("keyring", b"dek_id", b"d" * 256),
    ],
)
async def test_a_data_key_that_somebody_wrote_over_in_redis_is_refused_like_any_other(redis_url, rest, name, value):
    async with RedisDoor(redis_url) as door:
        await door.call("FLUSHALL")
        ring = Ring(RedisKeyringStore(door), [local_kek()])
        sealed = await ring.keyring.sealer.seal("acme", AAD, TEXT)
        await door.call("HSET", tenant_name("acme", rest), name, value)
        ring.keyring.drop("acme")
        assert await reason_of(ring.keyring.sealer.open("acme", AAD, sealed)) is UnreadableReason.FORMAT
        assert await reason_of(ring.keyring.sealer.seal("acme", AAD, TEXT)) is UnreadableReason.FORMAT
        assert await reason_of(ring.open()) is UnreadableReason.FORMAT
        await ring.keyring.stop()


async def test_a_keyring_that_stops_ends_what_is_under_way(kms, kms_ring):
    kms.hold()
    sealing = asyncio.create_task(kms_ring.keyring.sealer.seal("acme", AAD, TEXT))
    await asyncio.sleep(0.05)
    await kms_ring.keyring.stop()
    with pytest.raises(asyncio.CancelledError):
        await sealing
    assert kms_ring.keyring.sealer._known == {}
