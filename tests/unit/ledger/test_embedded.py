"""The embedded ledger's file, as an older release left it."""

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.adapters.sqlite_schema import MIGRATIONS
from proxy.ledger.cursor import Backlog, Cursor
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow

LEASE_MS = 60_000
FAR_AHEAD_MS = 2**50
FIRST_RELEASE, WITH_EXPORT, ROW_BY_ROW = 1, 4, 10  # how many of the migrations each had
INSERT = "INSERT INTO ledger (tenant_id, run_id, data) VALUES (?, ?, ?)"
ROWS = [("acme", "a", b"x" * 10), ("other", "a", b"x" * 7), ("acme", 'b"\\\n', b"two\nlines"), ("acme", "c", b"")]


def execute(statement, rows=((),)):
    def step(connection):
        connection.executemany(statement, rows)

    return step


async def data_of(ledger: EmbeddedLedgerStore, tenant_id: str) -> list[bytes]:
    return [data for _, data in await ledger.read(tenant_id)]


@pytest.mark.parametrize("migrations", [FIRST_RELEASE, WITH_EXPORT, ROW_BY_ROW])
async def test_the_rows_of_an_older_file_wait_to_be_exported(tmp_path, migrations):
    path = tmp_path / "tollway.db"
    async with SqliteDoor(path, MIGRATIONS[:migrations]) as door:
        await door.run(execute(INSERT, ROWS))
    async with SqliteDoor(path) as door:
        ledger = EmbeddedLedgerStore(door)
        assert list(await ledger.backlog()) == [Backlog("acme", 3, 19), Backlog("other", 1, 7)]
        assert list(await ledger.tenants()) == ["acme", "other"]
        assert await data_of(ledger, "acme") == [b"x" * 10, b"two\nlines", b""]
        assert await data_of(ledger, "other") == [b"x" * 7]
        assert [position for position, _ in await ledger.read("acme")] == [1, 3, 4]  # as they had been given
        await ledger.append([SealedRow("acme", 'b"\\\n', b"again"), SealedRow("acme", "d", b"new")])
        assert (await ledger.read("acme"))[3:] == [(5, b"new")]


async def test_what_an_older_file_has_exported_is_known_until_it_is_forgotten(tmp_path):
    def export(connection):
        connection.executemany(INSERT, ROWS)
        connection.execute("INSERT INTO ledger_cursors (tenant_id, position, hash) VALUES ('acme', 3, 'ab')")
        for at_ms, position in ((1_000, 1), (FAR_AHEAD_MS, 3)):
            values = (at_ms, position, position - 2)
            connection.execute(
                "INSERT INTO ledger_remembered SELECT tenant_id, run_id, ? FROM ledger "
                "WHERE tenant_id = 'acme' AND position <= ? AND position > ?",
                values,
            )
        connection.execute("DELETE FROM ledger WHERE tenant_id = 'acme' AND position <= 3")

    async with SqliteDoor(tmp_path / "tollway.db", MIGRATIONS[:ROW_BY_ROW]) as old:
        await old.run(export)
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        ledger = EmbeddedLedgerStore(door)
        repeated = [SealedRow(*row) for row in ROWS]
        await ledger.append(repeated)
        assert list(await ledger.backlog()) == [Backlog("acme", 1, 0), Backlog("other", 1, 7)]
        claim = await ledger.claim("acme", "exporter", LEASE_MS)
        assert claim is not None
        assert await ledger.advance(claim, Cursor(4, 1, "ab" * 32, 1), b"", LEASE_MS)
        await ledger.append(repeated)
        assert await ledger.read("acme") == [(5, b"x" * 10)]  # `a` left in 1970; when the other did is yet to come


async def test_positions_go_on_behind_what_an_older_file_has_exported(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db", MIGRATIONS[:ROW_BY_ROW]) as old:
        await old.run(execute(INSERT, ROWS))
        await old.run(execute("INSERT INTO ledger_cursors (tenant_id, position, hash) VALUES ('acme', 4, 'ab')"))
        await old.run(execute("DELETE FROM ledger"))
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        ledger = EmbeddedLedgerStore(door)
        assert list(await ledger.backlog()) == []
        await ledger.append([SealedRow("acme", "later", b"{}")])
        assert await ledger.read("acme", after=4) == [(5, b"{}")]
