"""claim.lua, advance.lua and let_go.lua on a real Redis: checks come first, and run ids do not stay for ever."""

import re

import pytest

from proxy.adapters.redis import RedisDoor, Script
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.ledger import store as module
from proxy.ledger.cursor import Cursor
from proxy.ledger.entry import SealedRow
from proxy.ledger.exporter import Exporter
from proxy.ledger.sink_file import FileSink
from proxy.ledger.store import RedisLedgerStore
from tests.ledger_crash import Observed
from tests.redis_server import RedisServer

CURSOR, ROWS, POSITIONS = (f"tollway:1:{{acme}}:{name}" for name in ("ledger-cursor", "ledger", "ledger-positions"))
CLAIM, ADVANCE, LET_GO = (Script.beside(module.__file__, f"{name}.lua") for name in ("claim", "advance", "let_go"))
NAMES = [CURSOR, ROWS, POSITIONS]
MOVE = ["0", "2", "1", "ab" * 32, "1", "3-0", "60000", "600000", "20000", "2-0", "x"]


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("FLUSHALL")
        yield opened


@pytest.fixture
async def store(door):
    found = RedisLedgerStore(door)
    await found.append([SealedRow("acme", f"r{number}", b"x") for number in range(1, 5)])
    return found


@pytest.mark.parametrize(
    ("script", "names", "args"),
    [
        (CLAIM, [CURSOR], ["a"]),
        (CLAIM, [CURSOR], ["", "1000"]),
        (CLAIM, [CURSOR], ["a", "0"]),
        (CLAIM, [CURSOR], ["a", "soon"]),
        (CLAIM, NAMES, ["a", "1000"]),
        (ADVANCE, NAMES, ["1", *MOVE[:-1]]),
        (ADVANCE, NAMES[:2], ["1", *MOVE]),
        (ADVANCE, NAMES, ["1", "0", "far", *MOVE[2:]]),
        (ADVANCE, NAMES, ["1", *MOVE[:6], "0", *MOVE[7:]]),
        (LET_GO, [CURSOR], []),
    ],
)
async def test_wrong_arguments_write_nothing(door, store, script, names, args):
    await store.claim("acme", "a", 60_000)
    before = await door.call("HGETALL", CURSOR)
    with pytest.raises(StateUnavailable):
        await door.run(script, names, args)
    assert await door.call("HGETALL", CURSOR) == before
    assert await door.call("XLEN", ROWS) == 4


async def test_it_moves_once_and_says_so_again(door, store):
    fence = str((await store.claim("acme", "a", 60_000)).fence)
    assert [await door.run(ADVANCE, NAMES, [fence, *MOVE]) for _ in range(2)] == [1, 2]
    assert await door.run(ADVANCE, NAMES, ["7", "1", "4", "2", *MOVE[3:-2], "4-0", "x"]) == 0  # another fence
    assert await door.run(ADVANCE, NAMES, [fence, "1", "4", "2", *MOVE[3:-2], "4-0", "y"]) == 0  # another row
    assert [entry[0] for entry in await door.call("XRANGE", ROWS, "-", "+")] == [b"3-0", b"4-0"]
    assert await door.call("ZRANGE", POSITIONS, 0, -1) == [b"r1", b"r2", b"r3", b"r4"]  # remembered for a while


async def test_only_an_index_that_nothing_needs_expires(door, store):
    claim = await store.claim("acme", "a", 60_000)
    assert claim is not None
    assert await store.advance(claim, Cursor(2, 1, "ab" * 32), b"x", 60_000)
    assert await door.call("PTTL", POSITIONS) == -1  # rows wait
    claim = await store.claim("acme", "a", 60_000)
    assert claim is not None
    assert await store.advance(claim, Cursor(4, 2, "cd" * 32), b"x", 60_000)
    left_ms = await door.call("PTTL", POSITIONS)
    assert 600_000 < left_ms <= 1_200_001  # beyond any repeat of an append
    await store.append([SealedRow("acme", "r5", b"x")])
    assert await door.call("PTTL", POSITIONS) == -1
    await door.call("PEXPIRE", POSITIONS, 60_000)  # as if another script than append.lua had added rows
    await store.append([SealedRow("acme", "r5", b"x")])
    assert await door.call("PTTL", POSITIONS) > 0
    await door.call("XADD", ROWS, "6-0", "row", "x")
    claim = await store.claim("acme", "a", 60_000)
    assert await store.advance(claim, Cursor(5, 3, "ef" * 32), b"x", 60_000)
    assert await door.call("PTTL", POSITIONS) == -1


async def test_what_is_forgotten_at_once_is_bounded(door, monkeypatch):
    monkeypatch.setattr(module, "FORGET_MAX", 10)
    store = RedisLedgerStore(door, remember_ms=0)
    await store.append([SealedRow("acme", f"r{number}", b"x") for number in range(1, 32)])
    claim = await store.claim("acme", "a", 60_000)
    assert claim is not None
    known = []
    for pages, position in enumerate((25, 26, 27, 28, 29, 30), 1):
        after = Cursor(position, pages, f"{pages:064x}")
        assert await store.advance(claim, after, b"x", 60_000)
        claim = claim._replace(cursor=after)
        known.append(await door.call("ZCARD", POSITIONS))
    assert known == [31, 21, 11, 4, 3, 2]  # ten a call, and then what the call before last exported


async def test_a_fence_grows_with_each_holder_and_stays_exact(door, store):
    fences = []
    for holder in ("a", "a", "b", "c"):
        claim = await store.claim("acme", holder, 60_000)
        fences.append(claim.fence)
        if holder != "a" or len(fences) == 2:
            await store.let_go(claim)
    assert fences[0] == fences[1] < fences[2] < fences[3]
    await door.call("HSET", CURSOR, "fence", 2**53 - 1)
    with pytest.raises(StateUnavailable):
        await store.claim("acme", "d", 60_000)


async def test_rows_leave_a_redis_whose_memory_is_full(tmp_path):
    """They may be what filled it."""
    with RedisServer("--maxmemory", "8mb", "--maxmemory-policy", "noeviction") as server:
        async with RedisDoor(server.url) as door:
            store = RedisLedgerStore(door)
            count = 0
            with pytest.raises(StateUnavailable):
                for count in range(100):
                    await store.append([SealedRow("acme", f"r{count}-{n}", b"x" * 1_000) for n in range(250)])
            assert 5 < count < 99
            said = re.search(r"used_memory:(\d+)", str(await door.call("INFO", "memory")))
            assert said is not None
            used_bytes = int(said[1])
            await door.call("CONFIG", "SET", "maxmemory", used_bytes - 500_000)
            before = await store.unexported_bytes()
            exporter = Exporter(store, FileSink(tmp_path), Observed(), Clock(), "a")
            for _ in range(10):
                turn = await exporter.run_once()
                assert turn.failures == ()
            assert list(await store.backlog()) == []
            assert before > 2_000_000
            await store.append([SealedRow("acme", "afterwards", b"x")])
