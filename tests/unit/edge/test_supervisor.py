"""How long a dead worker's place stays empty, who is killed, and what a fork leaves behind. Its life with real workers
is in `tests/behaviour/test_workers.py` and `test_workers_faults.py`."""

import os
import signal
import socket
import time
from contextlib import ExitStack

import pytest

from proxy.edge import supervisor as module
from proxy.edge.orders import BEGUN, DRAIN, RELOAD
from proxy.edge.place import Places
from proxy.edge.supervisor import Supervisor, restart_pause_s
from proxy.edge.wakeups import Wakeups

LOOKS = module._SILENT_LOOKS_MAX
PROCESS = 4_711


@pytest.mark.parametrize(
    ("short_lives", "pause_s"), [(0, 0.1), (1, 0.2), (2, 0.4), (5, 3.2), (8, 25.6), (9, 30.0), (10_000, 30.0)]
)
def test_restart_pause_s(short_lives, pause_s):
    assert restart_pause_s(short_lives) == pause_s


def test_signals_are_kept_in_order_and_none_is_lost():
    before = signal.getsignal(signal.SIGHUP)
    with Wakeups() as wakeups:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        numbers, _ = wakeups.wait([], 5.0)
        assert list(numbers) == [
            *(signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM),
        ]
        assert wakeups.wait([], 0.0) == (b"", [])
    assert signal.getsignal(signal.SIGHUP) is before


class Supervised:
    """A supervisor with one worker, which is this test, at a time that stands still."""

    def __init__(self, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        self.killed: list[int] = []
        self.announced: list[int] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(os, "kill", lambda process, _number: self.killed.append(process))
        data, admin = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        self.places = Places(1, data, admin)
        self.supervisor = Supervisor(
            self.places, lambda _place: 0, lambda: True, lambda: self.announced.append(1), drain_s=1
        )
        (self.seat,) = self.supervisor._seats
        ours, self.worker = map(stack.enter_context, socket.socketpair())
        ours.setblocking(False)
        self.worker.setblocking(False)
        self.seat.process, self.seat.orders, self.seat.due_s = PROCESS, ours, None
        for line in self.places._lines:
            for end in line:
                stack.enter_context(end)

    def says(self, what: bytes) -> None:
        self.worker.send(what)
        assert self.seat.orders is not None
        self.supervisor._read(self.seat, self.seat.orders)

    def look(self, times: int, *, turning: bool = False, every_s: float = module._LOOK_S) -> None:
        for _ in range(times):
            self.now_s += every_s
            if turning:
                self.places._crowd.turn(1)
            self.supervisor._look()


@pytest.fixture
def supervised(monkeypatch):
    with ExitStack() as stack:
        yield Supervised(stack, monkeypatch)


def test_one_that_has_begun_and_turns_no_more_is_killed(supervised):
    supervised.says(BEGUN)
    supervised.look(LOOKS * 3, turning=True)
    assert supervised.killed == []
    supervised.look(LOOKS - 1)
    supervised.look(1, turning=True)
    supervised.look(LOOKS - 1)
    assert supervised.killed == []
    supervised.look(1)
    assert supervised.killed == [PROCESS]


def test_one_that_is_starting_may_take_its_time(supervised):
    supervised.look(LOOKS * 3)
    assert supervised.killed == []


def test_after_a_machine_was_asleep_nobody_is_at_fault(supervised):
    supervised.says(BEGUN)
    supervised.look(1, turning=True)
    supervised.look(2, every_s=3_600.0)  # none of them has had a turn meanwhile
    assert supervised.killed == []


def test_one_that_begins_when_all_were_told_to_stop_is_not_announced_and_its_port_is_ended(supervised):
    supervised.supervisor._stop()
    assert supervised.worker.recv(8) == DRAIN
    data = supervised.places._data_socket
    data.listen()  # as a worker does that was starting
    supervised.says(BEGUN)
    assert supervised.announced == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(data.getsockname(), timeout=5.0)


def test_one_that_has_no_room_for_another_order_hears_of_the_end_all_the_same(supervised):
    for _ in range(5_000):  # it is stopped, and reads none
        supervised.supervisor._order(RELOAD)
    assert supervised.seat.orders is not None
    supervised.supervisor._stop()
    said = b""
    while part := supervised.worker.recv(4_096):  # up to the end, which is an order to drain
        said += part
    assert set(said) == set(RELOAD)


def test_without_a_descriptor_the_place_stays_empty_for_a_while(supervised, monkeypatch):
    def none_left():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", none_left)
    with Wakeups() as wakeups:
        supervised.seat.process = None
        supervised.supervisor._start(supervised.seat, wakeups)
    assert supervised.seat.due_s == supervised.now_s + restart_pause_s(0)
