import asyncio
import contextlib
import gc
import random
import re
import ssl
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import cast

import hiredis
import pytest

from proxy.adapters import redis_wire
from proxy.adapters.redis import RedisDoor, Script
from proxy.adapters.redis_wire import RedisWire, WireAddress, WireError
from proxy.core.errors import StateUnavailable
from tests.authority import found
from tests.redis_server import RedisServer

ECHO = Script("return ARGV[1]")
FAILS_ON_BAD = Script("if ARGV[1] == 'bad' then error('no') end return ARGV[1]")
COMMAND = re.compile(rb"\*\d+\r\n")
INFO = b"$13\r\nrun_id:server\r\n"


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("SCRIPT", "FLUSH")
        yield opened


def echoes(door: RedisDoor, count: int) -> list:
    return [door.run(ECHO, ["{a}x"], [n]) for n in range(count)]


def asking(wire: RedisWire, *command: str) -> asyncio.Task:
    """A task that asks, in a turn of its own."""

    async def ask() -> object:
        return await wire.ask(*command)

    return asyncio.create_task(ask())


@asynccontextmanager
async def answering(*answers: bytes, context: ssl.SSLContext | None = None):
    """A server that notes each piece it reads, and answers each command with the next of these; then with nothing."""
    pieces: list[bytes] = []
    left = list(answers)

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while piece := await reader.read(65_536):
                pieces.append(piece)
                for _ in COMMAND.findall(piece):
                    writer.write(left.pop(0) if left else b"")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    wire = RedisWire(WireAddress("127.0.0.1", port, 0, None, None, None), 0.2, lambda _: None)
    try:
        yield wire, pieces
    finally:
        await wire.close()
        server.close()


async def test_a_lone_call_leaves_at_once_and_those_of_one_turn_leave_together():
    async with answering(INFO, b"+a\r\n", b"+b\r\n", b"+c\r\n", b"+d\r\n") as (wire, pieces):
        assert await wire.ask("PING", "alone") == b"a"
        together = [asking(wire, "PING", f"with {n}") for n in range(3)]
        assert await asyncio.gather(*together) == [b"b", b"c", b"d"]
        assert b"alone" in pieces[1]
        (rest,) = (piece for piece in pieces if b"with 1" in piece)
        assert b"with 2" in rest


async def test_a_long_turn_does_not_hold_back_what_was_asked_at_its_beginning(monkeypatch):
    async with answering(INFO, *([b"+OK\r\n"] * 100)) as (wire, _):
        await wire.ask("PING")
        link = wire._link
        assert link is not None
        assert link._transport is not None
        written: list[bytes] = []
        write = link._transport.write

        def noted(data: bytes) -> None:
            written.append(data)
            write(data)

        monkeypatch.setattr(link._transport, "write", noted)
        asked = [asking(wire, "PING") for _ in range(2 * redis_wire.TOGETHER_MAX + 5)]
        await asyncio.sleep(0)  # one turn, in which all of them ask
        assert [len(COMMAND.findall(data)) for data in written] == [1, redis_wire.TOGETHER_MAX, redis_wire.TOGETHER_MAX]
        assert await asyncio.gather(*asked) == [b"OK"] * len(asked)


async def test_answers_go_to_who_asked_in_order(door):
    assert await asyncio.gather(*echoes(door, 500)) == [b"%d" % n for n in range(500)]


async def test_scripts_that_vanished_are_loaded_again(door):
    for _ in range(2):
        await door.call("SCRIPT", "FLUSH")
        assert await asyncio.gather(*echoes(door, 5)) == [b"%d" % n for n in range(5)]


async def test_a_script_that_fails_fails_alone(door):
    calls = (door.run(FAILS_ON_BAD, ["{a}x"], [arg]) for arg in ("a", "b", "bad", "c", "bad"))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, bytes)] == [b"a", b"b", b"c"]
    assert [type(answer) for answer in answers].count(StateUnavailable) == 2


async def test_a_stall_is_everybodys_is_over_in_time_and_ends():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            await asyncio.gather(*echoes(door, 2))
            server.stop()
            begun_s = time.monotonic()
            answers = await asyncio.gather(*echoes(door, 10), return_exceptions=True)
            assert {type(answer) for answer in answers} == {StateUnavailable}
            assert time.monotonic() - begun_s < 1  # each within 250 ms; this machine may be busy
            server.resume()
            await asyncio.sleep(0.05)  # what was given up is answered, and nobody hears it
            assert await asyncio.gather(*echoes(door, 10)) == [b"%d" % n for n in range(10)]


async def test_a_connection_that_stays_silent_is_left_and_what_it_had_not_sent_is_never_carried_out(monkeypatch):
    monkeypatch.setattr(redis_wire, "SILENT_S_MAX", 0.1)
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            await door.run(ECHO, ["{a}x"], ["y"])
            server.stop()
            large = "x" * 30_000_000  # more than both kernels' buffers take
            with pytest.raises(StateUnavailable):
                await door.run(Script("return redis.call('SET', KEYS[1], '1')"), ["{a}late"], [large])
            await asyncio.sleep(0.6)
            server.resume()
            for _ in range(100):
                with contextlib.suppress(StateUnavailable):
                    assert await door.run(ECHO, ["{a}x"], ["again"]) == b"again"
                    break
                await asyncio.sleep(0.05)
            assert await door.call("GET", "{a}late") is None


async def test_another_server_is_noticed_before_anything_is_sent_to_it():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            await door.run(ECHO, ["{a}x"], ["y"])
            first = door.server_run_id
            server.restart()
            for _ in range(100):
                with contextlib.suppress(StateUnavailable):
                    await door.run(ECHO, ["{a}x"], ["z"])
                    break
                await asyncio.sleep(0.05)
            assert door.server_changes == 1
            assert door.server_run_id not in ("", first)


async def test_callers_that_go_cost_nobody_an_answer(door):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def call(number: int) -> None:
        assert await door.run(ECHO, ["{a}x"], [number]) == b"%d" % number

    for _ in range(30):
        calls = [asyncio.create_task(call(number)) for number in range(50)]
        await asyncio.sleep(dice.random() * 0.005)
        gone = {each for each in calls if dice.random() < 0.5 and each.cancel()}
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for each, answer in zip(calls, answers, strict=True):
            assert answer is None or (each in gone and isinstance(answer, asyncio.CancelledError)), answer
    assert await door.run(ECHO, ["{a}x"], ["still here"]) == b"still here"


async def test_a_password_and_a_database_are_honoured():
    with RedisServer() as server:
        server.ask("CONFIG", "SET", "requirepass", "open sesame")
        address = WireAddress("127.0.0.1", server.port, 3, None, "open sesame", None)
        assert "sesame" not in repr(address)
        wire = RedisWire(address, 0.25, lambda _: None)
        assert await wire.ask("SET", "a", "b") == b"OK"
        await wire.close()
        for database, expected in ((3, b"b"), (0, None)):
            other = RedisWire(address._replace(database=database), 0.25, lambda _: None)
            assert await other.ask("GET", "a") == expected
            await other.close()
        refused = RedisWire(address._replace(password="wrong"), 0.25, lambda _: None)
        with pytest.raises(WireError):
            await refused.ask("GET", "a")
        await refused.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+a\r\n+more than was asked for\r\n"])
async def test_a_server_that_speaks_otherwise_is_left(answer):
    async with answering(INFO, answer, INFO, b"+fine\r\n") as (wire, _):
        with contextlib.suppress(WireError):
            await wire.ask("PING")
        await asyncio.sleep(0.02)
        assert await wire.ask("PING") == b"fine"


async def test_a_server_that_became_a_replica_is_asked_nothing_more():
    readonly = b"-READONLY You can't write against a read only replica.\r\n"
    async with answering(INFO, readonly, INFO, b"+written\r\n") as (wire, _):
        assert isinstance(await wire.ask("SET", "a", "b"), Exception)
        assert await wire.ask("SET", "a", "b") == b"written"  # over a connection of its own


async def test_a_script_that_a_replica_refuses_shows_it_too():
    """As Redis 6.2 says it, in words of its own around those of the server."""
    writes = Script("return redis.call('SET', KEYS[1], ARGV[1])")
    with RedisServer() as server, RedisServer() as primary:
        async with RedisDoor(server.url) as door:
            assert await door.run(writes, ["{a}x"], ["y"]) == b"OK"
            link = door._wire._link
            server.ask("REPLICAOF", "127.0.0.1", str(primary.port))
            with pytest.raises(StateUnavailable):
                await door.run(writes, ["{a}x"], ["z"])
            server.ask("REPLICAOF", "NO", "ONE")
            assert await door.run(writes, ["{a}x"], ["z"]) == b"OK"
            assert door._wire._link is not link


async def test_an_attempt_that_is_given_up_fails_whoever_waits_and_cancels_nobody():
    async with answering() as (wire, _):  # connected, and never greeted
        waiting = [asking(wire, "PING") for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        waiting.append(asking(wire, "PING"))
        waiting[0].cancel()
        await wire.close()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [asyncio.CancelledError, WireError, WireError, WireError]


async def test_a_greeting_that_stays_away_is_heard_by_somebody():
    unheard: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with answering() as (plain, _):
        address = plain._address._replace(password="open sesame", database=3)
        wire = RedisWire(address, 0.05, lambda _: None)
        asked = asking(wire, "PING")
        await asyncio.wait((asked,))
        assert isinstance(asked.exception(), WireError)
        await wire.close()
        del asked, wire
        gc.collect()
    assert unheard == []


async def test_so_many_calls_are_under_way_and_no_more(monkeypatch):
    monkeypatch.setattr(redis_wire, "UNDER_WAY_MAX", 3)
    async with answering(INFO) as (wire, _):
        answers = await asyncio.gather(*(wire.ask("PING") for _ in range(5)), return_exceptions=True)
        assert [str(answer) for answer in answers].count("too many calls are under way") == 2


async def test_nothing_is_asked_after_the_end(redis_url):
    door = RedisDoor(redis_url)
    await door.run(ECHO, ["{a}x"], ["y"])
    await door.close()
    with pytest.raises(StateUnavailable):
        await door.run(ECHO, ["{a}x"], ["y"])


async def test_tls_is_spoken_and_verified(tmp_path):
    authority = found(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority.ca_file))
    async with answering(INFO, b"+safe\r\n", context=authority.server_context("good")) as (plain, _):
        address = plain._address
        wire = RedisWire(address._replace(ssl_context=trusting), 1.0, lambda _: None)
        assert await wire.ask("PING") == b"safe"
        await wire.close()
        suspicious = RedisWire(address._replace(ssl_context=ssl.create_default_context()), 1.0, lambda _: None)
        with pytest.raises(WireError):
            await suspicious.ask("PING")
        await suspicious.close()


async def test_whatever_the_server_does_an_answer_is_ones_own_or_none_and_nothing_is_left_behind():
    """Answers in pieces, late, half or never, connections lost, callers gone, time-outs mixed: seeded."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    serving: set[asyncio.Task[None]] = set()
    serving_writers: list[asyncio.StreamWriter] = []

    async def serve(reader, writer):
        commands = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65_536):
                commands.feed(piece)
                while (command := commands.gets()) is not False:
                    answer = INFO if command[0] == b"INFO" else nested(command[1])
                    mischief = dice.random()
                    if mischief < 0.004:
                        writer.write(answer[: dice.randrange(len(answer))])
                        writer.transport.abort() if dice.random() < 0.5 else writer.close()
                        return
                    if mischief < 0.012:
                        await asyncio.sleep(dice.random() * 0.1)
                    for byte in range(0, len(answer), step := dice.choice((1, 7, 1_000))):
                        writer.write(answer[byte : byte + step])
                        if mischief > 0.9:
                            await asyncio.sleep(0)

    def track(reader, writer):
        serving.add(asyncio.create_task(serve(reader, writer)))
        serving_writers.append(writer)

    server = await asyncio.start_server(track, "127.0.0.1", 0)
    wire = RedisWire(
        WireAddress("127.0.0.1", server.sockets[0].getsockname()[1], 0, None, None, None), 0.05, lambda _: None
    )
    outcomes: Counter[str] = Counter()

    async def call(number: int) -> None:
        begun_s, timeout_s = time.monotonic(), dice.choice((0.01, 0.03, 0.05))
        try:
            answer = await wire.ask("ECHO", number, timeout_s=timeout_s)
        except WireError:
            outcomes["none"] += 1
            assert time.monotonic() - begun_s < 1  # 100 ms with a connection to make; this machine may be busy
            return
        (own, (error, silence), length) = cast(list, answer)
        assert (own, str(error), silence, length) == (b"%d" % number, "ERR inside", None, number)
        outcomes["own"] += 1

    before = len(asyncio.all_tasks())
    for turn in range(25):
        calls = [asyncio.create_task(call(turn * 100 + number)) for number in range(100)]
        await asyncio.sleep(dice.random() * 0.02)
        for each in dice.sample(calls, 20):
            each.cancel()
        for ended in await asyncio.gather(*calls, return_exceptions=True):
            assert ended is None or isinstance(ended, asyncio.CancelledError), ended
    link = wire._link
    await wire.close()
    server.close()
    for each in serving:
        each.cancel()
    await asyncio.wait(serving)
    for writer in serving_writers:
        writer.transport.abort()
    assert outcomes["own"] > 50, outcomes
    assert outcomes["none"] > 0
    assert link is None or not link._waiting
    assert len(asyncio.all_tasks()) <= before


def nested(own: bytes) -> bytes:
    """An array that holds what was asked, an array with an error in it, and a number."""
    return b"*3\r\n$%d\r\n%b\r\n*2\r\n-ERR inside\r\n$-1\r\n:%b\r\n" % (len(own), own, own)


async def test_only_what_a_caller_waits_for_is_waited_for_awake(door, monkeypatch):
    begun = []
    monkeypatch.setattr("proxy.adapters.busy_poll.BusyPoll.begin", lambda _poll: begun.append(1))
    script = Script("return 1")
    await door.run(script, [], [])
    await door.run_each(script, [([], []), ([], [])])
    assert begun == []
    assert await door.run(script, [], [], awake=True) == 1
    assert begun == [1]
