import asyncio
import contextlib
import random

import pytest

from proxy.adapters.redis import RedisDoor, Script
from proxy.adapters.redis_turns import CALLS_MAX, ScriptTurns
from proxy.core.errors import StateUnavailable
from tests.redis_server import RedisServer

ECHO = Script("return ARGV[1]")
FAILS_ON_BAD = Script("if ARGV[1] == 'bad' then error('no') end return ARGV[1]")


class CountingDoor(RedisDoor):
    """Notes what goes over the wire together."""

    together: list[int]

    async def run(self, script, redis_keys, args):
        self.together.append(1)
        return await super().run(script, redis_keys, args)

    async def run_each(self, calls):
        self.together.append(len(calls))
        return await super().run_each(calls)


@pytest.fixture
async def door(redis_url):
    async with CountingDoor(redis_url) as opened:
        opened.together = []
        await opened.call("SCRIPT", "FLUSH")
        yield opened


def echoes(turns: ScriptTurns, count: int) -> list:
    return [turns.run(ECHO, ["{a}x"], [n]) for n in range(count)]


async def test_a_lone_call_goes_alone(door):
    turns = ScriptTurns(door)
    for _ in range(3):
        assert await turns.run(ECHO, ["{a}x"], ["y"]) == b"y"
    assert door.together == [1, 1, 1]


async def test_calls_of_one_turn_go_together_and_each_gets_its_own_answer(door):
    turns = ScriptTurns(door)
    await turns.run(ECHO, ["{a}x"], ["known from now on"])
    door.together.clear()
    assert await asyncio.gather(*echoes(turns, 20)) == [b"%d" % n for n in range(20)]
    assert door.together == [1, 19]


async def test_a_round_trip_carries_no_more_than_the_bound(door):
    turns = ScriptTurns(door)
    count = 3 * CALLS_MAX
    assert await asyncio.gather(*echoes(turns, count)) == [b"%d" % n for n in range(count)]
    assert max(door.together) == CALLS_MAX


async def test_scripts_that_vanished_are_loaded_again(door):
    turns = ScriptTurns(door)
    for _ in range(2):
        await door.call("SCRIPT", "FLUSH")
        assert await asyncio.gather(*echoes(turns, 5)) == [b"%d" % n for n in range(5)]


async def test_a_script_that_fails_fails_alone(door):
    turns = ScriptTurns(door)
    answers = await asyncio.gather(
        *(turns.run(FAILS_ON_BAD, ["{a}x"], [arg]) for arg in ("a", "b", "bad", "c", "bad")), return_exceptions=True
    )
    assert [answer for answer in answers if isinstance(answer, bytes)] == [b"a", b"b", b"c"]
    assert [type(answer) for answer in answers].count(StateUnavailable) == 2


async def test_an_outage_is_everybodys_and_ends():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            turns = ScriptTurns(door)
            await door.ping()
            server.stop()
            answers = await asyncio.gather(*echoes(turns, 10), return_exceptions=True)
            assert {type(answer) for answer in answers} == {StateUnavailable}
            server.resume()
            for _ in range(100):
                with contextlib.suppress(StateUnavailable):
                    await door.ping()
                    break
                await asyncio.sleep(0.05)
            assert await asyncio.gather(*echoes(turns, 10)) == [b"%d" % n for n in range(10)]


async def test_callers_that_go_cost_nobody_an_answer(door):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice, turns = random.Random(seed), ScriptTurns(door)

    async def call(number: int) -> None:
        assert await turns.run(ECHO, ["{a}x"], [number]) == b"%d" % number

    for _ in range(30):
        calls = [asyncio.create_task(call(number)) for number in range(50)]
        await asyncio.sleep(dice.random() * 0.005)
        gone = {each for each in calls if dice.random() < 0.5 and each.cancel()}
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for each, answer in zip(calls, answers, strict=True):
            assert answer is None or (each in gone and isinstance(answer, asyncio.CancelledError)), answer
    assert await turns.run(ECHO, ["{a}x"], ["still here"]) == b"still here"
