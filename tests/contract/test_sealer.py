"""Kept answers under their tenant's data key, over both stores: opened in their own place alone, and by nobody once the
tenant is shredded."""

import asyncio

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable, TenantShredded
from proxy.keyring import envelope
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.envelope import Place
from proxy.keyring.sealed_answer import parse
from proxy.keyring.sealer import KNOWN_US, LOOK_AGAIN_US
from proxy.keyring.store import RedisKeyringStore
from tests.keyrings import Ring, aws_kek, ignore, local_kek

AAD, TEXT = b"name\0head", b"an answer" * 100


@pytest.fixture(params=["redis", "sqlite"])
async def kept(request, tmp_path, patient):
    if request.param == "redis":
        async with RedisDoor(request.getfixturevalue("redis_url")) as shared:
            await shared.call("FLUSHALL")
            yield RedisKeyringStore(shared)
    else:
        async with SqliteDoor(tmp_path / "tollway.db") as door:
            yield EmbeddedKeyringStore(door)


@pytest.fixture
async def rings(kept):
    """Two processes' keyrings."""
    keks = [local_kek()]
    made = (Ring(kept, keks), Ring(kept, keks))
    yield made
    for ring in made:
        await ring.keyring.stop()


async def test_what_one_process_seals_another_opens(rings):
    one, other = (ring.keyring.sealer for ring in rings)
    sealed = await one.seal("acme", AAD, TEXT)
    assert TEXT[:9] not in sealed
    assert sealed != await one.seal("acme", AAD, TEXT)
    assert await other.open("acme", AAD, sealed) == TEXT


async def test_it_opens_in_its_own_place_alone(rings):
    sealer = rings[0].keyring.sealer
    sealed = await sealer.seal("acme", AAD, TEXT)
    await sealer.seal("other", AAD, TEXT)
    for tenant_id, aad in (("other", AAD), ("acme", b"name\0other"), ("acme", b"")):
        with pytest.raises(ProviderKeyUnreadable):
            await sealer.open(tenant_id, aad, sealed)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(ProviderKeyUnreadable):
            await sealer.open("acme", AAD, bytes(changed))
    for cut in (0, 1, 2, 30, len(sealed) - 1):
        with pytest.raises(ProviderKeyUnreadable):
            await sealer.open("acme", AAD, sealed[:cut])


async def test_an_answer_is_no_provider_key_and_the_other_way_round(rings):
    ring = rings[0]
    await ring.put()
    found = await ring.store.find("acme", "openai", None)
    with pytest.raises(ProviderKeyUnreadable):
        await ring.keyring.sealer.open("acme", AAD, found.shared.envelope)
    parts = parse(await ring.keyring.sealer.seal("acme", AAD, b"sk-1"))
    stored = found.dek(parts.dek_id)
    assert stored is not None
    dek = (await ring.keyring._deks.open(stored)).dek
    forged = envelope.Envelope(parts.dek_id, stored.wrapped.kek_id, parts.nonce, parts.commitment, parts.ciphertext)
    with pytest.raises(ProviderKeyUnreadable):
        envelope.unseal(forged, dek, Place("acme", "openai", None, "https://api.openai.com", "pk_1", 1))


async def test_once_the_tenant_is_shredded_nobody_opens_it(rings):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    assert await other.keyring.sealer.open("acme", AAD, sealed) == TEXT
    await one.keyring.shred("acme", 1)
    other.keyring.drop("acme")  # as it does when it hears of the change
    for ring in rings:
        with pytest.raises(TenantShredded):
            await ring.keyring.sealer.open("acme", AAD, sealed)
        with pytest.raises(TenantShredded):
            await ring.keyring.sealer.seal("acme", AAD, TEXT)


async def test_a_process_that_heard_of_nothing_stops_in_time(rings):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await other.keyring.sealer.open("acme", AAD, sealed)
    await one.keyring.shred("acme", 1)
    other.clock.us += KNOWN_US
    with pytest.raises(TenantShredded):
        await other.keyring.sealer.open("acme", AAD, sealed)


async def test_a_rotation_leaves_what_the_old_key_sealed_unreadable_and_nothing_else(rings):
    one, other = rings
    sealed = await one.keyring.sealer.seal("acme", AAD, TEXT)
    await other.keyring.sealer.open("acme", AAD, sealed)
    await one.keyring.rotate_kek(ignore)
    assert await one.keyring.sealer.open("acme", AAD, sealed) == TEXT
    await one.keyring.rotate_dek("acme", 1, ignore)
    one.keyring.drop("acme")
    with pytest.raises(ProviderKeyUnreadable):
        await one.keyring.sealer.open("acme", AAD, sealed)
    anew = await one.keyring.sealer.seal("acme", AAD, TEXT)
    other.clock.us += LOOK_AGAIN_US  # it has not heard of the new one, and looks
    assert await other.keyring.sealer.open("acme", AAD, anew) == TEXT


async def test_many_at_once_make_one_data_key(rings):
    sealer = rings[0].keyring.sealer
    sealed = await asyncio.gather(*(sealer.seal("acme", AAD, b"%d" % number) for number in range(50)))
    assert len({parse(each).dek_id for each in sealed}) == 1
    _, deks = await rings[0].store.deks("acme")
    assert len(deks) == 1


async def test_a_tenant_with_answers_alone_is_visited_by_a_rotation(rings):
    await rings[0].keyring.sealer.seal("acme", AAD, TEXT)
    assert list(await rings[0].store.tenants("", 10)) == ["acme"]


async def test_one_call_to_the_kms_for_all_and_none_while_it_is_away(kms, tmp_path, patient):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        ring = Ring(EmbeddedKeyringStore(door), [aws_kek(kms.add_key(), kms.url)])
        await ring.keyring._deks.connect()
        sealer = ring.keyring.sealer
        sealed = await asyncio.gather(*(sealer.seal("acme", AAD, TEXT) for _ in range(20)))
        ring.keyring.drop("acme")
        before = len(kms.calls)
        assert await asyncio.gather(*(sealer.open("acme", AAD, each) for each in sealed)) == [TEXT] * 20
        assert len(kms.calls) - before == 1
        ring.keyring.drop("acme")
        kms.stop()
        try:
            with pytest.raises(KeyringUnavailable):
                await sealer.open("acme", AAD, sealed[0])
        finally:
            kms.start()
        await ring.keyring.stop()
