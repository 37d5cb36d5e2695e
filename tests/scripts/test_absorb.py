"""absorb.lua as it ships, on a real Redis: its name and fields, its time to live, its arguments, and mistakes in it."""

import pytest

from proxy.adapters.redis import RedisDoor, Script
from proxy.admission import absorption as module
from proxy.admission.absorption import RedisAbsorptionStore
from proxy.core.errors import StateUnavailable
from tests.contract.absorption_model import walk

TODAY = "2026-11-26"
NAME = f"tollway:1:@:absorbed:{TODAY}"
KEPT_S = 3 * 24 * 3_600
ABSORB = Script.beside(module.__file__, "absorb.lua")


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("FLUSHALL")
        yield opened


@pytest.fixture
def store(door):
    return RedisAbsorptionStore(door)


async def fields(door):
    flat = await door.call("HGETALL", NAME)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_a_day_is_one_hash_with_a_field_for_each_run_that_holds(store, door):
    await store.hold("run_1", TODAY, 700, 1_000)
    await store.hold("held_nusd", TODAY, 300, 1_000)  # no run's name reaches a sum
    assert await fields(door) == {b"held_nusd": b"1000", b"run:run_1": b"700", b"run:held_nusd": b"300"}
    await store.settle("run_1", TODAY, 650)
    assert await fields(door) == {b"held_nusd": b"300", b"run:held_nusd": b"300", b"spent_nusd": b"650"}


async def test_it_goes_three_days_after_its_last_change(store, door):
    async def left_s_after(step) -> int:
        await door.call("EXPIRE", NAME, 100)
        await step
        return await door.call("TTL", NAME)

    def is_renewed(left_s: int) -> bool:
        return KEPT_S - 60 < left_s <= KEPT_S

    assert is_renewed(await left_s_after(store.hold("run_1", TODAY, 5, 10)))  # there was nothing to expire before
    assert is_renewed(await left_s_after(store.hold("run_1", TODAY, 6, 10)))
    assert await left_s_after(store.hold("run_1", TODAY, 6, 10)) <= 100  # a repeat
    assert await left_s_after(store.hold("run_2", TODAY, 5, 10)) <= 100  # refused
    assert await left_s_after(store.settle("run_2", TODAY, 5)) <= 100  # holds nothing
    assert is_renewed(await left_s_after(store.settle("run_1", TODAY, 5)))


@pytest.mark.parametrize(
    ("names", "args"),
    [
        ([NAME], ["run_1", -1, 10]),
        ([NAME], ["run_1", 2**53, 10]),
        ([NAME], ["run_1", "1.5", 10]),
        ([NAME], ["run_1", "nan", 10]),
        ([NAME], ["run_1", "", 10]),
        ([NAME], ["run_1", 5, -1]),
        ([NAME], ["run_1", 5, 2**53]),
        ([NAME], ["run_1", 5, "None"]),  # a cap that is no number must not turn a hold into a settlement
        ([NAME], ["run_1", 5]),
        ([NAME], ["run_1", 5, 10, 10]),
        ([NAME, NAME], ["run_1", 5, 10]),
    ],
)
async def test_an_argument_that_is_none_changes_nothing(door, store, names, args):
    await store.hold("run_1", TODAY, 3, 10)
    before = await fields(door)
    with pytest.raises(StateUnavailable):
        await door.run(ABSORB, names, args)
    assert await fields(door) == before


MUTANTS = {
    "a cap is full one nano-dollar early": ("+ more_nusd > cap_nusd", "+ more_nusd >= cap_nusd"),
    "what is spent is not counted": ("tonumber(spent or '0') + tonumber(held or '0')", "tonumber(held or '0')"),
    "what is held is not counted": ("tonumber(spent or '0') + tonumber(held or '0')", "tonumber(spent or '0')"),
    "what a run held is counted beside what it is to hold": ("+ more_nusd > cap_nusd", "+ nusd > cap_nusd"),
    "less is refused as more is": ("if more_nusd > 0 and tonumber(spent", "if tonumber(spent"),
    "a second hold stands beside the first": ("add('held_nusd', more_nusd)", "add('held_nusd', nusd)"),
    "a hold of nothing is none": ("if before and more_nusd == 0", "if more_nusd == 0"),
    "settled twice": ("redis.call('HDEL', day, run)", ""),
    "a settlement leaves the hold": ("add('held_nusd', 0 - tonumber(before))", ""),
    "a settlement counts the hold": ("add('spent_nusd', nusd)", "add('spent_nusd', tonumber(before))"),
    "a settlement counts at most the hold": ("add('spent_nusd', nusd)", "add('spent_nusd', math.min(nusd, before))"),
    "who holds nothing is settled": ("if not before then return {1} end", "before = before or '0'"),
    "a hold of nothing is freed as -0": (
        "string.format('%.0f', nusd)",
        "string.format('%.0f', nusd == 0 and -nusd or nusd)",
    ),
}


@pytest.mark.parametrize("mistake", MUTANTS)
async def test_a_mistake_is_seen(mistake, door):
    before, after = MUTANTS[mistake]
    assert before in ABSORB.text, f"the script has this text no more: {before}"
    with pytest.raises((AssertionError, StateUnavailable)):
        await walk(RedisAbsorptionStore(door, Script(ABSORB.text.replace(before, after))), TODAY, steps=300)


async def test_the_script_as_it_is_passes(store):
    await walk(store, TODAY, steps=300)
