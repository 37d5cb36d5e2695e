"""Many waits, each for its own time, over one timer."""

import asyncio
import time

import pytest

from proxy.adapters.time_bound import TimeBound


async def test_what_is_in_time_comes_back_and_what_it_raises_does():
    bound = TimeBound(5.0)

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("its own")

    assert await bound.wait_for(asyncio.sleep(0.001, "done")) == "done"
    with pytest.raises(KeyError, match="its own"):
        await bound.wait_for(fails())


async def test_what_is_late_is_cancelled_and_its_task_goes_on():
    bound, ended = TimeBound(0.02), []

    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(TimeoutError):
        await bound.wait_for(hangs())
    assert ended == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing of it is left to be thrown


async def test_each_has_all_of_its_time():
    bound = TimeBound(0.1)
    began_s, ended_s = time.monotonic(), {}

    async def waits(number: int) -> None:
        await asyncio.sleep(0.03 * number)
        with pytest.raises(TimeoutError):
            await bound.wait_for(asyncio.sleep(60))
        ended_s[number] = time.monotonic() - began_s

    await asyncio.gather(*(waits(number) for number in range(4)))
    for number, after_s in ended_s.items():
        assert after_s >= 0.03 * number + 0.1
    assert sorted(ended_s, key=ended_s.__getitem__) == [0, 1, 2, 3]


async def test_one_that_follows_when_the_timer_has_nothing_to_look_at_is_bounded_too():
    bound = TimeBound(0.02)
    await bound.wait_for(asyncio.sleep(0))
    await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await bound.wait_for(asyncio.sleep(60))


async def test_a_task_that_somebody_else_cancels_is_cancelled():
    bound = TimeBound(5.0)
    task = asyncio.create_task(bound.wait_for(asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_late_and_is_cancelled_by_somebody_else_as_well_is_cancelled():
    bound, began = TimeBound(0.02), asyncio.Event()

    async def takes_its_time_to_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            began.set()
            await asyncio.sleep(0.05)

    task = asyncio.create_task(bound.wait_for(takes_its_time_to_end()))
    await began.wait()  # it is late, and ends
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_ends_although_it_is_late_gives_what_it_has():
    bound = TimeBound(0.02)

    async def is_stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "had it all the same"
        return "never"

    assert await bound.wait_for(is_stubborn()) == "had it all the same"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_wait_within_another_one_is_bounded_by_the_nearer_end():
    outer, inner = TimeBound(0.03), TimeBound(5.0)
    with pytest.raises(TimeoutError):
        await outer.wait_for(inner.wait_for(asyncio.sleep(60)))
    with pytest.raises(TimeoutError):
        await inner.wait_for(outer.wait_for(asyncio.sleep(60)))
