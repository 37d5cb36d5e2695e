"""A process's journal: which segments may go, and what is owed of what is left."""

import os

import pytest

from proxy.adapters.journal_file import JournalFile, segments
from proxy.admission.ending import Bill
from proxy.admission.journal import KEPT_S, Journal
from proxy.admission.records import Done, Head, Record, Releasing, Reserved, Settling, line_of
from proxy.admission.replay import EXPIRED_KNOWN_MS, SETTLED_KNOWN_MS, Owed, epoch_of, may_be_lost, owed, undone
from proxy.admission.terms import Demand, RunStep, ScopeDemand, WindowKind, outline_of, touched_by, window_of
from tests.admission_stores import T0_MS, HandClock

HOUR_MS = 3_600_000
BILL = Bill(3, None, b"row")
TENANT = ScopeDemand("tenant", windows=(window_of(WindowKind.HOUR, T0_MS, T0_MS + HOUR_MS, None),))


def demand(run_id: str, held_nusd: int = 5) -> Demand:
    return Demand(named(run_id), held_nusd, 0, outline_of((TENANT,)), 30_000, None, b"worst")


def named(run_id: str) -> RunStep:
    return RunStep("acme", run_id, 0)


@pytest.fixture
def clock():
    return HandClock()


def make(tmp_path, clock, **options) -> Journal:
    journal = Journal(JournalFile(tmp_path, line_of(Head("")), segment_bytes_max=1), clock, **options)
    journal.begin("e1")  # a segment of one byte: each record has its own
    return journal


def age(journal: Journal, clock: HandClock, seconds: float) -> None:
    """Let what was written so far be so old."""
    journal.file.flush()
    for segment in segments(journal.file.path):
        os.utime(segment.path, (clock.ms / 1_000 - seconds,) * 2)


def numbers(journal: Journal) -> list[int]:
    return [segment.number for segment in segments(journal.file.path)]


async def test_a_segment_goes_once_all_in_it_is_done_and_its_time_is_over(tmp_path, clock):
    journal = make(tmp_path, clock)
    journal.reserved(demand("a"))
    ending = journal.settling(demand("a"), BILL)
    journal.done(ending)
    before = numbers(journal)
    age(journal, clock, KEPT_S - 1)
    assert await journal.trim() == 0
    age(journal, clock, KEPT_S)
    assert await journal.trim() == len(before) - 1  # all but the one that is written to
    assert numbers(journal) == before[-1:]
    await journal.close()


async def test_what_is_not_done_keeps_its_segment_and_all_after_it(tmp_path, clock):
    journal = make(tmp_path, clock)
    for name in ("a", "b", "c"):
        journal.reserved(demand(name))
    endings = {name: journal.settling(demand(name), BILL) for name in ("a", "c")}
    at_b = numbers(journal)[-1]
    journal.done(endings["a"])
    journal.done(endings["c"])
    journal.done(endings["c"])
    assert journal.undone == 1
    age(journal, clock, KEPT_S)
    # The head's two segments and that of a's reservation go: a's and c's endings lie behind b's reservation.
    await journal.trim()
    left = [segment for segment in segments(journal.file.path) if segment.number <= at_b]
    assert undone(left[:1]) == {named("b")}
    journal.done(journal.releasing(named("b")))
    age(journal, clock, KEPT_S)
    await journal.trim()
    assert len(numbers(journal)) == 1
    await journal.close()


async def test_beyond_so_many_bytes_what_is_done_goes_before_its_time(tmp_path, clock):
    journal = make(tmp_path, clock, kept_bytes_max=1)
    journal.done(journal.settling(demand("a"), BILL))
    journal.settling(demand("b"), BILL)
    journal.settling(demand("c"), BILL)
    age(journal, clock, 0)
    await journal.trim()
    assert undone(segments(journal.file.path)) == {named("b"), named("c")}
    assert journal.undone == 2
    await journal.close()


async def test_a_journal_in_which_nothing_happened_leaves_nothing(tmp_path, clock):
    idle, used = make(tmp_path, clock), make(tmp_path, clock)
    used.releasing(named("a"))
    await idle.close()
    await used.close()
    assert list(tmp_path.iterdir()) == [used.file.path]


async def test_a_journal_says_what_became_of_each_run(tmp_path, clock):
    journal = make(tmp_path, clock)
    for name in ("open", "settling", "settled", "released"):
        journal.reserved(demand(name))
    journal.settling(demand("settling"), BILL)
    journal.done(journal.settling(demand("settled"), BILL))
    journal.done(journal.releasing(named("released")))
    journal.releasing(named("unknown"))
    await journal.file.sync()
    assert undone(segments(journal.file.path)) == {named("open"), named("settling"), named("unknown")}
    assert journal.undone == 3
    await journal.close()


# ── what is owed ─────────────────────────────────────────────────────────────────────────

NOW_MS = T0_MS + 100 * HOUR_MS
LEFT = frozenset({named("left")})


def owed_of(tmp_path, record, *, began_in: str, left=LEFT) -> Owed:
    path = tmp_path / "00000001.log"
    path.write_bytes(line_of(Head(began_in)) + line_of(record))
    os.utime(path, (NOW_MS / 1_000,) * 2)
    (segment,) = segments(tmp_path)
    assert epoch_of(segment) == began_in
    return owed(segment, left, epoch="now", now_ms=NOW_MS)


def settling(run_id: str, age_ms: int) -> Settling:
    return Settling(NOW_MS - age_ms, named(run_id), touched_by([TENANT]), BILL)


@pytest.mark.parametrize(
    ("began_in", "run_id", "age_ms", "is_owed"),
    [
        ("now", "done", 0, False),  # the store has it
        ("now", "left", 0, True),
        ("now", "left", 90 * HOUR_MS, True),
        ("earlier", "done", 0, True),  # it had it, and may have lost it
        ("earlier", "done", SETTLED_KNOWN_MS, True),
        ("earlier", "done", SETTLED_KNOWN_MS + 1, False),  # it may have it, and not know so
        ("earlier", "left", 90 * HOUR_MS, True),
        ("", "done", 0, True),  # nobody knows which life that was
    ],
)
def test_a_settlement_is_owed(tmp_path, began_in, run_id, age_ms, is_owed):
    record = settling(run_id, age_ms)
    found = owed_of(tmp_path, record, began_in=began_in)
    assert found == Owed((), [record._replace(epoch=began_in)] if is_owed else [])


def test_a_segment_without_records_is_no_loss(tmp_path):
    path = tmp_path / "00000001.log"
    for text, lost in ((b"", False), (line_of(Head("")), False), (line_of(Head("")) + line_of(Done(named("a"))), True)):
        path.write_bytes(text)
        assert may_be_lost(segments(tmp_path)[0], "now") == lost
    path.write_bytes(line_of(Head("now")) + line_of(Done(named("a"))))
    assert not may_be_lost(segments(tmp_path)[0], "now")
    assert may_be_lost(segments(tmp_path)[0], "later")


@pytest.mark.parametrize(
    ("began_in", "run_id", "age_ms", "is_owed"),
    [
        ("now", "left", 0, False),  # the store has it, and its lease runs
        ("now", "done", 0, False),
        ("earlier", "left", 0, True),
        ("earlier", "left", EXPIRED_KNOWN_MS, True),
        ("earlier", "left", EXPIRED_KNOWN_MS + 1, False),  # it may have been charged, and forgotten
        ("earlier", "done", 0, False),
    ],
)
def test_a_reservation_is_owed(tmp_path, began_in, run_id, age_ms, is_owed):
    found = owed_of(tmp_path, Reserved(NOW_MS - age_ms, demand(run_id)), began_in=began_in)
    assert [each.run_step.run_id for each in found.reservations] == ([run_id] if is_owed else [])
    assert found.endings == []


def test_a_release_is_owed_until_it_is_done(tmp_path):
    release = Releasing(NOW_MS, named("left"))
    assert owed_of(tmp_path, release, began_in="now").endings == [release]
    assert owed_of(tmp_path, Releasing(NOW_MS, named("done")), began_in="now").endings == []
    assert owed_of(tmp_path, Done(named("left")), began_in="earlier") == Owed((), [])


def test_of_a_hold_that_grew_the_last_is_owed(tmp_path):
    path = tmp_path / "00000001.log"
    records: list[Record] = [Head("earlier"), Reserved(NOW_MS, demand("left", 5)), Reserved(NOW_MS, demand("left", 9))]
    path.write_bytes(b"".join(line_of(record) for record in records))
    os.utime(path, (NOW_MS / 1_000,) * 2)
    found = owed(segments(tmp_path)[0], LEFT, epoch="now", now_ms=NOW_MS)
    assert [each.held_nusd for each in found.reservations] == [9]


def test_of_a_neighbour_that_lives_only_what_may_be_lost_and_is_fresh_is_read(tmp_path):
    nobody = frozenset[RunStep]()
    record = settling("done", 0)
    assert owed_of(tmp_path, record, began_in="now", left=nobody) == Owed()
    assert owed_of(tmp_path, record, began_in="earlier", left=nobody).endings == [record._replace(epoch="earlier")]
    path = tmp_path / "00000001.log"
    os.utime(path, ((NOW_MS - SETTLED_KNOWN_MS) / 1_000 - 1,) * 2)
    assert owed(segments(tmp_path)[0], nobody, epoch="now", now_ms=NOW_MS) == Owed()


def test_torn_and_damaged_lines_are_passed_over(tmp_path):
    lines = [line_of(Head("now")), line_of(Releasing(NOW_MS, named("left"))), line_of(Done(named("other")))]
    path = tmp_path / "00000001.log"
    for cut in range(len(lines[1])):  # torn by a full disk, and then written again behind a line's end
        path.write_bytes(lines[0] + lines[1][:cut] + b"\n" + lines[1] + lines[2])
        assert undone(segments(tmp_path)) == {named("left")}
        path.write_bytes(lines[0] + lines[1][:cut])  # torn by the machine's end
        assert undone(segments(tmp_path)) == (frozenset() if cut < len(lines[1]) else {named("left")})
