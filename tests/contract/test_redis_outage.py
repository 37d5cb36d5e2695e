"""A Redis that stalls, dies, comes back empty or belongs to another release."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator

import pytest

from proxy.adapters.redis import SCHEMA_NAME, RedisDoor
from proxy.core.clock import Clock
from proxy.core.errors import InvalidApiKey, StateIncompatible, StateUnavailable
from proxy.core.types import InboundRequest
from proxy.identity.authenticator import Authenticator, make_virtual_key_cache
from proxy.identity.store import RedisVirtualKeyStore
from proxy.identity.tenant import TenantRecord
from proxy.identity.tenant_store import RedisTenantStore
from proxy.identity.tenants import Tenants, make_tenant_cache
from proxy.identity.virtual_key import UNKNOWN_PEPPER, PepperedDigest, digest, issue, mint
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import RedisLedgerStore
from proxy.settings.model import AuthSettings, Settings
from tests.redis_server import RedisServer
from tests.virtual_keys import by_digest

FAST_S = 2.0  # the bound is 250 ms; this machine may be busy
PEPPER = b"p" * 32
TOKEN = mint(bytes(range(32)))
KEY = issue(tenant_id="acme", token=TOKEN, virtual_key_id="vk_1", now_ms=1_000)
DIGEST = digest(TOKEN.reveal(), PEPPER)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


class SteppedClock(Clock):
    """A clock that a test moves by hand."""

    __slots__ = ("now_us",)

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def now_ms(self) -> int:
        return self.now_us // 1_000

    def monotonic_us(self) -> int:
        return self.now_us


def request() -> InboundRequest:
    headers = ((b"authorization", b"Bearer " + TOKEN.reveal().encode()),)
    return InboundRequest(
        method="POST",
        path="/v1/models",
        endpoint_path="/models",
        segments=("models",),
        query="",
        headers=headers,
        peer=None,
    )


async def refused_fast(awaitable) -> StateUnavailable:
    begun_s = time.monotonic()
    with pytest.raises(StateUnavailable) as refused:
        await awaitable
    assert time.monotonic() - begun_s < FAST_S
    return refused.value


@pytest.mark.parametrize("how", ["stalled before the first call", "stalled", "killed"])
async def test_every_call_says_unavailable_at_once_and_works_again_afterwards(server, how):
    async with RedisDoor(server.url) as door:
        virtual_keys, ledger = RedisVirtualKeyStore(door), RedisLedgerStore(door)
        if how != "stalled before the first call":
            await virtual_keys.put(KEY, DIGEST)
        if how == "killed":
            server.kill()
        else:
            server.stop()
        error = await refused_fast(virtual_keys.find([DIGEST]))
        assert error.retry_after_ms == 1_000
        assert str(server.port) not in error.message
        await refused_fast(virtual_keys.find([DIGEST, "other"]))
        await refused_fast(virtual_keys.list(None))
        await refused_fast(virtual_keys.revoke("vk_1", 1))
        tenants = RedisTenantStore(door)
        await refused_fast(tenants.put(TenantRecord("acme", 1, 1)))
        await refused_fast(tenants.find("acme"))
        await refused_fast(tenants.list())
        await refused_fast(tenants.delete("acme"))
        await refused_fast(ledger.append([SealedRow("acme", "r", b"1")]))
        await refused_fast(ledger.append([SealedRow("acme", "r", b"1"), SealedRow("other", "r", b"1")]))
        await refused_fast(door.ping())
        if how == "killed":
            server.restart()
        else:
            server.resume()
        await until_back(door)
        await ledger.append([SealedRow("acme", "r", b"1"), SealedRow("other", "r", b"1")])
        assert [data for _, data in await ledger.read("acme")] == [b"1"]
        assert list(await ledger.tenants()) == ["acme", "other"]


async def until_back(door: RedisDoor) -> None:
    for _ in range(100):
        with contextlib.suppress(StateUnavailable):
            await door.ping()
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the store did not come back")


async def test_a_command_is_sent_once_and_never_repeated(server):
    async with RedisDoor(server.url) as door:
        await door.call("SET", "counter", 0)
        server.stop()
        for _ in range(3):
            await refused_fast(door.call("INCRBY", "counter", 100))
        server.resume()
        await until_back(door)
        # Each may have been carried out after it was given up, and none more than once.
        assert await door.call("GET", "counter") in (b"0", b"100", b"200", b"300")


async def test_a_command_whose_connection_breaks_is_not_sent_again():
    received = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65_536):
            if b"INCRBY" in chunk:
                received.append(chunk)
                break  # carried out, perhaps; nobody will know
            writer.write(b"$1\r\n1\r\n" if b"GET" in chunk else b"+OK\r\n")
        writer.close()

    breaking = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = breaking.sockets[0].getsockname()[1]
    async with breaking, RedisDoor(f"redis://127.0.0.1:{port}/0") as door:
        await refused_fast(door.call("INCRBY", "counter", 100))
        await refused_fast(door.call_many([("INCRBY", "counter", 100)]))
    assert len(received) == 2


async def test_scripts_that_vanished_are_loaded_again(server):
    async with RedisDoor(server.url) as door:
        ledger = RedisLedgerStore(door)
        for number, lost in enumerate(["never loaded", "flushed", "restarted"]):
            if lost == "flushed":
                await door.call("SCRIPT", "FLUSH")
            elif lost == "restarted":
                server.restart()
                await until_back(door)
            await ledger.append([SealedRow(f"t{n}", f"r{number}", lost.encode()) for n in range(5)])
            for n in range(5):
                rows = await ledger.read(f"t{n}")
                assert rows[-1][1] == lost.encode()
            await ledger.append([SealedRow("t0", f"alone{number}", b"")])


async def test_a_flushed_store_gets_its_index_of_ledgers_back(server):
    async with RedisDoor(server.url) as door:
        ledger = RedisLedgerStore(door)
        await ledger.append([SealedRow("acme", "r1", b"1")])
        await door.call("FLUSHALL")
        await ledger.append([SealedRow("acme", "r2", b"2")])
        assert list(await ledger.tenants()) == ["acme"]


async def test_a_tenant_is_in_the_index_before_its_first_row(server):
    # The same user may not write the index: no row may be there that the index does not name.
    async with RedisDoor(server.url) as door:
        await door.ping()
        await door.call("ACL", "SETUSER", "default", "-sadd")
        ledger = RedisLedgerStore(door)
        with pytest.raises(StateUnavailable):
            await ledger.append([SealedRow("acme", "r1", b"1")])
        assert list(await ledger.read("acme")) == []


@pytest.mark.parametrize("calls_before", [0, 1, 2, 3])
async def test_a_crash_while_a_key_is_put_leaves_none_that_works_unlisted(server, calls_before):
    async with RedisDoor(server.url) as door:
        crashing = CrashingDoor(door, calls_before)
        with pytest.raises(Crash):
            await RedisVirtualKeyStore(crashing).put(KEY, DIGEST)
        sound = RedisVirtualKeyStore(door)
        if await by_digest(sound, [DIGEST]) is not None:
            assert list(await sound.list("acme")) == [KEY]
            assert list(await sound.list(None)) == [KEY]
            assert await sound.revoke("vk_1", 5) is not None
        await sound.put(KEY, DIGEST)  # again, from the start
        assert list(await sound.list(None)) == [KEY]
        assert await by_digest(sound, [DIGEST]) == KEY


@pytest.mark.parametrize("calls_before", [2, 3, 4])
async def test_a_crash_while_a_key_is_revoked_leaves_it_stopped(server, calls_before):
    async with RedisDoor(server.url) as door:
        sound = RedisVirtualKeyStore(door)
        await sound.put(KEY, DIGEST)
        with pytest.raises(Crash):
            await RedisVirtualKeyStore(CrashingDoor(door, calls_before)).revoke("vk_1", 7)
        stopped = await by_digest(sound, [DIGEST])
        assert stopped is not None
        assert stopped.revoked_at_ms == 7
        await sound.revoke("vk_1", 9)  # again: the listing learns of it
        assert [k.revoked_at_ms for k in await sound.list("acme")] == [7]


OLDER, NEWER = PepperedDigest(DIGEST, "aaa"), PepperedDigest("another", "bbb")


@pytest.mark.parametrize("revoked_first", [False, True])
@pytest.mark.parametrize("pepper", ["aaa", UNKNOWN_PEPPER])
@pytest.mark.parametrize("calls_before", range(7))
async def test_a_crash_while_a_digest_is_added_leaves_a_key_that_works_until_it_is_revoked(
    server, calls_before, pepper, revoked_first
):
    async with RedisDoor(server.url) as door:
        sound = RedisVirtualKeyStore(door)
        await sound.put(KEY, DIGEST, pepper)
        if revoked_first:
            await sound.revoke("vk_1", 7)
        with contextlib.suppress(Crash):
            await RedisVirtualKeyStore(CrashingDoor(door, calls_before)).add_digest("vk_1", OLDER, NEWER)
        for digests in ([DIGEST], ["another", DIGEST]):
            found = await by_digest(sound, digests)
            assert found is not None
            assert (found.revoked_at_ms is not None) is revoked_first
        alone = await by_digest(sound, ["another"])
        assert alone is None or (alone.revoked_at_ms is not None) is revoked_first
        if not revoked_first:
            await sound.revoke("vk_1", 7)
        for digest_ in (DIGEST, "another"):
            found = await by_digest(sound, [digest_])
            assert found is None or found.revoked_at_ms == 7
        await sound.add_digest("vk_1", OLDER, NEWER)  # again, from the start
        assert await sound.peppers(["vk_1"]) == [frozenset({"aaa", "bbb"})]
        again = await by_digest(sound, ["another"])
        assert again is not None
        assert again.revoked_at_ms == 7


@pytest.mark.parametrize("calls_before", range(9))
@pytest.mark.parametrize("added_before", range(2, 6))
async def test_a_crash_while_a_digest_is_dropped_leaves_a_key_that_works(server, added_before, calls_before):
    """Also where a gateway had crashed before, while it added the other one: what is named and does not work yet."""
    async with RedisDoor(server.url) as door:
        sound = RedisVirtualKeyStore(door)
        await sound.put(KEY, *OLDER)
        with contextlib.suppress(Crash):
            await RedisVirtualKeyStore(CrashingDoor(door, added_before)).add_digest("vk_1", OLDER, NEWER)
        with contextlib.suppress(Crash):
            await RedisVirtualKeyStore(CrashingDoor(door, calls_before)).drop_digest("vk_1", "aaa")
        assert await by_digest(sound, ["another", DIGEST]) == KEY
        assert await sound.find_by_id("vk_1") == KEY
        assert await sound.drop_digest("vk_1", "aaa")
        assert await sound.peppers(["vk_1"]) == [frozenset({"bbb"})]
        assert await by_digest(sound, ["another"]) == KEY
        assert await by_digest(sound, [DIGEST]) is None


@pytest.mark.parametrize("calls_before", [3, 4, 5, 6])
async def test_a_crash_while_a_key_of_two_digests_is_revoked_stops_it_where_both_are_known(server, calls_before):
    async with RedisDoor(server.url) as door:
        sound = RedisVirtualKeyStore(door)
        await sound.put(KEY, *OLDER)
        await sound.add_digest("vk_1", OLDER, NEWER)
        with pytest.raises(Crash):
            await RedisVirtualKeyStore(CrashingDoor(door, calls_before)).revoke("vk_1", 7)
        for digests in (["another", DIGEST], [DIGEST, "another"]):
            stopped = await by_digest(sound, digests)
            assert stopped is not None
            assert stopped.revoked_at_ms == 7
        await sound.revoke("vk_1", 9)
        for digest_ in (DIGEST, "another"):
            stopped = await by_digest(sound, [digest_])
            assert stopped is not None
            assert stopped.revoked_at_ms == 7
        assert [k.revoked_at_ms for k in await sound.list("acme")] == [7]


@pytest.mark.parametrize("calls_before", [0, 1, 2])
async def test_a_crash_while_a_tenant_is_put_leaves_none_that_is_unlisted(server, calls_before):
    record = TenantRecord("acme", 1, 1)
    async with RedisDoor(server.url) as door:
        with pytest.raises(Crash):
            await RedisTenantStore(CrashingDoor(door, calls_before)).put(record)
        sound = RedisTenantStore(door)
        found = await sound.find("acme")
        assert list(await sound.list()) == ([] if found is None else [record])
        await sound.put(record)  # again, from the start
        assert list(await sound.list()) == [record]


@pytest.mark.parametrize("calls_before", [0, 1, 2])
async def test_a_crash_while_a_tenant_is_deleted_leaves_none_that_is_unlisted(server, calls_before):
    record = TenantRecord("acme", 1, 1)
    async with RedisDoor(server.url) as door:
        sound = RedisTenantStore(door)
        await sound.put(record)
        with pytest.raises(Crash):
            await RedisTenantStore(CrashingDoor(door, calls_before)).delete("acme")
        found = await sound.find("acme")
        assert list(await sound.list()) == ([] if found is None else [record])
        await sound.delete("acme")  # again
        assert await sound.find("acme") is None
        assert await door.call("SCARD", "tollway:1:@:tenants") == 0


async def test_a_tenant_that_is_put_between_a_deletions_steps_stays_listed(server):
    record = TenantRecord("acme", 1, 1)
    async with RedisDoor(server.url) as door:
        sound = RedisTenantStore(door)

        class PuttingDoor(CrashingDoor):
            __slots__ = ()

            async def call(self, *command):
                if command[0] == "SREM":
                    await sound.put(record)
                return await door.call(*command)

        await sound.put(record)
        await RedisTenantStore(PuttingDoor(door, 0)).delete("acme")
        assert list(await sound.list()) == [record]


class Crash(Exception):
    """The process ended here."""


class CrashingDoor(RedisDoor):
    """A door through which only the first calls go."""

    __slots__ = ("_calls_left", "_sound")

    def __init__(self, sound: RedisDoor, calls_before: int) -> None:
        self._sound = sound
        self._calls_left = calls_before

    async def call(self, *command):
        if self._calls_left == 0:
            raise Crash
        self._calls_left -= 1
        return await self._sound.call(*command)


async def test_a_store_of_a_newer_release_is_refused(server):
    server.ask("SET", SCHEMA_NAME, "2")
    async with RedisDoor(server.url) as door:
        for _ in range(2):
            with pytest.raises(StateIncompatible, match="its schema is 2, this release knows 1"):
                await RedisVirtualKeyStore(door).put(KEY, DIGEST)
    assert server.ask("DBSIZE") == b":1\r\n"


async def test_the_first_call_writes_the_schema_down(server):
    async with RedisDoor(server.url) as door:
        await door.ping()
        assert await door.call("GET", "tollway:1:@:schema") == b"1"


async def clients(door: RedisDoor) -> list[bytes]:
    """The ids of the connections that the server has."""
    listed = await door.call("CLIENT", "LIST")
    assert isinstance(listed, bytes)
    return [line.split()[0] for line in listed.splitlines()]


async def test_callers_that_hang_up_cost_no_connection(server):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with RedisDoor(server.url) as door:
        before = await clients(door)
        for _ in range(40):
            calls = [asyncio.create_task(door.call("SET", "x", number)) for number in range(100)]
            await asyncio.sleep(dice.random() * 0.01)
            for call in calls:
                if dice.random() < 0.7:
                    call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert await clients(door) == before  # the same connection, which nobody had to give up
        # And no reply of a call that was given up is taken for another's.
        replies = await asyncio.gather(*(door.call("ECHO", f"{n}") for n in range(100)))
        assert replies == [f"{n}".encode() for n in range(100)]


@pytest.mark.parametrize("how", ["stalled", "killed"])
async def test_a_key_that_was_confirmed_goes_on_while_the_store_is_away(server, how):
    clock = SteppedClock()
    async with RedisDoor(server.url) as door:
        store = RedisVirtualKeyStore(door)
        await store.put(KEY, DIGEST)
        cache = make_virtual_key_cache()
        tenants = Tenants(Settings(), RedisTenantStore(door), make_tenant_cache(), clock)

        def authenticator() -> Authenticator:
            return Authenticator(
                auth=AuthSettings(), tenants=tenants, store=store, cache=cache, peppers=(PEPPER,), clock=clock
            )

        assert (await authenticator().authenticate(request())).tenant_id == "acme"
        if how == "killed":
            server.kill()
        else:
            server.stop()
        clock.now_us += 30_000_000
        assert (await authenticator().authenticate(request())).virtual_key_id == "vk_1"
        clock.now_us += 31_000_000
        await refused_fast(authenticator().authenticate(request()))
        if how == "killed":  # it came back and has lost the key: now that is known, and is a 401
            server.restart()
            await until_back(door)
            with pytest.raises(InvalidApiKey):
                await authenticator().authenticate(request())
        else:
            server.resume()
            await until_back(door)
            assert (await authenticator().authenticate(request())).tenant_id == "acme"
