"""Rows of the ledger in the embedded store, for the two rooms that write them: what is appended in a group, and what a
settlement adds in its own transaction.

Rows that come together lie together, in batches: a row of `ledger_batches` is some of one tenant's, one behind the
other, with their names and sizes beside them. So SQLite looks after a table's row and an index's for dozens of them,
where a row of its own for each cost more than all else that a call takes here. The view `ledger` shows them one by one.
`ledger_names` alone is asked whether a row is there already. A name stays in it when its row is exported, and
`ledger_exported` says when it may go: what leaves is a page at a time, never a row.

Positions are given here, one after the other, by tenant.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from proxy.core import jsonio

Row: TypeAlias = tuple[str, bytes]  # run id, and what is kept of it

BATCH_ROWS_MAX: Final = 64  # a page of the export ends within one: so much is then written anew
BATCH_BYTES_MAX: Final = 65_536

_NOTE = "INSERT INTO ledger_names (tenant_id, run_id) VALUES (?, ?) ON CONFLICT (tenant_id, run_id) DO NOTHING"
_NOTE_TOGETHER = """
    INSERT INTO ledger_names (tenant_id, run_id) SELECT ?, value FROM json_each(?) WHERE true
    ON CONFLICT (tenant_id, run_id) DO NOTHING
"""
_IS_NOTED = "SELECT 1 FROM ledger_names WHERE tenant_id = ? AND run_id = ?"
_COUNT = """
    INSERT INTO ledger_backlog (tenant_id, rows, bytes, last_position) VALUES (?1, ?2, ?3, ?2)
    ON CONFLICT (tenant_id) DO UPDATE SET rows = rows + ?2, bytes = bytes + ?3, last_position = last_position + ?2
"""
_LAST_POSITION = "SELECT last_position FROM ledger_backlog WHERE tenant_id = ?"
_LAY_DOWN = """
    INSERT INTO ledger_batches (tenant_id, last_position, rows, run_ids, sizes, data) VALUES (?, ?, ?, ?, ?, ?)
"""
_BATCHES = """
    SELECT last_position, run_ids, sizes, data FROM ledger_batches
    WHERE tenant_id = ? AND last_position > ? ORDER BY last_position
"""
_WHOLE = "SELECT length(data), run_ids FROM ledger_batches WHERE tenant_id = ? AND last_position <= ?"
_TRIM = "DELETE FROM ledger_batches WHERE tenant_id = ? AND last_position <= ?"
_SHORTEN = """
    UPDATE ledger_batches SET rows = ?, run_ids = ?, sizes = ?, data = ? WHERE tenant_id = ? AND last_position = ?
"""
_COUNT_OFF = "UPDATE ledger_backlog SET rows = rows - ?, bytes = bytes - ? WHERE tenant_id = ?"
_REMEMBER = "INSERT INTO ledger_exported (tenant_id, exported_at_ms, run_ids) VALUES (?, ?, ?)"
_FORGETTABLE = """
    SELECT number, tenant_id, run_ids FROM ledger_exported WHERE exported_at_ms < ? ORDER BY exported_at_ms LIMIT ?
"""
_FORGET = "DELETE FROM ledger_names WHERE tenant_id = ? AND run_id = ?"
_FORGOTTEN = "DELETE FROM ledger_exported WHERE number = ?"


class _Batch(NamedTuple):
    """Some rows of one tenant."""

    last_position: int
    run_ids: list[str]
    sizes: list[int]
    data: bytes

    @property
    def first_position(self) -> int:
        return self.last_position - len(self.run_ids) + 1

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Each row's position and bytes."""
        end = 0
        for position, size in enumerate(self.sizes, self.first_position):
            begin, end = end, end + size
            yield position, self.data[begin:end]

    def behind(self, position: int) -> "_Batch":
        """What is left of it without the rows up to that position."""
        count = position - self.first_position + 1
        return self._replace(
            run_ids=self.run_ids[count:], sizes=self.sizes[count:], data=self.data[sum(self.sizes[:count]) :]
        )


def add_rows(connection: sqlite3.Connection, tenant_id: str, rows: Sequence[Row]) -> None:
    """Lay a tenant's rows down, in order, but for those whose run has one already."""
    new = _note(connection, tenant_id, rows)
    if not new:
        return
    connection.execute(_COUNT, (tenant_id, len(new), sum(len(data) for _, data in new)))
    (last_position,) = connection.execute(_LAST_POSITION, (tenant_id,)).fetchone()
    position = last_position - len(new)
    for some in _in_batches(new):
        position += len(some)
        run_ids, sizes = [run_id for run_id, _ in some], [len(data) for _, data in some]
        texts = _text(run_ids), _text(sizes)
        connection.execute(_LAY_DOWN, (tenant_id, position, len(some), *texts, b"".join([data for _, data in some])))
    assert position == last_position


def has_row(connection: sqlite3.Connection, tenant_id: str, run_id: str) -> bool:
    """Also of a row that was exported lately."""
    return connection.execute(_IS_NOTED, (tenant_id, run_id)).fetchone() is not None


def rows_after(connection: sqlite3.Connection, tenant_id: str, after: int, limit: int) -> list[tuple[int, bytes]]:
    """A tenant's next rows beyond a position, at most so many, each with its own."""
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


def let_go(connection: sqlite3.Connection, tenant_id: str, position: int, now_ms: int) -> None:
    """Let a tenant's rows go that lie up to that position; their names stay until they are forgotten."""
    whole = connection.execute(_WHOLE, (tenant_id, position)).fetchall()
    size_bytes = sum(size for size, _ in whole)
    run_ids = [*chain.from_iterable(_names(text) for _, text in whole)]
    connection.execute(_TRIM, (tenant_id, position))
    batch = next(_batches(connection, tenant_id, position), None)
    if batch is not None and batch.first_position <= position:
        rest = batch.behind(position)
        run_ids += batch.run_ids[: -len(rest.run_ids)]
        size_bytes += len(batch.data) - len(rest.data)
        values = len(rest.run_ids), _text(rest.run_ids), _text(rest.sizes), rest.data
        connection.execute(_SHORTEN, (*values, tenant_id, batch.last_position))
    if run_ids:
        connection.execute(_COUNT_OFF, (len(run_ids), size_bytes, tenant_id))
        connection.execute(_REMEMBER, (tenant_id, now_ms, _text(run_ids)))


def forget(connection: sqlite3.Connection, exported_before_ms: int, pages_max: int) -> None:
    """Forget the names of rows that left so long ago: of at most so many pages, the oldest first."""
    for number, tenant_id, run_ids in connection.execute(_FORGETTABLE, (exported_before_ms, pages_max)).fetchall():
        connection.executemany(_FORGET, [(tenant_id, run_id) for run_id in _names(run_ids)])
        connection.execute(_FORGOTTEN, (number,))


def _note(connection: sqlite3.Connection, tenant_id: str, rows: Sequence[Row]) -> Sequence[Row]:
    """Note the rows' names; those rows that had none yet. Nearly always all of them, so that is found out first."""
    if len(rows) > 1:
        before = connection.total_changes
        connection.execute("SAVEPOINT names")
        connection.execute(_NOTE_TOGETHER, (tenant_id, _text([run_id for run_id, _ in rows])))
        if connection.total_changes - before == len(rows):
            connection.execute("RELEASE names")
            return rows
        connection.execute("ROLLBACK TO names")
        connection.execute("RELEASE names")
    return [row for row in rows if connection.execute(_NOTE, (tenant_id, row[0])).rowcount == 1]


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
        for last_position, run_ids, sizes, data in found:
            yield _Batch(last_position, _names(run_ids), jsonio.parse(sizes.encode()), data)


def _text(values: list[str] | list[int]) -> str:
    return jsonio.encode(values).decode()


def _names(text: str) -> list[str]:
    names: list[str] = jsonio.parse(text.encode())
    return names
