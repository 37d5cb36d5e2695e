"""The door to the embedded store: one SQLite file, one thread, one transaction a call.

`sqlite3` blocks, so everything runs in one thread of its own. Write-ahead logging lets other
processes (a command beside a running gateway) read and write the same file. What a call
committed survives a crash of the process; a power cut may take the last moments with it
(`synchronous=NORMAL`), never the file's consistency.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from proxy.adapters.sqlite_schema import MIGRATIONS
from proxy.core.errors import StateIncompatible, StateUnavailable

Result = TypeVar("Result")
Step: TypeAlias = Callable[[sqlite3.Connection], Result]

URL_PREFIX = "sqlite:"
LOCK_TIMEOUT_MS = 250
STEP_TIMEOUT_S = 1.0  # one call's own time in the thread, past which SQLite is interrupted
CALL_TIMEOUT_S = 2.0  # with its place in the queue
QUEUED_MAX = 10_000
RETRY_AFTER_MS = 1_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux's
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT})
_WAL_TRIES_MAX = 20
_WAL_PAUSE_S = 0.02
_OPS_BETWEEN_LOOKS = 10_000  # of SQLite's virtual machine, between looks at the clock: some 100 µs


def sqlite_path(url: str, folder: Path) -> Path:
    """The file that `sqlite:PATH` names; a relative path is taken from the state folder.

    Raises:
        ValueError: not `sqlite:` and a path.
    """
    if not url.startswith(URL_PREFIX) or len(url) == len(URL_PREFIX):
        raise ValueError("The embedded store's URL is sqlite:PATH, for example sqlite:tollway.db.")
    return folder / url.removeprefix(URL_PREFIX)


def boot_id() -> str:
    """A name for the time since this machine was started; "" where the system gives none. Blocks for a moment."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class SqliteDoor:
    """One process's connection to the file, in a thread of its own."""

    __slots__ = ("_connection", "_migrations", "_path", "_queued", "_step_until_s", "_thread")

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]] | None = None) -> None:
        """Opens nothing yet: the first call does, and makes the file where there is none. `migrations` lead to other
        tables than those of the state."""
        self._path = path
        self._migrations = MIGRATIONS if migrations is None else migrations
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tollway-sqlite")
        self._connection: sqlite3.Connection | None = None  # touched by the thread alone
        self._step_until_s = 0.0  # likewise
        self._queued = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, step: Step[Result]) -> Result:
        """Run a step that writes, in one transaction: all of it, or nothing. It runs in the
        store's thread, and gives back plain values, never a cursor.

        Raises:
            StateUnavailable: the file is locked, full, unreadable or slow; after a time-out
                it may have been carried out.
            StateIncompatible: the file belongs to a newer release.
        """
        return await self._submit("BEGIN IMMEDIATE", step)

    async def read(self, step: Step[Result]) -> Result:
        """Run a step that only reads, and sees one moment of the file. Raises as `run`."""
        return await self._submit("BEGIN", step)

    async def ping(self) -> None:
        """Ask whether the file can be read. Raises as `run`."""
        await self.read(lambda connection: connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone())

    async def close(self) -> None:
        """Close the file, after what is queued. Safe to repeat; nothing can be run afterwards."""
        try:
            closing = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        except RuntimeError:  # the thread has been shut down already
            return
        self._thread.shutdown(wait=False)
        # Not cancelled where something takes longer, as an older file that is brought over: it is closed after that.
        done, _ = await asyncio.wait((closing,), timeout=CALL_TIMEOUT_S)
        for each in done:
            each.result()

    async def _submit(self, begin: str, step: Step[Result]) -> Result:
        if self._queued >= QUEUED_MAX:
            raise _unavailable()
        try:
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._transact, begin, step)
        except RuntimeError as error:  # closed
            raise _unavailable() from error
        self._queued += 1
        running.add_done_callback(self._unqueue)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await running
        except TimeoutError as error:
            raise _unavailable() from error

    def _unqueue(self, running: "asyncio.Future[Result]") -> None:
        self._queued -= 1

    # ── in the thread ────────────────────────────────────────────────────────────────────

    def _transact(self, begin: str, step: Step[Result]) -> Result:
        try:
            connection = self._connection
            if connection is None:
                connection = self._connection = self._open()  # without a deadline: an older file may take long
            self._step_until_s = time.monotonic() + STEP_TIMEOUT_S
            connection.execute(begin)
            try:
                result = step(connection)
                # Freed on the loop's thread, a cursor would reach into the connection beside this one.
                assert not isinstance(result, sqlite3.Cursor)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result
        except sqlite3.IntegrityError:
            raise  # the step's own business
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode & 0xFF
            if code == sqlite3.SQLITE_ERROR:
                raise  # bad SQL: a fault of ours, not of the store
            raise _unavailable(self._cause(str(error), code in _PASSING)) from error
        except OSError as error:
            where = f": {error.filename}" if error.filename not in (None, self._path, str(self._path)) else ""
            raise _unavailable(self._cause(f"{error.strerror or error}{where}")) from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives its -wal and -shm files the permissions of the file itself.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_MS / 1_000, isolation_level=None)
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA foreign_keys=ON")
            self._migrate(connection)
            connection.execute("PRAGMA synchronous=NORMAL")  # not before: only write-ahead logging is whole with it
            connection.set_progress_handler(self._is_overdue, _OPS_BETWEEN_LOOKS)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the file's tables to this release's, in one transaction, while nobody else has the file open: an older
        gateway would go on writing where this release does not look."""
        version = _version(connection)
        if version == len(self._migrations):
            return
        if 0 < version < len(self._migrations):
            self._be_alone(connection)
        connection.execute("BEGIN EXCLUSIVE")
        try:
            version = _version(connection)  # again: another process may have been first
            if version > len(self._migrations):
                raise StateIncompatible(
                    f"The state file was written by a newer release of Tollway: its schema is {version}, this release "
                    f"knows {len(self._migrations)}. Start that release, or name another file in [state] url."
                )
            for statements in self._migrations[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(self._migrations)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # of some faults, a full disk for one, SQLite has ended it by itself
                connection.execute("ROLLBACK")
            raise
        _switch_to_wal(connection)

    def _be_alone(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")  # which takes that no other connection is open
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            raise _unavailable(
                f"{self._path} is of an older release, and another process has it open: stop that one first. It "
                "would go on writing where this release does not look."
            ) from error

    def _cause(self, words: str, passes: bool = False) -> str:
        return f"{self._path} cannot be used: {words}{'. Try again shortly.' if passes else ''}"

    def _is_overdue(self) -> bool:
        return time.monotonic() > self._step_until_s

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Processes that make a file together meet here, and SQLite does not wait for this lock."""
    for _ in range(_WAL_TRIES_MAX - 1):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # the low byte; the rest says more
                raise
            time.sleep(_WAL_PAUSE_S)
    connection.execute("PRAGMA journal_mode=WAL")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    assert isinstance(version, int)
    return version


def _unavailable(cause: str | None = None) -> StateUnavailable:
    """Callers are told alike of every fault; its operators, of the one that it is. None: it was only slow."""
    message = "The gateway's state file did not answer in time. Try again shortly."
    return StateUnavailable(message, retry_after_ms=RETRY_AFTER_MS, cause=cause)
