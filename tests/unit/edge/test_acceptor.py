"""Two that accept from one socket: who has more waits, and nothing is left lying."""

import asyncio
import socket
from functools import partial

import pytest
import uvloop

from proxy.edge.acceptor import Acceptor
from proxy.edge.crowd import Crowd
from tests.scripted_upstream import until

CONNECTIONS = 20


def pytest_asyncio_loop_factories(item: pytest.Item):
    return {"uvloop": uvloop.new_event_loop}


class Worker:
    def __init__(self, listening: socket.socket, crowd: Crowd, number: int, failing: int = 0) -> None:
        self.open: list[socket.socket] = []
        self.failing = failing
        self.listening = listening.dup()
        self.acceptor = Acceptor(self.listening, crowd, number, self.connect, lambda: len(self.open))

    async def connect(self, accepted: socket.socket) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionResetError
        self.open.append(accepted)


@pytest.fixture
def listening():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        bound.listen(64)
        yield bound


async def connected(listening: socket.socket, count: int) -> list[asyncio.StreamWriter]:
    opened = [asyncio.open_connection(*listening.getsockname()) for _ in range(count)]
    return [writer for _, writer in await asyncio.gather(*opened)]


async def end(workers: list[Worker], callers: list[asyncio.StreamWriter]) -> None:
    for worker in workers:
        worker.acceptor.stop()
        worker.acceptor.stop()  # safe to repeat
        for each in (worker.listening, *worker.open):
            each.close()
    for caller in callers:
        caller.close()


async def test_each_gets_its_part(listening):
    crowd = Crowd(2)
    workers = [Worker(listening, crowd, number) for number in (1, 2)]
    for worker in workers:
        worker.acceptor.start()
    callers = await connected(listening, CONNECTIONS)
    await until(lambda: sum(len(worker.open) for worker in workers) == CONNECTIONS)
    assert [len(worker.open) for worker in workers] == [CONNECTIONS // 2] * 2
    await end(workers, callers)


async def test_one_that_is_ahead_takes_what_nobody_else_does(listening):
    crowd = Crowd(2)
    worker = Worker(listening, crowd, 1)
    worker.acceptor.start()
    callers = []
    for expected in range(1, 4):
        crowd.note(2, 0, int(asyncio.get_running_loop().time() * 1_000))  # it turns, and does not come
        callers += await connected(listening, 1)
        await until(partial(lambda expected: len(worker.open) == expected, expected))
    await end([worker], callers)


async def test_a_connection_that_has_ended_by_then_costs_itself_alone(listening):
    worker = Worker(listening, Crowd(1), 1, failing=1)
    worker.acceptor.start()
    callers = await connected(listening, 3)
    await until(lambda: len(worker.open) == 2)
    await end([worker], callers)


async def test_without_descriptors_it_waits_and_goes_on(listening, monkeypatch):
    monkeypatch.setattr("proxy.edge.acceptor._FULL_S", 0.01)
    worker = Worker(listening, Crowd(1), 1)
    real, refusals = worker.acceptor._listening, [OSError(24, "Too many open files")]

    class Full:
        def accept(self):
            if refusals:
                raise refusals.pop()
            return real.accept()

        def __getattr__(self, name):
            return getattr(real, name)

    worker.acceptor._listening = Full()  # type: ignore[assignment]
    worker.acceptor.start()
    callers = await connected(listening, 1)
    await until(lambda: len(worker.open) == 1)
    assert refusals == []
    await end([worker], callers)


async def test_where_the_supervisor_has_ended_it_nothing_is_accepted_and_nothing_spins(listening, caplog):
    worker = Worker(listening, Crowd(1), 1)
    worker.acceptor.start()
    callers = await connected(listening, 1)
    await until(lambda: len(worker.open) == 1)
    listening.shutdown(socket.SHUT_RDWR)  # another descriptor of the same socket
    await until(lambda: not worker.acceptor._is_open)
    with pytest.raises(ConnectionRefusedError):
        await connected(listening, 1)
    assert caplog.text == ""
    await end([worker], callers)
