"""What is written at the end of a turn."""

import asyncio
import logging
from functools import partial

from proxy.adapters.queued_writes import QueuedWrites


async def test_writes_wait_for_the_end_of_the_turn_and_keep_their_order():
    writes = QueuedWrites(asyncio.get_running_loop())
    written: list[object] = []
    for number in range(3):
        writes.add(partial(written.append, number))
    assert written == []
    await asyncio.sleep(0)
    assert written == [0, 1, 2]


async def test_what_is_added_by_a_write_belongs_to_the_next_turn():
    writes = QueuedWrites(asyncio.get_running_loop())
    written: list[object] = []

    def first():
        written.append("first")
        writes.add(lambda: written.append("second"))

    writes.add(first)
    await asyncio.sleep(0)
    assert written == ["first"]
    await asyncio.sleep(0)
    assert written == ["first", "second"]


async def test_a_write_that_fails_keeps_no_other_back_and_is_logged(caplog):
    writes = QueuedWrites(asyncio.get_running_loop())
    written: list[object] = []
    writes.add(lambda: written.append("before"))
    writes.add(lambda: 1 / 0)
    writes.add(lambda: written.append("behind"))
    with caplog.at_level(logging.ERROR, "tollway"):
        await asyncio.sleep(0)
    assert written == ["before", "behind"]
    assert "what was to be written could not be" in caplog.text
