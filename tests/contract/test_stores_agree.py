"""Redis, SQLite and a few lines of Python give the same answers to the same operations."""

import asyncio
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.identity.embedded import EmbeddedVirtualKeyStore
from proxy.identity.store import RedisVirtualKeyStore
from proxy.identity.virtual_key import VirtualKey
from proxy.ledger.cursor import Cursor
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import RedisLedgerStore
from tests.ledger_tables import empty_ledger
from tests.virtual_keys import by_digest

TENANTS = st.sampled_from(["acme", "other", "A", "a"])
NUMBERS = st.integers(0, 5)
DIGESTS = NUMBERS.map(lambda number: f"d{number}")
ROWS = st.builds(SealedRow, TENANTS, st.sampled_from(["r1", "r2", "r3", "", "ü"]), st.binary(max_size=8))

OPERATIONS = st.one_of(
    st.tuples(st.just("put"), NUMBERS, TENANTS, st.integers(0, 3)),
    st.tuples(st.just("find"), st.lists(DIGESTS, min_size=1, max_size=3)),
    st.tuples(st.just("list"), st.none() | TENANTS),
    st.tuples(st.just("revoke"), NUMBERS, st.integers(0, 2**53 - 1)),
    st.tuples(st.just("append"), st.lists(ROWS, max_size=6)),
    st.tuples(st.just("read"), TENANTS, st.integers(0, 4), st.integers(1, 4)),
    st.tuples(st.just("tenants")),
    st.tuples(st.just("export"), TENANTS, st.integers(1, 4)),
    st.tuples(st.just("backlog")),
)


@dataclass(slots=True)
class Model:
    """What the stores are meant to do."""

    keys: dict[str, tuple[str, VirtualKey]] = field(default_factory=dict)  # by id: digest, record
    rows: dict[tuple[str, str], bytes] = field(default_factory=dict)
    exported: set[tuple[str, str]] = field(default_factory=set)
    pages: dict[str, int] = field(default_factory=dict)

    def waiting(self, tenant_id):
        return [place for place in self.rows if place[0] == tenant_id and place not in self.exported]

    def answer(self, operation):
        match operation:
            case ("put", number, tenant_id, created_at_ms):
                virtual_key = VirtualKey(f"vk_{number}", tenant_id, created_at_ms, "0000")
                self.keys.setdefault(virtual_key.id, (f"d{number}", virtual_key))
                return None
            case ("find", digests):
                by_digest = dict(self.keys.values())
                return next((by_digest[digest] for digest in digests if digest in by_digest), None)
            case ("list", tenant_id):
                listed = [k for _, k in self.keys.values() if tenant_id in (None, k.tenant_id)]
                return sorted(listed, key=lambda k: (k.created_at_ms, k.id))
            case ("revoke", number, at_ms):
                if f"vk_{number}" not in self.keys:
                    return None
                digest, virtual_key = self.keys[f"vk_{number}"]
                if virtual_key.revoked_at_ms is None:
                    virtual_key = replace(virtual_key, revoked_at_ms=at_ms)
                self.keys[f"vk_{number}"] = (digest, virtual_key)
                return virtual_key
            case ("append", rows):
                for row in rows:
                    self.rows.setdefault((row.tenant_id, row.run_id), row.data)
                return None
            case ("read", tenant_id, skipped, limit):
                own = [self.rows[place] for place in self.waiting(tenant_id)]
                return own[skipped : skipped + limit]
            case ("export", tenant_id, count):
                page = self.waiting(tenant_id)[:count]
                self.exported.update(page)  # and known for a while: appending one again adds nothing
                self.pages[tenant_id] = self.pages.get(tenant_id, 0) + bool(page)
                return (len(page), self.pages[tenant_id])
            case ("backlog",):
                counts = {tenant_id: len(self.waiting(tenant_id)) for tenant_id, _ in self.rows}
                return sorted((tenant_id, count) for tenant_id, count in counts.items() if count)
            case _:
                return sorted({tenant_id for tenant_id, _ in self.rows})


async def answer(virtual_keys, ledger, operation):
    match operation:
        case ("put", number, tenant_id, created_at_ms):
            # A key's number is issued once: a repeat carries the first one's values.
            known = [k for k in await virtual_keys.list(None) if k.id == f"vk_{number}"]
            fresh = VirtualKey(f"vk_{number}", tenant_id, created_at_ms, "0000")
            await virtual_keys.put(replace(known[0], revoked_at_ms=None) if known else fresh, f"d{number}")
            return None
        case ("find", digests):
            return await by_digest(virtual_keys, digests)
        case ("list", tenant_id):
            return list(await virtual_keys.list(tenant_id))
        case ("revoke", number, at_ms):
            return await virtual_keys.revoke(f"vk_{number}", at_ms)
        case ("append", rows):
            return await ledger.append(rows)
        case ("read", tenant_id, skipped, limit):
            before = await ledger.read(tenant_id, limit=skipped) if skipped else []
            if len(before) < skipped:
                return []
            page = await ledger.read(tenant_id, after=before[-1][0] if before else 0, limit=limit)
            return [data for _, data in page]
        case ("export", tenant_id, count):
            claim = await ledger.claim(tenant_id, "holder", 60_000)
            page = await ledger.read(tenant_id, after=claim.cursor.position, limit=count)
            if page:
                number = claim.cursor.pages + 1
                after = Cursor(page[-1][0], number, f"{number:064x}")
                assert await ledger.advance(claim, after, page[-1][1], 60_000)
            return (len(page), (await ledger.cursor(tenant_id)).pages)
        case ("backlog",):
            return [(one.tenant_id, one.rows) for one in await ledger.backlog()]
        case _:
            return list(await ledger.tenants())


def test_both_stores_do_what_the_model_does(redis_url, tmp_path):
    async def clear(redis, sqlite):
        def step(connection):
            connection.execute("DELETE FROM virtual_keys")
            empty_ledger(connection)

        await redis.call("FLUSHALL")
        await sqlite.run(step)

    with asyncio.Runner() as runner:
        redis, sqlite = RedisDoor(redis_url), SqliteDoor(tmp_path / "tollway.db")

        @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(OPERATIONS, max_size=25))
        def agree(operations):
            async def drive():
                await clear(redis, sqlite)
                model = Model()
                for operation in operations:
                    expected = model.answer(operation)
                    for virtual_keys, ledger in (
                        (RedisVirtualKeyStore(redis), RedisLedgerStore(redis)),
                        (EmbeddedVirtualKeyStore(sqlite), EmbeddedLedgerStore(sqlite)),
                    ):
                        assert await answer(virtual_keys, ledger, operation) == expected, operation

            runner.run(drive())

        try:
            agree()
        finally:
            runner.run(redis.close())
            runner.run(sqlite.close())
