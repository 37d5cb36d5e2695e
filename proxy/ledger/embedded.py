"""Rows in the embedded store: one table for all tenants, positions given by SQLite."""

import sqlite3
from collections.abc import Sequence

from proxy.adapters.sqlite import SqliteDoor
from proxy.core.tenant import require_tenant_id
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import READ_LIMIT_MAX

_APPEND = "INSERT INTO ledger (tenant_id, run_id, data) VALUES (?, ?, ?) ON CONFLICT (tenant_id, run_id) DO NOTHING"
_READ = "SELECT position, data FROM ledger WHERE tenant_id = ? AND position > ? ORDER BY position LIMIT ?"
# From one tenant's first row to the next one's, by the index: DISTINCT would read every row.
_TENANTS = """
    WITH RECURSIVE found (tenant_id) AS (
        SELECT min(tenant_id) FROM ledger
        UNION ALL
        SELECT (SELECT min(tenant_id) FROM ledger WHERE tenant_id > found.tenant_id)
        FROM found WHERE found.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM found WHERE tenant_id IS NOT NULL ORDER BY tenant_id
"""


class EmbeddedLedgerStore:
    """Rows in SQLite. A batch is one transaction: all of it is added, or nothing."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def append(self, rows: Sequence[SealedRow]) -> None:
        values = [(require_tenant_id(row.tenant_id), row.run_id, row.data) for row in rows]

        def step(connection: sqlite3.Connection) -> None:
            connection.executemany(_APPEND, values)

        if values:
            await self._door.run(step)

    async def read(self, tenant_id: str, after: int = 0, limit: int = 1_000) -> Sequence[tuple[int, bytes]]:
        assert after >= 0
        assert 0 < limit <= READ_LIMIT_MAX
        values = (require_tenant_id(tenant_id), after, limit)
        found: list[tuple[int, bytes]] = await self._door.read(
            lambda connection: connection.execute(_READ, values).fetchall()
        )
        return found

    async def tenants(self) -> Sequence[str]:
        rows = await self._door.read(lambda connection: connection.execute(_TENANTS).fetchall())
        return [tenant_id for (tenant_id,) in rows]

    async def ping(self) -> None:
        await self._door.ping()
