"""Kept answers, over Redis and over SQLite: what was kept is found, by its tenant alone, until its time is over."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator

import pytest

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.adapters.sqlite_schema import CACHE_MIGRATIONS
from proxy.cache import embedded
from proxy.cache.book import CacheBook, RedisCacheBook
from proxy.cache.embedded import EmbeddedCacheBook, EmbeddedCacheStore
from proxy.cache.entry import CacheEntry, EntryHead, EntryUnreadable, pack
from proxy.cache.store import CacheStore, Listed, RedisCacheStore
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from tests.redis_server import RedisServer

TTL_MS = 60_000


def stored(alias="m", asked_at_ms=1, body=b"{}"):
    return b"".join(
        pack(
            CacheEntry(EntryHead(alias, asked_at_ms, 5), b"c" * 32, (), body, "p/m", "p", "m", "gateway"), sealed=False
        )
    )


@pytest.fixture(params=["redis", "sqlite"])
async def pair(request, tmp_path, patient) -> AsyncIterator[tuple[CacheStore, CacheStore]]:
    """Two processes' views of one store."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        one, other = RedisDoor(url), RedisDoor(url)
        await one.call("FLUSHALL")
        opened: tuple[CacheStore, CacheStore] = (RedisCacheStore(one), RedisCacheStore(other))
    else:
        doors = [SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS) for _ in range(2)]
        opened = (EmbeddedCacheStore(doors[0], 1 << 30, Clock()), EmbeddedCacheStore(doors[1], 1 << 30, Clock()))
    yield opened
    for each in opened:
        await each.close()


@pytest.fixture(params=["redis", "sqlite"])
async def book(request, tmp_path, patient) -> AsyncIterator[tuple[CacheBook, CacheBook]]:
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        async with RedisDoor(url) as one, RedisDoor(url) as other:
            await one.call("FLUSHALL")
            yield RedisCacheBook(one), RedisCacheBook(other)
    else:
        async with SqliteDoor(tmp_path / "tollway.db") as one, SqliteDoor(tmp_path / "tollway.db") as other:
            yield EmbeddedCacheBook(one), EmbeddedCacheBook(other)


async def listed(store: CacheStore, tenant_id: str | None = None) -> list[Listed]:
    return sorted([each async for page in store.entries(tenant_id) for each in page])


async def test_what_is_kept_is_found_by_its_tenant_and_name_alone(pair):
    one, other = pair
    await one.keep("acme", "n", None, b"kept", TTL_MS)
    assert await other.find("acme", "n") == b"kept"
    assert await other.find("acm", "n") is None
    assert await other.find("acme", "n-1") is None


async def test_what_is_kept_again_takes_its_place(pair):
    one, other = pair
    await one.keep("acme", "n", None, b"old", TTL_MS)
    await other.keep("acme", "n", None, b"\x00\xffnew\r\n", TTL_MS)
    assert await one.find("acme", "n") == b"\x00\xffnew\r\n"
    assert [each.name for each in await listed(one)] == ["n"]


async def test_its_time_is_over(pair):
    one, other = pair
    await one.keep("acme", "n", None, stored(), 30)
    await asyncio.sleep(0.06)
    assert await other.find("acme", "n") is None
    assert await other.find_or_claim("acme", "n", "run_1", TTL_MS) is True
    assert await listed(other) == []


async def test_a_name_is_claimed_by_one_until_it_is_kept(pair):
    one, other = pair
    assert await one.find_or_claim("acme", "n", "run_1", TTL_MS) is True
    assert await one.find_or_claim("acme", "n", "run_1", TTL_MS) is True  # the same one asks again
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) is False
    assert await other.find_or_claim("acme", "m", "run_2", TTL_MS) is True
    assert await other.find_or_claim("other", "n", "run_2", TTL_MS) is True
    await one.keep("acme", "n", "run_1", b"kept", TTL_MS)
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) == b"kept"
    await other.drop("acme", ["n"])
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) is True


async def test_a_claim_is_let_go_by_whoever_has_it(pair):
    one, other = pair
    await one.find_or_claim("acme", "n", "run_1", TTL_MS)
    await other.let_go("acme", "n", "run_2")
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) is False
    await one.let_go("acme", "n", "run_1")
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) is True


async def test_a_claims_time_is_over(pair):
    one, other = pair
    await one.find_or_claim("acme", "n", "run_1", 30)
    await asyncio.sleep(0.06)
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) is True


async def test_whoever_keeps_without_the_claim_leaves_it(pair):
    one, other = pair
    await one.find_or_claim("acme", "n", "run_1", TTL_MS)
    await other.keep("acme", "n", "run_2", b"kept", TTL_MS)
    await other.drop("acme", ["n"])
    assert await other.find_or_claim("acme", "n", "run_2", TTL_MS) is False


async def test_of_many_who_ask_at_once_one_claims(pair):
    answers = await asyncio.gather(
        *(pair[number % 2].find_or_claim("acme", "n", f"run_{number}", TTL_MS) for number in range(50))
    )
    assert sorted(answers) == [False] * 49 + [True]


async def test_the_list_shows_whose_and_how_large_and_how_old(pair):
    one, other = pair
    data = {(tenant, f"n{number}"): stored(f"m{number}", number) for tenant in ("acme", "other") for number in range(3)}
    for (tenant, name), each in data.items():
        await one.keep(tenant, name, None, each, TTL_MS)
    await one.keep("acme", "odd", None, b"no entry", TTL_MS)
    expected = [
        Listed(tenant, name, len(each), EntryHead(f"m{name[1:]}", int(name[1:]), 5))
        for (tenant, name), each in data.items()
    ]
    odd = Listed("acme", "odd", 8, EntryHead("", 0, None))
    assert await listed(other) == sorted([*expected, odd])
    assert await listed(other, "other") == sorted(each for each in expected if each.tenant_id == "other")
    assert await listed(other, "nobody") == []


async def test_a_long_list_has_pages(pair):
    names = {f"n{number}" for number in range(1_203)}
    await asyncio.gather(*(pair[0].keep("acme", name, None, stored(), TTL_MS) for name in names))
    pages = [page async for page in pair[1].entries("acme")]
    assert {each.name for page in pages for each in page} == names
    assert len(pages) > 1


async def test_what_is_dropped_is_gone(pair):
    one, other = pair
    for name in "abc":
        await one.keep("acme", name, None, stored(), TTL_MS)
    await one.keep("other", "a", None, stored(), TTL_MS)
    assert await other.drop("acme", ["a", "b", "x"]) == 2
    assert await other.drop("acme", []) == 0
    assert [(each.tenant_id, each.name) for each in await listed(one)] == [("acme", "c"), ("other", "a")]


async def test_megabytes_go_there_and_back(pair):
    data = bytes(range(256)) * 8_192
    await pair[0].keep("acme", "n", None, data, TTL_MS)
    assert await pair[1].find("acme", "n") == data


@pytest.mark.parametrize(
    ("tenant_id", "name"), [("a}:x", "n"), ("", "n"), ("acme", ""), ("acme", "*"), ("acme", "a:b"), ("acme", "N")]
)
async def test_no_name_reaches_into_anothers_place(pair, tenant_id, name):
    with pytest.raises(ValueError, match=r"tenant|name"):
        await pair[0].find(tenant_id, name)
    with pytest.raises(ValueError, match=r"tenant|name"):
        await pair[0].keep(tenant_id, name, None, b"x", TTL_MS)


async def test_a_secret_is_made_once(book):
    one, other = book
    secrets = set(await asyncio.gather(*(book[number % 2].secret("acme") for number in range(20))))
    assert len(secrets) == 1
    assert len(secrets.pop()) == 32
    assert await one.secret("acme") == await other.secret("acme") != await one.secret("other")


async def test_what_is_no_entry_is_not_listed(redis_url):
    """Others may write to a cache's server."""
    async with RedisDoor(redis_url) as door:
        await door.call("FLUSHALL")
        store = RedisCacheStore(door)
        await store.keep("acme", "n", None, stored(), TTL_MS)
        await door.call("HSET", "tollway:1:{acme}:cache-entry:hash", "a", "b")
        await door.call("SET", "tollway:1:{acme}:cache-entry:Odd:name", stored())
        await door.call("SET", "tollway:1:{acme}:cache-entry:empty", b"")  # as one that has gone meanwhile
        await door.call("SET", "tollway:2:{acme}:cache-entry:later", stored())
        for tenant_id in ("acme", None):
            assert [each.name for each in await listed(store, tenant_id)] == ["n"]


async def test_whoever_asks_after_a_tenants_end_is_given_another_secret(book):
    one, other = book
    before, others = await one.secret("acme"), await one.secret("other")
    await other.end("acme", 1_000)
    after = {await each.secret("acme") for each in (one, other)}
    assert len(after) == 1
    assert before not in after
    assert await other.secret("other") == others


# ── what others wrote ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
async def test_what_is_longer_than_an_entry_can_be_is_not_read(kind, request, tmp_path, patient):
    if kind == "redis":
        door = RedisDoor(request.getfixturevalue("redis_url"))
        await door.call("FLUSHALL")
        store: CacheStore = RedisCacheStore(door, 1_000)
    else:
        store = EmbeddedCacheStore(SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS), 1 << 30, Clock(), 1_000)
    await store.keep("acme", "n", None, b"x" * 1_000, TTL_MS)
    assert await store.find("acme", "n") == await store.find_or_claim("acme", "n", "run_1", TTL_MS) == b"x" * 1_000
    await store.keep("acme", "n", None, b"x" * 1_001, TTL_MS)
    for look in (store.find("acme", "n"), store.find_or_claim("acme", "n", "run_1", TTL_MS)):
        with pytest.raises(EntryUnreadable):
            await look
    await store.drop("acme", ["n"])
    assert await store.find_or_claim("acme", "n", "run_2", TTL_MS) is True  # nobody has claimed it before
    await store.close()


async def test_what_is_no_string_is_no_outage(redis_url, patient):
    async with RedisDoor(redis_url) as door:
        await door.call("FLUSHALL")
        store = RedisCacheStore(door)
        for place in ("cache-entry", "cache-claim"):
            await door.call("LPUSH", f"tollway:1:{{acme}}:{place}:n", "x")
        for look in (store.find("acme", "n"), store.find_or_claim("acme", "n", "run_1", TTL_MS)):
            with pytest.raises(EntryUnreadable):
                await look
        await store.keep("acme", "n", "run_1", b"kept", TTL_MS)
        assert await store.find("acme", "n") == b"kept"
        await store.drop("acme", ["n"])
        assert await store.find_or_claim("acme", "n", "run_1", TTL_MS) is False


async def test_a_claim_ends_where_there_is_no_room_for_its_entry_and_none_is_made(patient):
    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        async with RedisDoor(server.url) as door:
            store = RedisCacheStore(door)
            names = [f"n{number}" for number in range(10)]
            for name in names:
                assert await store.find_or_claim("acme", name, "run_1", TTL_MS) is True
            refused = 0
            for name in names:
                try:
                    await store.keep("acme", name, "run_1", b"x" * 500_000, TTL_MS)
                except StateUnavailable:
                    refused += 1
            assert refused > 3  # a script that has written may write on, whatever the bound is
            claims = await door.call("KEYS", "*cache-claim*")
            assert claims == []


# ── SQLite's bound ───────────────────────────────────────────────────────────────────────


async def test_those_kept_longest_ago_make_room(tmp_path):
    clock = Clock()
    store = EmbeddedCacheStore(SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS), 3 * 1_200, clock)
    for name in "abc":
        await store.keep("acme", name, None, b"x" * 1_000, TTL_MS)
        await asyncio.sleep(0.002)
    await store.keep("other", "d", None, b"x" * 1_000, TTL_MS)
    assert [await store.find("acme", name) is None for name in "abc"] == [True, False, False]
    await store.keep("acme", "b", None, b"x" * 900, TTL_MS)  # in its own place: nothing else goes
    assert await store.find("acme", "c") is not None
    await store.keep("acme", "e", None, b"x" * 10_000, TTL_MS)  # more than all of it
    assert await store.find("acme", "e") is None
    assert await store.find("acme", "c") is not None
    await store.close()


async def test_the_file_does_not_grow_beyond_its_bound(tmp_path):
    door = SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS)
    store = EmbeddedCacheStore(door, 1 << 20, Clock())
    for number in range(600):
        await store.keep("acme", f"n{number}", None, b"x" * 9_000, TTL_MS)
    held = await door.read(lambda connection: connection.execute("SELECT size_bytes FROM cache_size").fetchone()[0])
    pages = await door.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    size = await door.read(lambda connection: connection.execute("PRAGMA page_size").fetchone()[0])
    assert held <= 1 << 20
    assert pages * size < 2 << 20
    await store.close()


async def test_one_makes_room_for_itself_among_many_and_their_rows_count(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_EVICTED_MAX", 6)
    store = EmbeddedCacheStore(SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS), 2_000, Clock())
    for number in range(20):
        await store.keep("acme", f"n{number}", None, b"x", TTL_MS)
    assert len(await listed(store)) == 9  # of 201 bytes each
    await store.keep("acme", "large", None, b"x" * 900, TTL_MS)
    assert len(await listed(store)) == 5
    assert await store.find("acme", "large") is not None
    for number in range(20, 40):
        await store.keep("acme", f"n{number}", None, b"x", TTL_MS)
    # As many go as one step may delete; what needs more of them is not kept.
    await store.keep("acme", "larger", None, b"x" * 1_700, TTL_MS)
    assert await store.find("acme", "larger") is None
    assert len(await listed(store)) == 3
    await store.keep("acme", "larger", None, b"x" * 1_700, TTL_MS)
    assert [each.name for each in await listed(store)] == ["larger"]
    await store.close()


async def test_what_is_over_is_deleted_when_something_else_is_kept(tmp_path):
    door = SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS)
    store = EmbeddedCacheStore(door, 1 << 20, Clock())
    for name in "abc":
        await store.keep("acme", name, None, stored(), 20)
        await store.find_or_claim("acme", f"claimed-{name}", "run_1", 20)
    await store.find_or_claim("acme", "under-way", "run_1", TTL_MS)
    await asyncio.sleep(0.05)
    await store.keep("acme", "d", None, stored(), TTL_MS)

    def count(connection: sqlite3.Connection) -> tuple[int, int]:
        entries, claims = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("cache_entries", "cache_claims")
        )
        return entries, claims

    assert await door.read(count) == (1, 1)
    await store.close()


async def test_a_file_of_the_first_release_takes_claims_and_keeps_its_answers(tmp_path, patient):
    old = SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS[:1])
    async with old:
        await old.run(_fill_as_the_first_release_did)
    store = EmbeddedCacheStore(SqliteDoor(tmp_path / "cache.db", CACHE_MIGRATIONS), 1 << 30, Clock())
    assert await store.find("acme", "kept") == b"data"
    assert await store.find_or_claim("acme", "asked", "run_1", TTL_MS) is True
    assert await store.find_or_claim("acme", "asked", "run_2", TTL_MS) is False
    await store.close()


def _fill_as_the_first_release_did(connection: sqlite3.Connection) -> None:
    far_ms = 1 << 50
    connection.execute("INSERT INTO cache_entries VALUES ('acme', 'kept', 1, ?, 4, CAST('data' AS BLOB))", (far_ms,))
    connection.execute("INSERT INTO cache_claims (tenant_id, name, token, until_ms) VALUES ('acme', 'a', 't', 1)")
