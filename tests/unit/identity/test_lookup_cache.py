"""What this process changed itself, it does not believe a moment longer."""

import asyncio

import pytest

from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.identity.lookup_cache import Answer, LookupCache, ignore

CLOCK = Clock()


def empty() -> LookupCache[str]:
    return LookupCache(away="away", unknown_go_stale=True, on_asked=ignore)


def says(value: str, *, is_known: bool = True):
    async def ask():
        return Answer(value, is_known)

    return ask


async def is_away():
    raise StateUnavailable("away")


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_is_meant_is_forgotten_and_nothing_else(is_known):
    cache = empty()
    for name in ("one", "two"):
        await cache.lookup(name, says(name, is_known=is_known), CLOCK)
    cache.forget(lambda value: value == "one")
    assert cache.fresh("one", CLOCK.monotonic_us()) is None
    assert cache.fresh("two", CLOCK.monotonic_us()) is not None
    with pytest.raises(StateUnavailable):
        await cache.lookup("one", is_away, CLOCK)


async def test_a_look_that_began_before_is_not_kept_and_nobody_joins_it():
    cache, begun, gate = empty(), asyncio.Event(), asyncio.Event()

    async def slow():
        begun.set()
        await gate.wait()
        return Answer("before", is_known=True)

    began_before = asyncio.create_task(cache.lookup("one", slow, CLOCK))
    await begun.wait()
    cache.forget(lambda value: False)
    assert (await cache.lookup("one", says("after"), CLOCK)).value == "after"
    gate.set()
    assert (await began_before).value == "before"  # it was asked before the change
    kept = cache.fresh("one", CLOCK.monotonic_us())
    assert kept is not None
    assert kept.value == "after"
