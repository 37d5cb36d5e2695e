"""Places: never more than there are, none lost, and a flood does not keep the others waiting."""

import asyncio
import random

import pytest

from proxy.admission import fair_queue
from proxy.admission.fair_queue import WAITING_MAX, FairQueue
from proxy.core.errors import RateLimited


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def wait(queue, tenant_id, weight=1):
    return asyncio.create_task(queue.wait(tenant_id, weight))


async def test_one_tenant_may_have_all_places_while_nobody_waits():
    queue = FairQueue(3)
    assert [queue.enter("a") for _ in range(4)] == [True, True, True, False]
    assert (queue.in_flight, queue.held_by("a"), queue.tenants) == (3, 3, 1)
    queue.leave("a")
    assert queue.enter("b")


async def test_a_place_that_comes_free_goes_to_whoever_has_less_than_its_share():
    queue = FairQueue(10, share_pct=20)
    for _ in range(10):
        assert queue.enter("flood")
    flooding = [wait(queue, "flood") for _ in range(20)]
    await settle()
    calm = wait(queue, "calm")
    await settle()
    queue.leave("flood")
    await settle()
    assert calm.done()
    assert not any(task.done() for task in flooding)
    queue.leave("flood")
    await settle()
    assert sum(task.done() for task in flooding) == 1  # nobody else waits: no place stands idle
    for task in flooding:
        task.cancel()
    await asyncio.gather(*flooding, return_exceptions=True)


async def test_nobody_takes_a_place_before_those_that_wait():
    queue = FairQueue(1)
    assert queue.enter("a")
    first = wait(queue, "a")
    await settle()
    queue.leave("a")
    assert not queue.enter("b")  # it was handed to the first already
    await first
    assert queue.in_flight == 1


async def test_weights_hold_among_those_that_wait():
    queue = FairQueue(1)
    assert queue.enter("x")
    order = []

    async def go(tenant_id, weight):
        await queue.wait(tenant_id, weight)
        order.append(tenant_id)
        queue.leave(tenant_id)

    tasks = [asyncio.create_task(go(*who)) for _ in range(6) for who in (("heavy", 2), ("light", 1))]
    await settle()
    queue.leave("x")
    await asyncio.gather(*tasks)
    assert order[:6] == ["heavy", "heavy", "light"] * 2


async def served_in_turn(queue, wanted):
    """Who gets places, as four are left one after the other by `x`, which has them all."""
    order, tasks = [], []

    async def go(tenant_id, weight):
        await queue.wait(tenant_id, weight)
        order.append(tenant_id)

    for tenant_id, weight in wanted:
        tasks += [asyncio.create_task(go(tenant_id, weight)) for _ in range(4)]
        await settle()
    for _ in range(4):
        queue.leave("x")
        await settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return "".join(order)


@pytest.mark.parametrize(
    ("share_pct", "wanted", "expected"),
    [
        (100, [("a", 9), ("b", 1)], "aaaa"),
        (50, [("a", 9), ("b", 1)], "aabb"),  # a weight is worth no more than the share, while others have less
        (50, [("a", 9), ("b", 1), ("c", 1)], "aabc"),
        (1, [("a", 9), ("b", 1)], "abaa"),  # one place at least; where all have their share, the turns go on
        (50, [("a", 1)], "aaaa"),  # nobody else waits
    ],
)
async def test_a_tenant_has_its_share_while_others_wait(share_pct, wanted, expected):
    queue = FairQueue(4, share_pct)
    assert all(queue.enter("x") for _ in range(4))
    assert await served_in_turn(queue, wanted) == expected


async def test_a_share_that_a_reload_makes_smaller_holds_at_once():
    queue = FairQueue(4, 50)
    assert all(queue.enter(tenant_id) for tenant_id in "axxx")
    waiting = {tenant_id: wait(queue, tenant_id) for tenant_id in "ab"}
    await settle()
    queue.resize(4, 25)  # what `a` has is all of its share now
    queue.leave("x")
    await settle()
    assert (waiting["a"].done(), waiting["b"].done()) == (False, True)
    queue.leave("x")
    await waiting["a"]


async def test_it_is_not_waited_for_ever_nor_by_too_many(monkeypatch):
    monkeypatch.setattr(fair_queue, "WAIT_S", 0.05)
    queue = FairQueue(1)
    assert queue.enter("a")
    waiting = [wait(queue, "a") for _ in range(WAITING_MAX)]
    await settle()
    with pytest.raises(RateLimited) as told:
        await queue.wait("a", 1)
    assert told.value.retry_after_ms == 1_000
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, RateLimited) for result in results)
    assert (queue.waiting, queue.in_flight) == (0, 1)


async def test_who_is_cancelled_just_as_it_is_handed_a_place_gives_it_back():
    queue = FairQueue(1)
    assert queue.enter("a")
    waiting = wait(queue, "b")
    await settle()
    queue.leave("a")  # handed over, and not picked up yet
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (queue.in_flight, queue.tenants, queue.waiting) == (0, 0, 0)


async def test_fewer_places_are_taken_away_as_they_are_left_and_more_are_handed_out_at_once():
    queue = FairQueue(2)
    assert queue.enter("a")
    assert queue.enter("a")
    waiting = wait(queue, "b")
    await settle()
    queue.resize(1, 20)
    queue.leave("a")
    await settle()
    assert (queue.in_flight, waiting.done()) == (1, False)
    queue.resize(2, 20)
    await waiting
    assert queue.in_flight == 2


async def test_a_storm_of_calls_and_hang_ups_loses_no_place():
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    chance, queue, most = random.Random(seed), FairQueue(5), 0

    async def call(tenant_id):
        nonlocal most
        if not queue.enter(tenant_id):
            await queue.wait(tenant_id, 1 + len(tenant_id))
        most = max(most, queue.in_flight)
        try:
            await asyncio.sleep(chance.random() / 500)
        finally:
            queue.leave(tenant_id)

    tasks = []
    for _ in range(1_500):
        tasks.append(asyncio.create_task(call(chance.choice(["a", "bb", "ccc"]))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2:
            await asyncio.sleep(chance.random() / 500)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most <= 5
    assert (queue.in_flight, queue.waiting, queue.tenants) == (0, 0, 0)
    assert all(queue.enter("a") for _ in range(5))
