"""What a flood costs the others, in simulated time: no machine is too busy for this."""

import asyncio
import random
import selectors
from math import log

import pytest

from proxy.admission.fair_queue import FairQueue
from proxy.core.errors import RateLimited

PLACES = 100
CALL_S = 0.3  # on average; the lengths differ by half
OTHERS = 20
OTHERS_PER_S = 120.0  # together: a good third of the places
FLOOD_PER_S = 1_000.0  # three times what there is room for
SECONDS = 30.0
SETTLED_S = 2.0  # by then the flood has every place


class _Leap(selectors.SelectSelector):
    """Waits for nothing: the clock leaps to when the next timer is due."""

    now_s = 0.0

    def select(self, timeout=None):
        self.now_s += timeout or 0.0
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self):
        return self._leap.now_s


def test_the_others_wait_for_the_next_place_and_for_one_another_alone():
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        refused, waits_s = runner.run(flood())
    assert refused[False] == 0
    assert refused[True] > 0.5 * FLOOD_PER_S * SECONDS
    # Places come free at random, so many a second; the others alone queue for them: M/M/1, whose waits are
    # exponential, with the difference of the two rates.
    p99_s = sorted(waits_s[False])[int(0.99 * len(waits_s[False]))]
    assert p99_s < 1.25 * log(100) / (PLACES / CALL_S - OTHERS_PER_S)
    # All that the others leave is the flood's: nothing stands idle.
    assert len(waits_s[True]) == pytest.approx((PLACES / CALL_S - OTHERS_PER_S) * (SECONDS - SETTLED_S), rel=0.05)


async def flood():
    """By whether it is the flood's: how many were refused, and how long the others waited."""
    queue, chance, loop = FairQueue(PLACES, 20), random.Random(1), asyncio.get_running_loop()
    waits_s: dict[bool, list[float]] = {True: [], False: []}
    refused: dict[bool, int] = {True: 0, False: 0}

    async def call(tenant_id, is_flood):
        began_s = loop.time()
        if not queue.enter(tenant_id):
            try:
                await queue.wait(tenant_id, 1)
            except RateLimited:
                refused[is_flood] += 1
                return
        if began_s > SETTLED_S:
            waits_s[is_flood].append(loop.time() - began_s)
        await asyncio.sleep(CALL_S * chance.uniform(0.5, 1.5))
        queue.leave(tenant_id)

    calls = []
    while loop.time() < SECONDS:
        await asyncio.sleep(chance.expovariate(OTHERS_PER_S + FLOOD_PER_S))
        is_flood = chance.random() < FLOOD_PER_S / (OTHERS_PER_S + FLOOD_PER_S)
        tenant_id = "flood" if is_flood else f"tenant-{chance.randrange(OTHERS)}"
        calls.append(asyncio.create_task(call(tenant_id, is_flood)))
    await asyncio.gather(*calls)
    return refused, waits_s
