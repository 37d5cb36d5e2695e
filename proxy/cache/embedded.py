"""Kept answers in SQLite: entries in a file of their own, so that they never delay what counts money; what is known of
them in the state's file.

What was deleted makes room for what comes, so that the file stays about as large as its bound allows.
"""

import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Final

from proxy.adapters.sqlite import SqliteDoor
from proxy.cache.book import ALIASES_MAX
from proxy.cache.entry import HEAD_BYTES_MAX, EntryUnreadable
from proxy.cache.fingerprint import SECRET_BYTES
from proxy.cache.store import DATA_BYTES_MAX, PAGE, Listed, require_name, shown_head
from proxy.core.clock import Clock
from proxy.core.tenant import require_tenant_id

ENDED_MAX: Final = 64  # of each kind, deleted by one step
_ROW_BYTES: Final = 200  # what an entry takes beside its data, indexes included
_EVICTED_MAX: Final = 1_000  # by one step

_FIND = """
    SELECT CASE WHEN length(data) <= ? THEN data END FROM cache_entries
    WHERE tenant_id = ? AND name = ? AND expires_at_ms > ?
"""
_CLAIM = """
    INSERT INTO cache_claims (tenant_id, name, run_id, until_ms) VALUES (?, ?, ?, ?)
    ON CONFLICT (tenant_id, name) DO UPDATE SET run_id = excluded.run_id, until_ms = excluded.until_ms
    WHERE until_ms <= ? OR run_id = excluded.run_id
"""
_LET_GO = "DELETE FROM cache_claims WHERE tenant_id = ? AND name = ? AND run_id = ?"
_DROP = "DELETE FROM cache_entries WHERE tenant_id = ? AND name = ?"
_KEEP = """
    INSERT INTO cache_entries (tenant_id, name, kept_at_ms, expires_at_ms, size_bytes, data) VALUES (?, ?, ?, ?, ?, ?)
"""
_END_ENTRIES = """
    DELETE FROM cache_entries WHERE rowid IN (
        SELECT rowid FROM cache_entries WHERE expires_at_ms <= ? ORDER BY expires_at_ms LIMIT ?)
"""
_END_CLAIMS = """
    DELETE FROM cache_claims WHERE (tenant_id, name) IN (
        SELECT tenant_id, name FROM cache_claims WHERE until_ms <= ? ORDER BY until_ms LIMIT ?)
"""
_SIZE = "SELECT size_bytes FROM cache_size"
_OLDEST = "SELECT rowid, size_bytes FROM cache_entries ORDER BY kept_at_ms LIMIT ?"
_EVICT = "DELETE FROM cache_entries WHERE rowid = ?"
_LIST = """
    SELECT tenant_id, name, length(data), substr(data, 1, ?) FROM cache_entries
    WHERE (tenant_id, name) > (?, ?) AND (? IS NULL OR tenant_id = ?) AND expires_at_ms > ?
    ORDER BY tenant_id, name LIMIT ?
"""
_NEW_SECRET = "INSERT INTO cache_secrets (tenant_id, secret) VALUES (?, ?) ON CONFLICT (tenant_id) DO NOTHING"
_SECRET = "SELECT secret FROM cache_secrets WHERE tenant_id = ?"
_NOW = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
_FORGET_SECRET = "DELETE FROM cache_secrets WHERE tenant_id = ?"
_PURGE = """
    INSERT INTO cache_purges (tenant_id, alias, before_ms) VALUES (?, ?, ?)
    ON CONFLICT (tenant_id, alias) DO UPDATE SET before_ms = max(before_ms, excluded.before_ms)
"""
_PURGES = "SELECT coalesce(sum(alias <> ''), 0), coalesce(sum(alias = ?), 0) FROM cache_purges WHERE tenant_id = ?"


class EmbeddedCacheStore:
    """Entries in SQLite, of so many bytes in all: those kept longest ago go first."""

    __slots__ = ("_bytes_max", "_clock", "_data_bytes_max", "_door")

    def __init__(self, door: SqliteDoor, bytes_max: int, clock: Clock, data_bytes_max: int = DATA_BYTES_MAX) -> None:
        """Takes the door over: it is that of a file with `CACHE_MIGRATIONS`."""
        self._door = door
        self._data_bytes_max = data_bytes_max
        self._bytes_max = bytes_max
        self._clock = clock

    async def find(self, tenant_id: str, name: str) -> bytes | None:
        which = (self._data_bytes_max, require_tenant_id(tenant_id), require_name(name), self._clock.now_ms())
        found = await self._door.read(lambda connection: connection.execute(_FIND, which).fetchone())
        return None if found is None else _readable(found[0])

    async def find_or_claim(self, tenant_id: str, name: str, run_id: str, claim_ms: int) -> bytes | bool:
        which, now_ms = (require_tenant_id(tenant_id), require_name(name)), self._clock.now_ms()

        def step(connection: sqlite3.Connection) -> object:
            found = connection.execute(_FIND, (self._data_bytes_max, *which, now_ms)).fetchone()
            if found is not None:
                return found[0]
            return connection.execute(_CLAIM, (*which, run_id, now_ms + claim_ms, now_ms)).rowcount == 1

        found = await self._door.run(step)
        return found if isinstance(found, bool) else _readable(found)

    async def keep(self, tenant_id: str, name: str, run_id: str | None, data: bytes, ttl_ms: int) -> None:
        which, now_ms = (require_tenant_id(tenant_id), require_name(name)), self._clock.now_ms()
        size_bytes = len(data) + _ROW_BYTES

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(_END_ENTRIES, (now_ms, ENDED_MAX))
            connection.execute(_END_CLAIMS, (now_ms, ENDED_MAX))
            connection.execute(_DROP, which)
            if run_id is not None:
                connection.execute(_LET_GO, (*which, run_id))
            if self._make_room(connection, size_bytes):
                connection.execute(_KEEP, (*which, now_ms, now_ms + ttl_ms, size_bytes, data))

        await self._door.run(step)

    async def let_go(self, tenant_id: str, name: str, run_id: str) -> None:
        which = (require_tenant_id(tenant_id), require_name(name), run_id)
        await self._door.run(lambda connection: connection.execute(_LET_GO, which).rowcount)

    async def entries(self, tenant_id: str | None) -> AsyncIterator[Sequence[Listed]]:
        after = ("", "") if tenant_id is None else (require_tenant_id(tenant_id), "")
        while page := await self._page(tenant_id, after):
            yield page
            after = (page[-1].tenant_id, page[-1].name)

    async def drop(self, tenant_id: str, names: Sequence[str]) -> int:
        which = [(require_tenant_id(tenant_id), require_name(name)) for name in names]
        return await self._door.run(lambda connection: connection.executemany(_DROP, which).rowcount if which else 0)

    async def ping(self) -> None:
        await self._door.ping()

    async def close(self) -> None:
        await self._door.close()

    async def _page(self, tenant_id: str | None, after: tuple[str, str]) -> list[Listed]:
        values = (HEAD_BYTES_MAX, *after, tenant_id, tenant_id, self._clock.now_ms(), PAGE)

        def step(connection: sqlite3.Connection) -> list[Listed]:
            found = connection.execute(_LIST, values).fetchall()
            return [Listed(tenant, name, size_bytes, shown_head(head)) for tenant, name, size_bytes, head in found]

        return await self._door.read(step)

    def _make_room(self, connection: sqlite3.Connection, needed_bytes: int) -> bool:
        """False: there is none, even with as many gone as one step may delete."""
        held_bytes: int = connection.execute(_SIZE).fetchone()[0]
        too_many = held_bytes + needed_bytes - self._bytes_max
        if too_many <= 0 or needed_bytes > self._bytes_max:
            return too_many <= 0
        for rowid, size_bytes in connection.execute(_OLDEST, (_EVICTED_MAX,)).fetchall():
            connection.execute(_EVICT, (rowid,))
            too_many -= size_bytes
            if too_many <= 0:
                return True
        return False


class EmbeddedCacheBook:
    """In the state's file."""

    __slots__ = ("_door",)

    def __init__(self, door: SqliteDoor) -> None:
        self._door = door

    async def secret(self, tenant_id: str) -> bytes:
        fresh = secrets.token_bytes(SECRET_BYTES)
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> bytes:
            connection.execute(_NEW_SECRET, (tenant_id, fresh))
            secret: bytes = connection.execute(_SECRET, (tenant_id,)).fetchone()[0]
            return secret

        return await self._door.run(step)

    async def purge(self, tenant_id: str, alias: str | None, before_ms: int) -> None:
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> None:
            count, is_there = connection.execute(_PURGES, (alias, tenant_id)).fetchone()
            is_one = bool(alias) and (is_there or count < ALIASES_MAX)
            connection.execute(_PURGE, (tenant_id, alias if is_one else "", before_ms))

        await self._door.run(step)

    async def end(self, tenant_id: str, ahead_ms: int) -> None:
        require_tenant_id(tenant_id)

        def step(connection: sqlite3.Connection) -> None:
            now_ms: int = connection.execute(_NOW).fetchone()[0]
            connection.execute(_PURGE, (tenant_id, "", now_ms + ahead_ms))
            connection.execute(_FORGET_SECRET, (tenant_id,))

        await self._door.run(step)


def _readable(data: object) -> bytes:
    if not isinstance(data, bytes):  # NULL stands for what is too long
        raise EntryUnreadable
    return data
