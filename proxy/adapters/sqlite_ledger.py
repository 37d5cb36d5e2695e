"""Rows of the ledger in the embedded store, for the two rooms that write them: what is appended in a group, and what a
settlement adds in its own transaction.

Rows that come together lie together, in batches: a row of `ledger_batches` is some of one tenant's, one behind the
other, with their run ids and sizes beside them. So SQLite looks after a table's row and an index's for dozens of them,
where a row of its own for each cost more than all else that a call takes here. The view `ledger` shows them one by one.
`ledger_run_ids` alone is asked whether a row is there already. A run id stays in it when its row is exported, and
`ledger_exported` says when it may go: what leaves is a page at a time, never a row.

Positions are given here, one after the other, by tenant. Every function runs within its caller's transaction.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

from proxy.core import jsonio

Row: TypeAlias = tuple[str, bytes]  # run id, without NUL (where SQLite's JSON ends a text), and what is kept of it

BATCH_ROWS_MAX: Final = 64  # a page of the export ends within one: so much is then written anew
BATCH_BYTES_MAX: Final = 65_536
_PAGES_MAX: Final = 20  # that are looked at in one step, to be forgotten

_ADD_RUN_ID = """
    INSERT INTO ledger_run_ids (tenant_id, run_id) VALUES (?, ?) ON CONFLICT (tenant_id, run_id) DO NOTHING
"""
_ADD_RUN_IDS = """
    INSERT INTO ledger_run_ids (tenant_id, run_id) SELECT ?, value FROM json_each(?) WHERE true
    ON CONFLICT (tenant_id, run_id) DO NOTHING
"""
_HAS_RUN_ID = "SELECT 1 FROM ledger_run_ids WHERE tenant_id = ? AND run_id = ?"
_COUNT = """
    INSERT INTO ledger_backlog (tenant_id, rows, bytes, last_position) VALUES (?1, ?2, ?3, ?2)
    ON CONFLICT (tenant_id) DO UPDATE SET rows = rows + ?2, bytes = bytes + ?3, last_position = last_position + ?2
"""
_ADD_BATCH = """
    INSERT INTO ledger_batches (tenant_id, last_position, rows, run_ids, sizes_bytes, data)
    SELECT tenant_id, last_position - ?, ?, ?, ?, ? FROM ledger_backlog WHERE tenant_id = ?
"""
_BATCHES = """
    SELECT last_position, run_ids, sizes_bytes, data FROM ledger_batches
    WHERE tenant_id = ? AND last_position > ? ORDER BY last_position
"""
_WHOLE_BATCHES = "SELECT length(data), run_ids FROM ledger_batches WHERE tenant_id = ? AND last_position <= ?"
_DROP_BATCHES = "DELETE FROM ledger_batches WHERE tenant_id = ? AND last_position <= ?"
_SHORTEN = """
    UPDATE ledger_batches SET rows = ?, run_ids = ?, sizes_bytes = ?, data = ? WHERE tenant_id = ? AND last_position = ?
"""
_COUNT_OFF = "UPDATE ledger_backlog SET rows = rows - ?, bytes = bytes - ? WHERE tenant_id = ?"
_ADD_PAGE = "INSERT INTO ledger_exported (tenant_id, exported_at_ms, run_ids) VALUES (?, ?, ?)"
_OLD_PAGES = """
    SELECT number, tenant_id, run_ids FROM ledger_exported WHERE exported_at_ms < ? ORDER BY exported_at_ms LIMIT ?
"""
_DROP_RUN_ID = "DELETE FROM ledger_run_ids WHERE tenant_id = ? AND run_id = ?"
_DROP_PAGE = "DELETE FROM ledger_exported WHERE number = ?"


class _Batch(NamedTuple):
    """Some rows of one tenant: of each its run id, its size and, behind those before it, its bytes."""

    last_position: int
    run_ids: list[str]
    sizes_bytes: list[int]
    data: bytes

    @property
    def first_position(self) -> int:
        return self.last_position - len(self.run_ids) + 1

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Each row's position and bytes."""
        end = 0
        for position, size_bytes in enumerate(self.sizes_bytes, self.first_position):
            begin, end = end, end + size_bytes
            yield position, self.data[begin:end]

    def without(self, count: int) -> "_Batch":
        """What is left of it behind so many rows."""
        size_bytes = sum(self.sizes_bytes[:count])
        return _Batch(self.last_position, self.run_ids[count:], self.sizes_bytes[count:], self.data[size_bytes:])


def add_rows(connection: sqlite3.Connection, tenant_id: str, rows: Sequence[Row]) -> None:
    """Add a tenant's rows, in order, but for those whose run has one already."""
    new = _add_run_ids(connection, tenant_id, rows)
    if not new:
        return
    connection.execute(_COUNT, (tenant_id, len(new), sum(len(data) for _, data in new)))
    left = len(new)
    for some in _in_batches(new):
        left -= len(some)
        run_ids, sizes_bytes = [run_id for run_id, _ in some], [len(data) for _, data in some]
        values = left, len(some), _encoded(run_ids), _encoded(sizes_bytes), b"".join([data for _, data in some])
        connection.execute(_ADD_BATCH, (*values, tenant_id))


def has_row(connection: sqlite3.Connection, tenant_id: str, run_id: str) -> bool:
    """Whether a run has a row, or had one that was exported lately."""
    return connection.execute(_HAS_RUN_ID, (tenant_id, run_id)).fetchone() is not None


def rows_after(connection: sqlite3.Connection, tenant_id: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """A tenant's next rows from beyond a position, at most `limit`, as (position, bytes)."""
    found: list[tuple[int, bytes]] = []
    for batch in _batches(connection, tenant_id, after):
        found += [row for row in batch.rows() if row[0] > after]
        if len(found) >= limit:
            break
    return found[:limit]


def row_at(connection: sqlite3.Connection, tenant_id: str, position: int) -> bytes | None:
    """The row of a position, or None."""
    found = rows_after(connection, tenant_id, position - 1, 1)
    return found[0][1] if found and found[0][0] == position else None


def trim(connection: sqlite3.Connection, tenant_id: str, position: int, now_ms: int) -> None:
    """Let a tenant's rows go that lie up to that position; their run ids stay until they are forgotten."""
    whole = connection.execute(_WHOLE_BATCHES, (tenant_id, position)).fetchall()
    size_bytes = sum(size for size, _ in whole)
    run_ids = [*chain.from_iterable(_decoded(text) for _, text in whole)]
    connection.execute(_DROP_BATCHES, (tenant_id, position))
    batch = next(_batches(connection, tenant_id, position), None)
    if batch is not None and batch.first_position <= position:
        count = position - batch.first_position + 1
        run_ids += batch.run_ids[:count]
        size_bytes += sum(batch.sizes_bytes[:count])
        rest = batch.without(count)
        values = len(rest.run_ids), _encoded(rest.run_ids), _encoded(rest.sizes_bytes), rest.data
        connection.execute(_SHORTEN, (*values, tenant_id, batch.last_position))
    if run_ids:
        connection.execute(_COUNT_OFF, (len(run_ids), size_bytes, tenant_id))
        connection.execute(_ADD_PAGE, (tenant_id, now_ms, _encoded(run_ids)))


def forget(connection: sqlite3.Connection, exported_before_ms: int, run_ids_max: int) -> None:
    """Forget the run ids of rows that were exported before that instant: those of the oldest page, and of further ones
    as long as no more than `run_ids_max` go. One page comes and one goes at least, so this keeps up."""
    forgotten = 0
    for number, tenant_id, text in connection.execute(_OLD_PAGES, (exported_before_ms, _PAGES_MAX)).fetchall():
        run_ids = _decoded(text)
        forgotten += len(run_ids)
        if forgotten > run_ids_max and forgotten > len(run_ids):
            return
        connection.executemany(_DROP_RUN_ID, [(tenant_id, run_id) for run_id in run_ids])
        connection.execute(_DROP_PAGE, (number,))


def _add_run_ids(connection: sqlite3.Connection, tenant_id: str, rows: Sequence[Row]) -> Sequence[Row]:
    """Add the rows' run ids; those rows whose run had none yet. Nearly always all of them, so that is tried first:
    RETURNING would tell it too, and takes twice as long."""
    if len(rows) > 1:
        before = connection.total_changes
        connection.execute("SAVEPOINT run_ids")
        connection.execute(_ADD_RUN_IDS, (tenant_id, _encoded([run_id for run_id, _ in rows])))
        if connection.total_changes - before == len(rows):
            connection.execute("RELEASE run_ids")
            return rows
        connection.execute("ROLLBACK TO run_ids")
        connection.execute("RELEASE run_ids")
    return [row for row in rows if connection.execute(_ADD_RUN_ID, (tenant_id, row[0])).rowcount == 1]


def _in_batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """The rows in pieces that are neither too many nor, but for a single one, too large."""
    begin, size_bytes = 0, 0
    for end, (_, data) in enumerate(rows):
        if end > begin and (end - begin >= BATCH_ROWS_MAX or size_bytes + len(data) > BATCH_BYTES_MAX):
            yield rows[begin:end]
            begin, size_bytes = end, 0
        size_bytes += len(data)
    yield rows[begin:]


def _batches(connection: sqlite3.Connection, tenant_id: str, after: int) -> Iterator[_Batch]:
    """A tenant's batches that reach beyond a position."""
    with closing(connection.execute(_BATCHES, (tenant_id, after))) as found:
        for last_position, run_ids, sizes_bytes, data in found:
            yield _Batch(last_position, _decoded(run_ids), _decoded(sizes_bytes), data)


def _encoded(values: Sequence[str] | Sequence[int]) -> str:
    return jsonio.encode(values).decode()


def _decoded(text: str) -> list[Any]:
    values: list[Any] = jsonio.parse(text.encode())
    return values
