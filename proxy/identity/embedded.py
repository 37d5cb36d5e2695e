"""Virtual keys and tenants in the embedded store: one row each; a virtual key's digests have a table of their own."""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from proxy.adapters.sqlite import SqliteDoor
from proxy.core.tenant import require_tenant_id
from proxy.identity import tenant
from proxy.identity.store import SLICE_RECORDS, Found
from proxy.identity.tenant import TenantRecord
from proxy.identity.virtual_key import UNKNOWN_PEPPER, PepperedDigest, VirtualKey, decode, encode

_PUT = """
    INSERT INTO virtual_keys (id, tenant_id, created_at_ms, record) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
_PUT_DIGEST = """
    INSERT INTO virtual_key_digests (digest, id, pepper) VALUES (?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET pepper = excluded.pepper WHERE pepper = ''
"""
_FIND = """
    SELECT record, revoked_at_ms, pepper FROM virtual_key_digests JOIN virtual_keys USING (id) WHERE digest = ?
"""
_HAS_DIGEST = "SELECT 1 FROM virtual_key_digests WHERE digest = ? AND id = ?"
_PEPPERS = "SELECT pepper FROM virtual_key_digests WHERE id = ?"
_DROP_DIGEST = """
    DELETE FROM virtual_key_digests WHERE id = ?1 AND pepper = ?2
    AND EXISTS (SELECT 1 FROM virtual_key_digests WHERE id = ?1 AND pepper != ?2)
"""
_HAS_PEPPER = "SELECT 1 FROM virtual_key_digests WHERE id = ? AND pepper = ?"
_LIST_ALL = "SELECT record, revoked_at_ms FROM virtual_keys ORDER BY created_at_ms, id"
_LIST_ONE = "SELECT record, revoked_at_ms FROM virtual_keys WHERE tenant_id = ? ORDER BY created_at_ms, id"
_REVOKE = "UPDATE virtual_keys SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL"
_ONE = "SELECT record, revoked_at_ms FROM virtual_keys WHERE id = ?"

_PUT_TENANT = """
    INSERT INTO tenants (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record
"""
_FIND_TENANT = "SELECT record FROM tenants WHERE id = ?"
_LIST_TENANTS = "SELECT record FROM tenants ORDER BY id"
_DELETE_TENANT = "DELETE FROM tenants WHERE id = ?"


class EmbeddedVirtualKeyStore:
    """Virtual keys in SQLite."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def put(self, virtual_key: VirtualKey, digest: str, pepper: str = UNKNOWN_PEPPER) -> None:
        tenant_id = require_tenant_id(virtual_key.tenant_id)
        row = (virtual_key.id, tenant_id, virtual_key.created_at_ms, encode(virtual_key))

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT, row)
            connection.execute(_PUT_DIGEST, (digest, virtual_key.id, pepper))

        await self._door.run(step)

    async def find(self, digests: Sequence[str]) -> Found | None:
        def step(connection: sqlite3.Connection) -> tuple[bytes, int | None, str, int] | None:
            for place, digest in enumerate(digests):
                if (row := connection.execute(_FIND, (digest,)).fetchone()) is not None:
                    return (*row, place)
            return None

        row = await self._door.read(step)
        return None if row is None else Found(_revoked(row[:2]), place=row[3], pepper=row[2])

    async def add_digest(self, virtual_key_id: str, known: PepperedDigest, other: PepperedDigest) -> None:
        def step(connection: sqlite3.Connection) -> None:
            if connection.execute(_HAS_DIGEST, (known.digest, virtual_key_id)).fetchone() is not None:
                for digest, pepper in (known, other):
                    connection.execute(_PUT_DIGEST, (digest, virtual_key_id, pepper))

        await self._door.run(step)

    async def peppers(self, virtual_key_ids: Sequence[str]) -> Sequence[frozenset[str]]:
        def step(connection: sqlite3.Connection) -> list[frozenset[str]]:
            rows = (connection.execute(_PEPPERS, (each,)).fetchall() for each in virtual_key_ids)
            return [frozenset(pepper for (pepper,) in row) for row in rows]

        return await self._door.read(step)

    async def drop_digest(self, virtual_key_id: str, pepper: str) -> bool:
        row = (virtual_key_id, pepper)

        def step(connection: sqlite3.Connection) -> bool:
            connection.execute(_DROP_DIGEST, row)
            return connection.execute(_HAS_PEPPER, row).fetchone() is None

        return await self._door.run(step)

    async def find_by_id(self, virtual_key_id: str) -> VirtualKey | None:
        query = (_ONE, (virtual_key_id,))
        row = await self._door.read(lambda connection: connection.execute(*query).fetchone())
        return None if row is None else _revoked(row)

    async def list(self, tenant_id: str | None) -> Sequence[VirtualKey]:
        query = (_LIST_ALL,) if tenant_id is None else (_LIST_ONE, (require_tenant_id(tenant_id),))
        rows = await self._door.read(lambda connection: connection.execute(*query).fetchall())
        found: list[VirtualKey] = []
        for start in range(0, len(rows), SLICE_RECORDS):
            found += [_revoked(row) for row in rows[start : start + SLICE_RECORDS]]
            await asyncio.sleep(0)  # a gateway may list: its calls go first
        return found

    async def revoke(self, virtual_key_id: str, at_ms: int) -> VirtualKey | None:
        def step(connection: sqlite3.Connection) -> tuple[bytes, int | None] | None:
            connection.execute(_REVOKE, (at_ms, virtual_key_id))
            row: tuple[bytes, int | None] | None = connection.execute(_ONE, (virtual_key_id,)).fetchone()
            return row

        row = await self._door.run(step)
        return None if row is None else _revoked(row)

    async def ping(self) -> None:
        await self._door.ping()


class EmbeddedTenantStore:
    """Tenants in SQLite."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def put(self, record: TenantRecord) -> None:
        row = (require_tenant_id(record.id), tenant.encode(record))

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(_PUT_TENANT, row)

        await self._door.run(step)

    async def find(self, tenant_id: str) -> TenantRecord | None:
        query = (_FIND_TENANT, (require_tenant_id(tenant_id),))
        row = await self._door.read(lambda connection: connection.execute(*query).fetchone())
        return None if row is None else tenant.decode(row[0])

    async def list(self) -> Sequence[TenantRecord]:
        rows = await self._door.read(lambda connection: connection.execute(_LIST_TENANTS).fetchall())
        return [tenant.decode(data) for (data,) in rows]

    async def delete(self, tenant_id: str) -> bool:
        query = (_DELETE_TENANT, (require_tenant_id(tenant_id),))
        return await self._door.run(lambda connection: connection.execute(*query).rowcount) == 1


def _revoked(row: tuple[bytes, int | None]) -> VirtualKey:
    record, revoked_at_ms = row
    virtual_key = decode(record)
    return virtual_key if revoked_at_ms is None else replace(virtual_key, revoked_at_ms=revoked_at_ms)
