"""The keyring in the embedded store. Each change is one transaction, with the epoch and the order of changes in it.

What is deleted is overwritten in the file (`secure_delete`); SQLite's write-ahead log holds it until that is
written into the file, at the latest when the last process closes it.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from proxy.adapters.sqlite import SqliteDoor
from proxy.core.tenant import require_tenant_id
from proxy.keyring.dek import StoredDek, WrappedDek
from proxy.keyring.record import (
    SLOTS_MAX,
    Found,
    FoundDeks,
    ProviderKeyRecord,
    ProviderKeyState,
    decode,
    encode,
    slot_of,
    wiped,
)
from proxy.keyring.store import CHANGES_READ, PAGE, PAGES_MAX, PAST_MAX, Changes, hidden, shredded

Result = TypeVar("Result")

_TENANT: Final = "SELECT epoch, dek_id, shredded_at_ms FROM keyring_tenants WHERE id = ?"
_GROW: Final = """
    INSERT INTO keyring_tenants (id, epoch, change)
    VALUES (?, 1, (SELECT coalesce(max(change), 0) + 1 FROM keyring_tenants))
    ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1, change = excluded.change
"""
_SET_CURRENT: Final = "UPDATE keyring_tenants SET dek_id = ? WHERE id = ?"
_SHREDDED: Final = "SELECT id, shredded_at_ms FROM keyring_tenants WHERE shredded_at_ms IS NOT NULL"
_SET_SHREDDED: Final = "UPDATE keyring_tenants SET dek_id = NULL, shredded_at_ms = ? WHERE id = ?"
_DEKS: Final = (
    "SELECT id, kek_id, wrapped, created_at_ms FROM keyring_deks WHERE tenant_id = ? ORDER BY created_at_ms, id"
)
_ADD_DEK: Final = "INSERT INTO keyring_deks (tenant_id, id, kek_id, wrapped, created_at_ms) VALUES (?, ?, ?, ?, ?)"
_REWRAP: Final = "UPDATE keyring_deks SET kek_id = ?, wrapped = ? WHERE tenant_id = ? AND id = ? AND wrapped = ?"
_DROP_DEK: Final = "DELETE FROM keyring_deks WHERE tenant_id = ? AND id = ?"
_ACTIVE: Final = "SELECT record FROM provider_keys WHERE tenant_id = ? AND slot = ?"
_SLOTS: Final = "SELECT slot FROM provider_keys WHERE tenant_id = ? LIMIT ?"
_PUT: Final = """
    INSERT INTO provider_keys (tenant_id, slot, record) VALUES (?, ?, ?)
    ON CONFLICT (tenant_id, slot) DO UPDATE SET record = excluded.record
"""
_DELETE: Final = "DELETE FROM provider_keys WHERE tenant_id = ? AND slot = ?"
_ACTIVE_PAGE: Final = "SELECT slot, record FROM provider_keys WHERE tenant_id = ? AND slot > ? ORDER BY slot LIMIT ?"
_ADD_PAST: Final = "INSERT INTO provider_keys_past (tenant_id, record) VALUES (?, ?)"
_TRIM_PAST: Final = """
    DELETE FROM provider_keys_past WHERE tenant_id = :tenant_id AND position <= (
        SELECT position FROM provider_keys_past WHERE tenant_id = :tenant_id ORDER BY position DESC LIMIT 1 OFFSET :kept
    )
"""
_LIST: Final = """
    SELECT record FROM provider_keys WHERE tenant_id = :tenant_id
    UNION ALL SELECT record FROM provider_keys_past WHERE tenant_id = :tenant_id
"""
_SHRED: Final = (
    "DELETE FROM keyring_deks WHERE tenant_id = ?",
    "DELETE FROM provider_keys WHERE tenant_id = ?",
    "DELETE FROM provider_keys_past WHERE tenant_id = ?",
)
_TENANTS: Final = "SELECT id FROM keyring_tenants WHERE id > ? ORDER BY id LIMIT ?"
_NEWEST: Final = "SELECT coalesce(max(change), 0) FROM keyring_tenants"
_CHANGED: Final = "SELECT id FROM keyring_tenants WHERE change > ? LIMIT ?"


class EmbeddedKeyringStore:
    """The keyring in SQLite."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def find(self, tenant_id: str, provider: str, user: str | None) -> Found:
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> Found:
            epoch, dek_id, shredded_at_ms = connection.execute(_TENANT, (tenant_id,)).fetchone() or (0, None, None)
            own = None if user is None else _active(connection, tenant_id, slot_of(provider, user))
            shared = _active(connection, tenant_id, slot_of(provider, None))
            rows = connection.execute(_SLOTS, (tenant_id, SLOTS_MAX + 1)).fetchall()
            slots = frozenset(slot for (slot,) in rows) if len(rows) <= SLOTS_MAX else None
            return Found(epoch, shredded_at_ms, own, shared, dek_id, _deks(connection, tenant_id), slots)

        return await self._door.read(step)

    async def find_deks(self, tenant_id: str) -> FoundDeks:
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> FoundDeks:
            _, dek_id, shredded_at_ms = connection.execute(_TENANT, (tenant_id,)).fetchone() or (0, None, None)
            return FoundDeks(dek_id, _deks(connection, tenant_id), shredded_at_ms)

        return await self._door.read(step)

    async def epoch(self, tenant_id: str) -> int:
        require_tenant_id(tenant_id)
        row = await self._door.read(lambda connection: connection.execute(_TENANT, (tenant_id,)).fetchone())
        return 0 if row is None else int(row[0])

    async def shredded_at_ms(self, tenant_id: str) -> int | None:
        require_tenant_id(tenant_id)
        row = await self._door.read(lambda connection: connection.execute(_TENANT, (tenant_id,)).fetchone())
        return None if row is None else row[2]

    async def shredded_among(self, tenant_ids: Sequence[str]) -> Mapping[str, int]:
        wanted = set(tenant_ids)
        rows = await self._door.read(lambda connection: connection.execute(_SHREDDED).fetchall())
        return {tenant_id: at_ms for tenant_id, at_ms in rows if tenant_id in wanted}

    async def add_dek(self, dek: StoredDek, replaces: str | None) -> bool:
        row = (dek.tenant_id, dek.id, dek.wrapped.kek_id, dek.wrapped.ciphertext, dek.created_at_ms)

        def step(connection: sqlite3.Connection, current_dek_id: str | None) -> bool:
            if current_dek_id != replaces:
                return False
            connection.execute(_ADD_DEK, row)
            connection.execute(_GROW, (dek.tenant_id,))
            connection.execute(_SET_CURRENT, (dek.id, dek.tenant_id))
            return True

        return await self._change(dek.tenant_id, step)

    async def activate(self, record: ProviderKeyRecord, replaces: ProviderKeyRecord | None) -> bool:
        tenant_id, slot = record.tenant_id, slot_of(record.provider, record.user)

        def step(connection: sqlite3.Connection, current_dek_id: str | None) -> bool:
            active = _active(connection, tenant_id, slot)
            if current_dek_id != record.dek_id or _version(active) != _version(replaces):
                return False
            if active is not None:
                _end(connection, wiped(active, ProviderKeyState.RETIRED, record.created_at_ms))
            connection.execute(_PUT, (tenant_id, slot, encode(record)))
            connection.execute(_GROW, (tenant_id,))
            return True

        return await self._change(tenant_id, step)

    async def reseal(self, record: ProviderKeyRecord, before: bytes) -> bool:
        tenant_id, slot = record.tenant_id, slot_of(record.provider, record.user)

        def step(connection: sqlite3.Connection, current_dek_id: str | None) -> bool:
            active = _active(connection, tenant_id, slot)
            if current_dek_id != record.dek_id or active is None or active.envelope != before:
                return False
            connection.execute(_PUT, (tenant_id, slot, encode(record)))
            return True

        return await self._change(tenant_id, step)

    async def rewrap(self, dek: StoredDek, before: bytes) -> bool:
        row = (dek.wrapped.kek_id, dek.wrapped.ciphertext, dek.tenant_id, dek.id, before)

        def step(connection: sqlite3.Connection, _current_dek_id: str | None) -> bool:
            return connection.execute(_REWRAP, row).rowcount == 1

        return await self._change(dek.tenant_id, step)

    async def drop_dek(self, tenant_id: str, dek_id: str) -> bool:
        def step(connection: sqlite3.Connection, current_dek_id: str | None) -> bool:
            if current_dek_id == dek_id or connection.execute(_DROP_DEK, (tenant_id, dek_id)).rowcount == 0:
                return False
            connection.execute(_GROW, (tenant_id,))
            return True

        return await self._change(tenant_id, step)

    async def delete(self, tenant_id: str, provider: str, user: str | None, at_ms: int) -> ProviderKeyRecord | None:
        slot = slot_of(provider, user)

        def step(connection: sqlite3.Connection, _current_dek_id: str | None) -> ProviderKeyRecord | None:
            active = _active(connection, tenant_id, slot)
            if active is None:
                return None
            past = wiped(active, ProviderKeyState.DELETED, at_ms)
            _end(connection, past)
            connection.execute(_DELETE, (tenant_id, slot))
            connection.execute(_GROW, (tenant_id,))
            return past

        return await self._change(tenant_id, step)

    async def shred(self, tenant_id: str, at_ms: int) -> int:
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> int:
            row = connection.execute(_TENANT, (tenant_id,)).fetchone()
            if row is not None and row[2] is not None:
                return int(row[2])
            with _overwriting(connection):
                for statement in _SHRED:
                    connection.execute(statement, (tenant_id,))
            connection.execute(_GROW, (tenant_id,))
            connection.execute(_SET_SHREDDED, (at_ms, tenant_id))
            return at_ms

        return await self._door.run(step)

    async def list(self, tenant_id: str) -> Sequence[ProviderKeyRecord]:
        names = {"tenant_id": require_tenant_id(tenant_id)}
        rows = await self._door.read(lambda connection: connection.execute(_LIST, names).fetchall())
        found = [hidden(decode(data)) for (data,) in rows]
        return sorted(found, key=lambda each: (each.created_at_ms, each.credential_id, each.version))

    async def deks(self, tenant_id: str) -> tuple[str | None, Sequence[StoredDek]]:
        found = await self.find_deks(tenant_id)
        return found.current_dek_id, found.deks

    async def active(self, tenant_id: str) -> AsyncIterator[Sequence[ProviderKeyRecord]]:
        require_tenant_id(tenant_id)
        after = ""
        for _ in range(PAGES_MAX):
            query = (_ACTIVE_PAGE, (tenant_id, after, PAGE))
            rows = await self._door.read(lambda connection, query=query: connection.execute(*query).fetchall())  # type: ignore[misc]
            if rows:
                yield [decode(data) for _, data in rows]
                after = rows[-1][0]
            if len(rows) < PAGE:
                return
        raise AssertionError(f"the listing of {tenant_id} does not end")

    async def tenants(self, after: str, limit: int) -> Sequence[str]:
        rows = await self._door.read(lambda connection: connection.execute(_TENANTS, (after, limit)).fetchall())
        return [tenant_id for (tenant_id,) in rows]

    async def changes(self, place: str) -> Changes:
        def step(connection: sqlite3.Connection) -> Changes:
            (newest,) = connection.execute(_NEWEST).fetchone()
            if not place:
                return Changes(str(newest), frozenset())
            rows = connection.execute(_CHANGED, (int(place), CHANGES_READ)).fetchall()
            is_whole = len(rows) < CHANGES_READ and newest >= int(place)  # less: an older copy of the file was put back
            return Changes(str(newest), frozenset(tenant_id for (tenant_id,) in rows) if is_whole else None)

        return await self._door.read(step)

    async def _change(self, tenant_id: str, step: Callable[[sqlite3.Connection, str | None], Result]) -> Result:
        """Run a step that changes a tenant which was not shredded; it is told the current data key."""
        require_tenant_id(tenant_id)

        def checked(connection: sqlite3.Connection) -> Result:
            row = connection.execute(_TENANT, (tenant_id,)).fetchone() or (0, None, None)
            if row[2] is not None:
                raise shredded(tenant_id)
            with _overwriting(connection):
                return step(connection, row[1])

        return await self._door.run(checked)


@contextmanager
def _overwriting(connection: sqlite3.Connection) -> Iterator[None]:
    """What is deleted meanwhile is zeroed in the file, and not only given free."""
    connection.execute("PRAGMA secure_delete=ON")
    try:
        yield
    finally:
        connection.execute("PRAGMA secure_delete=OFF")


def _active(connection: sqlite3.Connection, tenant_id: str, slot: str) -> ProviderKeyRecord | None:
    row = connection.execute(_ACTIVE, (tenant_id, slot)).fetchone()
    return None if row is None else decode(row[0])


def _deks(connection: sqlite3.Connection, tenant_id: str) -> tuple[StoredDek, ...]:
    rows = connection.execute(_DEKS, (tenant_id,)).fetchall()
    return tuple(
        StoredDek(tenant_id, dek_id, WrappedDek(kek_id, wrapped), created_at_ms)
        for dek_id, kek_id, wrapped, created_at_ms in rows
    )


def _version(record: ProviderKeyRecord | None) -> tuple[str, int] | None:
    return None if record is None else (record.credential_id, record.version)


def _end(connection: sqlite3.Connection, past: ProviderKeyRecord) -> None:
    connection.execute(_ADD_PAST, (past.tenant_id, encode(past)))
    connection.execute(_TRIM_PAST, {"tenant_id": past.tenant_id, "kept": PAST_MAX})
