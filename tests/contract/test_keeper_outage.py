"""Redis slow, gone, restarted, emptied, full, under load: sums equal what callers were told.

Small in `make test`. `TOLLWAY_OUTAGE_CALLS=20000` makes the loads longer; `TOLLWAY_STORM_SEED=N` repeats one.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from proxy.admission.answers import Admitted, CapRefused, Grown
from proxy.admission.store import SETTLE_IN_MS
from proxy.core.errors import StateUnavailable
from tests.keepers import Account, Kept, Place, bill, demand, keeping, load, redis_place, until
from tests.redis_server import RedisServer

CALLS = int(os.environ.get("TOLLWAY_OUTAGE_CALLS", "1500"))
CALLERS = 12
pytestmark = pytest.mark.timeout(60 + CALLS / 50)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("TOLLWAY_STORM_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    return random.Random(seed)


async def restarted_empty(server: RedisServer) -> None:
    await asyncio.to_thread(server.restart)


async def emptied(server: RedisServer) -> None:
    await asyncio.to_thread(server.ask, "FLUSHALL")


async def stopped(server: RedisServer) -> None:
    server.stop()
    await asyncio.sleep(2)
    server.resume()


async def without_scripts(server: RedisServer) -> None:
    await asyncio.to_thread(server.ask, "SCRIPT", "FLUSH")


async def gone_for_a_while(server: RedisServer) -> None:
    server.kill()
    await asyncio.sleep(1)
    await asyncio.to_thread(server.restart)


@pytest.mark.parametrize("fault", [stopped, without_scripts, emptied, restarted_empty, gone_for_a_while])
async def test_the_sums_are_what_callers_were_told(server, dice, tmp_path, fault):
    await sums_hold(server.url, dice, tmp_path, partial(fault, server), fault.__name__)


async def test_the_sums_hold_when_a_replica_that_lags_is_promoted(dice, tmp_path):
    """What the old server acknowledged last is unknown to the new one: it had stopped listening before."""
    with RedisServer() as primary, RedisServer("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        async with Forwarder(primary.port) as address:
            await until(partial(has_replica, primary))

            async def promoted() -> None:
                replica.ask("REPLICAOF", "NO", "ONE")
                await asyncio.sleep(0.05)  # what is acknowledged meanwhile is lost
                primary.kill()
                address.lead_to(replica.port)

            await sums_hold(address.url, dice, tmp_path, promoted, "promoted")


def has_replica(server: RedisServer) -> bool:
    return b"state=online" in server.ask("INFO", "replication")


class Forwarder:
    """An address that leads to a Redis, and later to another, as a load balancer's or a service's name does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Forwarder":
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        self._cut()
        await asyncio.sleep(0.05)

    def lead_to(self, port: int) -> None:
        self._port = port
        self._cut()

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def sums_hold(url: str, dice: random.Random, tmp_path: Path, fault: Callable[[], Awaitable[None]], name: str):
    """Two gateways of two machines, under load, for a cap that does not fit all of it."""
    accounts = [Account(), Account()]
    cap_nusd = CALLS * 300  # of 1,000 held and 437 charged for each on average
    async with AsyncExitStack() as stack:
        kept = []
        for number in range(2):
            place = await stack.enter_async_context(redis_place(url, tmp_path / f"machine-{number}", 1_500))
            kept.append(await stack.enter_async_context(keeping(place)))
        loads = [
            load(kept[n % 2].keeper, accounts[n % 2], dice, name=f"c{n}", calls=CALLS // CALLERS, cap_nusd=cap_nusd)
            for n in range(CALLERS)
        ]
        under_load = asyncio.gather(*loads)
        await until(lambda: sum(len(account.admitted) for account in accounts) >= CALLS // 10)
        await fault()
        await under_load
        await all_settled(kept, place)
        charged_nusd = sum(account.total_nusd for account in accounts)
        assert await place.total() == (charged_nusd, 0, 0)
        assert 0 < charged_nusd <= cap_nusd
        assert all(account.refused > 0 for account in accounts)  # the cap was met, after the fault
        assert max(account.slowest_s for account in accounts) < 2  # 300 ms, on a busy machine
        await rows_are_those_of(accounts, place)
        show(name, accounts)


async def all_settled(kept: list[Kept], place: Place) -> None:
    for each in kept:
        await until(partial(admits, each), 20)
        assert await each.keeper.drain(20) == 0
        assert each.keeper.open_reservations == 0


def admits(kept: Kept) -> bool:
    return kept.keeper.failure is None


async def rows_are_those_of(accounts: list[Account], place: Place) -> None:
    """Every acknowledged admission that was charged has exactly one row, and what was let go has none."""
    rows = await place.rows()
    assert len(rows) == len(set(rows))
    assert set(rows) == {f"row {run_id}" for account in accounts for run_id in account.charged_nusd}


def show(name: str, accounts: list[Account]) -> None:
    for each in accounts:
        counts = f"{len(each.admitted)} admitted, {each.refused} refused by the cap, {each.unavailable} unavailable"
        print(f"{name}: {counts}, {each.total_nusd} nano-dollars; slowest answer {each.slowest_s * 1_000:.0f} ms")


async def test_a_redis_that_comes_back_with_all_it_had_charges_nothing_twice(dice, tmp_path):
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        account = Account()
        async with redis_place(server.url, tmp_path / "journal") as place, keeping(place) as kept:
            loads = [load(kept.keeper, account, dice, name=f"c{n}", calls=40) for n in range(5)]
            under_load = asyncio.gather(*loads)
            await asyncio.sleep(0.1)
            await restarted_empty(server)  # not empty: it reads its file
            await under_load
            await all_settled([kept], place)
            assert await place.total() == (account.total_nusd, 0, 0)
            await rows_are_those_of([account], place)


async def test_what_was_under_way_holds_its_money_again_after_the_store_was_emptied(server, tmp_path):
    async with redis_place(server.url, tmp_path / "journal") as place, keeping(place) as kept:
        for name in ("a", "b", "settled"):
            await kept.keeper.admit(demand(name, cap_nusd=3_000))
        kept.keeper.settle(demand("settled"), bill("settled", 100))
        assert await kept.keeper.drain(5) == 0
        await emptied(server)
        await until(lambda: kept.keeper.failure is not None)
        with pytest.raises(StateUnavailable, match="is being posted again") as refused:
            await kept.keeper.admit(demand("early"))
        assert refused.value.retry_after_ms == 1_000
        await until(lambda: kept.keeper.failure is None)
        assert await place.total() == (100, 2_000, 2)
        # 2,100 of 3,000 are spoken for: not even one more fits.
        assert not isinstance(await kept.keeper.admit(demand("c", cap_nusd=3_000)), Admitted)
        kept.keeper.settle(demand("a"), bill("a", 7))
        kept.keeper.settle(demand("b"), bill("b", 8))
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (115, 0, 0)


async def test_what_a_hold_grew_by_counts_again_where_a_promoted_replica_knows_only_its_beginning(tmp_path):
    with RedisServer() as primary, RedisServer("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        async with (
            Forwarder(primary.port) as address,
            redis_place(address.url, tmp_path / "journal") as place,
            keeping(place) as kept,
        ):
            await until(partial(has_replica, primary))
            await kept.keeper.admit(demand("a", cap_nusd=3_000))
            await until(lambda: b"{acme}:run:a:0" in replica.ask("KEYS", "*run:a*"))
            replica.ask("REPLICAOF", "NO", "ONE")
            assert await kept.keeper.grow(demand("a", cap_nusd=3_000), 2_500, b"worst a, grown") == Grown(2_500)
            primary.kill()
            address.lead_to(replica.port)
            await until(lambda: kept.keeper.failure is not None)
            await until(lambda: kept.keeper.failure is None)
            assert await place.total() == (0, 2_500, 1)
            # 500 are left: what held no more than before would let 1,000 in.
            assert isinstance(await kept.keeper.admit(demand("b", cap_nusd=3_000)), CapRefused)
            kept.keeper.settle(demand("a"), bill("a", 2_400))
            assert await kept.keeper.drain(5) == 0
            assert await place.total() == (2_400, 0, 0)


async def test_nothing_is_admitted_before_the_other_machines_had_their_time(server, tmp_path):
    """One of two machines learns late that Redis was emptied: what it knows counts before anybody is admitted."""
    async with (
        redis_place(server.url, tmp_path / "a", SETTLE_IN_MS) as place,
        redis_place(server.url, tmp_path / "b", SETTLE_IN_MS) as other_place,
        keeping(place) as kept,
        keeping(other_place) as other,
    ):
        await other.keeper.admit(demand("big", cap_nusd=1_500))
        other.keeper.settle(demand("big"), bill("big", 1_000))
        assert await other.keeper.drain(5) == 0
        await emptied(server)
        kept.keeper._look.set()  # it is asked at once; the other one within its second
        refused = 0
        for number in range(1_000):
            try:
                answer = await kept.keeper.admit(demand(f"small-{number}", cap_nusd=1_500))
            except StateUnavailable:
                refused += 1
                await asyncio.sleep(0.02)
            else:
                break
        assert refused > 0
        assert not isinstance(answer, Admitted)
        assert await place.total() == (1_000, 0, 0)


async def test_a_journal_of_a_process_that_is_gone_is_posted_to_the_emptied_store(server, tmp_path):
    async with redis_place(server.url, tmp_path / "journal") as place:
        async with keeping(place, lease_s=1) as kept:
            for name in ("settled", "waiting", "open"):
                await kept.keeper.admit(demand(name, lease_ms=1_000))
            await kept.keeper.admit(demand("open", tenant_id="other", lease_ms=1_000))
            kept.keeper.settle(demand("settled"), bill("settled", 10))
            assert await kept.keeper.drain(5) == 0
            server.kill()
            kept.keeper.settle(demand("waiting"), bill("waiting", 20))
            await asyncio.sleep(0.1)
            kept.vanish()
        await restarted_empty(server)
        async with keeping(place, lease_s=1) as after:
            # What was open is put back, and nobody keeps its lease.
            await until(lambda: total_is(place, (1_030, 0, 0)))
            await until(lambda: total_is(place, (1_000, 0, 0), "other"))  # each tenant's lease runs out for itself
            assert sorted(await place.rows()) == ["row settled", "row waiting", "worst open"]
            assert await place.rows("other") == ["worst open"]
            assert sorted(await place.ledger.tenants()) == ["acme", "other"]
            assert after.keeper.failure is None


async def total_is(place: Place, expected: tuple[int, int, int], tenant_id: str = "acme") -> bool:
    return await place.total(tenant_id) == expected


async def test_a_redis_out_of_memory_admits_nothing_and_what_ends_waits(server, tmp_path):
    async with redis_place(server.url, tmp_path / "journal") as place, keeping(place) as kept:
        await kept.keeper.admit(demand("a"))
        await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StateUnavailable):
            await kept.keeper.admit(demand("b"))
        kept.keeper.settle(demand("a"), bill("a", 5))
        assert await kept.keeper.drain(1) > 0
        await asyncio.to_thread(server.ask, "CONFIG", "SET", "maxmemory", "0")
        assert await kept.keeper.drain(5) == 0
        assert await place.total() == (5, 0, 0)
        await until(lambda: kept.keeper.failure is None)
        assert isinstance(await kept.keeper.admit(demand("c")), Admitted)
