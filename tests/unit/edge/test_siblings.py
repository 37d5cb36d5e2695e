"""Questions among workers: answered, or known to be unanswered in less than a second."""

import asyncio
import os
import socket
from contextlib import ExitStack

import pytest
import uvloop

from proxy.edge import siblings
from proxy.edge.siblings import ANSWER_S, Siblings, make_lines
from tests.scripted_upstream import until

BIG = b"x" * 3_000_000  # more than a socket holds


def pytest_asyncio_loop_factories(item: pytest.Item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def lines():
    with ExitStack() as stack:
        made = make_lines(3)
        for end in (end for line in made for end in line):
            stack.enter_context(end)
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_every_other_one_answers(lines):
    workers = [Siblings(number, lines, {b"who": str(number).encode, b"big": lambda: BIG}) for number in (1, 2, 3)]
    for worker in workers:
        worker.start()
    before = descriptors()
    assert await workers[0].ask(b"who") == {2: b"2", 3: b"3"}
    assert await workers[2].ask(b"who") == {1: b"1", 2: b"2"}
    assert await workers[1].ask(b"big") == {1: BIG, 3: BIG}
    many = await asyncio.gather(*(workers[0].ask(b"who") for _ in range(4)))
    assert many == [{2: b"2", 3: b"3"}] * 4
    assert await workers[0].ask(b"what") == {2: None, 3: None}  # nobody knows that question
    assert descriptors() == before
    for worker in workers:
        worker.stop()


async def test_a_silent_one_costs_its_time_and_no_more(lines, monkeypatch):
    assert ANSWER_S < 1
    monkeypatch.setattr(siblings, "ANSWER_S", 0.05)  # to those who asked, and wait no longer
    asker = Siblings(1, lines, {})
    before = descriptors()
    for _ in range(30):  # its line is full after some, which is known at once
        assert await asker.ask(b"who", 0.05) == {2: None, 3: None}
    held = descriptors() - before
    assert held == 0  # in this process: the kernel holds what waits in the lines
    late = Siblings(2, lines, {b"who": lambda: b"late"})
    late.start()
    assert await asker.ask(b"who", 0.05) == {2: b"late", 3: None}  # it has read the old questions, and this one
    late.stop()
    assert descriptors() == before


async def test_one_that_is_gone_is_known_at_once(lines):
    lines[1].asked.close()
    lines[2].asked.close()
    assert await Siblings(1, lines, {}).ask(b"who") == {2: None, 3: None}


async def test_what_is_no_question_is_passed_over(lines):
    worker = Siblings(2, lines, {b"who": lambda: b"2"})
    worker.start()
    lines[1].ask.send(b"who")  # nothing to answer through
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(lines[1].ask, [b"x" * 2_000], [theirs.fileno()])
        assert (await Siblings(1, lines, {}).ask(b"who"))[2] == b"2"
    worker.stop()


async def test_what_is_told_is_heard_by_every_other_one_in_order(lines):
    heard: dict[int, list[bytes]] = {1: [], 2: [], 3: []}
    workers = [Siblings(number, lines, {}, {b"forget": heard[number].append}) for number in heard]
    for worker in workers:
        worker.start()
    before = descriptors()
    told = [b"acme and its %d" % count for count in range(5)]
    for about in told:
        workers[0].tell(b"forget", about)
    workers[0].tell(b"never heard of", b"it")
    await until(lambda: heard == {1: [], 2: told, 3: told})
    assert descriptors() == before
    for worker in workers:
        worker.stop()


async def test_one_that_is_too_full_to_hear_holds_up_nobody(lines):
    heard: list[bytes] = []
    workers = [Siblings(1, lines, {}), Siblings(2, lines, {}, {b"forget": heard.append}), Siblings(3, lines, {})]
    workers[1].start()
    for _ in range(300):  # the third reads nothing
        workers[0].tell(b"forget", b"it")
        await asyncio.sleep(0)
    await until(lambda: len(heard) > 20)
    workers[1].stop()
