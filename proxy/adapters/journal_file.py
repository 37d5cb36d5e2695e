"""The door to the journals' folder: for each process a folder of numbered segments, under a lock.

    FOLDER/STORE/PROCESS/lock             locked (flock) for as long as its process lives
    FOLDER/STORE/PROCESS/00000001.log     lines, oldest segment first; only ever appended to

Lines of one turn of the event loop go out in one write, into the machine's page cache: they
survive the end of the process. What may wait goes with the next of them, or after 50 ms. An fsync
within 50 ms of a write, in a thread, makes it survive the machine's end. A write that fails is
repeated whole, behind a line's end: what it left behind is a torn line, which readers pass over,
and lines are such that a repeat does no harm.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

_log = logging.getLogger("tollway.journal")

SEGMENT_BYTES_MAX = 16 * 1_048_576
WRITE_AFTER_S = 0.05
SYNC_AFTER_S = 0.05
RETRY_S = 0.5
READ_BYTES = 65_536
READ_PAUSE_S = 0.0005  # after as many: reading is work for the processor, and the event loop goes first
LINE_BYTES_MAX = 4 * 1_048_576  # a longer one is damage, and is passed over

_LOCK = "lock"
_SUFFIX = ".log"
_TRIES_MAX = 10


class Segment(NamedTuple):
    """One file of a journal."""

    number: int
    path: Path
    bytes: int
    changed_at_ms: int


class JournalFile:
    """This process's journal, to append to. Belongs to one event loop."""

    __slots__ = (
        "_descriptor",
        "_head",
        "_is_dirty",
        "_is_due",
        "_is_torn",
        "_lock",
        "_retry",
        "_segment_bytes_max",
        "_size_bytes",
        "_sync_later",
        "_syncing",
        "_thread",
        "_unwritten",
        "_write_later",
        "failure",
        "number",
        "path",
    )

    def __init__(self, folder: Path, head: bytes, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        """Makes the process's own folder in `folder`, and writes the line that every segment begins
        with. Blocks on the disk: call it at start.

        Raises:
            OSError: the folder cannot be made or written; the message says which, and what to do.
        """
        self.failure: str | None = None  # what keeps lines from the disk
        self.number = 0  # of the segment that is written to
        self._segment_bytes_max = segment_bytes_max
        self._head = head
        self._unwritten = bytearray()
        self._size_bytes = 0  # of the segment, what waits for it included
        self._is_torn = False  # the segment may end within a line
        self._is_due = False  # somebody will write what waits: at the end of this turn, or when the disk may have room
        self._write_later: asyncio.TimerHandle | None = None  # for what may wait, and nothing else has come
        self._retry: asyncio.TimerHandle | None = None
        self._is_dirty = False  # something was written since the last fsync began
        self._sync_later: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Task[None] | None = None
        try:
            self.path, self._lock = _own_folder(folder)
            self._descriptor = self._open_next()
            self._write(head)
            os.fsync(self._descriptor)
            _sync_folder(self.path)
        except OSError as error:
            message = f"The journal cannot be written ({error.strerror}). Make room, or name another folder in [state]"
            raise OSError(error.errno, f"{message} journal", str(folder)) from error
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tollway-journal")

    def append(self, line: bytes, *, may_wait: bool = False) -> int:
        """Add a line, which is written at the end of this turn of the loop; where it may wait, with what is written
        next, or after 50 ms. Gives its segment's number."""
        if self._size_bytes >= self._segment_bytes_max:
            self.begin(self._head)
        self._unwritten += line
        self._size_bytes += len(line)
        if self._is_due:
            return self.number
        if not may_wait:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.flush)
        elif self._write_later is None:
            self._write_later = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write_waiting)
        return self.number

    def begin(self, head: bytes) -> None:
        """Go on in a new segment, whose first line is this; while the disk is full, in the old one."""
        self._head = head
        self.flush()
        if self._unwritten:
            return
        try:
            before, self._descriptor = self._descriptor, self._open_next()
            self._thread.submit(_sync_and_close, before, self.path)
            self._write(head)
        except OSError as error:
            self._unwritten += head  # so that somebody tries again
            self._write_failed(error)

    def flush(self) -> None:
        """Write what waits. Whatever stops it, it is tried again until it has worked."""
        unwritten = self._unwritten
        if not unwritten or self._descriptor < 0:
            return
        try:
            self._write(b"\n" + unwritten if self._is_torn else unwritten)
        except OSError as error:
            self._write_failed(error)
            return
        self._is_torn = self._is_due = False
        unwritten.clear()
        self._is_dirty = True
        if self._sync_later is None:
            self._sync_in(SYNC_AFTER_S)

    async def sync(self) -> None:
        """Write and fsync all that was appended so far, as far as the disk lets it."""
        self.flush()
        await self._sync()

    def remove(self, number: int) -> None:
        """Delete a segment that is no longer needed. Blocks on the disk for a moment."""
        assert number != self.number
        (self.path / f"{number:08d}{_SUFFIX}").unlink(missing_ok=True)

    async def close(self, *, remove: bool = False) -> None:
        """Let go of the journal, after what waits; `remove`: nobody will ask for it. Safe to repeat."""
        if self._descriptor < 0:
            return
        await self.sync()
        for timer in (self._retry, self._sync_later, self._write_later):
            if timer is not None:
                timer.cancel()
        closing, self._descriptor = self._descriptor, -1
        self._thread.shutdown(wait=True)  # at most the fsync of a segment that was just left
        os.close(closing)
        if remove:
            _remove(self.path)
        os.close(self._lock)

    def _write_waiting(self) -> None:
        self._write_later = None
        if not self._is_due:
            self.flush()

    def _write(self, lines: bytes | bytearray) -> None:
        while (written := os.write(self._descriptor, lines)) < len(lines):  # there was no room for all of it
            lines = lines[written:]

    def _open_next(self) -> int:
        path = self.path / f"{self.number + 1:08d}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.number += 1
        self._size_bytes = len(self._head)
        return descriptor

    def _write_failed(self, error: OSError) -> None:
        self._is_torn = self._is_due = True
        self._fail(error)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(RETRY_S, self.flush)

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            _log.error("the journal cannot be written, and its lines are kept until they can: %s", error.strerror)
        self.failure = error.strerror or type(error).__name__

    def _sync_in(self, delay_s: float) -> None:
        if self._sync_later is None and self._syncing is None:
            self._sync_later = asyncio.get_running_loop().call_later(delay_s, self._start_sync)

    def _start_sync(self) -> None:
        self._sync_later = None
        self._syncing = asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        self._is_dirty, delay_s = False, SYNC_AFTER_S
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, os.fsync, self._descriptor)
        except OSError as error:  # what was written would be lost with the machine, not with the process
            self._fail(error)
            self._is_dirty, delay_s = True, RETRY_S
        else:
            if not self._unwritten:
                self.failure = None
        finally:
            self._syncing = None
            if self._is_dirty and self._descriptor >= 0:
                self._sync_in(delay_s)


# ── reading, also what others wrote ──────────────────────────────────────────────────────


def store_folder(folder: Path, url: str) -> Path:
    """Where the journals of one store lie: a name made of its URL, without what a URL may hide."""
    parts = urlsplit(url)
    named = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}{parts.path}"
    return folder / hashlib.blake2b(named.encode(), digest_size=8).hexdigest()


def journals(folder: Path) -> list[Path]:
    """The journals in a store's folder, sorted. Blocks on the disk, as all below."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def segments(journal: Path) -> list[Segment]:
    """Its segments, oldest first. One that goes meanwhile is left out; so are all where the journal itself does."""
    found = []
    try:
        paths = sorted(journal.glob(f"*{_SUFFIX}"))
    except FileNotFoundError:
        return []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append(Segment(int(path.stem), path, status.st_size, status.st_mtime_ns // 1_000_000))
    return found


def lines(segment: Segment) -> Iterator[bytes]:
    """The whole lines of a segment, without their ends. One that goes meanwhile has no more."""
    rest = b""
    with contextlib.suppress(FileNotFoundError), segment.path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if len(rest) > LINE_BYTES_MAX:
                rest = b""
            time.sleep(READ_PAUSE_S)


@contextmanager
def orphaned(journal: Path) -> Iterator[bool]:
    """Hold a journal's lock, if its process is gone and nobody else holds it; False where it is not to be had."""
    try:
        descriptor = os.open(journal / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _is_locked(descriptor) and _still_there(descriptor, journal / _LOCK)
    finally:
        os.close(descriptor)


def retire(journal: Path) -> None:
    """Delete an orphan whose lock is held."""
    _remove(journal)


def _own_folder(folder: Path) -> tuple[Path, int]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for _ in range(_TRIES_MAX):
        path = folder / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        # Between the two, somebody who looks for orphans may have taken it for one, and deleted it.
        if _is_locked(lock) and _still_there(lock, path / _LOCK):
            return path, lock
        os.close(lock)
    raise OSError("no journal of its own could be locked")


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove(journal: Path) -> None:
    for segment in segments(journal):  # oldest first: a crash leaves a journal without its beginning, never a gap
        segment.path.unlink(missing_ok=True)
    (journal / _LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        journal.rmdir()


def _sync_and_close(descriptor: int, folder: Path) -> None:
    try:
        os.fsync(descriptor)
        _sync_folder(folder)
    except OSError as error:
        _log.error("a segment of the journal may not survive the machine's end: %s", error.strerror)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
