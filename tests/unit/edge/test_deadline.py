"""A deadline that moves, on the real loop."""

import asyncio

from proxy.edge.deadline import Deadline

LATER_S = 600.0


def made() -> tuple[Deadline, asyncio.Event]:
    due = asyncio.Event()
    return Deadline(asyncio.get_running_loop(), due.set), due


async def is_due(due: asyncio.Event) -> None:
    await asyncio.wait_for(due.wait(), 5.0)


async def test_it_calls_back_once():
    calls = []
    deadline = Deadline(asyncio.get_running_loop(), lambda: calls.append(1))
    deadline.set(0.01)
    await asyncio.sleep(0.1)
    assert calls == [1]


async def test_it_may_be_moved_forward_and_back():
    deadline, due = made()
    deadline.set(LATER_S)
    deadline.set(0.01)  # earlier than the timer that is armed
    await is_due(due)
    due.clear()
    deadline.set(0.01)
    deadline.set(0.05)  # later than it: the timer looks again
    await is_due(due)


async def test_cleared_or_closed_it_is_never_due():
    deadline, due = made()
    deadline.set(0.01)
    deadline.clear()
    closed, closed_due = made()
    closed.set(0.01)
    closed.close()
    await asyncio.sleep(0.1)
    assert not due.is_set()
    assert not closed_due.is_set()
    deadline.set(0.01)
    await is_due(due)


async def test_what_was_left_can_be_taken():
    deadline, _ = made()
    assert deadline.take() is None
    deadline.set(LATER_S)
    left_s = deadline.take()
    assert left_s is not None
    assert LATER_S - 5 < left_s < LATER_S + 1
    assert deadline.take() is None
    deadline.close()
