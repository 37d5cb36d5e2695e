"""Tenants' secrets, in a process: read once a minute, and not waited for by everybody while they cannot be had."""

import asyncio

import pytest

from proxy.administration.tenants import BELIEVED_MS
from proxy.cache import tenant_secrets as module
from proxy.cache.tenant_secrets import TenantSecrets
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable


class Book:
    """May be slow, or away."""

    def __init__(self):
        self.asked = []
        self.fault = None
        self.delay_s = 0.0

    async def secret(self, tenant_id):
        self.asked.append(tenant_id)
        await asyncio.sleep(self.delay_s)
        if self.fault is not None:
            raise self.fault
        return tenant_id.encode() * 8

    async def end(self, tenant_id, ahead_ms):
        raise AssertionError("nobody asked for it")

    async def purge(self, tenant_id, alias, before_ms):
        raise AssertionError("nobody asked for it")


async def test_each_is_read_once_however_many_ask():
    book = Book()
    secrets = TenantSecrets(book, Clock())
    assert secrets.at_hand("acme") is None
    assert await asyncio.gather(*(secrets.read("acme") for _ in range(5))) == [b"acme" * 8] * 5
    assert (secrets.at_hand("acme"), secrets.at_hand("other"), book.asked) == (b"acme" * 8, None, ["acme"])


@pytest.mark.parametrize(("fault", "delay_s"), [(StateUnavailable("away"), 0.0), (None, 0.2)], ids=["away", "slow"])
async def test_while_they_cannot_be_had_nobody_else_waits(fault, delay_s, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.02)
    monkeypatch.setattr(module, "AWAY_US", 50_000)
    book = Book()
    book.fault, book.delay_s = fault, delay_s
    secrets = TenantSecrets(book, Clock())
    with pytest.raises(StateUnavailable):
        await secrets.read("acme")
    for _ in range(10):
        with pytest.raises(StateUnavailable):
            await secrets.read("other")
    assert book.asked == ["acme"]
    book.fault, book.delay_s = None, 0.0
    await asyncio.sleep(0.25)
    assert await secrets.read("other") == b"other" * 8


async def test_no_more_are_known_than_may_be(monkeypatch):
    monkeypatch.setattr(module, "TENANTS_MAX", 3)
    secrets = TenantSecrets(Book(), Clock())
    for number in range(8):
        assert await secrets.read(f"t{number}") == f"t{number}".encode() * 8
        assert secrets.at_hand(f"t{number}") is not None
        assert sum(secrets.at_hand(f"t{each}") is not None for each in range(8)) <= 3


class At(Clock):
    us = 0

    def monotonic_us(self):
        return self.us


async def test_one_is_read_anew_beside_the_calls_that_go_by_it():
    book, clock = Book(), At()
    secrets = TenantSecrets(book, clock)
    await secrets.read("acme")
    clock.us = module.READ_ANEW_US - 1
    assert secrets.at_hand("acme") is not None
    clock.us += 1
    for _ in range(3):
        assert secrets.at_hand("acme") is not None
    await asyncio.sleep(0.01)
    assert book.asked == ["acme"] * 2
    clock.us += module.KNOWN_US - 1
    assert secrets.at_hand("acme") is not None


async def test_no_process_goes_by_one_for_longer_than_it_may_believe_in_a_deleted_tenant():
    assert module.KNOWN_US < BELIEVED_MS * 1_000
    book, clock = Book(), At()
    secrets = TenantSecrets(book, clock)
    await secrets.read("acme")
    book.fault = StateUnavailable("away")
    clock.us = module.KNOWN_US - 1
    assert secrets.at_hand("acme") is not None
    await asyncio.sleep(0.01)
    clock.us += 1
    assert secrets.at_hand("acme") is None
    assert book.asked == ["acme"] * 2  # while it is away nobody asks again
    with pytest.raises(StateUnavailable):
        await secrets.read("acme")
