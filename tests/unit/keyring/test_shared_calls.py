import asyncio
import gc
import weakref

import pytest

from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable, TenantShredded
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import shared_calls
from proxy.keyring.shared_calls import AWAY_US, REFUSED_US, SharedCalls
from tests.keyrings import HandClock

NAME = ("acme", "dek_1")


class Asked:
    """What is asked: it answers when it is let, and counts."""

    def __init__(self, fault=None):
        self.clock = HandClock()
        self.calls: SharedCalls[int] = SharedCalls(self.clock)
        self.open, self.fault = asyncio.Event(), fault
        self.count, self.kept = 0, []

    async def answer(self, name=NAME):
        return await self.calls.answer(name, self._call, self.kept.append)

    async def _call(self):
        self.count += 1
        number = self.count
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return number


async def begun(asked, *names):
    asking = [asyncio.create_task(asked.answer(name)) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return asking


async def test_who_asks_for_the_same_shares_one_call_and_others_do_not():
    asked = Asked()
    asking = await begun(asked, *[NAME] * 50, ("other", "dek_1"))
    assert asked.count == 2
    asked.open.set()
    assert await asyncio.gather(*asking) == [1] * 50 + [2]
    assert asked.kept == [1, 2]
    assert await asked.answer() == 3  # whoever wants it remembered does so


async def test_it_goes_on_when_everybody_has_given_up_and_its_answer_is_kept():
    asked = Asked()
    first, second = await begun(asked, NAME, NAME)
    first.cancel()
    await asyncio.sleep(0)
    third = (await begun(asked, NAME))[0]
    second.cancel()
    third.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    asked.open.set()
    await asyncio.sleep(0.01)
    assert (asked.count, asked.kept) == (1, [1])


@pytest.mark.parametrize(
    ("fault", "holds_us"),
    [
        (KeyringUnavailable("away"), AWAY_US),
        (StateUnavailable("away"), AWAY_US),
        (ProviderKeyUnreadable(UnreadableReason.KEK_DENIED), REFUSED_US),
        (TenantShredded("gone"), REFUSED_US),
        (RuntimeError("a fault of ours"), 0),
    ],
)
async def test_a_failure_holds_for_a_moment(fault, holds_us):
    asked = Asked(fault)
    asked.open.set()
    asking = await begun(asked, *[NAME] * 10)
    assert await asyncio.gather(*asking, return_exceptions=True) == [fault] * 10
    assert asked.count == 1
    asked.fault = None
    if holds_us:
        asked.clock.us += holds_us - 1
        with pytest.raises(type(fault)):
            await asked.answer()
        assert asked.count == 1
        asked.clock.us += 1
    assert await asked.answer() == 2
    assert await asked.answer(("other", "dek_1")) == 3


async def test_what_was_dropped_answers_those_who_wait_and_is_not_kept():
    asked = Asked()
    (waiting,) = await begun(asked, NAME)
    asked.calls.drop("other")
    asked.calls.drop("acme")
    (later,) = await begun(asked, NAME)
    assert asked.count == 2
    asked.open.set()
    assert [await waiting, await later] == [1, 2]
    assert asked.kept == [2]


async def test_a_failure_that_was_dropped_is_not_remembered():
    asked = Asked(KeyringUnavailable("away"))
    (waiting,) = await begun(asked, NAME)
    asked.calls.drop("acme")
    asked.open.set()
    with pytest.raises(KeyringUnavailable):
        await waiting
    with pytest.raises(KeyringUnavailable):
        await asked.answer()
    asked.calls.drop("acme")
    asked.fault = None
    assert await asked.answer() == 3


async def test_as_many_are_under_way_as_may_be_and_no_more(monkeypatch):
    monkeypatch.setattr(shared_calls, "CALLS_MAX", 3)
    asked = Asked()
    asking = await begun(asked, *((f"t{number}",) for number in range(3)))
    with pytest.raises(KeyringUnavailable):
        await asked.answer(("one more",))
    assert len(await begun(asked, ("t0",))) == 1  # one of those
    asked.open.set()
    assert await asyncio.gather(*asking) == [1, 2, 3]
    assert await asked.answer(("one more",)) == 4


async def test_failures_are_bounded(monkeypatch):
    monkeypatch.setattr(shared_calls, "FAILURES_MAX", 3)
    asked = Asked(KeyringUnavailable("away"))
    asked.open.set()
    for number in range(10):
        with pytest.raises(KeyringUnavailable):
            await asked.answer((f"t{number}",))
    assert len(asked.calls._failures) <= 3


async def test_a_failure_keeps_nothing_of_those_who_were_told_of_it():
    class Held:
        """What somebody has at hand while it asks."""

    async def ask(held):
        with pytest.raises(KeyringUnavailable):
            await asked.answer()
        return weakref.ref(held)

    asked = Asked(KeyringUnavailable("away"))
    asked.open.set()
    told = [await ask(Held()) for _ in range(3)]
    asked.fault = None  # which the test itself keeps
    await asyncio.sleep(0)
    gc.collect()
    assert asked.count == 1
    assert [each() for each in told] == [None] * 3


async def test_it_stops_and_may_be_stopped_again():
    asked = Asked()
    (waiting,) = await begun(asked, NAME)
    await asked.calls.stop()
    await asked.calls.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asked.kept == []
