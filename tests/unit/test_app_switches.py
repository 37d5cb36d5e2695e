"""What is out of service, as one process knows it: read twice a second, and never forgotten for want of a store."""

import asyncio

import pytest

from proxy.app import switches as watching
from proxy.app.switches import SwitchWatch
from proxy.core.errors import StateUnavailable
from proxy.routing.switches import NO_SWITCHES, Switch, SwitchKind, SwitchSlot, in_force

A = Switch(SwitchKind.DEPLOYMENT, "one/a", None, "ci", 0)
B = Switch(SwitchKind.DEPLOYMENT, "one/b", None, "ci", 0)
TURNS_MAX = 5_000  # of a millisecond, for what takes a few


class Scripted:
    """A store that answers each read with the next of these, and with the last from then on."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.reads = 0

    async def read(self):
        self.reads += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def put(self, _switch):
        raise AssertionError("a watch changes nothing")

    async def remove(self, _kind, _name):
        raise AssertionError("a watch changes nothing")


class Held(Scripted):
    """One whose answer is on its way until it is let go."""

    def __init__(self, *answers):
        super().__init__(*answers)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def read(self):
        found = await super().read()
        self.asked.set()
        await self.go.wait()
        return found


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(watching, "EVERY_S", 0.001)


async def read_more(store, times):
    until = store.reads + times
    for _ in range(TURNS_MAX):
        if store.reads >= until:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"read {store.reads} times, and not {until}")


async def test_what_is_stored_holds_before_the_first_call():
    slot = SwitchSlot()
    watch = SwitchWatch(Scripted([A]), slot)
    await watch.start()
    assert slot.current == in_force([A])
    watch.stop()


async def test_what_others_change_is_seen():
    slot, store = SwitchSlot(), Scripted([A], [A, B], [B], [])
    watch = SwitchWatch(store, slot)
    await watch.start()
    await read_more(store, 4)
    assert slot.current == NO_SWITCHES
    watch.stop()


@pytest.mark.parametrize("fault", [StateUnavailable("away"), ValueError("a fault of ours")])
async def test_a_store_that_fails_leaves_in_force_what_was(fault):
    slot, store = SwitchSlot(), Scripted([A], fault)
    watch = SwitchWatch(store, slot)
    await watch.start()
    await read_more(store, 3)
    assert slot.current == in_force([A])
    watch.stop()


async def test_a_store_that_comes_back_is_heard():
    slot, store = SwitchSlot(), Scripted(StateUnavailable("away"), StateUnavailable("away"), [A])
    watch = SwitchWatch(store, slot)
    await watch.start()
    assert slot.current is NO_SWITCHES
    await read_more(store, 3)
    assert slot.current == in_force([A])
    watch.stop()


async def test_a_read_that_a_change_of_this_process_overtook_does_not_undo_it():
    slot, store = SwitchSlot(), Held([])
    watch = SwitchWatch(store, slot)
    starting = asyncio.create_task(watch.start())
    await store.asked.wait()
    watch.see([A])
    store.go.set()
    await starting
    watch.stop()
    assert slot.current == in_force([A])


async def test_after_the_end_nothing_is_read():
    store = Scripted([])
    watch = SwitchWatch(store, SwitchSlot())
    await watch.start()
    watch.stop()
    await asyncio.sleep(0.02)
    assert store.reads == 1
