"""What the keyring promises, over both stores, with a local KEK and with a KMS that is stricter than moto."""

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.core.errors import (
    InvalidParameter,
    KeyringUnavailable,
    ProviderKeyUnreadable,
    StateUnavailable,
    TenantShredded,
)
from proxy.core.secret import Secret
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import following
from proxy.keyring import keyring as keyring_module
from proxy.keyring.dek import StoredDek
from proxy.keyring.dek_cache import MAX_AGE_US
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.keyring import ABSENT_MAX_AGE_US
from proxy.keyring.opened_cache import MISS
from proxy.keyring.record import ProviderKeyState
from proxy.keyring.rotation import Rotated
from tests.keyrings import ORIGIN, OTHER_SECRET, SECRET, Ring, aws_kek, ignore, local_kek


@pytest.fixture
async def sqlite_kept(tmp_path, patient):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        yield EmbeddedKeyringStore(door)


@pytest.fixture
async def ring(kept):
    ring = Ring(kept, [local_kek()])
    yield ring
    await ring.keyring.stop()


@pytest.fixture
async def kms_ring(kms, sqlite_kept):
    """With the strict KMS, its boto3 loaded: that alone takes longer than a call may wait."""
    ring = Ring(sqlite_kept, [aws_kek(kms.add_key(), kms.url)])
    await ring.keyring._deks.connect()
    yield ring
    kms.release()
    await ring.keyring.stop()


@pytest.fixture
def quick(monkeypatch):
    """A busy machine must not look like a KMS that is away."""
    monkeypatch.setattr(keyring_module, "WAIT_S", 10.0)


async def reason_of(ring: Ring, tenant_id="acme", user=None, provider="openai"):
    ring.keyring.drop(tenant_id)
    ring.reasons.clear()
    with pytest.raises(ProviderKeyUnreadable) as refused:
        await ring.keyring.open(tenant_id, provider, user)
    assert ring.reasons == [refused.value.reason.value]
    return refused.value.reason


# ── put and open ─────────────────────────────────────────────────────────────────────────


async def test_a_stored_key_is_opened_for_its_tenant_and_origin(ring):
    put = await ring.keyring.put("acme", "openai", None, ORIGIN, SECRET, 5)
    opened = await ring.keyring.open("acme", "openai", None)
    assert opened.secret == SECRET
    assert (opened.origin, opened.credential_id, opened.version) == (ORIGIN, put.credential_id, 1)
    assert (put.state, put.last_four, put.created_at_ms, put.envelope) == (ProviderKeyState.ACTIVE, "ghij", 5, b"")
    assert await ring.open("other") is None
    assert await ring.keyring.open("acme", "anthropic", None) is None


async def test_a_users_own_key_goes_before_the_tenants(ring):
    await ring.put()
    await ring.put(user="zoe", secret=OTHER_SECRET)
    assert await ring.open(user="zoe") == OTHER_SECRET.reveal()
    assert await ring.open(user="bob") == await ring.open() == SECRET.reveal()
    await ring.keyring.delete("acme", "openai", "zoe", 9)
    assert await ring.open(user="zoe") == SECRET.reveal()
    assert await ring.keyring.delete("acme", "openai", "zoe", 9) is None


async def test_another_secret_is_another_version_of_the_same_credential(ring):
    first = await ring.keyring.put("acme", "openai", None, ORIGIN, SECRET, 5)
    assert await ring.open() == SECRET.reveal()
    second = await ring.keyring.rotate("acme", "openai", None, OTHER_SECRET, 6)
    assert (second.credential_id, second.version, second.origin) == (first.credential_id, 2, ORIGIN)
    assert second.fingerprint != first.fingerprint
    assert await ring.open() == OTHER_SECRET.reveal()
    third = await ring.keyring.put("acme", "openai", None, "http://localhost:8000", SECRET, 7)
    assert (third.version, third.fingerprint) == (3, first.fingerprint)
    assert [(each.version, each.state, each.envelope) for each in await ring.keyring.list("acme")] == [
        (1, ProviderKeyState.RETIRED, b""),
        (2, ProviderKeyState.RETIRED, b""),
        (3, ProviderKeyState.ACTIVE, b""),
    ]
    await ring.keyring.delete("acme", "openai", None, 8)
    assert (await ring.keyring.put("acme", "openai", None, ORIGIN, SECRET, 9)).credential_id != first.credential_id
    assert await ring.keyring.rotate("acme", "openai", "nobody", SECRET, 9) is None


async def test_puts_at_once_all_become_versions(ring):
    texts = [f"sk-rival-number-{number}" for number in range(6)]
    put = await asyncio.gather(*(ring.keyring.put("acme", "openai", None, ORIGIN, Secret(text), 1) for text in texts))
    assert sorted(record.version for record in put) == [1, 2, 3, 4, 5, 6]
    assert len({record.credential_id for record in put}) == 1
    newest = next(record for record in put if record.version == 6)
    assert await ring.open() == texts[put.index(newest)]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tenant_id": "a:b"}, "tenant"),
        ({"provider": "open ai"}, "provider"),
        ({"provider": "a:b"}, "provider"),
        ({"user": ""}, "user"),
        ({"user": "a\n"}, "user"),
        ({"origin": "https://api.openai.com/v1"}, "origin"),
        ({"origin": "api.openai.com"}, "origin"),
        ({"secret": Secret("short")}, "secret"),
        ({"secret": Secret("sk-with a space")}, "secret"),
        ({"secret": Secret("sk-line\r\nbreak")}, "secret"),
        ({"secret": Secret("sk-ünicode-0000")}, "secret"),
        ({"secret": Secret("x" * 8_193)}, "secret"),
        ({"secret": Secret("twk_0123456789")}, "secret"),
    ],
)
async def test_what_could_never_be_used_is_refused(change, param):
    what = {"tenant_id": "acme", "provider": "openai", "user": None, "origin": ORIGIN, "secret": SECRET, "at_ms": 1}
    ring = Ring(None, [local_kek()])  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter) as refused:
        await ring.keyring.put(**(what | change))
    assert refused.value.param == param
    if param == "secret":
        assert change["secret"].reveal() not in str(refused.value)


async def test_of_a_short_secret_no_part_is_shown(ring):
    assert (await ring.keyring.put("acme", "openai", None, ORIGIN, Secret("12345678"), 1)).last_four == ""


async def test_the_secret_is_nowhere_but_in_what_was_opened(ring, caplog, redis_url, tmp_path):
    caplog.set_level(logging.DEBUG)
    await ring.put()
    opened = await ring.keyring.open("acme", "openai", None)
    found = await ring.store.find("acme", "openai", None)
    told = repr((opened, found, ring.keyring, await ring.keyring.list("acme"))) + caplog.text
    assert SECRET.reveal() not in told
    assert SECRET.reveal().encode() not in found.shared.envelope
    for file in tmp_path.iterdir():
        assert SECRET.reveal().encode() not in file.read_bytes()


# ── what somebody moved or changed in the store ──────────────────────────────────────────


async def forge(ring: Ring, record, **change) -> None:
    """Put a record into the store as one who can write it would, with whatever data key is current there."""
    forged = replace(record, **change)
    found = await ring.store.find(forged.tenant_id, forged.provider, forged.user)
    forged = replace(forged, dek_id=found.current_dek_id)
    assert await ring.store.activate(forged, found.at(forged.user))


async def test_an_envelope_opens_in_its_own_place_alone(ring):
    await ring.put()
    await ring.put(user="zoe", secret=OTHER_SECRET)
    record = (await ring.store.find("acme", "openai", None)).shared
    for change in (
        {"provider": "anthropic"},
        {"user": "bob"},
        {"origin": "https://evil.example"},
        {"version": 2},
        {"credential_id": "pk_other"},
    ):
        await forge(ring, record, **change)
        asked = {"provider": change.get("provider", "openai"), "user": change.get("user")}
        assert await reason_of(ring, **asked) is UnreadableReason.CONTENT
        await forge(ring, record)
        ring.keyring.drop("acme")
        assert await ring.open() == SECRET.reveal()


async def test_a_version_that_was_replaced_does_not_come_back(ring):
    await ring.put()
    old = (await ring.store.find("acme", "openai", None)).shared
    await ring.put(secret=OTHER_SECRET)
    await forge(ring, old, version=2)
    assert await reason_of(ring) is UnreadableReason.CONTENT


async def test_another_tenants_row_opens_nothing_even_with_its_data_key(ring):
    await ring.put("acme")
    await ring.put("evil", secret=OTHER_SECRET)
    stolen = await ring.store.find("acme", "openai", None)
    await forge(ring, stolen.shared, tenant_id="evil")
    assert await reason_of(ring, "evil") is UnreadableReason.DEK_MISSING
    _, (own,) = await ring.store.deks("evil")
    dek = stolen.deks[0]
    assert await ring.store.add_dek(StoredDek("evil", dek.id, dek.wrapped, 1), own.id)
    assert await reason_of(ring, "evil") is UnreadableReason.DEK_REFUSED
    assert await ring.open("acme") == SECRET.reveal()


async def test_another_tenants_data_key_in_the_place_of_ones_own_opens_nothing(ring):
    await ring.put("acme")
    await ring.put("evil", secret=OTHER_SECRET)
    _, (acmes,) = await ring.store.deks("acme")
    _, (evils,) = await ring.store.deks("evil")
    assert await ring.store.rewrap(replace(acmes, wrapped=evils.wrapped), acmes.wrapped.ciphertext)
    assert await reason_of(ring) is UnreadableReason.DEK_REFUSED


@pytest.mark.parametrize("index", [0, 4, 5, 6, 7, 40, -1])
async def test_a_changed_envelope_is_refused_and_a_new_one_puts_it_right(ring, index):
    await ring.put()
    record = (await ring.store.find("acme", "openai", None)).shared
    data = bytearray(record.envelope)
    data[index] ^= 1
    await forge(ring, record, envelope=bytes(data))
    await reason_of(ring)
    await ring.put()
    assert await ring.open() == SECRET.reveal()


async def test_one_that_cannot_be_opened_is_not_looked_at_by_every_call(ring, caplog):
    await ring.put()
    record = (await ring.store.find("acme", "openai", None)).shared
    await forge(ring, record, origin="https://evil.example")
    for _ in range(5):
        with pytest.raises(ProviderKeyUnreadable):
            await ring.open()
    assert ring.reasons == ["content"]
    assert len(caplog.records) == 1
    ring.clock.us += 5_000_000
    with pytest.raises(ProviderKeyUnreadable):
        await ring.open()
    assert len(ring.reasons) == 2
    await ring.put()
    assert await ring.open() == SECRET.reveal()


async def test_the_operator_reads_why_and_no_secret(ring, caplog):
    await ring.put()
    record = (await ring.store.find("acme", "openai", None)).shared
    await forge(ring, record, origin="https://evil.example")
    await reason_of(ring)
    assert "acme" in caplog.text
    assert "content" in caplog.text
    assert SECRET.reveal() not in caplog.text


# ── what is known, and for how long ──────────────────────────────────────────────────────


async def test_what_was_opened_is_known_until_its_max_age(ring):
    await ring.put()
    assert ring.keyring.cached("acme", "openai", None) is MISS
    opened = await ring.keyring.open("acme", "openai", None)
    assert ring.keyring.cached("acme", "openai", None) is opened
    assert ring.keyring.cached("acme", "openai", "zoe") is opened  # the tenant has one place, which is no user's
    assert ring.keyring.cached("acme", "other", "zoe") is None
    ring.clock.us += MAX_AGE_US - 1
    assert ring.keyring.cached("acme", "openai", None) is opened
    ring.clock.us += 1
    assert ring.keyring.cached("acme", "openai", None) is MISS


async def test_a_million_users_without_an_own_key_cost_one_look_at_the_store(ring, monkeypatch):
    await ring.put()
    await ring.put(user="zoe", secret=OTHER_SECRET)
    await ring.open(user="user 0")
    kept_find, looks = ring.store.find, []

    async def find(_store, *asked):
        looks.append(asked)
        return await kept_find(*asked)

    monkeypatch.setattr(type(ring.store), "find", find)
    for number in range(100):
        assert await ring.open(user=f"user {number}") == SECRET.reveal()
        assert await ring.keyring.open("acme", "other", f"user {number}") is None
    assert looks == []
    assert await ring.open(user="zoe") == OTHER_SECRET.reveal()
    assert len(looks) == 1
    ring.clock.us += ABSENT_MAX_AGE_US  # by now one of them might have got one
    await ring.open(user="user 1")
    assert len(looks) == 2


async def test_that_there_is_none_is_known_for_a_shorter_time(ring):
    assert await ring.open() is None
    assert ring.keyring.cached("acme", "openai", None) is None
    ring.clock.us += ABSENT_MAX_AGE_US
    assert ring.keyring.cached("acme", "openai", None) is MISS


async def test_the_ages_of_a_data_key_and_of_what_it_opened_do_not_add_up(ring):
    await ring.put()
    await ring.put(user="zoe", secret=OTHER_SECRET)
    await ring.open()
    ring.clock.us += MAX_AGE_US - 1
    await ring.open(user="zoe")  # by the data key that was put to use 299 s ago
    ring.clock.us += 1
    assert ring.keyring.cached("acme", "openai", "zoe") is MISS


async def test_another_process_hears_of_changes(kept, ring, monkeypatch):
    monkeypatch.setattr(following, "FOLLOW_S", 0.01)
    await ring.put()
    other = Ring(kept, ring.keks)
    other.keyring.start()
    await asyncio.sleep(0.05)
    assert await other.open() == SECRET.reveal()
    await ring.put(secret=OTHER_SECRET)
    await until(lambda: other.keyring.cached("acme", "openai", None) is MISS)
    assert await other.open() == OTHER_SECRET.reveal()
    await ring.keyring.shred("acme", 1)
    await until(lambda: other.keyring.cached("acme", "openai", None) is MISS)
    with pytest.raises(TenantShredded):
        await other.open()
    await other.keyring.stop()


async def until(holds) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


async def test_an_epoch_that_was_read_elsewhere_makes_a_change_known_at_once(kept, ring):
    await ring.put()
    other = Ring(kept, ring.keks)
    await other.open()
    await ring.keyring.shred("acme", 1)
    assert other.keyring.cached("acme", "openai", None) is not MISS  # nobody told it
    other.keyring.note_epoch("acme", await kept.epoch("acme"))
    assert other.keyring.cached("acme", "openai", None) is MISS
    with pytest.raises(TenantShredded):
        await other.open()


async def test_a_shredded_tenant_is_closed_at_once_and_for_ever(ring):
    await ring.put()
    await ring.put("other", secret=OTHER_SECRET)
    await ring.open()
    assert await ring.keyring.shred("acme", 7) == 7
    assert ring.keyring.cached("acme", "openai", None) is MISS
    for asked in (
        ring.keyring.open("acme", "openai", None),
        ring.keyring.put("acme", "openai", None, ORIGIN, SECRET, 8),
        ring.keyring.rotate("acme", "openai", None, SECRET, 8),
        ring.keyring.delete("acme", "openai", None, 8),
        ring.keyring.prepare("acme", 8),
    ):
        with pytest.raises(TenantShredded):
            await asked
    assert await ring.keyring.rotate_dek("acme", 9, ignore) == Rotated()
    assert await ring.keyring.shred("acme", 8) == 7
    assert await ring.open("other") == OTHER_SECRET.reveal()


# ── the KMS, slow, away and counted ──────────────────────────────────────────────────────


async def test_a_tenant_costs_one_call_to_the_kms_in_its_max_age(kms, kms_ring, quick):
    ring = kms_ring
    await ring.put()
    ring.keyring.drop("acme")
    kms.calls.clear()
    opened = await asyncio.gather(*(ring.open(user=f"user {number % 7}") for number in range(100)))
    assert set(opened) == {SECRET.reveal()}
    for _ in range(10):
        ring.clock.us += MAX_AGE_US // 10 - 1
        await ring.open()
    assert kms.calls == ["Decrypt"]
    ring.clock.us += 10
    await asyncio.gather(*(ring.open() for _ in range(10)))
    assert kms.calls == ["Decrypt"] * 2


async def test_while_the_kms_is_away_open_tenants_go_on_and_others_are_told_within_300_ms(
    kms, kms_ring, quick, monkeypatch
):
    ring = kms_ring
    for tenant_id in ("open", "cold"):
        await ring.put(tenant_id)
        ring.keyring.drop(tenant_id)
    await ring.open("open")
    kms.hold()
    kms.calls.clear()
    monkeypatch.setattr(keyring_module, "WAIT_S", 0.3)
    began_s = time.monotonic()
    refused = await asyncio.gather(*(ring.open("cold") for _ in range(50)), return_exceptions=True)
    assert time.monotonic() - began_s < 0.45
    assert {type(error) for error in refused} == {KeyringUnavailable}
    assert {getattr(error, "retry_after_ms", None) for error in refused} == {1_000}
    assert kms.calls == ["Decrypt"]  # all of them waited for the same one
    for _ in range(3):
        ring.clock.us += MAX_AGE_US // 4
        assert await ring.open("open") == SECRET.reveal()
    ring.clock.us += MAX_AGE_US // 4 + 4
    with pytest.raises(KeyringUnavailable):
        await ring.open("open")


async def test_a_call_that_nobody_waits_for_any_more_answers_the_next_who_asks(kms, kms_ring, quick, monkeypatch):
    ring = kms_ring
    await ring.put()
    ring.keyring.drop("acme")
    kms.hold()
    kms.calls.clear()
    monkeypatch.setattr(keyring_module, "WAIT_S", 0.05)
    with pytest.raises(KeyringUnavailable):
        await ring.open()
    kms.release()
    await until(lambda: ring.keyring.cached("acme", "openai", None) is not MISS)
    assert await ring.open() == SECRET.reveal()
    assert kms.calls == ["Decrypt"]


async def test_a_caller_that_hangs_up_does_not_end_it_for_the_others(kms, kms_ring, quick):
    ring = kms_ring
    await ring.put()
    ring.keyring.drop("acme")
    kms.hold()
    first, second = (asyncio.create_task(ring.open()) for _ in range(2))
    await asyncio.sleep(0.02)
    first.cancel()
    kms.release()
    assert await second == SECRET.reveal()


async def test_a_put_that_is_given_up_does_not_end_the_opening_for_others(kms, kms_ring, quick):
    ring = kms_ring
    await ring.put()
    ring.keyring.drop("acme")
    kms.calls.clear()
    kms.hold()
    putting = asyncio.create_task(ring.put(secret=OTHER_SECRET))
    await until(lambda: "Decrypt" in kms.calls)
    opening = asyncio.create_task(ring.open())
    await asyncio.sleep(0.02)
    putting.cancel()
    await asyncio.sleep(0)
    kms.release()
    assert await opening == SECRET.reveal()
    assert kms.calls == ["Decrypt"]


async def test_a_put_waits_for_the_kms_so_long_and_no_longer(kms, kms_ring, monkeypatch):
    ring = kms_ring
    monkeypatch.setattr(keyring_module, "CHANGE_S", 0.05)
    kms.hold()
    with pytest.raises(KeyringUnavailable):
        await ring.put()
    kms.release()
    assert list(await ring.keyring.list("acme")) == []


async def test_a_kms_that_is_down_is_not_asked_by_every_call(kms, kms_ring, quick):
    ring = kms_ring
    await ring.put()
    ring.keyring.drop("acme")
    kms.stop()
    for _ in range(5):
        with pytest.raises(KeyringUnavailable):
            await ring.open()
    kms.start()
    with pytest.raises(KeyringUnavailable):
        await ring.open()  # for a second, what it said last holds
    ring.clock.us += 1_000_000
    assert await ring.open() == SECRET.reveal()


@pytest.mark.parametrize(
    ("state", "reason"),
    [("Disabled", UnreadableReason.KEK_DISABLED), ("PendingDeletion", UnreadableReason.KEK_PENDING_DELETION)],
)
async def test_the_state_of_the_kek_is_a_reason(kms, kms_ring, quick, state, reason):
    ring = kms_ring
    await ring.put()
    arn = ring.keks[0].kek_id
    kms.set_state(arn, state)
    assert await reason_of(ring) is reason
    kms.set_state(arn, "Enabled")
    ring.clock.us += 5_000_000
    assert await ring.open() == SECRET.reveal()


async def test_a_gateway_that_may_only_unwrap_stores_keys_of_tenants_that_were_prepared(kms, kms_ring, quick):
    ring = kms_ring
    kms.allow("serving", "GenerateDataKeyWithoutPlaintext", "ReEncrypt")  # provisioning
    await ring.keyring.prepare("acme", 1)
    await ring.keyring.prepare("acme", 2)
    with pytest.raises(ProviderKeyUnreadable):
        await ring.put()
    kms.allow("serving", "Decrypt")
    ring.clock.us += 5_000_000
    await ring.put()
    assert await ring.open() == SECRET.reveal()
    with pytest.raises(ProviderKeyUnreadable) as refused:
        await ring.put("unprepared")
    assert refused.value.reason is UnreadableReason.KEK_DENIED
    assert kms.calls.count("GenerateDataKeyWithoutPlaintext") == 1


async def test_what_is_being_opened_while_the_tenant_is_shredded_is_not_kept(kms, kms_ring, quick):
    ring = kms_ring
    await ring.put()
    ring.keyring.drop("acme")
    kms.hold()
    opening = asyncio.create_task(ring.open())
    await until(lambda: "Decrypt" in kms.calls)
    await ring.keyring.shred("acme", 1)
    kms.release()
    await asyncio.gather(opening, return_exceptions=True)
    assert ring.keyring.cached("acme", "openai", None) is MISS
    assert len(ring.keyring._deks._cache) == 0
    with pytest.raises(TenantShredded):
        await ring.open()


@pytest.mark.parametrize("asks_again", [False, True])
async def test_what_was_being_looked_for_when_the_tenant_was_shredded_is_not_opened(
    ring, quick, monkeypatch, asks_again
):
    await ring.put()
    ring.keyring.drop("acme")
    find, is_found, go_on = type(ring.store).find, asyncio.Event(), asyncio.Event()

    async def slow(store, *name):
        found = await find(store, *name)
        is_found.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(type(ring.store), "find", slow)
    asking = [asyncio.create_task(ring.open())]
    await is_found.wait()
    await ring.keyring.shred("acme", 1)
    if asks_again:
        asking.append(asyncio.create_task(ring.open()))
        await asyncio.sleep(0)
    go_on.set()
    for each in asking:
        with pytest.raises(TenantShredded):
            await each
    assert len(ring.keyring._deks._cache) == 0
    assert not ring.keyring._flights


async def test_what_was_being_looked_for_when_another_secret_was_put_is_the_new_one(ring, quick, monkeypatch):
    await ring.put()
    ring.keyring.drop("acme")
    find, is_found, go_on = type(ring.store).find, asyncio.Event(), asyncio.Event()

    async def slow(store, *name):
        found = await find(store, *name)
        if not is_found.is_set():
            is_found.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(type(ring.store), "find", slow)
    asking = asyncio.create_task(ring.open())
    await is_found.wait()
    await ring.keyring.rotate("acme", "openai", None, OTHER_SECRET, 6)
    assert await ring.open() == OTHER_SECRET.reveal()
    go_on.set()
    assert await asking == OTHER_SECRET.reveal()
    assert await ring.open() == OTHER_SECRET.reveal()


async def test_a_store_that_is_away_is_said_to_be(ring, monkeypatch):
    async def away(*_):
        raise StateUnavailable("away", retry_after_ms=1)

    with monkeypatch.context() as patched:
        patched.setattr(type(ring.store), "find", away)
        with pytest.raises(StateUnavailable):
            await ring.open()
    assert await ring.open() is None
