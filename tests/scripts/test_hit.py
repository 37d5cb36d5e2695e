"""hit.lua as it ships, on a real Redis: its names, arguments, times to live, refused writes, and what it waits for."""

import asyncio

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.admission.hits import HitAdmitted, HitDemand
from proxy.admission.scripts import Scripts
from proxy.admission.store import RedisAdmissionStore
from proxy.admission.terms import Bucket, ScopeDemand
from proxy.core.errors import StateUnavailable
from proxy.ledger.store import RedisLedgerStore
from tests.admission_stores import adjusted
from tests.redis_server import RedisServer

PREFIX = "tollway:1:{acme}:"
LEDGERS = "tollway:1:@:ledger-tenants"
HIT = Scripts.load().hit
TENANT = ScopeDemand("tenant", Bucket(1_000_000, 60_000_000))
USER = ScopeDemand("user:u", Bucket(1_000_000, 60_000_000))
NAMES = [PREFIX + rest for rest in ("keyring", "virtual-keys-revoked", "cache", "use:tenant")]
ARGS = ["r1", "", "m", "500", "row", "1000", "2000"]


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("FLUSHALL")
        yield opened


def demand(run_id: str, *scopes: ScopeDemand, tenant_id: str = "acme", row: bytes = b"row") -> HitDemand:
    return HitDemand(tenant_id, run_id, "m", 500, None, scopes, row)


async def everything(door: RedisDoor) -> dict[bytes, object]:
    names = await door.call("KEYS", "*")
    assert isinstance(names, list)
    return {name: await door.call("DUMP", name) for name in names if isinstance(name, bytes)}


async def test_it_needs_no_epoch_and_writes_a_row_and_the_buckets_alone(door):
    store = RedisAdmissionStore(door, adjusted)
    assert isinstance(await store.admit_hit(demand("r1", TENANT, USER)), HitAdmitted)
    names = {name.decode() for name in await everything(door)}
    own = {"use:tenant", "use:user:u", "ledger", "ledger-positions", "ledger-last"}
    assert names - {"tollway:1:@:schema"} == {PREFIX + rest for rest in own} | {LEDGERS}
    assert await door.call("HKEYS", PREFIX + "use:tenant") == [b"r"]
    for scope in ("tenant", "user:u"):
        left_ms = await door.call("PTTL", f"{PREFIX}use:{scope}")
        assert isinstance(left_ms, int)
        assert 86_000_000 < left_ms <= 86_400_000


async def test_a_bucket_that_fills_for_longer_than_a_day_is_remembered_until_it_is_full(door):
    slow = ScopeDemand("tenant", Bucket(100_000_000_000, 300_000_000_000))
    answer = await RedisAdmissionStore(door, adjusted).admit_hit(demand("r1", slow))
    assert isinstance(answer, HitAdmitted)
    left_ms = await door.call("PTTL", PREFIX + "use:tenant")
    assert isinstance(left_ms, int)
    assert 99_900_000 < left_ms <= 100_000_000


async def test_its_row_has_the_ledgers_own_shape_and_its_instants_are_exact(door):
    store, row = RedisAdmissionStore(door, adjusted), bytes(range(256))
    answer = await store.admit_hit(demand("r1", TENANT, row=row))
    assert isinstance(answer, HitAdmitted)
    assert answer.requests_tat_us == (answer.now_us + 1_000_000,)
    assert (await store.read("acme", "tenant")).requests_tat_us == answer.requests_tat_us[0]
    ledger = RedisLedgerStore(door)
    assert await ledger.read("acme") == [(1, row)]
    assert await ledger.tenants() == ["acme"]


async def test_the_exporter_hears_of_a_tenant_again_once_the_store_was_emptied(door):
    store = RedisAdmissionStore(door, adjusted)
    await store.epoch()
    await store.admit_hit(demand("r1"))
    await door.call("FLUSHALL")
    await store.epoch()  # as the keeper's watch asks
    await store.admit_hit(demand("r2"))
    assert await RedisLedgerStore(door).tenants() == ["acme"]


# ── arguments ────────────────────────────────────────────────────────────────────────────


def with_arg(number: int, value: str) -> list[str]:
    return [*ARGS[: number - 1], value, *ARGS[number:]]


async def test_these_arguments_are_right(door):
    assert (await door.run(HIT, NAMES, ARGS))[0] == 0
    assert (await door.run(HIT, NAMES[:3], ARGS[:5]))[0] == 0


@pytest.mark.parametrize(
    ("names", "args"),
    [
        (NAMES, ARGS[:-1]),
        (NAMES, [*ARGS, "more"]),
        (NAMES[:3], ARGS),
        (NAMES[:2], ARGS[:5]),
        ([*NAMES, PREFIX + "use:user:u"], ARGS),
        ([*NAMES[:3], "tollway:1:{other}:use:tenant"], ARGS),
        ([*NAMES[:3], PREFIX + "run:r1:0"], ARGS),
        (["no-tenant", *NAMES[1:]], ARGS),
        *((NAMES, with_arg(4, bad)) for bad in ("-1", "1.5", "nan", "inf", "", "x", str(2**53))),
        *((NAMES, with_arg(number, bad)) for number in (6, 7) for bad in ("-1", "0.5", "", "x", str(2**53))),
    ],
)
async def test_wrong_arguments_write_nothing(door, names, args):
    before = await everything(door)
    with pytest.raises(StateUnavailable):
        await door.run(HIT, names, args)
    assert await everything(door) == before


@pytest.mark.parametrize(
    "asked",
    [
        demand("a:b"),
        demand("r1", tenant_id="a}b"),
        demand("r1", TENANT, TENANT),
        demand("r1", ScopeDemand("tenant")),
        demand("r1")._replace(asked_at_ms=-1),
    ],
)
async def test_a_demand_that_cannot_be_meant_is_never_sent(door, asked):
    with pytest.raises(ValueError, match=r".+"):
        await RedisAdmissionStore(door, adjusted).admit_hit(asked)
    assert await door.call("EXISTS", LEDGERS) == 0


# ── writes that are refused, and a store that does not answer ────────────────────────────


async def test_a_row_that_cannot_be_appended_leaves_the_buckets_full(door):
    store = RedisAdmissionStore(door, adjusted)
    # The last position was lost and the stream was not: Redis refuses an entry below its last one.
    await door.call("XADD", PREFIX + "ledger", "9-0", "row", "x")
    with pytest.raises(StateUnavailable):
        await store.admit_hit(demand("r1", TENANT))
    assert await door.call("EXISTS", PREFIX + "use:tenant", PREFIX + "ledger-positions") == 0
    await door.call("SET", PREFIX + "ledger-last", 9)
    assert isinstance(await store.admit_hit(demand("r1", TENANT)), HitAdmitted)


async def test_a_full_memory_refuses_the_whole_step():
    with RedisServer("--maxmemory-policy", "noeviction") as server:
        async with RedisDoor(server.url) as door:
            store = RedisAdmissionStore(door, adjusted)
            await store.admit_hit(demand("r1", TENANT))
            before = await everything(door)
            await door.call("CONFIG", "SET", "maxmemory", 1)
            with pytest.raises(StateUnavailable):
                await store.admit_hit(demand("r2", TENANT))
            await door.call("CONFIG", "SET", "maxmemory", 0)
            assert await everything(door) == before


async def test_one_whose_answer_was_lost_may_be_asked_for_again(door):
    """Nobody has to; it would take nothing, and add no row."""
    store = RedisAdmissionStore(door, adjusted)
    first = await store.admit_hit(demand("r1", TENANT))
    await store.admit_hit(demand("r2", TENANT))
    again = await store.admit_hit(demand("r1", TENANT, row=b"other"))
    assert isinstance(first, HitAdmitted)
    assert isinstance(again, HitAdmitted)
    assert again.requests_tat_us == (first.requests_tat_us[0] + 1_000_000,)  # what the second one took
    assert [data for _, data in await RedisLedgerStore(door).read("acme")] == [b"row", b"row"]


async def test_a_store_that_does_not_answer_is_given_up_in_time():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            store, loop = RedisAdmissionStore(door, adjusted), asyncio.get_running_loop()
            await store.admit_hit(demand("r1"))
            server.stop()
            begun_s = loop.time()
            with pytest.raises(StateUnavailable):
                await store.admit_hit(demand("r2"))
            assert loop.time() - begun_s < 2  # the bound is 250 ms; this machine may be busy
            server.resume()
