"""Redis, SQLite and a few lines of Python give the same answers to the same operations on a keyring."""

import asyncio
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.errors import TenantShredded
from proxy.keyring.dek import StoredDek, WrappedDek
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.record import Found, FoundDeks, ProviderKeyRecord, ProviderKeyState, slot_of
from proxy.keyring.store import RedisKeyringStore

TENANTS = st.sampled_from(["acme", "A"])
USERS = st.sampled_from([None, "ü"])
DEKS = st.sampled_from(["dek_1", "dek_2", "dek_3"])
VERSIONS = st.integers(0, 3)  # 0: none

OPERATIONS = st.one_of(
    st.tuples(st.just("add_dek"), TENANTS, DEKS, st.none() | DEKS),
    st.tuples(st.just("activate"), TENANTS, USERS, DEKS, st.integers(1, 3), VERSIONS),
    st.tuples(st.just("reseal"), TENANTS, USERS, DEKS, st.integers(1, 3)),
    st.tuples(st.just("rewrap"), TENANTS, DEKS),
    st.tuples(st.just("drop_dek"), TENANTS, DEKS),
    st.tuples(st.just("delete"), TENANTS, USERS, st.integers(0, 9)),
    st.tuples(st.sampled_from(["find", "find", "find_deks", "list", "epoch"]), TENANTS, USERS),
    st.tuples(st.just("shred"), TENANTS, st.integers(0, 9)),
)


def dek_of(tenant_id, dek_id):
    return StoredDek(tenant_id, dek_id, WrappedDek("kek_1", f"{dek_id} one".encode()), 1)


def record_of(tenant_id, user, dek_id, version):
    return ProviderKeyRecord(
        *(tenant_id, "openai", user, "https://a.example", f"pk_{user}", version, ProviderKeyState.ACTIVE),
        *("f", "last", version, dek_id, None, b"envelope %d" % version),
    )


@dataclass(slots=True)
class Model:
    """What the stores are meant to do, for one tenant."""

    epoch: int = 0
    current: str | None = None
    shredded_at_ms: int | None = None
    deks: dict[str, StoredDek] = field(default_factory=dict)
    active: dict[str | None, ProviderKeyRecord] = field(default_factory=dict)
    past: list[ProviderKeyRecord] = field(default_factory=list)

    def changed(self, *, is_done=True):
        self.epoch += is_done
        return is_done

    def answer(self, operation):
        name, tenant_id, *rest = operation
        if name == "shred":
            if self.shredded_at_ms is None:
                (self.shredded_at_ms,) = rest
                self.current, self.deks, self.active, self.past = None, {}, {}, []
                self.changed()
            return self.shredded_at_ms
        if name in ("find", "find_deks", "list", "epoch"):
            return self.told(name, *rest)
        if self.shredded_at_ms is not None:
            return "shredded"
        return getattr(self, name)(tenant_id, *rest)

    def told(self, name, user):
        if name == "epoch":
            return self.epoch
        if name == "list":
            known = [*self.past, *(replace(each, envelope=b"") for each in self.active.values())]
            return {(each.credential_id, each.version): each for each in known}
        own = None if user is None else self.active.get(user)
        deks = tuple(sorted(self.deks.values(), key=lambda dek: dek.id))
        if name == "find_deks":
            return FoundDeks(self.current, deks, self.shredded_at_ms)
        return Found(self.epoch, self.shredded_at_ms, own, self.active.get(None), self.current, deks, self.slots())

    def slots(self):
        return frozenset(slot_of("openai", user) for user in self.active)

    def add_dek(self, tenant_id, dek_id, replaces):
        if self.current != replaces or dek_id in self.deks:
            return False
        self.deks[dek_id] = dek_of(tenant_id, dek_id)
        self.current = dek_id
        return self.changed()

    def activate(self, tenant_id, user, dek_id, version, replaced):
        if (f"pk_{user}", version) in self.told("list", None):
            return "known"
        before = self.active.get(user)
        if self.current != dek_id or (before.version if before else 0) != replaced:
            return False
        if before:
            ended = {"state": ProviderKeyState.RETIRED, "ended_at_ms": version, "envelope": b""}
            self.past.append(replace(before, **ended))
        self.active[user] = record_of(tenant_id, user, dek_id, version)
        return self.changed()

    def reseal(self, tenant_id, user, dek_id, version):
        before = self.active.get(user)
        if self.current != dek_id or before is None or before.envelope != b"envelope %d" % version:
            return False
        self.active[user] = replace(before, dek_id=dek_id, envelope=b"anew")
        return True

    def rewrap(self, tenant_id, dek_id):
        before = self.deks.get(dek_id)
        if before is None or before.wrapped.ciphertext != f"{dek_id} one".encode():
            return False
        self.deks[dek_id] = replace(before, wrapped=WrappedDek("kek_2", b"two"))
        return True

    def drop_dek(self, tenant_id, dek_id):
        if dek_id == self.current or dek_id not in self.deks:
            return False
        del self.deks[dek_id]
        return self.changed()

    def delete(self, tenant_id, user, at_ms):
        before = self.active.pop(user, None)
        if before is None:
            return None
        self.past.append(replace(before, state=ProviderKeyState.DELETED, ended_at_ms=at_ms, envelope=b""))
        self.changed()
        return self.past[-1]


async def answer(store, operation):
    name, tenant_id, *rest = operation
    try:
        match name, rest:
            case "add_dek", (dek_id, replaces):
                if any(dek.id == dek_id for dek in (await store.deks(tenant_id))[1]):
                    # An id is random, and comes once. A shredded tenant is refused all the same.
                    return "shredded" if (await store.find(tenant_id, "x", None)).shredded_at_ms is not None else False
                return await store.add_dek(dek_of(tenant_id, dek_id), replaces)
            case "activate", (user, dek_id, version, replaced):
                if any(
                    (each.credential_id, each.version) == (f"pk_{user}", version)
                    for each in await store.list(tenant_id)
                ):
                    return "known"  # a version of a credential comes once
                before = (await store.find(tenant_id, "openai", user)).at(user)
                if before is None or before.version != replaced:
                    before = record_of(tenant_id, user, dek_id, replaced) if replaced else None
                return await store.activate(record_of(tenant_id, user, dek_id, version), before)
            case "reseal", (user, dek_id, version):
                before = (await store.find(tenant_id, "openai", user)).at(user)
                record = before or record_of(tenant_id, user, dek_id, version)
                return await store.reseal(replace(record, dek_id=dek_id, envelope=b"anew"), b"envelope %d" % version)
            case "rewrap", (dek_id,):
                anew = replace(dek_of(tenant_id, dek_id), wrapped=WrappedDek("kek_2", b"two"))
                return await store.rewrap(anew, f"{dek_id} one".encode())
            case "drop_dek", (dek_id,):
                return await store.drop_dek(tenant_id, dek_id)
            case "delete", (user, at_ms):
                return await store.delete(tenant_id, "openai", user, at_ms)
            case "find", (user,):
                found = await store.find(tenant_id, "openai", user)
                return replace(found, deks=tuple(sorted(found.deks, key=lambda dek: dek.id)))
            case "find_deks", _:
                found = await store.find_deks(tenant_id)
                return replace(found, deks=tuple(sorted(found.deks, key=lambda dek: dek.id)))
            case "list", _:
                return {(each.credential_id, each.version): each for each in await store.list(tenant_id)}
            case "epoch", _:
                return await store.epoch(tenant_id)
            case _, (at_ms,):
                return await store.shred(tenant_id, at_ms)
    except TenantShredded:
        return "shredded"


def test_both_stores_do_what_the_model_does(redis_url, tmp_path):
    async def clear(redis, sqlite):
        def step(connection):
            for table in ("keyring_tenants", "keyring_deks", "provider_keys", "provider_keys_past"):
                connection.execute(f"DELETE FROM {table}")

        await redis.call("FLUSHALL")
        await sqlite.run(step)

    with asyncio.Runner() as runner:
        redis, sqlite = RedisDoor(redis_url), SqliteDoor(tmp_path / "tollway.db")

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(OPERATIONS, max_size=25))
        def agree(operations):
            async def drive():
                await clear(redis, sqlite)
                models = {"acme": Model(), "A": Model()}
                stores = (RedisKeyringStore(redis), EmbeddedKeyringStore(sqlite))
                # A beginning that leads somewhere: else most examples have no data key to seal with.
                for operation in [("add_dek", "acme", "dek_1", None), *operations]:
                    expected = models[operation[1]].answer(operation)
                    for store in stores:
                        assert await answer(store, operation) == expected, (operation, store)
                    listed = models[operation[1]].told("list", None)
                    for store in stores:
                        assert await answer(store, ("list", operation[1], None)) == listed, (operation, store)

            runner.run(drive())

        try:
            agree()
        finally:
            runner.run(redis.close())
            runner.run(sqlite.close())
