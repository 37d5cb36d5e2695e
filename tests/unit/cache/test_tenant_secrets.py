"""Tenants' secrets, in a process: read once, and not waited for by everybody while they cannot be had."""

import asyncio

import pytest

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
