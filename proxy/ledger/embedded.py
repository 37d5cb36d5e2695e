"""Rows in the embedded store. How they lie there is `adapters.sqlite_ledger`'s, since a settlement writes some as well;
here is who may export them, and how far that has come.

`ledger_backlog` knows how much waits without reading it.
"""

import sqlite3
from collections.abc import Sequence

from proxy.adapters import sqlite_ledger
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.tenant import require_tenant_id
from proxy.ledger.cursor import Backlog, Claim, Cursor
from proxy.ledger.entry import SealedRow
from proxy.ledger.store import FORGET_MAX, READ_LIMIT_MAX, REMEMBER_MS

_TENANTS = "SELECT tenant_id FROM ledger_backlog ORDER BY tenant_id"
_BACKLOG = "SELECT tenant_id, rows, bytes FROM ledger_backlog WHERE rows > 0 ORDER BY tenant_id"
_BYTES = "SELECT coalesce(sum(bytes), 0) FROM ledger_backlog"
# SQLite's own clock, as Redis has its own.
_NOW_MS = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_PLACE = "SELECT position, pages, hash, series FROM ledger_cursors WHERE tenant_id = ?"
_HELD = "SELECT fence, holder, claimed_until_ms FROM ledger_cursors WHERE tenant_id = ?"
_BEGIN = "INSERT INTO ledger_cursors (tenant_id, hash) VALUES (?, ?) ON CONFLICT (tenant_id) DO NOTHING"
_CLAIM = "UPDATE ledger_cursors SET fence = ?, holder = ?, claimed_until_ms = ? WHERE tenant_id = ?"
_MOVE = """
    UPDATE ledger_cursors SET position = ?, pages = ?, hash = ?, series = ?, claimed_until_ms = ? WHERE tenant_id = ?
"""
_LET_GO = "UPDATE ledger_cursors SET holder = '', claimed_until_ms = 0 WHERE tenant_id = ? AND fence = ?"


class EmbeddedLedgerStore:
    """Rows in SQLite. What one append brings is one transaction: all of it is added, or nothing."""

    __slots__ = ("_door", "_remember_ms")

    def __init__(self, door: SqliteDoor, remember_ms: int = REMEMBER_MS) -> None:
        self._door = door
        self._remember_ms = remember_ms

    async def append(self, rows: Sequence[SealedRow]) -> None:
        by_tenant: dict[str, list[tuple[str, bytes]]] = {}
        for tenant_id, run_id, data in rows:
            by_tenant.setdefault(tenant_id, []).append((run_id, data))
        for tenant_id in by_tenant:
            require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> None:
            for tenant_id, own in by_tenant.items():
                sqlite_ledger.add_rows(connection, tenant_id, own)

        if by_tenant:
            await self._door.run(step)

    async def read(self, tenant_id: str, after: int = 0, limit: int = 1_000) -> Sequence[tuple[int, bytes]]:
        assert after >= 0
        assert 0 < limit <= READ_LIMIT_MAX
        require_tenant_id(tenant_id)
        return await self._door.read(lambda connection: sqlite_ledger.rows_after(connection, tenant_id, after, limit))

    async def tenants(self) -> Sequence[str]:
        rows = await self._door.read(lambda connection: connection.execute(_TENANTS).fetchall())
        return [tenant_id for (tenant_id,) in rows]

    async def cursor(self, tenant_id: str) -> Cursor:
        require_tenant_id(tenant_id)
        return await self._door.read(lambda connection: _cursor(connection, tenant_id))

    async def claim(self, tenant_id: str, holder: str, lease_ms: int) -> Claim | None:
        assert holder
        assert lease_ms > 0
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> Claim | None:
            now_ms = _now_ms(connection)
            connection.execute(_BEGIN, (tenant_id, Cursor().page_hash))
            fence, held_by, until_ms = connection.execute(_HELD, (tenant_id,)).fetchone()
            is_held = held_by != "" and until_ms > now_ms
            if is_held and held_by != holder:
                return None
            if not is_held:
                fence = max(fence + 1, now_ms)  # as in Redis, which may be emptied
            connection.execute(_CLAIM, (fence, holder, now_ms + lease_ms, tenant_id))
            return Claim(tenant_id, fence, _cursor(connection, tenant_id))

        return await self._door.run(step)

    async def advance(self, claim: Claim, cursor: Cursor, last_row: bytes | None, lease_ms: int) -> bool:
        tenant_id = require_tenant_id(claim.tenant_id)

        def step(connection: sqlite3.Connection) -> bool:
            now_ms = _now_ms(connection)
            before = _cursor(connection, tenant_id)
            if before == cursor:
                return True  # a repeat
            (fence, _, _) = connection.execute(_HELD, (tenant_id,)).fetchone() or (0, "", 0)
            if fence != claim.fence or before.pages != claim.cursor.pages:
                return False
            if last_row is not None and sqlite_ledger.row_at(connection, tenant_id, cursor.position) != last_row:
                return False
            connection.execute(_MOVE, (*cursor, now_ms + lease_ms, tenant_id))
            sqlite_ledger.trim(connection, tenant_id, cursor.position, now_ms)
            sqlite_ledger.forget(connection, now_ms - self._remember_ms, FORGET_MAX)
            return True

        return await self._door.run(step)

    async def let_go(self, claim: Claim) -> None:
        values = (require_tenant_id(claim.tenant_id), claim.fence)

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(_LET_GO, values)

        await self._door.run(step)

    async def backlog(self) -> Sequence[Backlog]:
        rows = await self._door.read(lambda connection: connection.execute(_BACKLOG).fetchall())
        return [Backlog(*row) for row in rows]

    async def unexported_bytes(self) -> int:
        (total,) = await self._door.read(lambda connection: connection.execute(_BYTES).fetchone())
        assert isinstance(total, int)
        return total

    async def ping(self) -> None:
        await self._door.ping()


def _cursor(connection: sqlite3.Connection, tenant_id: str) -> Cursor:
    row = connection.execute(_PLACE, (tenant_id,)).fetchone()
    return Cursor() if row is None else Cursor(*row)


def _now_ms(connection: sqlite3.Connection) -> int:
    (now_ms,) = connection.execute(_NOW_MS).fetchone()
    assert isinstance(now_ms, int)
    return now_ms
