"""Waits that share one timer: each has its own time, and a cancellation stays whose it was."""

import asyncio

import pytest

from proxy.adapters.time_limit import TimeLimit

LIMIT_S = 0.05


async def waiting(limit: TimeLimit, seconds: float) -> str:
    try:
        with limit.wait():
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "late"
    return "in time"


async def test_what_ends_in_time_ends_as_it_would_alone():
    limit = TimeLimit(LIMIT_S)
    assert await waiting(limit, 0) == "in time"
    with pytest.raises(KeyError):
        with limit.wait():
            raise KeyError
    with limit.wait():
        pass
    await asyncio.sleep(2 * LIMIT_S)  # nothing is left that would be interrupted


async def test_each_wait_has_all_of_its_time():
    limit, loop = TimeLimit(LIMIT_S), asyncio.get_running_loop()
    for _ in range(3):
        began_s = loop.time()
        assert await waiting(limit, 10) == "late"
        assert LIMIT_S <= loop.time() - began_s + 1e-3 < 1


async def test_of_many_at_once_those_are_interrupted_that_are_late():
    limit = TimeLimit(LIMIT_S)
    waits = []
    for number in range(40):
        waits.append(asyncio.create_task(waiting(limit, 10 if number % 2 else 0.01)))
        await asyncio.sleep(0.002)
    assert await asyncio.gather(*waits) == ["in time", "late"] * 20


async def test_after_its_time_a_task_goes_on_and_can_be_cancelled():
    limit = TimeLimit(LIMIT_S)

    async def late_and_on() -> None:
        assert await waiting(limit, 10) == "late"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(10)

    task = asyncio.create_task(late_and_on())
    await asyncio.sleep(3 * LIMIT_S)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_is_not_told_that_it_was_late():
    limit = TimeLimit(LIMIT_S)
    task = asyncio.create_task(waiting(limit, 10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_is_cancelled_and_late_in_the_same_turn_is_cancelled():
    limit = TimeLimit(0)
    task = asyncio.create_task(waiting(limit, 10))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
