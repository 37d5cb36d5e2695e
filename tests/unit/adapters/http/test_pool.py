import asyncio
import math
import socket
from contextlib import ExitStack

import httpx
import pytest

from proxy.adapters.http.connection import Connection
from proxy.adapters.http.pool import Origin, Pool
from proxy.adapters.http.round_trip import Bounds
from proxy.adapters.http.transport import Transport
from tests.polls import CountedPoll
from tests.unit.adapters.http.raw_server import (
    OK,
    Pieces,
    RawServer,
    answering,
    blocking_upstream,
    eventually,
    fetch,
    request,
    settled,
    silent,
)


async def on_demand(side):
    """Answers each request when the test says so, with the connection's number."""
    while True:
        await side.request()
        await side.server.go_on.acquire()
        await side.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n%02d" % side.number)


class Gated(RawServer):
    def __init__(self) -> None:
        super().__init__(on_demand)
        self.go_on = asyncio.Semaphore(0)

    async def let(self, answers: int) -> None:
        for _ in range(answers):
            self.go_on.release()


# ── reuse ────────────────────────────────────────────────────────────────────────────────


async def test_the_last_one_back_is_the_first_one_out(transport):
    async with Gated() as server:
        asked = [asyncio.ensure_future(fetch(transport, request(server.url))) for _ in range(3)]
        await eventually(lambda: len(server.requests) == 3)
        await server.let(3)
        await asyncio.gather(*asked)
        assert transport.idle_connections == 3
        numbers = set()
        for _ in range(5):
            await server.let(1)
            numbers.add((await fetch(transport, request(server.url)))[1])
        assert len(numbers) == 1
        assert server.accepted == 3


async def test_the_answer_to_a_request_that_is_alone_is_waited_for_awake_until_it_comes(transport, monkeypatch):
    poll = CountedPoll()
    monkeypatch.setattr("proxy.adapters.http.pool.BusyPoll", lambda _loop: poll)
    async with Gated() as server:
        alone = asyncio.ensure_future(fetch(transport, request(server.url)))
        await eventually(lambda: len(server.requests) == 1)
        assert (poll.begun, poll.is_on) == (1, True)
        beside = asyncio.ensure_future(fetch(transport, request(server.url)))
        await eventually(lambda: len(server.requests) == 2)
        assert poll.begun == 1, "there are two"
        await server.let(1)
        await asyncio.wait((alone, beside), return_when=asyncio.FIRST_COMPLETED)
        assert not poll.is_on
        await server.let(1)
        await asyncio.gather(alone, beside)
        await server.let(1)
        await fetch(transport, request(server.url))
        assert (poll.begun, poll.is_on) == (2, False)


async def test_origins_share_nothing(transport):
    async with RawServer(answering(OK)) as one, RawServer(answering(OK)) as other:
        for _ in range(2):
            await fetch(transport, request(one.url))
            await fetch(transport, request(other.url))
        assert (one.accepted, other.accepted) == (1, 1)
        assert transport.idle_connections == 2


async def test_no_more_are_kept_than_allowed_and_the_oldest_go():
    transport = Transport(idle_connections_max=2)
    async with Gated() as server:
        asked = [asyncio.ensure_future(fetch(transport, request(server.url))) for _ in range(5)]
        await eventually(lambda: len(server.requests) == 5)
        await server.let(5)
        finished = [await answer for answer in asyncio.as_completed(asked)]
        assert (transport.open_connections, transport.idle_connections) == (2, 2)
        await eventually(lambda: server.live == 2)
        kept = {finished[-1][1], finished[-2][1]}
        await server.let(1)
        assert (await fetch(transport, request(server.url)))[1] in kept
    await transport.aclose()


async def test_a_connection_at_rest_is_closed_in_the_end():
    transport = Transport(idle_s=0.05)
    async with RawServer(answering(OK)) as server:
        await fetch(transport, request(server.url, total=9.0))
        assert transport.idle_connections == 1
        await eventually(lambda: transport.open_connections == 0)
        await eventually(lambda: server.live == 0)
        assert await fetch(transport, request(server.url)) == (200, b"hi")
    await transport.aclose()


async def test_a_connection_in_use_does_not_rest():
    transport = Transport(idle_s=0.05)
    async with Gated() as server:
        await server.let(1)
        await fetch(transport, request(server.url))
        asked = asyncio.ensure_future(fetch(transport, request(server.url)))
        await asyncio.sleep(0.2)
        await server.let(1)
        assert await asked == (200, b"01")
    await transport.aclose()


# ── connections that went bad at rest ────────────────────────────────────────────────────


async def test_a_connection_lost_at_rest_drops_itself(transport):
    hang_up = asyncio.Event()

    async def script(side):
        await side.request()
        await side.send(OK)
        await hang_up.wait()

    async with RawServer(script) as server:
        await fetch(transport, request(server.url))
        assert transport.idle_connections == 1
        hang_up.set()
        await eventually(lambda: (transport.open_connections, transport.idle_connections) == (0, 0))


async def test_a_connection_that_speaks_unasked_is_closed(transport):
    """Else what it said would be taken for the next caller's answer."""
    speak = asyncio.Event()

    async def script(side):
        await side.request()
        await side.send(OK)
        if side.number == 1:
            await speak.wait()
            await side.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
        await side.request()
        await side.send(OK)

    async with RawServer(script) as server:
        await fetch(transport, request(server.url))
        speak.set()
        await eventually(lambda: transport.open_connections == 0)
        assert await fetch(transport, request(server.url)) == (200, b"hi")


@pytest.mark.parametrize("left_behind", ["end of stream", "reset", "answer"])
async def test_what_the_loop_has_not_seen_yet_is_noticed(transport, left_behind):
    """The upstream hangs up, or speaks, in the very moment in which the connection is taken again."""
    with blocking_upstream() as (url, listener), ExitStack() as sides:
        for turn in range(3):
            asked = asyncio.ensure_future(fetch(transport, request(url)))
            await asyncio.sleep(0.02)
            side = sides.enter_context(listener.accept()[0])
            side.recv(65_536)
            side.sendall(OK)
            assert await asked == (200, b"hi")
            assert transport.idle_connections == 1, turn
            if left_behind == "end of stream":
                side.shutdown(socket.SHUT_WR)
            elif left_behind == "answer":
                side.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
            else:
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                side.close()
            # No await between this and the next request: the loop has had no chance to notice.


@pytest.mark.parametrize("transport", ["in a crowd"], indirect=True)
async def test_a_connection_that_begins_to_close_before_the_request_is_written_has_sent_nothing(transport, monkeypatch):
    """Told that it was sent, a fallback would not dare to ask again."""
    write_soon = Connection.write_soon

    def write_to_one_that_closes(connection, request):
        write_soon(connection, request)
        connection._transport.close()

    async with RawServer(answering(OK)) as server:
        await fetch(transport, request(server.url))
        monkeypatch.setattr(Connection, "write_soon", write_to_one_that_closes)
        with pytest.raises(httpx.WriteError, match="while the request was sent"):
            await fetch(transport, request(server.url))
        assert transport.open_connections == 0


async def test_after_the_request_was_written_nothing_is_sent_again(transport):
    """It may have been acted upon. Asking again is the fallback's business."""
    with blocking_upstream() as (url, listener):
        asked = asyncio.ensure_future(fetch(transport, request(url)))
        await asyncio.sleep(0.02)
        side, _ = listener.accept()
        side.recv(65_536)
        side.sendall(OK)
        await asked
        again = asyncio.ensure_future(fetch(transport, request(url, "POST", b"once")))
        await asyncio.sleep(0.02)
        assert side.recv(65_536).endswith(b"once")
        side.close()
        with pytest.raises(httpx.ReadError):
            await again
        assert transport.open_connections == 0
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()


# ── the limit, and who waits for it ──────────────────────────────────────────────────────


async def test_no_more_connections_than_allowed_and_first_come_first_served():
    transport = Transport(connections_max=2)
    order: list[int] = []

    async def one(number):
        await fetch(transport, request(f"{server.url}/{number}", pool=9.0))
        order.append(number)

    async with Gated() as server:
        asked = [asyncio.ensure_future(one(number)) for number in range(10)]
        await eventually(lambda: len(server.requests) == 2)
        for answered in range(1, 11):
            assert (transport.open_connections, transport.idle_connections) == (2, max(0, answered - 9))
            await server.let(1)
            await eventually(lambda: len(order) == answered)  # noqa: B023 - awaited within the turn
        await asyncio.gather(*asked)
        came = [int(raw.split()[1][1:]) for raw in server.requests]
        assert sorted(came[:2]) == [0, 1]  # both connected at once
        assert came[2:] == list(range(2, 10))
        assert server.accepted == 2
        assert (transport.open_connections, transport.idle_connections) == (2, 2)
    await transport.aclose()


async def test_the_limit_holds_per_origin():
    transport = Transport(connections_max=1)
    async with RawServer(silent) as busy, RawServer(answering(OK)) as free:
        stuck = asyncio.ensure_future(fetch(transport, request(busy.url)))
        assert await fetch(transport, request(free.url)) == (200, b"hi")
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
    await transport.aclose()


@pytest.mark.parametrize(("bounds", "says"), [({"pool": 0.05}, r"0\.05 s"), ({"pool": 9.0, "total": 0.05}, r"0\.05 s")])
async def test_waiting_for_a_connection_has_an_end(bounds, says):
    transport = Transport(connections_max=1)
    async with Gated() as server:
        asked = asyncio.ensure_future(fetch(transport, request(server.url)))
        await eventually(lambda: len(server.requests) == 1)
        for _ in range(3):
            with pytest.raises(httpx.PoolTimeout, match=says):
                await fetch(transport, request(server.url, **bounds))
        (pool,) = transport._pools.values()
        assert not pool._waiters
        await server.let(1)
        assert await asked == (200, b"01")
        # Those who gave up hold nothing back.
        await server.let(1)
        assert await fetch(transport, request(server.url, pool=0.05)) == (200, b"01")
        assert (transport.open_connections, transport.idle_connections) == (1, 1)
    await transport.aclose()


async def test_a_waiter_gets_the_slot_of_a_connection_that_broke():
    transport = Transport(connections_max=1)

    async def script(side):
        await side.request()
        if side.number == 1:
            await asyncio.sleep(0.05)
            return
        await side.send(OK)

    async with RawServer(script) as server:
        first = asyncio.ensure_future(fetch(transport, request(server.url)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(fetch(transport, request(server.url, pool=9.0)))
        with pytest.raises(httpx.ReadError):
            await first
        assert await second == (200, b"hi")
    await transport.aclose()


async def test_a_waiter_gets_the_slot_of_a_connection_that_did_not_come_about():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    transport = Transport(connections_max=1)
    asked = [asyncio.ensure_future(fetch(transport, request(url, pool=9.0))) for _ in range(10)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {httpx.ConnectError}
    assert transport.open_connections == 0


async def test_a_cancelled_waiter_leaves_the_queue():
    transport = Transport(connections_max=1)
    async with Gated() as server:
        asked = [asyncio.ensure_future(fetch(transport, request(server.url))) for _ in range(4)]
        await eventually(lambda: len(server.requests) == 1)
        asked[1].cancel()
        asked[2].cancel()
        await asyncio.sleep(0)
        await server.let(2)
        assert await asked[0] == (200, b"01")
        assert await asked[3] == (200, b"01")
        assert asked[1].cancelled()
        assert asked[2].cancelled()
        assert (transport.open_connections, transport.idle_connections) == (1, 1)
    await transport.aclose()


class HandedOver:
    """A pool of one connection that is out, with tasks that wait for it."""

    def __init__(self, url: str, waiters: int) -> None:
        parsed = httpx.URL(url)
        assert parsed.port is not None
        self.pool = Pool(
            asyncio.get_running_loop(),
            Origin(parsed.host, parsed.port, None),
            memoryview(bytearray(1_024)),
            connections_max=1,
            idle_connections_max=1,
            idle_s=60.0,
        )
        self._waiters = waiters

    async def start(self) -> None:
        self.lent = await self.pool.acquire(Bounds(), math.inf)
        self.waiting = [asyncio.ensure_future(self.pool.acquire(Bounds(), math.inf)) for _ in range(self._waiters)]
        await asyncio.sleep(0)


async def test_a_connection_handed_to_a_cancelled_waiter_goes_on_to_the_next():
    async with RawServer(silent) as server:
        handed = HandedOver(server.url, 2)
        await handed.start()
        handed.pool.give_back(handed.lent)  # the first waiter has it, and is cancelled before it runs
        handed.waiting[0].cancel()
        assert await asyncio.wait_for(handed.waiting[1], 5) is handed.lent
        assert handed.waiting[0].cancelled()
        assert (handed.pool.open_connections, handed.pool.idle_connections) == (1, 0)
        handed.pool.close()


async def test_a_slot_handed_to_a_cancelled_waiter_goes_on_to_the_next():
    async with RawServer(silent) as server:
        handed = HandedOver(server.url, 2)
        await handed.start()
        handed.lent.close()
        handed.waiting[0].cancel()
        fresh = await asyncio.wait_for(handed.waiting[1], 5)
        assert fresh is not handed.lent
        assert handed.pool.open_connections == 1
        handed.pool.close()


@pytest.mark.parametrize("is_broken", [False, True])
async def test_what_is_handed_to_the_last_waiter_and_refused_is_idle_or_gone(is_broken):
    async with RawServer(silent) as server:
        handed = HandedOver(server.url, 1)
        await handed.start()
        handed.pool.give_back(handed.lent)
        if is_broken:
            handed.lent.close()
        handed.waiting[0].cancel()
        await asyncio.gather(*handed.waiting, return_exceptions=True)
        expected = (0, 0) if is_broken else (1, 1)
        assert (handed.pool.open_connections, handed.pool.idle_connections) == expected
        handed.pool.close()


async def test_a_connection_that_breaks_between_two_hands_costs_the_waiter_nothing():
    async with RawServer(silent) as server:
        handed = HandedOver(server.url, 3)
        await handed.start()
        handed.pool.give_back(handed.lent)
        handed.lent.close()
        first = await asyncio.wait_for(asyncio.wait(handed.waiting, return_when=asyncio.FIRST_COMPLETED), 5)
        (winner,) = first[0]
        assert winner.result().is_usable()
        assert handed.pool.open_connections == 1
        winner.result().close()
        for waiting in handed.waiting:
            if waiting is not winner:
                (await asyncio.wait_for(waiting, 5)).close()
        assert handed.pool.open_connections == 0


async def test_a_slot_promised_before_the_pool_closed_is_not_used():
    async with RawServer(silent) as server:
        handed = HandedOver(server.url, 1)
        await handed.start()
        handed.lent.close()
        handed.pool.close()
        with pytest.raises(httpx.ConnectError, match="closed"):
            await handed.waiting[0]
        assert handed.pool.open_connections == 0
        assert server.accepted <= 1


# ── cancelled, at each phase ─────────────────────────────────────────────────────────────


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_while_waiting_for_the_head(transport):
    async with RawServer(silent) as server:
        asked = asyncio.ensure_future(fetch(transport, request(server.url)))
        await eventually(lambda: server.live == 1)
        await cancel(asked)
        assert transport.open_connections == 0
        await eventually(lambda: server.live == 0)


async def test_cancelled_in_the_middle_of_the_body(transport):
    async def script(side):
        await side.request()
        await side.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")
        await side.until_closed()

    async with RawServer(script) as server:
        response = await transport.handle_async_request(request(server.url))
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"hi"
        reading = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)
        await cancel(reading)
        assert transport.open_connections == 0
        await eventually(lambda: server.live == 0)
        await response.stream.aclose()


async def test_cancelled_while_connecting():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        transport = Transport(connections_max=1)
        asked = asyncio.ensure_future(fetch(transport, request(f"http://127.0.0.1:{address[1]}", connect=9.0)))
        await asyncio.sleep(0.02)
        assert transport.open_connections == 1
        await cancel(asked)
        assert transport.open_connections == 0
        for filler in fillers:
            filler.close()
        await transport.aclose()


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_cancelled_while_uploading(transport, is_streamed):
    """What was not sent yet is not sent any more."""
    received_bytes = 0
    go_on = asyncio.Event()

    async def slow(side):
        nonlocal received_bytes
        await go_on.wait()
        while piece := await side.reader.read(65_536):
            received_bytes += len(piece)

    body = Pieces(*[b"x" * 100_000] * 300)
    async with RawServer(slow) as server:
        if is_streamed:
            asked = request(server.url, "POST", stream=body)
        else:
            asked = request(server.url, "POST", b"x" * 30_000_000)
        sending_it = asyncio.ensure_future(fetch(transport, asked))
        await eventually(lambda: server.live == 1 and body.given >= is_streamed)
        await cancel(sending_it)
        assert transport.open_connections == 0
        go_on.set()
        await eventually(lambda: server.live == 0)
        assert received_bytes < 30_000_000
        await eventually(lambda: body.is_over is is_streamed)  # the body's source is let go


async def test_cancelled_in_the_moment_in_which_the_answer_comes(transport):
    """The whole answer is here, so its connection is whole as well: it is kept, and nothing leaks."""
    with blocking_upstream() as (url, listener):
        asked = asyncio.ensure_future(transport.handle_async_request(request(url)))
        await asyncio.sleep(0.02)
        side, _ = listener.accept()
        with side:
            side.recv(65_536)
            side.sendall(OK)
            while transport.idle_connections == 0:  # noqa: ASYNC110 - the task itself must not have run yet
                await asyncio.sleep(0)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await settled(transport)
            assert transport.open_connections == transport.idle_connections <= 1
