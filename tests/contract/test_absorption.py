"""What every store promises of the amounts that the operator bears."""

import asyncio
import random

from proxy.admission.absorption import AbsorptionFigures

TODAY, TOMORROW = "2026-11-26", "2026-11-27"


async def test_a_run_holds_and_settles(absorption):
    assert await absorption.hold("run_1", TODAY, 700, 1_000)
    assert await absorption.figures(TODAY) == AbsorptionFigures(700, 0)
    await absorption.settle("run_1", TODAY, 123)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, 123)


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


async def test_large_amounts_stay_exact(absorption):
    large = 2**53 - 2
    assert await absorption.hold("run_1", TODAY, large, 2**53 - 1)
    await absorption.settle("run_1", TODAY, large)
    assert await absorption.figures(TODAY) == AbsorptionFigures(0, large)


async def test_of_fifty_at_once_one_fits(absorption):
    held = await asyncio.gather(*(absorption.hold(f"run_{n}", TODAY, 600, 1_000) for n in range(50)))
    assert held.count(True) == 1
    assert await absorption.figures(TODAY) == AbsorptionFigures(600, 0)


async def test_any_order_of_steps_agrees_with_plain_sums(absorption):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    chance, cap_nusd = random.Random(seed), 10_000
    holds: dict[str, int] = {}
    spent_nusd = 0
    for _ in range(400):
        run_id, nusd = f"run_{chance.randrange(12)}", chance.randrange(3_000)
        if chance.random() < 0.6:
            fits = (
                nusd <= holds.get(run_id, 0)
                or spent_nusd + sum(holds.values()) - holds.get(run_id, 0) + nusd <= cap_nusd
            )
            assert await absorption.hold(run_id, TODAY, nusd, cap_nusd) is fits
            if fits:
                holds[run_id] = nusd
        else:
            await absorption.settle(run_id, TODAY, nusd // 20)
            if holds.pop(run_id, None) is not None:
                spent_nusd += nusd // 20
        assert await absorption.figures(TODAY) == AbsorptionFigures(sum(holds.values()), spent_nusd)
