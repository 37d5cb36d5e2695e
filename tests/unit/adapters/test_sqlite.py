import asyncio
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from proxy.adapters import sqlite as module
from proxy.adapters.sqlite import SqliteDoor, sqlite_path
from proxy.adapters.sqlite_schema import MIGRATIONS
from proxy.core.errors import StateIncompatible, StateUnavailable


def insert(tenant_id: str):
    def step(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO tenants (id, record) VALUES (?, x'00')", (tenant_id,))

    return step


def count(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM tenants").fetchone()[0]


def value_of(pragma: str, connection: sqlite3.Connection) -> object:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def start(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A Python that reads its standard input to the end before it goes on, where the program does."""
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdin=subprocess.PIPE)


def let_go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / "tollway.db"


async def test_the_file_is_made_by_the_first_call_and_only_its_owner_can_read_it(path):
    door = SqliteDoor(path)
    assert not path.exists()
    async with door:
        await door.run(insert("r"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {"tollway.db": 0o600, "tollway.db-wal": 0o600, "tollway.db-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_was_committed_is_there_after_a_process_that_was_killed(path):
    program = (
        "import asyncio, os, pathlib, sys; from proxy.adapters.sqlite import SqliteDoor\n"
        "async def main():\n"
        "    door = SqliteDoor(pathlib.Path(sys.argv[1]))\n"
        '    await door.run(lambda c: c.execute("INSERT INTO tenants (id, record) "\n'
        "                                       \"VALUES ('r', x'00')\").lastrowid)\n"
        "    os._exit(7)\n"
        "asyncio.run(main())\n"
    )
    process = start(program, path)
    let_go(process)
    assert process.wait(timeout=30) == 7
    async with SqliteDoor(path) as door:
        assert await door.read(count) == 1


async def test_the_pragmas_hold(path):
    async with SqliteDoor(path) as door:
        for pragma, expected in (
            ("journal_mode", "wal"),
            ("synchronous", 1),
            ("foreign_keys", 1),
            ("busy_timeout", 250),
        ):
            assert await door.read(partial(value_of, pragma)) == expected, pragma


async def test_a_step_that_fails_leaves_nothing(path):
    async with SqliteDoor(path) as door:

        def step(connection: sqlite3.Connection) -> None:
            insert("r")(connection)
            raise LookupError("in the middle")

        with pytest.raises(LookupError):
            await door.run(step)
        assert await door.read(count) == 0
        await door.run(insert("r"))
        with pytest.raises(sqlite3.IntegrityError):
            await door.run(insert("r"))
        await door.run(insert("s"))
        assert await door.read(count) == 2


async def test_steps_run_in_one_thread_that_is_not_the_loops(path):
    async with SqliteDoor(path) as door:
        threads = set(await asyncio.gather(*(door.read(lambda _: threading.get_ident()) for _ in range(20))))
        assert len(threads) == 1
        assert threading.get_ident() not in threads


async def test_a_cursor_does_not_leave_the_thread(path):
    async with SqliteDoor(path) as door:
        with pytest.raises(AssertionError):
            await door.read(lambda connection: connection.execute("SELECT 1"))
        assert await door.read(count) == 0


async def test_two_doors_to_one_file_lose_nothing(path):
    async with SqliteDoor(path) as one, SqliteDoor(path) as other:
        await asyncio.gather(
            *(door.run(insert(f"{name}{n}")) for n in range(50) for name, door in (("a", one), ("b", other)))
        )
        assert await one.read(count) == await other.read(count) == 100


async def test_processes_that_open_a_new_file_at_once_all_can(path):
    program = (
        "import asyncio, pathlib, sys; from proxy.adapters.sqlite import SqliteDoor\n"
        "from proxy.ledger.embedded import EmbeddedLedgerStore; from proxy.ledger.entry import SealedRow\n"
        "async def main():\n"
        "    async with SqliteDoor(pathlib.Path(sys.argv[1])) as door:\n"
        "        for n in range(20):\n"
        "            await EmbeddedLedgerStore(door).append([SealedRow('acme', f'{sys.argv[2]}-{n}', b'')])\n"
        "sys.stdin.read(); asyncio.run(main())\n"
    )
    starting = [start(program, path, name) for name in "abc"]
    for process in starting:
        let_go(process)
    assert [process.wait(timeout=30) for process in starting] == [0, 0, 0]
    async with SqliteDoor(path) as door:
        assert await door.read(lambda c: c.execute("SELECT count(*) FROM ledger").fetchone()) == (60,)


async def test_a_file_that_another_process_holds_is_unavailable_and_then_works(path):
    async with SqliteDoor(path) as door:
        await door.run(insert("before"))
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        begun_s = time.monotonic()
        with pytest.raises(StateUnavailable) as refused:
            await door.run(insert("during"))
        assert time.monotonic() - begun_s < 3
        assert refused.value.retry_after_ms == 1_000
        assert str(path) not in refused.value.message
        assert refused.value.for_operators == f"{path} cannot be used: database is locked. Try again shortly."
        assert await door.read(count) == 1  # reading goes on
        holder.execute("ROLLBACK")
        holder.close()
        await door.run(insert("after"))
        assert await door.read(count) == 2


async def test_a_step_that_takes_too_long_is_interrupted(path, monkeypatch):
    monkeypatch.setattr(module, "STEP_TIMEOUT_S", 0.1)
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    async with asyncio.timeout(10), SqliteDoor(path) as door:
        await door.run(insert("r"))
        with pytest.raises(StateUnavailable):
            await door.read(lambda connection: connection.execute(endless).fetchone())
        assert await door.read(count) == 1


async def test_a_call_waits_for_its_turn_only_so_long(path, monkeypatch):
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.2)
    release = threading.Event()
    door = SqliteDoor(path)
    await door.run(insert("first"))
    holding = asyncio.create_task(door.read(lambda _: release.wait(10)))
    await asyncio.sleep(0)
    with pytest.raises(StateUnavailable):
        await door.run(insert("given up in the queue"))
    with pytest.raises(StateUnavailable):
        await holding
    release.set()
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 5.0)
    assert await door.read(count) == 1  # what was given up before its turn did not happen
    await door.close()


async def test_the_queue_is_bounded(path, monkeypatch):
    monkeypatch.setattr(module, "QUEUED_MAX", 3)
    async with SqliteDoor(path) as door:
        answers = await asyncio.gather(*(door.run(insert(f"r{n}")) for n in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None)] * 3 + [StateUnavailable] * 2
        await door.run(insert("later"))


async def test_a_file_of_a_newer_release_is_refused_and_left_alone(path):
    async with SqliteDoor(path) as door:
        await door.run(insert("r"))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    before = path.read_bytes()
    async with SqliteDoor(path) as door:
        for _ in range(2):
            with pytest.raises(StateIncompatible, match="newer release"):
                await door.run(insert("s"))
    assert path.read_bytes() == before


async def test_an_older_file_is_migrated_with_what_it_holds(path, monkeypatch):
    async with SqliteDoor(path) as door:
        await door.run(insert("r"))
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (5)")))
    async with SqliteDoor(path) as door:
        assert await door.read(count) == 1
        assert await door.read(lambda c: c.execute("SELECT x FROM later").fetchall()) == [(5,)]
    async with SqliteDoor(path) as door:  # and once only
        assert await door.read(lambda c: c.execute("SELECT x FROM later").fetchall()) == [(5,)]


async def older(path: Path, rows: int = 1, size_bytes: int = 2) -> None:
    """A file of the release before rows lay in batches."""

    def fill(connection: sqlite3.Connection) -> None:
        values = (("acme", f"run_{number}", b"x" * size_bytes) for number in range(rows))
        connection.executemany("INSERT INTO ledger (tenant_id, run_id, data) VALUES (?, ?, ?)", values)

    async with SqliteDoor(path, MIGRATIONS[:10]) as door:
        await door.run(fill)


def rows_of(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT count(*) FROM ledger_batches").fetchone()[0]


async def test_bringing_an_older_file_over_may_take_longer_than_a_step(path, monkeypatch):
    await older(path, rows=2_000)
    # Looked at once in 10,000 operations: this step takes fewer, the bringing over more.
    monkeypatch.setattr(module, "STEP_TIMEOUT_S", 0.0)
    async with SqliteDoor(path) as door:
        assert await door.read(rows_of) == 2_000


async def test_the_first_step_has_all_of_its_time_however_long_the_bringing_over_took(path, monkeypatch):
    await older(path)
    opened = SqliteDoor._open

    def slowly(door: SqliteDoor) -> sqlite3.Connection:
        connection = opened(door)
        time.sleep(0.4)
        return connection

    monkeypatch.setattr(SqliteDoor, "_open", slowly)
    monkeypatch.setattr(module, "STEP_TIMEOUT_S", 0.3)
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT max(i) FROM n"
    async with SqliteDoor(path) as door:
        assert await door.read(lambda c: c.execute(many).fetchone()) == (5_000,)


async def test_an_older_file_that_somebody_has_open_is_left_alone_until_it_is_closed(path):
    """An older gateway would go on writing where this release does not look."""
    await older(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as elsewhere:
        elsewhere.execute("SELECT count(*) FROM ledger").fetchone()
        async with SqliteDoor(path) as door:
            with pytest.raises(StateUnavailable, match="did not answer") as refused:
                await door.ping()
            assert "is of an older release, and another process has it open: stop that one first" in str(
                refused.value.for_operators
            )
            elsewhere.execute("INSERT INTO ledger (tenant_id, run_id, data) VALUES ('acme', 'late', x'00')")
            elsewhere.close()
            assert await door.read(rows_of) == 2
            assert await door.read(partial(value_of, "journal_mode")) == "wal"


async def test_an_older_file_is_brought_over_so_that_a_power_cut_cannot_break_it(path, monkeypatch):
    """Without write-ahead logging, NORMAL would not do: https://sqlite.org/pragma.html#pragma_synchronous."""
    await older(path)
    seen = "CREATE TABLE seen AS SELECT synchronous AS level FROM pragma_synchronous"
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, (seen,)))
    async with SqliteDoor(path) as door:
        assert await door.read(lambda c: c.execute("SELECT level FROM seen").fetchone()) == (2,)  # FULL
        assert await door.read(partial(value_of, "synchronous")) == 1  # NORMAL


async def test_a_full_disk_while_an_older_file_is_brought_over_is_told_as_such(path):
    await older(path, rows=400, size_bytes=1_000)
    async with SqliteDoor(path) as door:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50_000, most[1]))
        try:
            with pytest.raises(StateUnavailable) as refused:
                await door.ping()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
        assert str(refused.value.for_operators).startswith(f"{path} cannot be used: ")
        assert await door.read(rows_of) == 400


async def test_a_close_that_waits_for_something_long_hides_no_fault(path, monkeypatch):
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.05)
    with pytest.raises(ValueError, match="of its own"):
        async with SqliteDoor(path) as door:
            with pytest.raises(StateUnavailable):
                await door.run(lambda _: time.sleep(0.4))
            raise ValueError("of its own")
    await asyncio.to_thread(door._thread.shutdown)
    assert door._connection is None  # closed after all


async def test_virtual_keys_of_one_digest_are_kept_through_the_migration(path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(module, "MIGRATIONS", MIGRATIONS[:5])
        async with SqliteDoor(path) as door:

            def issue(connection: sqlite3.Connection) -> None:
                rows = [("vk_1", "d1", "acme", 5, None, b"{}"), ("vk_2", "d2", "acme", 6, 9, b"{}")]
                connection.executemany("INSERT INTO virtual_keys VALUES (?, ?, ?, ?, ?, ?)", rows)

            await door.run(issue)
    async with SqliteDoor(path) as door:

        def rows_of(table: str) -> list[tuple[object, ...]]:
            return sorted(connection.execute(f"SELECT * FROM {table}").fetchall())

        with sqlite3.connect(path) as connection:
            await door.ping()
            assert rows_of("virtual_keys") == [("vk_1", "acme", 5, None, b"{}"), ("vk_2", "acme", 6, 9, b"{}")]
            assert rows_of("virtual_key_digests") == [("d1", "vk_1", ""), ("d2", "vk_2", "")]
        connection.close()


async def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    async with SqliteDoor(path) as door:
        await door.run(insert("r"))
    with monkeypatch.context() as patched:
        patched.setattr(module, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE later (x)", "NO SQL")))
        async with SqliteDoor(path) as door:
            with pytest.raises(sqlite3.OperationalError):
                await door.ping()
    async with SqliteDoor(path) as door:
        assert await door.read(count) == 1
        assert (
            await door.read(lambda c: c.execute("SELECT name FROM sqlite_schema WHERE name = 'later'").fetchall()) == []
        )


async def test_what_is_no_database_is_unavailable_and_left_alone(path):
    path.parent.mkdir()
    path.write_bytes(b"this is a text, and a long enough one to be no header of a database" * 20)
    before = path.read_bytes()
    async with SqliteDoor(path) as door:
        with pytest.raises(StateUnavailable) as refused:
            await door.ping()
    assert path.read_bytes() == before
    assert refused.value.for_operators == f"{path} cannot be used: file is not a database"
    assert str(path) not in refused.value.message


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("in the way")
    async with SqliteDoor(in_the_way / "tollway.db") as door:
        with pytest.raises(StateUnavailable) as refused:
            await door.ping()
    assert refused.value.for_operators == f"{in_the_way / 'tollway.db'} cannot be used: File exists: {in_the_way}"


async def test_a_folder_in_the_files_place_is_said(path):
    path.mkdir(parents=True)
    async with SqliteDoor(path) as door:
        with pytest.raises(StateUnavailable) as refused:
            await door.ping()
    assert refused.value.for_operators == f"{path} cannot be used: Is a directory"


async def test_a_mistake_in_sql_is_not_an_outage(path):
    async with SqliteDoor(path) as door:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await door.read(lambda connection: connection.execute("SELECT * FROM absent").fetchall())


async def test_closing_waits_for_what_is_queued_and_can_be_repeated(path):
    door = SqliteDoor(path)
    writing = [asyncio.create_task(door.run(insert(f"r{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    await door.close()
    await door.close()
    await asyncio.gather(*writing)
    assert os.listdir(path.parent) == ["tollway.db"]  # the write-ahead log is folded in
    with pytest.raises(StateUnavailable):
        await door.run(insert("late"))
    async with SqliteDoor(path) as again:
        assert await again.read(count) == 20


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:tollway.db", "/state/tollway.db"),
        ("sqlite:sub/x.db", "/state/sub/x.db"),
        ("sqlite:/var/lib/tollway.db", "/var/lib/tollway.db"),
    ],
)
def test_sqlite_path(url, expected):
    assert sqlite_path(url, Path("/state")) == Path(expected)


@pytest.mark.parametrize("url", ["", "sqlite:", "redis://x", "tollway.db"])
def test_a_url_without_a_path_is_refused(url):
    with pytest.raises(ValueError, match="sqlite:PATH"):
        sqlite_path(url, Path("/state"))
