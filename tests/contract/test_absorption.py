"""What every store promises of the amounts that the operator bears."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.admission.absorption import AbsorptionFigures, RedisAbsorptionStore
from proxy.admission.embedded_absorption import EmbeddedAbsorptionStore
from tests.contract.absorption_model import Model

TODAY, TOMORROW = "2026-11-26", "2026-11-27"
LARGEST_NUSD = 2**53 - 1

RUNS, DAYS = st.sampled_from(["run_1", "run_2", "run_3"]), st.sampled_from([TODAY, TOMORROW])
AMOUNTS = st.integers(0, 60) | st.sampled_from([LARGEST_NUSD - 1, LARGEST_NUSD])
CAPS = st.sampled_from([0, 50, 100, 100, 100, LARGEST_NUSD])
STEPS = st.one_of(
    st.tuples(st.just("hold"), RUNS, DAYS, AMOUNTS, CAPS),
    st.tuples(st.just("settle"), RUNS, DAYS, AMOUNTS),
)


async def test_a_run_holds_and_settles(absorption):
    assert await absorption.hold("run_1", TODAY, 700, 1_000)
    assert await absorption.figures(TODAY) == AbsorptionFigures(700, 0)
    await absorption.settle("run_1", TODAY, 123)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, 123)


async def test_what_runs_came_to_adds_up(absorption):
    for number in range(3):
        assert await absorption.hold(f"run_{number}", TODAY, 100, 1_000)
    await absorption.settle("run_0", TODAY, 10)
    await absorption.settle("run_1", TODAY, 7)
    assert await absorption.figures(TODAY) == AbsorptionFigures(100, 17)


async def test_nothing_is_held_beyond_the_cap(absorption):
    assert await absorption.hold("run_1", TODAY, 700, 1_000)
    assert not await absorption.hold("run_2", TODAY, 301, 1_000)
    assert await absorption.figures(TODAY) == AbsorptionFigures(700, 0)
    assert await absorption.hold("run_2", TODAY, 300, 1_000)
    await absorption.settle("run_1", TODAY, 700)
    assert not await absorption.hold("run_3", TODAY, 1, 1_000)  # what was spent counts as what is held does


async def test_a_second_hold_of_a_run_takes_the_first_ones_place(absorption):
    assert await absorption.hold("run_1", TODAY, 400, 1_000)
    assert await absorption.hold("run_1", TODAY, 1_000, 1_000)
    assert not await absorption.hold("run_1", TODAY, 1_001, 1_000)
    assert await absorption.figures(TODAY) == AbsorptionFigures(1_000, 0)
    assert await absorption.hold("run_1", TODAY, 100, 50)  # less than it holds fits any cap
    assert await absorption.figures(TODAY) == AbsorptionFigures(100, 0)


async def test_repeats_change_nothing(absorption):
    for _ in range(3):
        assert await absorption.hold("run_1", TODAY, 400, 1_000)
    for _ in range(3):
        await absorption.settle("run_1", TODAY, 150)
    await absorption.settle("run_of_nobody", TODAY, 99)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, 150)


async def test_a_settlement_may_be_larger_than_its_hold(absorption):
    assert await absorption.hold("run_1", TODAY, 1_000, 1_000)
    await absorption.settle("run_1", TODAY, 5_000)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, 5_000)


async def test_days_are_apart(absorption):
    assert await absorption.hold("run_1", TODAY, 1_000, 1_000)
    assert await absorption.hold("run_2", TOMORROW, 1_000, 1_000)
    await absorption.settle("run_1", TOMORROW, 5)
    assert await absorption.figures(TODAY) == AbsorptionFigures(1_000, 0)
    assert await absorption.figures(TOMORROW) == AbsorptionFigures(1_000, 0)


async def test_a_hold_of_nothing_is_one_and_is_settled(absorption):
    assert await absorption.hold("run_1", TODAY, 0, 0)
    await absorption.settle("run_1", TODAY, 7)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, 7)


async def test_a_day_that_nobody_knows_has_nothing(absorption):
    await absorption.settle("run_1", TODAY, 7)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, 0)


async def test_large_amounts_stay_exact(absorption):
    assert await absorption.hold("run_1", TODAY, LARGEST_NUSD - 1, LARGEST_NUSD)
    assert not await absorption.hold("run_2", TODAY, 2, LARGEST_NUSD)
    assert await absorption.hold("run_2", TODAY, 1, LARGEST_NUSD)
    await absorption.settle("run_1", TODAY, LARGEST_NUSD - 1)
    assert await absorption.figures(TODAY) == AbsorptionFigures(1, LARGEST_NUSD - 1)


@pytest.mark.parametrize("nusd", [-1, LARGEST_NUSD + 1])
async def test_what_no_counter_holds_is_a_fault_and_changes_nothing(absorption, nusd):
    assert await absorption.hold("run_1", TODAY, 5, 10)
    with pytest.raises(ValueError, match="out of range"):
        await absorption.hold("run_1", TODAY, nusd, 10)
    with pytest.raises(ValueError, match="out of range"):
        await absorption.hold("run_1", TODAY, 6, nusd)
    with pytest.raises(ValueError, match="out of range"):
        await absorption.settle("run_1", TODAY, nusd)
    assert await absorption.figures(TODAY) == AbsorptionFigures(5, 0)


async def test_of_fifty_at_once_one_fits(absorption):
    held = await asyncio.gather(*(absorption.hold(f"run_{n}", TODAY, 600, 1_000) for n in range(50)))
    assert held.count(True) == 1
    assert await absorption.figures(TODAY) == AbsorptionFigures(600, 0)


async def test_runs_that_raise_what_they_hold_at_once_stay_within_the_cap(absorption):
    async def held_in_the_end(run_id: str) -> int:
        if not await absorption.hold(run_id, TODAY, 60, 1_000):
            return 0
        return 100 if await absorption.hold(run_id, TODAY, 100, 1_000) else 60

    held_nusd = sum(await asyncio.gather(*(held_in_the_end(f"run_{n}") for n in range(50))))
    assert 1_000 - 60 < held_nusd <= 1_000  # room for nobody is left
    assert await absorption.figures(TODAY) == AbsorptionFigures(held_nusd, 0)


def test_both_stores_do_what_the_model_does(redis_url, tmp_path, patient):
    """And a hold that is let never goes beyond the cap, and what is asked again is answered so and changes nothing."""

    async def clear(redis, sqlite):
        def empty(connection):
            connection.execute("DELETE FROM absorption_holds")
            connection.execute("DELETE FROM absorption_days")

        await redis.call("FLUSHALL")
        await sqlite.run(empty)

    async def drive(store, steps):
        model = Model()
        for verb, run_id, day, *amounts in steps:
            was = model.figures(day)
            expected = getattr(model, verb)(run_id, day, *amounts)
            for _ in range(2):
                where = f"{type(store).__name__}: {verb} {run_id} {day} {amounts}"
                assert await getattr(store, verb)(run_id, day, *amounts) is expected, where
                found = await store.figures(day)
                assert found == model.figures(day), where
                if verb == "hold" and sum(found) > sum(was):
                    assert sum(found) <= amounts[1], where

    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        redis = runner.run(opened.enter_async_context(RedisDoor(redis_url)))
        sqlite = runner.run(opened.enter_async_context(SqliteDoor(tmp_path / "tollway.db")))

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(steps=st.lists(STEPS, max_size=20))
        def agree(steps):
            runner.run(clear(redis, sqlite))
            for store in (RedisAbsorptionStore(redis), EmbeddedAbsorptionStore(sqlite)):
                runner.run(drive(store, steps))

        try:
            agree()
        finally:
            runner.run(opened.aclose())


async def test_days_long_past_are_forgotten_in_sqlite(tmp_path, patient):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        store = EmbeddedAbsorptionStore(door)
        for day in ("2026-11-22", "2026-11-23", TODAY):
            assert await store.hold("run_1", day, 5, 10)
            assert await store.hold("run_2", day, 4, 10)
        for day in ("2026-11-22", "2026-11-23", TODAY):
            await store.settle("run_1", day, 3)
        assert await store.figures("2026-11-22") == AbsorptionFigures(0, 0)  # four days past
        assert await store.figures("2026-11-23") == AbsorptionFigures(4, 3)
        assert await store.figures(TODAY) == AbsorptionFigures(4, 3)
