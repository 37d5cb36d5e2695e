"""The embedded store's tables, as an older release left them and as other statements change them."""

import pytest

from proxy.adapters import sqlite as module
from proxy.adapters.sqlite import SqliteDoor
from proxy.adapters.sqlite_schema import MIGRATIONS
from proxy.ledger.cursor import Backlog
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow

INSERT = "INSERT INTO ledger (tenant_id, run_id, data) VALUES (?, ?, ?)"
ROWS = [("acme", "a", b"x" * 10), ("acme", "b", b"x" * 5), ("other", "a", b"x" * 7)]


def execute(statement, rows=((),)):
    def step(connection):
        connection.executemany(statement, rows)

    return step


async def test_the_rows_of_an_older_file_wait_to_be_exported(tmp_path, monkeypatch):
    path = tmp_path / "tollway.db"
    with monkeypatch.context() as older:
        older.setattr(module, "MIGRATIONS", MIGRATIONS[:1])
        async with SqliteDoor(path) as door:
            await door.run(execute(INSERT, ROWS))
    async with SqliteDoor(path) as door:
        store = EmbeddedLedgerStore(door)
        assert list(await store.backlog()) == [Backlog("acme", 2, 15), Backlog("other", 1, 7)]
        assert list(await store.tenants()) == ["acme", "other"]


@pytest.mark.parametrize("insert", [INSERT, INSERT.replace("INSERT", "INSERT OR IGNORE")])
async def test_what_waits_is_known_whoever_adds_the_rows(tmp_path, insert):
    """The statement that settles a reservation writes rows of its own."""
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        store = EmbeddedLedgerStore(door)
        for rows in (ROWS, [("acme", "c", b"xyz")]):
            await door.run(execute(insert, rows))
        assert list(await store.backlog()) == [Backlog("acme", 3, 18), Backlog("other", 1, 7)]
        await door.run(execute("DELETE FROM ledger WHERE run_id = 'a'"))
        assert list(await store.backlog()) == [Backlog("acme", 2, 8)]
        assert await store.unexported_bytes() == 8


async def test_what_waits_in_an_older_file_is_counted_on(tmp_path):
    """The trigger that counts was another."""
    before = [SealedRow("acme", f"run_{number}", b"x" * 10) for number in range(3)]
    async with SqliteDoor(tmp_path / "tollway.db", MIGRATIONS[:9]) as old:
        await EmbeddedLedgerStore(old).append(before)
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        ledger = EmbeddedLedgerStore(door)
        await ledger.append([*before, SealedRow("acme", "run_3", b"x" * 5), SealedRow("other", "run_0", b"")])
        assert list(await ledger.backlog()) == [Backlog("acme", 4, 35), Backlog("other", 1, 0)]
