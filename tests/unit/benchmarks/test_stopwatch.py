"""Whose the time is: each stage's own, and no more."""

import asyncio
import sys
import time

import pytest

from benchmarks.staged_gateway import STAGES
from benchmarks.stopwatch import Stopwatch


class Works:
    """Spends processor time, and waits."""

    def outer(self):
        _spin(0.02)
        return self.inner()

    def inner(self):
        _spin(0.05)
        return "done"

    async def steps(self):
        _spin(0.02)
        await asyncio.sleep(0.1)
        _spin(0.02)
        return self.inner()

    async def broken(self):
        await asyncio.sleep(0)
        raise ValueError("broken")


def _spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.fixture
def watch(monkeypatch):
    watch = Stopwatch()
    for stage in ("outer", "inner", "steps", "broken"):
        monkeypatch.setattr(Works, stage, getattr(Works, stage))  # as it was, afterwards
        watch.watch(stage, f"{__name__}:Works.{stage}")
    return watch


def test_what_runs_within_another_is_its_own(watch):
    assert Works().outer() == "done"
    own = watch.own_us()
    assert (own["outer"][0], own["inner"][0]) == (1, 1)
    assert 19_000 < own["outer"][1] < own["inner"][1]
    assert own["inner"][1] > 49_000


async def test_a_coroutine_is_timed_while_it_runs_and_not_while_it_waits(watch):
    assert await Works().steps() == "done"
    own = watch.own_us()
    assert own["steps"][0] == 2  # steps
    assert 39_000 < own["steps"][1] < 90_000  # of 190 ms until it was done
    assert own["inner"][0] == 1


async def test_what_is_raised_passes_through(watch):
    with pytest.raises(ValueError, match="broken"):
        await Works().broken()
    task = asyncio.get_running_loop().create_task(Works().steps())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_reset(watch):
    Works().outer()
    watch.reset()
    assert set(watch.own_us().values()) == {(0, 0.0)}
    assert watch.clock_us == 0


def test_every_stage_of_the_gateway_is_there():
    watch = Stopwatch()
    before = {}
    for places in STAGES.values():
        for place in places:
            module, _, path = place.partition(":")
            __import__(module)
            owner = sys.modules[module]
            *outer, name = path.split(".")
            for each in outer:
                owner = getattr(owner, each)
            before[place] = (owner, name, getattr(owner, name))
    try:
        for stage, places in STAGES.items():
            for place in places:
                watch.watch(stage, place)
    finally:
        for owner, name, function in before.values():
            setattr(owner, name, function)
    assert set(watch.stages) == set(STAGES)
