"""Waiting awake for what is nearly here, and not for what is far."""

import asyncio
import socket
from collections.abc import Callable

from proxy.adapters.busy_poll import POLL_S, REST, BusyPoll


class Turns:
    """A loop that goes round by hand, and a clock that moves by hand."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []
        self.s = 0.0

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.due.append(callback)

    def turn(self) -> int:
        """How many callbacks it had."""
        due, self.due = self.due, []
        for callback in due:
            callback()
        return len(due)


def polling() -> tuple[BusyPoll, Turns]:
    turns = Turns()
    return BusyPoll(turns, lambda: turns.s), turns  # type: ignore[arg-type]


def answered(poll: BusyPoll, turns: Turns, after_s: float) -> int:
    """One answer that comes so late; how many turns the loop went round for it."""
    poll.begin()
    turned = 0
    until_s = turns.s + after_s
    while turns.s < until_s:
        turned += turns.turn()
        turns.s += POLL_S / 10
    poll.end()
    turns.turn()
    return turned


def test_the_loop_goes_round_until_the_answer_is_here():
    poll, turns = polling()
    assert answered(poll, turns, POLL_S / 2) >= 4
    assert turns.due == [], "nothing keeps the loop awake any more"


def test_it_does_not_go_round_for_longer_than_the_bound():
    poll, turns = polling()
    assert answered(poll, turns, 5 * POLL_S) <= 12
    assert turns.due == []


def test_where_answers_are_far_it_sleeps_and_tries_again_once_in_a_while():
    poll, turns = polling()
    turned = [answered(poll, turns, 2 * POLL_S) for _ in range(3 * REST)]
    assert sum(map(bool, turned)) <= 8
    assert any(turned[REST:]), "a store that has come nearer is noticed"


def test_where_a_third_of_the_answers_is_late_it_goes_on():
    poll, turns = polling()
    turned = [answered(poll, turns, 2 * POLL_S if number % 4 == 0 else POLL_S / 2) for number in range(2_000)]
    assert all(turned)


def test_one_that_is_begun_in_the_turn_in_which_another_ended_is_looked_at_once_in_a_turn():
    poll, turns = polling()
    poll.begin()
    turns.turn()
    poll.end()
    poll.begin()
    assert [turns.turn() for _ in range(3)] == [1, 1, 1]


async def test_everybody_else_is_served_meanwhile():
    poll = BusyPoll(asyncio.get_running_loop(), lambda: 0.0)  # a clock that stands: it would go round for ever
    poll.begin()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        asyncio.get_running_loop().call_later(0.01, theirs.send, b"hello")
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 5), 5) == b"hello"
    poll.end()
