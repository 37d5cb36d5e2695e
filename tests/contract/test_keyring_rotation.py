"""Rotating KEKs and data keys: while calls go on, broken off, run again, run twice at once."""

import asyncio
from dataclasses import replace

import pytest

from proxy.keyring.keyring import Keyring
from proxy.keyring.rotation import Rotated
from tests.keyrings import ORIGIN, OTHER_SECRET, SECRET, Ring, aws_kek, ignore, local_kek

TENANTS = [f"tenant-{number}" for number in range(6)]
USERS = ["ada", "bob", "cyd"]


class BrokenOff(Exception):
    pass


async def filled(kept, keks) -> Ring:
    ring = Ring(kept, keks)
    for tenant_id in TENANTS:
        for user in (None, *USERS):
            await ring.put(tenant_id, user)
    return ring


async def keks_in_use(kept) -> set[str]:
    return {dek.wrapped.kek_id for tenant_id in TENANTS for dek in (await kept.deks(tenant_id))[1]}


def break_off_after(count):
    def progress(done: Rotated) -> None:
        if done.seen >= count:
            raise BrokenOff

    return progress


async def opens_everything(ring: Ring) -> None:
    for tenant_id in TENANTS:
        ring.keyring.drop(tenant_id)
        for user in (None, *USERS):
            assert await ring.open(tenant_id, user) == SECRET.reveal()


async def test_every_data_key_is_rewrapped_and_the_old_kek_can_go(kept):
    old, new = local_kek(), local_kek()
    await filled(kept, [old])
    seen: list[Rotated] = []
    ring = Ring(kept, [new, old])
    assert await ring.keyring.rotate_kek(seen.append) == Rotated(6, 6, 0)
    assert [done.seen for done in seen] == [1, 2, 3, 4, 5, 6]
    assert await keks_in_use(kept) == {new.kek_id}
    await opens_everything(Ring(kept, [new]))
    assert await ring.keyring.rotate_kek(ignore) == Rotated(6, 0, 0)


async def test_a_rotation_of_the_kek_that_was_broken_off_goes_on(kept):
    old, new = local_kek(), local_kek()
    await filled(kept, [old])
    ring = Ring(kept, [new, old])
    with pytest.raises(BrokenOff):
        await ring.keyring.rotate_kek(break_off_after(2))
    assert await keks_in_use(kept) == {old.kek_id, new.kek_id}
    await opens_everything(ring)
    assert await ring.keyring.rotate_kek(ignore) == Rotated(6, 4, 0)


async def test_two_rotations_of_the_kek_at_once_do_each_entry_once(kept):
    old, new = local_kek(), local_kek()
    await filled(kept, [old])
    ring = Ring(kept, [new, old])
    done = await asyncio.gather(*(ring.keyring.rotate_kek(ignore) for _ in range(2)))
    assert sum(each.changed for each in done) == 6
    await opens_everything(Ring(kept, [new]))


async def test_a_data_key_that_cannot_be_unwrapped_is_counted_and_the_others_go_on(kept):
    old, new, lost = local_kek(), local_kek(), local_kek()
    await filled(kept, [old])
    await Ring(kept, [lost]).put("zzz-lost")
    done = await Ring(kept, [new, old]).keyring.rotate_kek(ignore)
    assert done == Rotated(7, 6, 1)


async def test_a_tenants_keys_are_sealed_anew_and_the_old_data_key_is_gone(kept):
    ring = await filled(kept, [local_kek()])
    before, _ = await kept.deks(TENANTS[0])
    assert await ring.keyring.rotate_dek(TENANTS[0], 9, ignore) == Rotated(4, 4, 0)
    after, deks = await kept.deks(TENANTS[0])
    assert [dek.id for dek in deks] == [after]
    assert after != before
    assert deks[0].created_at_ms == 9
    await opens_everything(ring)
    assert await ring.keyring.rotate_dek("nobody", 9, ignore) == Rotated()


async def test_a_rotation_of_a_data_key_that_was_broken_off_is_ended_and_not_begun_again(kept):
    ring = await filled(kept, [local_kek()])
    with pytest.raises(BrokenOff):
        await ring.keyring.rotate_dek(TENANTS[0], 9, break_off_after(2))
    half_way, deks = await kept.deks(TENANTS[0])
    assert len(deks) == 2
    await opens_everything(ring)
    assert await ring.keyring.rotate_dek(TENANTS[0], 10, ignore) == Rotated(2, 2, 0)
    after, deks = await kept.deks(TENANTS[0])
    assert after == half_way
    assert len(deks) == 1
    await opens_everything(ring)


async def test_a_key_that_cannot_be_read_keeps_its_data_key_until_it_is_stored_again(kept):
    ring = await filled(kept, [local_kek()])
    record = (await kept.find(TENANTS[0], "openai", "ada")).own
    assert await kept.reseal(replace(record, envelope=record.envelope[:-1]), record.envelope)
    assert await ring.keyring.rotate_dek(TENANTS[0], 9, ignore) == Rotated(4, 3, 1)
    assert len((await kept.deks(TENANTS[0]))[1]) == 2
    await ring.put(TENANTS[0], "ada")
    assert (await ring.keyring.rotate_dek(TENANTS[0], 9, ignore)).failed == 0
    assert len((await kept.deks(TENANTS[0]))[1]) == 1
    await opens_everything(ring)


async def test_the_oldest_data_key_is_known_for_a_schedule(kept):
    ring = Ring(kept, [local_kek()])
    assert await ring.keyring.oldest_at_ms() is None
    for at_ms, tenant_id in ((50, "a"), (20, "b"), (70, "c")):
        await ring.keyring.put(tenant_id, "openai", None, ORIGIN, SECRET, at_ms)
    assert await ring.keyring.oldest_at_ms() == 20
    await ring.keyring.rotate_dek("b", 90, ignore)
    assert await ring.keyring.oldest_at_ms() == 50


async def test_no_call_fails_while_everything_is_rotated(kept):
    """Of many processes, none of which remembers anything from one call to the next."""
    old, new = local_kek(), local_kek()
    await filled(kept, [old])
    allowed = {SECRET.reveal(), OTHER_SECRET.reveal()}
    stop, opened = asyncio.Event(), [0]

    async def calls(number: int) -> None:
        ring = Ring(kept, [new, old])
        while not stop.is_set():
            tenant_id = TENANTS[(number + opened[0]) % len(TENANTS)]
            ring.keyring.drop(tenant_id)
            assert await ring.open(tenant_id, [None, *USERS][opened[0] % 4]) in allowed
            opened[0] += 1

    async def rotate() -> None:
        ring = Ring(kept, [new, old])
        for turn in range(3):
            await ring.keyring.rotate_kek(ignore)
            for tenant_id in TENANTS:
                await asyncio.gather(
                    ring.keyring.rotate_dek(tenant_id, turn, ignore),
                    ring.keyring.rotate(tenant_id, "openai", "ada", (OTHER_SECRET, SECRET)[turn % 2], turn),
                )
        stop.set()

    await asyncio.gather(rotate(), *(calls(number) for number in range(8)))
    assert opened[0] > 100
    for tenant_id in TENANTS:
        _, deks = await kept.deks(tenant_id)
        assert [dek.wrapped.kek_id for dek in deks] == [new.kek_id]
        assert await Ring(kept, [new]).open(tenant_id, "ada") == OTHER_SECRET.reveal()
        assert await Ring(kept, [new]).open(tenant_id, "bob") == SECRET.reveal()


async def test_in_a_kms_no_data_key_is_seen_while_it_is_rewrapped(kept, kms):
    old, new = aws_kek(kms.add_key(), kms.url), aws_kek(kms.add_key(), kms.url)
    await filled(kept, [old])
    kms.allow("serving", "GenerateDataKeyWithoutPlaintext", "ReEncrypt")  # provisioning alone
    kms.calls.clear()
    assert await Ring(kept, [new, old]).keyring.rotate_kek(ignore) == Rotated(6, 6, 0)
    assert kms.calls == ["ReEncrypt"] * 6
    kms.allow("serving", "Decrypt")
    ring = Ring(kept, [new])
    await ring.keyring._deks.connect()
    await opens_everything(ring)
    old.close()
    new.close()


def test_a_keyring_is_made_of_at_least_one_kek():
    with pytest.raises(IndexError):
        Keyring([], None, None, ignore)  # type: ignore[arg-type]
