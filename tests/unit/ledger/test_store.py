"""append.lua on a real Redis: its checks come before its first write."""

import pytest

from proxy.adapters.redis import RedisDoor, Script
from proxy.core.errors import StateUnavailable
from proxy.ledger import store as module
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import RedisLedgerStore

NAMES = ["tollway:1:{acme}:ledger", "tollway:1:{acme}:ledger-positions", "tollway:1:{acme}:ledger-last"]
APPEND = Script.beside(module.__file__, "append.lua")


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("FLUSHALL")
        yield opened


async def test_the_first_row_of_a_tenant_that_is_not_announced_is_not_written(door):
    assert await door.run(APPEND, NAMES, ["0", "r1", "data"]) == -1
    assert await door.call("EXISTS", *NAMES) == 0
    assert await door.run(APPEND, NAMES, ["1", "r1", "data"]) == 1
    assert await door.run(APPEND, NAMES, ["0", "r2", "data"]) == 1  # from now on it is known


async def test_it_says_how_many_rows_it_added(door):
    assert await door.run(APPEND, NAMES, ["1", "r1", "a", "r2", "b", "r1", "c"]) == 2
    assert await door.run(APPEND, NAMES, ["1", "r1", "a", "r3", "b"]) == 1
    assert await door.call("XRANGE", NAMES[0], "-", "+") == [
        [b"1-0", [b"row", b"a"]],
        [b"2-0", [b"row", b"b"]],
        [b"3-0", [b"row", b"b"]],
    ]


@pytest.mark.parametrize(
    ("names", "args"),
    [
        (NAMES, ["1"]),
        (NAMES, ["1", "r1"]),
        (NAMES, ["1", "r1", "a", "r2"]),
        (NAMES, ["2", "r1", "a"]),
        (NAMES, ["r1", "a", "b"]),
        (NAMES[:2], ["1", "r1", "a"]),
    ],
)
async def test_wrong_arguments_write_nothing(door, names, args):
    with pytest.raises(StateUnavailable):
        await door.run(APPEND, names, args)
    assert await door.call("EXISTS", *NAMES) == 0


async def test_positions_stay_exact_and_end_before_they_would_not_be(door):
    await door.call("SET", NAMES[2], 2**53 - 100)
    assert await door.run(APPEND, NAMES, ["0", "r1", "a"]) == 1
    assert await RedisLedgerStore(door).read("acme") == [(2**53 - 99, b"a")]
    await door.call("SET", NAMES[2], 2**53 - 2)
    with pytest.raises(StateUnavailable):
        await door.run(APPEND, NAMES, ["0", "r2", "a"])
    assert await door.call("XLEN", NAMES[0]) == 1


async def test_a_tenants_state_lies_under_its_own_tag(door):
    await door.call("DEL", "tollway:1:@:schema")  # written once a process
    await RedisLedgerStore(door).append([SealedRow("acme", "r1", b"a")])
    names = sorted(await door.call("KEYS", "*"))
    assert names == sorted([*(name.encode() for name in NAMES), b"tollway:1:@:ledger-tenants"])


class CountingDoor(RedisDoor):
    """Notes how many rows each script call carries."""

    rows_carried: list[int]

    async def run(self, script, redis_keys, args, timeout_s=0.25, *, awake=False):
        self.rows_carried.append((len(args) - 1) // 2)
        return await super().run(script, redis_keys, args, timeout_s, awake=awake)


async def test_no_script_call_carries_more_rows_than_the_bound(redis_url, door):
    async with CountingDoor(redis_url) as counting:
        counting.rows_carried = []
        await RedisLedgerStore(door).append([SealedRow("acme", "first", b"")])
        await RedisLedgerStore(counting).append([SealedRow("acme", f"r{number}", b"") for number in range(1_101)])
        assert counting.rows_carried == [500, 500, 101]
