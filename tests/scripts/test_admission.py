"""The scripts as they ship, on a real Redis with its own clock: arguments, names, times to live, refused writes."""

import asyncio
from datetime import UTC

import pytest

from proxy.adapters.redis import RedisDoor, Script
from proxy.admission.answers import (
    Admitted,
    CapRefused,
    Known,
    ReleaseCode,
    SettleCode,
    Settlement,
    State,
    WrongEpoch,
    WrongWindow,
)
from proxy.admission.book import ScopeState
from proxy.admission.caps import demand_of
from proxy.admission.ending import Bill
from proxy.admission.scripts import Scripts
from proxy.admission.store import IDLE_MS, RedisAdmissionStore
from proxy.admission.terms import Demand, RunStep, ScopeDemand, WindowKind, outline_of, touched_by
from proxy.core.clock import Clock
from proxy.core.errors import StateIncompatible, StateUnavailable
from proxy.core.limits import ScopeLimits
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import RedisLedgerStore
from tests.admission_stores import adjusted
from tests.redis_server import RedisServer

PREFIX = "tollway:1:{acme}:"
RUN = PREFIX + "run:r1:0"
SCRIPTS = Scripts.load()
BILL = Bill(cost_nusd=3, tokens=None, row=b"row")
TOTAL_10 = ScopeLimits(total_nusd=10)


@pytest.fixture
async def door(redis_url):
    async with RedisDoor(redis_url) as opened:
        await opened.call("FLUSHALL")
        yield opened


@pytest.fixture
async def store(door):
    opened = RedisAdmissionStore(door, adjusted)
    await opened.adopt("acme", await opened.epoch())
    return opened


def demand(name: str, *, limits: ScopeLimits = TOTAL_10, **changed) -> Demand:
    scope = demand_of("tenant", limits, now_ms=Clock().now_ms(), zone=UTC)
    values = {
        "run_step": RunStep("acme", name, 0),
        "held_nusd": 5,
        "expected_tokens": 0,
        "outline": outline_of((scope,)),
        "lease_ms": 30_000,
        "virtual_key_id": None,
        "row": b"worst",
    }
    return Demand(**{**values, **changed})


async def admit(store: RedisAdmissionStore, asked: Demand):
    return await store.admit(asked, await store.epoch())


# ── names and times to live ──────────────────────────────────────────────────────────────


async def test_a_tenants_state_lies_under_its_own_tag(door, store):
    await admit(store, demand("r1"))
    await store.settle(RunStep("acme", "r1", 0), BILL)
    await admit(store, demand("r2"))
    names = {name.decode() for name in await door.call("KEYS", "*")}
    own = {"epoch", "leases", "use:tenant", "run:r1:0", "run:r2:0", "ledger", "ledger-positions", "ledger-last"}
    shared = {name for name in names if not name.startswith(PREFIX)}
    assert {name.removeprefix(PREFIX) for name in names - shared} == own
    shards = {name for name in shared if name.startswith("tollway:1:@:lease-tenants:")}
    assert len(shards) == 1
    assert shared - shards <= {"tollway:1:@:epoch", "tollway:1:@:ledger-tenants", "tollway:1:@:schema"}


async def test_what_ended_is_kept_for_a_while_and_what_is_pending_for_ever(door, store):
    async def ttl_s(run_id: str) -> int:
        left_ms = await door.call("PTTL", f"{PREFIX}run:{run_id}:0")
        assert isinstance(left_ms, int)
        return -1 if left_ms < 0 else round(left_ms / 1_000)

    for run_id in ("settled", "released"):
        await admit(store, demand(run_id, held_nusd=1))
    await admit(store, demand("expired", held_nusd=1, lease_ms=1))
    await asyncio.sleep(0.01)
    await store.settle(RunStep("acme", "settled", 0), BILL)
    await store.release(RunStep("acme", "released", 0))
    await store.release(RunStep("acme", "forestalled", 0))
    assert await store.sweep() == 1
    await admit(store, demand("pending", held_nusd=1))
    assert isinstance(await admit(store, demand("denied", held_nusd=11)), CapRefused)
    assert await ttl_s("pending") == -1
    assert await ttl_s("settled") == await ttl_s("released") == await ttl_s("forestalled") == 3_600
    assert await ttl_s("expired") == 86_400
    assert await ttl_s("denied") == 10


async def test_a_tombstone_holds_no_row(door, store):
    await admit(store, demand("a", row=b"x" * 10_000))
    await admit(store, demand("b", row=b"x" * 10_000, lease_ms=1))
    await asyncio.sleep(0.01)
    await store.settle(RunStep("acme", "a", 0), BILL)
    await store.sweep()
    for run_id in ("a", "b"):
        assert await door.call("HEXISTS", f"{PREFIX}run:{run_id}:0", "row") == 0


async def test_an_adjustment_is_asked_for_once_a_reservation_has_expired(door, store):
    await admit(store, demand("r1", lease_ms=1))
    await asyncio.sleep(0.01)
    assert await store.sweep() == 1
    before = await everything(door)
    assert await door.run(SCRIPTS.settle, [RUN], ["3", "-1", "row", "", ""]) == [7, 0, 5]
    assert await everything(door) == before
    ended = [(RunStep("acme", name, 0), Bill(3, None, b"row %b 3" % name.encode())) for name in ("nobody", "r1")]
    unknown = Settlement(SettleCode.UNKNOWN, 0, 0)
    assert await store.settle_all(ended) == [unknown, Settlement(SettleCode.CORRECTED, 3, 5)]
    assert await store.settle_all(ended) == [unknown, Settlement(SettleCode.ALREADY_SETTLED, 3, 5)]
    assert (await store.read("acme", "tenant")).periods["t"] == (3, 0)
    assert [data for _, data in await RedisLedgerStore(door).read("acme")] == [b"worst", b"adjustment r1 -2"]


async def test_rows_take_the_ledgers_own_shape_and_positions(door, store):
    ledger = RedisLedgerStore(door)
    await ledger.append([SealedRow("acme", "earlier", b"1")])
    await admit(store, demand("r1"))
    await store.settle(RunStep("acme", "r1", 0), Bill(3, None, bytes(range(256))))
    await ledger.append([SealedRow("acme", "later", b"3"), SealedRow("acme", "r1", b"other")])
    assert await ledger.read("acme") == [(1, b"1"), (2, bytes(range(256))), (3, b"3")]
    assert await ledger.tenants() == ["acme"]


# ── numbers ──────────────────────────────────────────────────────────────────────────────


async def test_large_amounts_stay_exact(door, store):
    cap_nusd = 4_000_000_000_000_000
    held_nusd = 3_999_999_999_999_997
    limits = ScopeLimits(total_nusd=cap_nusd, per_24h_nusd=cap_nusd)
    answer = await admit(store, demand("a", limits=limits, held_nusd=held_nusd))
    assert isinstance(answer, Admitted)
    assert answer.figures[2:] == (held_nusd, held_nusd)
    for _ in range(2):  # the second is read from the tombstone
        refused = await admit(store, demand("b", limits=limits, held_nusd=4))
        assert isinstance(refused, CapRefused)
        assert (refused.cap_nusd, refused.held_nusd, refused.needed_nusd) == (cap_nusd, held_nusd, 4)
        assert refused.kind is WindowKind.ROLLING_24H
    settled = await store.settle(RunStep("acme", "a", 0), Bill(3_999_999_999_999_996, None, b""))
    assert settled[1:] == (3_999_999_999_999_996, held_nusd)
    assert (await store.read("acme", "tenant")).periods["t"] == (3_999_999_999_999_996, 0)


async def test_an_uncapped_total_goes_on_beyond_what_a_double_holds(door, store):
    scope = demand_of("tenant", ScopeLimits(), now_ms=0, zone=UTC, counted=(WindowKind.TOTAL,))
    await door.call("HSET", PREFIX + "use:tenant", "t:s", 2**53 + 1)
    await admit(store, demand("a", outline=outline_of((scope,)), held_nusd=5))
    await store.settle(RunStep("acme", "a", 0), BILL)
    assert (await store.read("acme", "tenant")).periods["t"] == (2**53 + 4, 0)


ARGS = ["admit", "E", "", "5", "0", "1000", "0", str(2**53 - 1), '[["tenant",0,["t"]]]']
ARGS += ['[[-1,-1,-1,-1,-1,[["t",10,0]]]]', "row"]
KEYS = [RUN, PREFIX + "leases", PREFIX + "epoch", PREFIX + "virtual-keys-revoked", PREFIX + "use:tenant"]


def with_arg(number: int, value: str) -> list[str]:
    return [*ARGS[: number - 1], value, *ARGS[number:]]


async def test_these_arguments_are_right(door):
    await door.call("SET", PREFIX + "epoch", "E")
    assert (await door.run(SCRIPTS.admit, KEYS, ARGS))[0] == 1


@pytest.mark.parametrize(
    ("script", "names", "args"),
    [
        (SCRIPTS.admit, KEYS, ARGS[:-1]),
        (SCRIPTS.admit, KEYS, [*ARGS, "more"]),
        (SCRIPTS.admit, KEYS[:-1], ARGS),
        (SCRIPTS.admit, [*KEYS[:-1], PREFIX + "use:other"], ARGS),
        (SCRIPTS.admit, ["no-tenant", *KEYS[1:]], ARGS),
        (SCRIPTS.admit, KEYS, with_arg(1, "force")),
        *((SCRIPTS.admit, KEYS, with_arg(4, bad)) for bad in ("-1", "1.5", "nan", "inf", "", "x", str(2**53))),
        (SCRIPTS.admit, KEYS, with_arg(4, str(2**53 - 1))),  # the cap and the hold leave the counters' range
        *((SCRIPTS.admit, KEYS, with_arg(5, bad)) for bad in ("-1", "150119988")),
        *((SCRIPTS.admit, KEYS, with_arg(6, bad)) for bad in ("0", "-1", "x")),
        *((SCRIPTS.admit, KEYS, with_arg(7, bad)) for bad in ("-1", "x")),
        *((SCRIPTS.admit, KEYS, with_arg(9, bad)) for bad in ("", "{", "[]", '[["tenant",0,["t"]],["x",0,[]]]')),
        *((SCRIPTS.admit, KEYS, with_arg(10, bad)) for bad in ("", "[]", '[[-1,-1,-1,-1,-1,[["t",-2,0]]]]')),
        (SCRIPTS.admit, KEYS, with_arg(10, '[[-1,-1,-1,-1,-1,[["t",0.5,0]]]]')),
        (SCRIPTS.settle, [RUN], ["3", "-1", "row", "adjustment"]),
        *((SCRIPTS.settle, [RUN], [bad, "-1", "row", "", ""]) for bad in ("-1", "1.5", "x", str(2**53))),
        *((SCRIPTS.settle, [RUN], ["3", bad, "row", "", ""]) for bad in ("-2", "x", "150119988")),
        (SCRIPTS.settle, ["tollway:1:@:run"], ["3", "-1", "row", "", ""]),
        (SCRIPTS.release, [RUN], ["more"]),
        (SCRIPTS.release, [RUN, RUN], []),
        (SCRIPTS.extend, [PREFIX + "leases"], ["1000"]),
        *((SCRIPTS.extend, [PREFIX + "leases"], [bad, "r1:0"]) for bad in ("0", "-1", "x")),
        (SCRIPTS.grow, [RUN], ["5", "[]"]),
        (SCRIPTS.grow, [RUN], ["-1", "[]", "row"]),
        (SCRIPTS.sweep, [PREFIX + "other"], ["5"]),
        (SCRIPTS.sweep, [PREFIX + "leases"], ["x"]),
        (SCRIPTS.epoch, ["tollway:1:@:epoch"], ["", ""]),
        (SCRIPTS.probe, ["tollway:1:@:probe"], []),
        (SCRIPTS.probe, ["tollway:1:@:probe"], ["0"]),
        (SCRIPTS.announce, ["tollway:1:@:lease-tenants:0"], ["", ""]),
        (SCRIPTS.announce, ["tollway:1:@:lease-tenants:0"], ["acme", "x"]),
    ],
)
async def test_wrong_arguments_write_nothing(door, script: Script, names, args):
    await door.call("SET", PREFIX + "epoch", "E")
    before = await everything(door)
    with pytest.raises(StateUnavailable):
        await door.run(script, names, args)
    assert await everything(door) == before


async def everything(door: RedisDoor) -> dict[bytes, object]:
    names = await door.call("KEYS", "*")
    assert isinstance(names, list)
    return {name: await door.call("DUMP", name) for name in names if isinstance(name, bytes)}


@pytest.mark.parametrize(
    "changed",
    [
        {"run_step": RunStep("acme", "", 0)},
        {"run_step": RunStep("acme", "a:b", 0)},
        {"run_step": RunStep("acme", "a}b", 0)},
        {"run_step": RunStep("acme", "r" * 129, 0)},
        {"run_step": RunStep("acme", "r1", -1)},
        {"held_nusd": -1},
        {"held_nusd": 2**53},
        {"expected_tokens": 100_000_001},
        {"lease_ms": 0},
        {"run_step": RunStep("a}b", "r1", 0)},
    ],
)
async def test_a_demand_that_cannot_be_meant_is_never_sent(store, changed):
    with pytest.raises(ValueError, match=r".+"):
        await admit(store, demand("r1", **changed))


def test_no_demand_names_a_scope_twice():
    with pytest.raises(ValueError, match="named once"):
        outline_of((ScopeDemand("tenant"), ScopeDemand("tenant")))


# ── writes that are refused ──────────────────────────────────────────────────────────────


async def test_a_row_that_cannot_be_appended_leaves_the_money_where_it_is(door, store):
    await admit(store, demand("r1"))
    # The last position was lost and the stream was not: Redis refuses an entry below its last one.
    await door.call("XADD", PREFIX + "ledger", "9-0", "row", "x")
    with pytest.raises(StateUnavailable):
        await store.settle(RunStep("acme", "r1", 0), BILL)
    assert (await store.read("acme", "tenant")).periods["t"] == (0, 5)
    await door.call("SET", PREFIX + "ledger-last", 9)
    assert (await store.settle(RunStep("acme", "r1", 0), BILL)).code is SettleCode.SETTLED
    assert (await store.read("acme", "tenant")).periods["t"] == (3, 0)


async def test_a_full_memory_refuses_whole_steps_only():
    with RedisServer("--maxmemory-policy", "noeviction") as server:
        async with RedisDoor(server.url) as door:
            store = RedisAdmissionStore(door, adjusted)
            await store.adopt("acme", await store.epoch())
            await admit(store, demand("r1"))
            await admit(store, demand("late", lease_ms=1, held_nusd=1))
            await asyncio.sleep(0.01)
            before = await everything(door)
            await door.call("CONFIG", "SET", "maxmemory", 1)
            for step in (
                store.probe(),
                admit(store, demand("r2")),
                store.settle(RunStep("acme", "r1", 0), BILL),
                store.release(RunStep("acme", "r1", 0)),
                store.post(RunStep("acme", "r3", 0), touched_by(demand("r3").scopes), BILL),
                store.grow(demand("r1"), 6, b""),
                store.sweep(),
            ):
                with pytest.raises(StateUnavailable):
                    await step
            await door.call("CONFIG", "SET", "maxmemory", 0)
            assert await everything(door) == before
            await store.probe()
            assert await store.sweep() == 1


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_may_throw_money_away_is_refused(policy):
    with RedisServer("--maxmemory-policy", policy) as server:
        async with RedisDoor(server.url) as door:
            with pytest.raises(StateIncompatible, match=f"maxmemory-policy {policy}"):
                await RedisAdmissionStore(door, adjusted).check()


async def test_a_redis_that_keeps_everything_is_taken(store):
    await store.check()


# ── time ─────────────────────────────────────────────────────────────────────────────────


async def test_a_window_of_another_time_is_wrong_and_says_the_time(store):
    epoch, now_ms = await store.epoch(), Clock().now_ms()
    for offset_ms in (-3_600_000, 3_600_000):
        scope = demand_of("tenant", ScopeLimits(per_hour_nusd=10), now_ms=now_ms + offset_ms, zone=UTC)
        answer = await store.admit(demand("r1", outline=outline_of((scope,))), epoch)
        assert isinstance(answer, WrongWindow)
        assert abs(answer.now_ms - now_ms) < 60_000
    assert isinstance(await store.admit(demand("r1", limits=ScopeLimits(per_hour_nusd=10)), epoch), Admitted)


# ── epochs ───────────────────────────────────────────────────────────────────────────────


async def test_a_tenant_is_admitted_only_in_an_epoch_that_it_adopted(door):
    store = RedisAdmissionStore(door, adjusted)
    epoch = await store.epoch()
    assert epoch == await store.epoch() == await RedisAdmissionStore(door, adjusted).epoch()
    assert isinstance(await store.admit(demand("r1"), epoch), WrongEpoch)
    assert await door.call("EXISTS", RUN, PREFIX + "use:tenant") == 0
    assert await store.adopt("acme", epoch)
    assert isinstance(await store.admit(demand("r1"), epoch), Admitted)
    assert await RedisLedgerStore(door).tenants() == ["acme"]


async def test_an_emptied_store_admits_nothing_until_it_is_whole(door, store):
    before = await store.epoch()
    await admit(store, demand("r1"))
    await door.call("FLUSHALL")
    assert isinstance(await store.admit(demand("r2"), before), WrongEpoch)
    assert not await store.adopt("acme", before)
    assert (await store.settle(RunStep("acme", "r1", 0), BILL)).code is SettleCode.UNKNOWN
    after = await store.epoch()
    assert after != before
    assert isinstance(await store.admit(demand("r2"), after), WrongEpoch)
    posted = await store.post(RunStep("acme", "r1", 0), touched_by(demand("r1").scopes), BILL)
    assert posted.code is SettleCode.POSTED
    assert await store.adopt("acme", after)
    refused = await store.admit(demand("r2", held_nusd=8), after)
    assert isinstance(refused, CapRefused)
    assert refused.spent_nusd == 3
    assert [data for _, data in await RedisLedgerStore(door).read("acme")] == [b"row"]


async def test_a_restarted_server_ends_the_epoch_though_it_lost_nothing():
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        async with RedisDoor(server.url) as door:
            store = RedisAdmissionStore(door, adjusted)
            before = await store.epoch()
            await store.adopt("acme", before)
            assert isinstance(await store.admit(demand("r1"), before), Admitted)
            assert door.server_changes == 0
            server.restart()
            for _ in range(100):
                try:
                    await door.ping()
                    break
                except StateUnavailable:
                    await asyncio.sleep(0.05)
            assert door.server_changes == 1
            assert await door.call("GET", PREFIX + "epoch") == before.encode()  # the file had it
            assert isinstance(await store.admit(demand("r2"), before), WrongEpoch)
            after = await store.epoch()
            assert after != before
            assert isinstance(await store.admit(demand("r2"), after), WrongEpoch)  # not adopted yet
            assert await store.adopt("acme", after)
            assert isinstance(await store.admit(demand("r1"), after), Admitted)  # it was pending all the while
            assert (await store.read("acme", "tenant")).pending == 1


async def test_an_answer_of_a_server_that_has_just_changed_is_not_believed(door, store):
    epoch = await store.epoch()

    class ChangingDoor(RedisDoor):
        async def run(self, script, redis_keys, args, timeout_s=0.25, *, awake=False):
            reply = await super().run(script, redis_keys, args, timeout_s, awake=awake)
            self.server_changes += 1  # noticed by another connection while this call was under way
            return reply

    async with ChangingDoor(f"redis://{server_address(door)}/0") as changing:
        other = RedisAdmissionStore(changing, adjusted)
        other._announced_s["acme"] = float("inf")
        with pytest.raises(StateUnavailable):
            await other.admit(demand("r1"), epoch)
        assert isinstance(await other.admit(demand("r2"), epoch), WrongEpoch)
    assert await store.release(RunStep("acme", "r1", 0)) is ReleaseCode.RELEASED


def server_address(door: RedisDoor) -> str:
    address = door._wire._address
    return f"{address.host}:{address.port}"


# ── repeats ──────────────────────────────────────────────────────────────────────────────


class LosingDoor(RedisDoor):
    """Carries a script out, and loses so many of its answers."""

    answers_lost = 0

    async def run(self, script, redis_keys, args, timeout_s=0.25, *, awake=False):
        reply = await super().run(script, redis_keys, args, timeout_s, awake=awake)
        if self.answers_lost > 0:
            self.answers_lost -= 1
            raise StateUnavailable("lost")
        return reply


async def test_an_unknown_outcome_is_asked_again_once_under_the_same_name(redis_url, door, store):
    async with LosingDoor(redis_url) as losing:
        other = RedisAdmissionStore(losing, adjusted)
        epoch = await other.epoch()
        await other.admit(demand("first", held_nusd=0), epoch)  # announces the tenant
        losing.answers_lost = 1
        answer = await other.admit(demand("r1"), epoch)
        assert isinstance(answer, Admitted)
        assert answer.repeated
        losing.answers_lost = 2
        with pytest.raises(StateUnavailable):
            await other.admit(demand("r2"), epoch)
        assert (await store.read("acme", "tenant")).periods["t"] == (0, 10)
        assert await store.release(RunStep("acme", "r2", 0)) is ReleaseCode.RELEASED
        assert await other.admit(demand("r2"), epoch) == Known(State.RELEASED)


async def test_of_settlements_asked_for_together_one_whose_correction_is_lost_costs_the_others_nothing(
    redis_url, door, store
):
    for name, lease_ms in (("late", 1), ("pending", 30_000), ("later", 1)):
        await admit(store, demand(name, held_nusd=3, lease_ms=lease_ms))
    await asyncio.sleep(0.01)
    await store.sweep()
    assert await store.pending("acme") == 1
    ended = [(RunStep("acme", name, 0), Bill(2, None, b"row %b 2" % name.encode())) for name in ("late", "pending")]
    async with LosingDoor(redis_url) as losing:
        other = RedisAdmissionStore(losing, adjusted)
        losing.answers_lost = 1
        lost, settled = await other.settle_all(ended)
        assert isinstance(lost, StateUnavailable)
        assert settled == Settlement(SettleCode.SETTLED, 2, 3)
        again = Settlement(SettleCode.ALREADY_SETTLED, 2, 3)
        assert await other.settle_all(ended) == [again, again]
    rows = [data for _, data in await RedisLedgerStore(door).read("acme")]
    assert sorted(rows) == [b"adjustment late -1", b"row pending 2", b"worst", b"worst"]


async def test_an_admission_is_given_up_in_time():
    with RedisServer() as server:
        async with RedisDoor(server.url) as door:
            store = RedisAdmissionStore(door, adjusted)
            epoch = await store.epoch()
            await store.adopt("acme", epoch)
            loop = asyncio.get_running_loop()
            server.stop()
            begun_s = loop.time()
            with pytest.raises(StateUnavailable):
                await store.admit(demand("r1"), epoch)
            assert loop.time() - begun_s < 2  # the bound is 300 ms; this machine may be busy
            server.resume()


# ── the index of tenants with leases ─────────────────────────────────────────────────────


async def test_a_tenant_is_in_the_index_before_it_has_a_lease(door, store):
    epoch = await store.epoch()
    for shard in range(16):
        await door.call("DEL", f"tollway:1:@:lease-tenants:{shard}")
    fresh = RedisAdmissionStore(door, adjusted)
    await fresh.admit(demand("r1", lease_ms=1), epoch)
    await asyncio.sleep(0.01)
    assert await fresh.sweep() == 1
    assert (await fresh.read("acme", "tenant")).pending == 0


async def test_an_idle_tenant_leaves_the_index_and_a_busy_one_does_not(door, store):
    await admit(store, demand("r1"))
    (shard,) = await door.call("KEYS", "tollway:1:@:lease-tenants:*")
    now_ms = Clock().now_ms()
    await door.call("ZADD", shard, now_ms - IDLE_MS - 60_000, "acme")
    await store.sweep()
    assert await door.call("ZSCORE", shard, "acme") is not None  # it has a lease
    await store.release(RunStep("acme", "r1", 0))
    await door.call("ZADD", shard, now_ms - IDLE_MS + 60_000, "acme")
    await store.sweep()
    assert await door.call("ZSCORE", shard, "acme") is not None  # announced a while ago
    await door.call("ZADD", shard, now_ms - IDLE_MS - 60_000, "acme")
    await store.sweep()
    assert await door.call("ZSCORE", shard, "acme") is None


async def test_an_index_that_was_lost_with_the_rest_is_made_again(door, store):
    await admit(store, demand("r1"))  # this process has announced the tenant a moment ago
    await door.call("FLUSHALL")
    epoch = await store.epoch()
    assert await store.adopt("acme", epoch)
    await store.admit(demand("r2", lease_ms=1), epoch)
    await asyncio.sleep(0.01)
    assert await store.sweep() == 1


async def test_a_pass_expires_more_than_one_call_may(store):
    epoch = await store.epoch()
    limits = ScopeLimits(total_nusd=1_000)
    asked = [demand(f"r{n}", held_nusd=1, lease_ms=60_000, limits=limits) for n in range(150)]
    await asyncio.gather(*(store.admit(each, epoch) for each in asked))
    await store.extend("acme", [each.run_step for each in asked], 1)
    await asyncio.sleep(0.01)
    assert await store.sweep() == 150
    state = await store.read("acme", "tenant")
    assert (state.pending, state.periods["t"]) == (0, (150, 0))
    assert await store.pending("acme") == 0


async def test_what_is_not_there_reads_as_nothing(store):
    assert await store.read("acme", "user:nobody") == ScopeState()
    assert await store.pending("acme") == 0
