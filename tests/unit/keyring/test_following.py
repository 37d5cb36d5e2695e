import asyncio
from typing import cast

from proxy.core.errors import StateUnavailable
from proxy.keyring import following
from proxy.keyring.following import Following
from proxy.keyring.store import Changes, KeyringStore


class Store:
    """Tells what it is given, one a look; then that nothing changed."""

    def __init__(self, *told):
        self.told, self.places, self.is_done = list(told), [], asyncio.Event()

    async def changes(self, place):
        self.places.append(place)
        if not self.told:
            self.is_done.set()
            return Changes(place, frozenset())
        told = self.told.pop(0)
        if isinstance(told, Exception):
            raise told
        return told


async def followed(store, monkeypatch):
    monkeypatch.setattr(following, "FOLLOW_S", 0.0)
    heard: list[str] = []
    gaps: list[int] = []
    each = Following(store, heard.append, lambda: gaps.append(len(heard)))
    each.start()
    each.start()
    await asyncio.wait_for(store.is_done.wait(), 5)
    await each.stop()
    await each.stop()
    return heard, gaps


async def test_it_hears_whose_changed_and_goes_on_from_there(monkeypatch):
    store = Store(Changes("1", frozenset()), Changes("3", frozenset({"acme"})), Changes("4", frozenset({"other"})))
    assert await followed(store, monkeypatch) == (["acme", "other"], [])
    assert store.places[:4] == ["", "1", "3", "4"]


async def test_it_hears_that_changes_were_missed(monkeypatch):
    store = Store(Changes("1", frozenset({"acme"})), Changes("9", None), Changes("10", frozenset({"other"})))
    assert await followed(store, monkeypatch) == (["acme", "other"], [1])
    assert store.places[2] == "9"


async def test_while_the_store_is_away_it_keeps_its_place(monkeypatch):
    store = Store(Changes("1", frozenset()), StateUnavailable("away"), Changes("2", frozenset({"acme"})))
    assert await followed(store, monkeypatch) == (["acme"], [])
    assert store.places[:4] == ["", "1", "1", "2"]


async def test_a_fault_does_not_end_it_and_what_was_not_heard_is_heard_again(monkeypatch, caplog):
    monkeypatch.setattr(following, "FOLLOW_S", 0.0)
    changed = Changes("2", frozenset({"acme"}))
    store = Store(Changes("1", frozenset()), ValueError("of the store"), changed, changed)
    heard = []

    def hear(tenant_id):
        heard.append(tenant_id)
        if len(heard) == 1:
            raise ValueError("of whoever hears")

    each = Following(cast(KeyringStore, store), hear, print)
    each.start()
    await asyncio.wait_for(store.is_done.wait(), 5)
    await each.stop()
    assert heard == ["acme", "acme"]
    assert store.places[:5] == ["", "1", "1", "1", "2"]
    assert len(caplog.records) == 2


async def test_it_may_begin_again(monkeypatch):
    monkeypatch.setattr(following, "FOLLOW_S", 0.0)
    store = Store(Changes("7", frozenset()))
    each = Following(cast(KeyringStore, store), print, print)
    for _ in range(2):
        store.is_done.clear()
        each.start()
        await asyncio.wait_for(store.is_done.wait(), 5)
        await each.stop()
    assert store.places[:2] == ["", "7"]
    assert set(store.places[1:]) == {"7"}
