import asyncio
import logging
from typing import cast

import pytest

from proxy.core.errors import StateUnavailable
from proxy.identity import redigest as module
from proxy.identity.redigest import Redigest
from proxy.identity.store import VirtualKeyStore
from proxy.identity.virtual_key import PepperedDigest
from tests.scripted_upstream import until

OLD = PepperedDigest("d-old", "aaa")


class ScriptedStore:
    """Takes digests, one at a time; is slow or away where it is told so."""

    def __init__(self) -> None:
        self.added: list[tuple[str, PepperedDigest, PepperedDigest]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.at_once = self.at_once_max = 0

    async def add_digest(self, virtual_key_id, known, other):
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            if self.error is not None:
                raise self.error
            self.added.append((virtual_key_id, known, other))
        finally:
            self.at_once -= 1


def new(number: int) -> PepperedDigest:
    return PepperedDigest(f"d{number}", "bbb")


async def test_each_is_written_once_in_order_and_one_at_a_time():
    store = ScriptedStore()
    redigest = Redigest(cast(VirtualKeyStore, store))
    for number in (1, 2, 1, 3, 2):
        redigest.soon(f"vk_{number}", OLD, new(number))
    assert store.added == []  # nobody waits for it
    await until(lambda: len(store.added) == 3)
    assert store.added == [(f"vk_{number}", OLD, new(number)) for number in (1, 2, 3)]
    assert store.at_once_max == 1
    redigest.soon("vk_4", OLD, new(4))  # after it had come to an end
    await until(lambda: len(store.added) == 4)
    await redigest.stop()


@pytest.mark.parametrize("error", [StateUnavailable("away", retry_after_ms=1), RuntimeError("a fault of ours")])
async def test_what_fails_is_left_to_the_next_use(error, caplog):
    store = ScriptedStore()
    store.error = error
    redigest = Redigest(cast(VirtualKeyStore, store))
    with caplog.at_level(logging.INFO):
        redigest.soon("vk_1", OLD, new(1))
        redigest.soon("vk_2", OLD, new(2))
        await until(lambda: bool(caplog.records) and not store.at_once)
    store.error = None
    redigest.soon("vk_1", OLD, new(1))
    await until(lambda: bool(store.added))
    assert store.added == [("vk_1", OLD, new(1))]
    await redigest.stop()


async def test_what_waits_is_bounded_and_is_let_go_at_the_end(monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    store = ScriptedStore()
    store.gate.clear()
    redigest = Redigest(cast(VirtualKeyStore, store))
    for number in range(5):
        redigest.soon(f"vk_{number}", OLD, new(number))
    store.gate.set()
    await until(lambda: len(store.added) == 3)
    store.gate.clear()
    redigest.soon("vk_9", OLD, new(9))
    await until(lambda: store.at_once == 1)
    await redigest.stop()
    await redigest.stop()
    assert store.at_once == 0
    assert len(store.added) == 3
