"""A journal on the disk: torn tails, segments, locks, a disk that refuses."""

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.adapters import journal_file
from proxy.adapters.journal_file import JournalFile, Segment, journals, lines, orphaned, retire, segments, store_folder

ROOT = Path(__file__).resolve().parents[3]
HEAD = b"head\n"


def all_lines(journal: Path) -> list[bytes]:
    return [line for segment in segments(journal) for line in lines(segment)]


async def turn() -> None:
    """One turn of the loop: what was appended is written."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def until(condition) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in time")


async def test_what_one_turn_gathers_goes_out_in_one_write(tmp_path, monkeypatch):
    file = JournalFile(tmp_path, HEAD)
    written = []
    write = os.write

    def note(descriptor: int, data: bytes) -> int:
        written.append(bytes(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", note)
    file.append(b"1\n")
    file.append(b"2\n")
    assert written == []
    await turn()
    assert written == [b"1\n2\n"]
    assert all_lines(file.path) == [b"head", b"1", b"2"]  # there, though nothing was fsynced yet
    await file.close()


async def test_what_may_wait_goes_with_the_next_line_or_by_itself_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "WRITE_AFTER_S", 0.02)
    file = JournalFile(tmp_path, HEAD)
    file.append(b"1\n", may_wait=True)
    await turn()
    assert all_lines(file.path) == [b"head"]
    file.append(b"2\n")
    file.append(b"3\n", may_wait=True)
    await turn()
    assert all_lines(file.path) == [b"head", b"1", b"2", b"3"]
    file.append(b"4\n", may_wait=True)
    await until(lambda: all_lines(file.path)[-1] == b"4")
    file.append(b"5\n", may_wait=True)
    await file.close()
    assert all_lines(file.path) == [b"head", b"1", b"2", b"3", b"4", b"5"]


async def test_an_fsync_follows_by_itself_and_not_for_each_write(tmp_path, monkeypatch):
    file = JournalFile(tmp_path, HEAD)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd))
    for number in range(20):
        file.append(b"%d\n" % number)
        await turn()
    assert synced == []
    await until(lambda: synced)
    await asyncio.sleep(0.1)
    assert len(synced) == 1
    await file.close()


async def test_a_line_that_is_written_during_an_fsync_gets_its_own(tmp_path, monkeypatch):
    file = JournalFile(tmp_path, HEAD)
    synced, release = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 1:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(5)

    monkeypatch.setattr(os, "fsync", slow)
    file.append(b"1\n")
    await until(lambda: synced)
    file.append(b"2\n")
    await asyncio.sleep(0.1)
    release.set()
    await until(lambda: len(synced) == 2)
    await file.close()


async def test_a_torn_tail_is_read_up_to_its_last_whole_line_wherever_it_is_torn(tmp_path):
    path = tmp_path / "00000001.log"
    text = b"one\ntwo\nthree\n"
    for cut in range(len(text) + 1):
        path.write_bytes(text[:cut])
        assert list(lines(Segment(1, path, cut, 0))) == text[:cut].split(b"\n")[:-1]


async def test_lines_longer_than_a_read_come_whole(tmp_path):
    path = tmp_path / "00000001.log"
    long = b"x" * (3 * journal_file.READ_BYTES)
    path.write_bytes(b"a\n" + long + b"\nb\n")
    assert list(lines(Segment(1, path, 0, 0))) == [b"a", long, b"b"]


async def test_a_line_without_end_takes_no_more_than_so_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "LINE_BYTES_MAX", 100_000)
    path = tmp_path / "00000001.log"
    path.write_bytes(b"a\n" + b"x" * 1_000_000 + b"\nb\n")
    found = list(lines(Segment(1, path, 0, 0)))
    assert found[0] == b"a"
    assert found[-1] == b"b"
    assert max(map(len, found)) <= 100_000 + journal_file.READ_BYTES


async def test_a_full_segment_is_followed_by_another_with_the_same_head(tmp_path):
    file = JournalFile(tmp_path, HEAD, segment_bytes_max=20)
    numbers = [file.append(b"12345678\n") for _ in range(5)]
    # 5 bytes of head; before the third line 23 of 20 bytes are there, and after the next head again.
    assert numbers == [1, 1, 2, 2, 3]
    await file.close()
    assert [list(lines(segment)) for segment in segments(file.path)] == [
        [b"head", b"12345678", b"12345678"],
        [b"head", b"12345678", b"12345678"],
        [b"head", b"12345678"],
    ]


async def test_another_head_begins_another_segment(tmp_path):
    file = JournalFile(tmp_path, HEAD)
    assert file.append(b"1\n") == 1
    file.begin(b"other\n")
    assert file.append(b"2\n") == 2
    await file.close()
    assert [list(lines(segment)) for segment in segments(file.path)] == [[b"head", b"1"], [b"other", b"2"]]
    assert [segment.number for segment in segments(file.path)] == [1, 2]


# ── the lock ─────────────────────────────────────────────────────────────────────────────


async def test_a_journal_is_an_orphan_once_its_process_has_let_go(tmp_path):
    file = JournalFile(tmp_path, HEAD)
    with orphaned(file.path) as is_ours:
        assert not is_ours
    await file.close()
    with orphaned(file.path) as is_ours:
        assert is_ours
        with orphaned(file.path) as is_ours_too:  # somebody has it in hand
            assert not is_ours_too
        retire(file.path)
    assert journals(tmp_path) == []
    with orphaned(file.path) as is_ours:
        assert not is_ours


def test_the_lock_of_another_process_ends_with_it_however_it_ends(tmp_path):
    code = (
        "import asyncio, pathlib, sys\n"
        "from proxy.adapters.journal_file import JournalFile\n"
        "async def main():\n"
        "    file = JournalFile(pathlib.Path(sys.argv[1]), b'head\\n')\n"
        "    file.append(b'line\\n'); file.flush()\n"
        "    print(file.path, flush=True); sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    own = JournalFile(tmp_path, HEAD)
    typed = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(typed, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            other = Path(process.stdout.readline().strip())
            assert sorted(journals(tmp_path)) == sorted([own.path, other])
            with orphaned(other) as is_ours:
                assert not is_ours
            assert all_lines(other) == [b"head", b"line"]  # a living one may be read
        finally:
            process.kill()
    with orphaned(other) as is_ours:
        assert is_ours
    assert all_lines(other) == [b"head", b"line"]
    asyncio.run(own.close())


async def test_a_folder_that_was_taken_for_an_orphan_while_it_was_made_is_made_again(tmp_path, monkeypatch):
    flock = fcntl.flock
    taken: list[Path] = []

    def somebody_first(descriptor: int, how: int) -> None:
        if not taken:
            (path,) = tmp_path.iterdir()
            taken.append(path)
            (path / "lock").unlink()
            path.rmdir()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", somebody_first)
    file = JournalFile(tmp_path, HEAD)
    assert file.path != taken[0]
    assert journals(tmp_path) == [file.path]
    await file.close()


# ── a disk that refuses ──────────────────────────────────────────────────────────────────


async def test_a_folder_that_cannot_be_made_is_refused_at_start_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"The journal cannot be written .* name another folder in \[state\] journal"):
        JournalFile(tmp_path / "file" / "journal", HEAD)


async def test_a_full_disk_is_refused_at_start(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space left"):
        JournalFile(tmp_path, HEAD)


def refuse(_descriptor: int, _data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_what_a_full_disk_refuses_is_written_once_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "RETRY_S", 0.02)
    file = JournalFile(tmp_path, HEAD, segment_bytes_max=20)
    write, room = os.write, [7]

    def nearly_full(descriptor: int, data: bytes) -> int:
        if room[0] == 0:
            refuse(descriptor, data)
        part = bytes(data)[: room[0]]
        room[0] -= len(part)
        return write(descriptor, part)

    monkeypatch.setattr(os, "write", nearly_full)
    for number in range(5):
        file.append(b"line-%d\n" % number)
        await turn()
    assert file.failure == "No space left on device"
    file.begin(b"other\n")  # meanwhile the store had a new epoch
    file.append(b"line-5\n")
    await asyncio.sleep(0.1)
    assert file.failure is not None
    room[0] = 10_000
    await until(lambda: file.failure is None)
    await file.close()
    found = [line for line in all_lines(file.path) if line.startswith(b"line-")]
    # "line-0\n" had its room. Nothing is missing, and nothing but repeats was added.
    assert dict.fromkeys(found) == dict.fromkeys(b"line-%d" % number for number in range(6))


async def test_an_fsync_that_fails_is_told_and_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_file, "RETRY_S", 0.02)
    file = JournalFile(tmp_path, HEAD)
    fsync, is_broken = os.fsync, [True]

    def broken(descriptor: int) -> None:
        if is_broken[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    file.append(b"1\n")
    await until(lambda: file.failure == "Input/output error")
    is_broken[0] = False
    await until(lambda: file.failure is None)
    await file.close()
    await file.close()


def test_stores_have_folders_of_their_own_whose_names_tell_nothing():
    folder = Path("journal")
    named = [
        store_folder(folder, url)
        for url in ("redis://a:6379/0", "redis://user:secret@a:6379/0", "redis://a:6379/1", "sqlite:tollway.db")
    ]
    assert named[0] == named[1]  # a password that was changed is no other store
    assert len({named[0], named[2], named[3]}) == 3
    assert all("secret" not in str(path) and len(path.name) == 16 for path in named)


def test_a_journal_that_goes_while_it_is_listed_has_no_segments(tmp_path, monkeypatch):
    def gone(*_: object):
        raise FileNotFoundError

    monkeypatch.setattr(type(tmp_path), "glob", gone)  # between its two looks at the folder
    assert segments(tmp_path / "journal") == []
