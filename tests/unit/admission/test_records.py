"""Records of a journal: what is written is read again, and nothing that is torn or damaged is."""

import zlib

import pytest

from proxy.admission.ending import Bill
from proxy.admission.records import Done, Head, Releasing, Reserved, Settling, line_of, mark_of, record_of
from proxy.admission.terms import (
    TIME_MS_MAX,
    Bucket,
    Demand,
    RunStep,
    ScopeDemand,
    Touched,
    WindowKind,
    outline_of,
    window_of,
)

RUN = RunStep("acme", "run-1", 2)
TOUCHED = (Touched("tenant", 600, ("h1800000000", "d1799971200", "m1798761600", "t")), Touched("user:ab", 0, ()))
SETTLING = Settling(1_800_000_000_123, RUN, TOUCHED, Bill(2**53 - 1, None, bytes(range(256))))


@pytest.mark.parametrize(
    "record",
    [
        Head("e.1"),
        Head(""),
        SETTLING,
        SETTLING._replace(bill=Bill(0, 7, b"")),
        Releasing(5, RUN),
        Done(RUN),
    ],
)
def test_a_record_comes_back_from_its_line(record):
    line = line_of(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert record_of(line) == record_of(line[:-1]) == record


def test_a_settlement_of_an_older_release_comes_back_without_its_adjustment():
    text = SETTLING.text()[:-1] + b',"YWRqdXN0bWVudA=="]'
    assert record_of(b"%08x %b\n" % (zlib.crc32(text), text)) == SETTLING


def test_of_a_demand_what_puts_it_back_is_kept():
    scope = ScopeDemand(
        name="tenant",
        requests=Bucket(1, 2),
        tokens_per_minute=600,
        max_concurrency=5,
        windows=(
            window_of(WindowKind.ROLLING_24H, 1_800_000_000_000, 1_800_003_600_000, 9),
            window_of(WindowKind.DAY, 1_799_971_200_000, 1_800_057_600_000, None),
            window_of(WindowKind.TOTAL, 0, TIME_MS_MAX, 9),
        ),
    )
    demand = Demand(RUN, 5, 6, outline_of((scope, ScopeDemand("user:ab"))), 30_000, "vk_1", b"\x00worst")
    back = record_of(line_of(Reserved(9, demand)))
    assert isinstance(back, Reserved)
    assert back.at_ms == 9
    assert back.demand[:3] == (RUN, 5, 6)
    assert (back.demand.lease_ms, back.demand.row) == (30_000, b"\x00worst")
    tenant, user = back.demand.scopes
    assert (tenant.name, tenant.tokens_per_minute) == ("tenant", 600)
    assert tenant.periods == scope.periods == ("h1800000000", "d1799971200", "t")
    assert (tenant.requests, tenant.max_concurrency) == (None, None)  # nothing is checked or taken again
    assert {window.cap_nusd for window in tenant.windows} == {None}
    assert user == ScopeDemand("user:ab")


def test_a_line_that_is_torn_anywhere_is_no_record():
    line = line_of(SETTLING)[:-1]
    assert [cut for cut in range(len(line)) if record_of(line[:cut]) is not None] == []


def test_a_line_with_any_byte_changed_is_no_record():
    line = line_of(Done(RUN))[:-1]
    changed = [line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :] for at in range(len(line))]
    assert [record_of(each) for each in changed] == [None] * len(line)


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b'["done"]', b'["later", 1]', b'["done", "acme", "run-1", 0, 1]', b"nonsense"]
)
def test_a_whole_line_that_says_nothing_known_is_no_record(text):
    assert record_of(b"%08x %b\n" % (zlib.crc32(text), text)) is None


@pytest.mark.parametrize(
    ("record", "is_done"),
    [
        (SETTLING, False),
        (Releasing(5, RUN), False),
        (Reserved(9, Demand(RUN, 5, 6, outline_of((ScopeDemand("tenant"),)), 30_000, None, b"row")), False),
        (Done(RUN), True),
    ],
)
def test_a_records_mark_says_of_which_run_it_is_as_the_record_does(record, is_done):
    line = line_of(record)[:-1]
    assert mark_of(line) == (is_done, (b"acme", b"run-1", b"2"))
    for cut in range(len(line)):
        assert mark_of(line[:cut]) is None
    assert mark_of(line.replace(b"run-1", b"run-2")) is None  # the checksum is another's


@pytest.mark.parametrize("line", [line_of(Head("e.1"))[:-1], b"", b"not a record", b"00000000 []"])
def test_what_is_no_record_of_a_run_has_no_mark(line):
    assert mark_of(line) is None
