"""Calls that are the same wait for the first of them, and never for ever."""

import asyncio

from proxy.cache import flights as module
from proxy.cache.flights import Flights


async def test_one_begins_and_the_others_wait_for_its_end():
    flights = Flights()
    first = flights.begin("acme", "n")
    assert first is not None
    assert flights.begin("acme", "n") is None
    waiting = [asyncio.ensure_future(flights.wait("acme", "n", 5)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    flights.end("acme", "n", first)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    assert flights.begin("acme", "n") is not None


async def test_another_tenants_is_another():
    flights = Flights()
    assert flights.begin("acme", "n") is not None
    assert flights.begin("other", "n") is not None


async def test_whoever_ends_it_late_ends_no_later_one():
    flights = Flights()
    first = flights.begin("acme", "n")
    assert first is not None
    flights.end("acme", "n", first)
    second = flights.begin("acme", "n")
    assert second is not None
    flights.end("acme", "n", first)
    assert flights.begin("acme", "n") is None
    flights.end("acme", "n", second)


async def test_nobody_waits_longer_than_it_may():
    flights = Flights()
    flight = flights.begin("acme", "n")
    assert flight is not None
    await asyncio.wait_for(flights.wait("acme", "n", 0.01), 1)
    assert not flight.done()


async def test_whoever_hangs_up_ends_nothing():
    flights = Flights()
    flight = flights.begin("acme", "n")
    assert flight is not None
    waiting = asyncio.ensure_future(flights.wait("acme", "n", 5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert not flight.done()


async def test_beyond_the_bound_nobody_waits(monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 1)
    flights = Flights()
    flights.begin("acme", "n")
    waiting = asyncio.ensure_future(flights.wait("acme", "n", 5))
    await asyncio.sleep(0)
    await asyncio.wait_for(flights.wait("acme", "n", 5), 0.5)
    waiting.cancel()
