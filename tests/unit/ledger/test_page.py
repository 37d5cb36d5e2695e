"""A page's bytes, and what is wrong with one that was changed."""

import hashlib
import json
import subprocess
import zlib

import pytest

from proxy.ledger.chain import Chain
from proxy.ledger.cursor import NO_HASH, Cursor
from proxy.ledger.page import Breach, PageBroken, check_page, read_page, seal

ROWS = [(3, b'{"run_id":"a"}'), (4, b'{"run_id":"b"}'), (9, b'{"run_id":"c"}')]
BODY = b'{"run_id":"a"}\n{"run_id":"b"}\n{"run_id":"c"}\n'


def page(rows=ROWS, after=Cursor()):  # noqa: B008  an immutable value
    return seal("acme", after, rows).data


def chain_of(*sizes: int) -> list[bytes]:
    """Pages of so many rows each, with positions 1, 2, 3, …"""
    pages, after, position = [], Cursor(), 0
    for size in sizes:
        rows = [(position + n, b'{"n":%d}' % (position + n)) for n in range(1, size + 1)]
        sealed = seal("acme", after, rows)
        pages.append(sealed.data)
        after, position = sealed.header.cursor, position + size
    return pages


def breach_of(pages: list[bytes], cursor: Cursor | None = None, tenant_id: str = "acme") -> tuple[int, Breach]:
    chain = Chain(tenant_id)
    with pytest.raises(PageBroken) as caught:
        for number, data in enumerate(pages, 1):
            chain.follow(number, data)
        chain.close(cursor or chain.end)
    return caught.value.number, caught.value.breach


def test_a_page_is_what_the_document_says():
    """Its hash by hand: SHA-256 of the header without its end, a line feed, and the rows' lines."""
    crc32_sum = sum(zlib.crc32(data) for _, data in ROWS)
    opening = (
        '{"tollway_ledger":1,"tenant":"acme","page":1,"series":1,"first_position":3,"last_position":9,"rows":3,'
        f'"crc32":{zlib.crc32(BODY)},"crc32_sum":{crc32_sum},"previous":"{"0" * 64}"'
    ).encode()
    page_hash = hashlib.sha256(opening + b"\n" + BODY).hexdigest().encode()
    assert page() == opening + b',"hash":"' + page_hash + b'"}\n' + BODY


def test_a_shell_alone_can_check_a_page(tmp_path):
    """The command of docs/ledger.md."""
    file = tmp_path / "00000001.jsonl"
    file.write_bytes(page())
    command = "{ head -n 1 F | sed 's/,\"hash\":.*//'; tail -n +2 F; } | sha256sum".replace("F", str(file))
    said = subprocess.run(command, shell=True, capture_output=True, check=True, timeout=10).stdout.decode().split()[0]
    assert said == json.loads(page().split(b"\n", 1)[0])["hash"]


def test_pages_follow_each_other():
    first = seal("acme", Cursor(), ROWS)
    second = seal("acme", first.header.cursor, [(12, b"{}")])
    assert first.header.cursor == Cursor(9, 1, first.header.page_hash, 1)
    assert (second.header.number, second.header.previous_hash) == (2, first.header.page_hash)
    chain = Chain("acme")
    assert list(chain.follow(1, first.data).rows) == [data for _, data in ROWS]
    chain.follow(2, second.data)
    assert (chain.end, chain.rows) == (second.header.cursor, 4)
    chain.close(second.header.cursor)
    chain.close(first.header.cursor)  # the store was not told of the second one yet


def test_the_same_rows_make_the_same_page():
    assert page() == page()
    assert page() != page(after=Cursor(0, 1, "ab" * 32, 1))


def test_rows_come_back_as_they_were():
    rows = [(1, b""), (2, b'{"user":"Zo\xc3\xab","x":"\\n"}'), (3, b"\r\x00"), (4, b"")]
    sealed = page(rows)
    assert list(read_page(1, sealed).rows) == [data for _, data in rows]
    assert list(check_page(1, sealed).rows) == [data for _, data in rows]


LINES = page().split(b"\n")[:-1]


def joined(*lines: bytes) -> bytes:
    return b"\n".join((*lines, b""))


@pytest.mark.parametrize(
    ("data", "breach"),
    [
        (page().replace(b'"b"', b'"x"'), Breach.ROW_CHANGED),
        (joined(*LINES[:-1]), Breach.ROW_MISSING),
        (joined(LINES[0], *LINES[2:]), Breach.ROW_MISSING),
        (joined(LINES[0]), Breach.ROW_MISSING),
        (joined(*LINES, b'{"run_id":"d"}'), Breach.ROW_ADDED),
        (joined(*LINES, LINES[1]), Breach.ROW_ADDED),
        (joined(LINES[0], LINES[2], LINES[1], LINES[3]), Breach.ROWS_REORDERED),
        (page()[:-1], Breach.TRUNCATED),
        (page()[:-9], Breach.TRUNCATED),
        (LINES[0], Breach.TRUNCATED),
        (LINES[0][:-1], Breach.NO_PAGE),
        (b"", Breach.NO_PAGE),
        (BODY, Breach.NO_PAGE),
        (b"\xff" * 100_000, Breach.NO_PAGE),
        (page().replace(b'"acme"', b'"else"'), Breach.HEADER_CHANGED),
        (page().replace(b'"page":1', b'"page":2'), Breach.HEADER_CHANGED),
        (page().replace(b'_ledger":1', b'_ledger":2'), Breach.NO_PAGE),
        (page().replace(b'"rows":3', b'"rows":"x"'), Breach.NO_PAGE),
        (page().replace(b'"rows":3,', b""), Breach.NO_PAGE),
        (page().replace(b'"tenant"', b"tenant"), Breach.NO_PAGE),
    ],
)
def test_what_was_done_to_a_page_is_named(data, breach):
    with pytest.raises(PageBroken) as caught:
        check_page(7, data)
    assert (caught.value.number, caught.value.breach) == (7, breach)
    assert str(caught.value).startswith("page 7: ")


def test_every_single_changed_byte_is_noticed():
    whole = page()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(PageBroken):
            check_page(1, bytes(changed))


def test_the_first_break_of_a_chain_is_found():
    pages = chain_of(2, 3, 1, 4)
    other = chain_of(2, 2, 1, 4)  # a whole chain of its own, the same up to its second page
    assert breach_of([pages[0], pages[2], pages[3]]) == (2, Breach.PAGE_MISPLACED)
    assert breach_of([pages[0], pages[1], pages[3], pages[2]]) == (3, Breach.PAGE_MISPLACED)
    assert breach_of([pages[0], other[1], pages[2], pages[3]]) == (3, Breach.CHAIN_BROKEN)
    assert breach_of([pages[1], pages[0]]) == (1, Breach.PAGE_MISPLACED)
    assert breach_of(pages, tenant_id="other") == (1, Breach.PAGE_MISPLACED)
    chain = Chain("acme")
    chain.follow(1, pages[0])
    with pytest.raises(PageBroken) as caught:
        chain.follow(3, pages[2])
    assert (caught.value.number, caught.value.breach) == (2, Breach.PAGE_MISSING)


def test_the_store_knows_the_chains_end():
    pages = chain_of(2, 3, 1)
    last = check_page(3, pages[2]).header
    assert breach_of(pages[:2], last.cursor) == (3, Breach.PAGE_MISSING)
    assert breach_of([], last.cursor) == (1, Breach.PAGE_MISSING)
    # The last page, sealed anew over a changed row: nothing in the files contradicts it.
    forged = seal("acme", check_page(2, pages[1]).header.cursor, [(6, b'{"n":7}')])
    assert breach_of([*pages[:2], forged.data], last.cursor) == (3, Breach.CHAIN_BROKEN)


def test_a_chain_whose_old_pages_are_elsewhere_can_be_followed_from_a_later_one():
    pages = chain_of(2, 3, 1)
    last = check_page(3, pages[2]).header
    chain = Chain("acme", first=2)
    chain.follow(2, pages[1])
    chain.follow(3, pages[2])
    chain.close(last.cursor)
    with pytest.raises(PageBroken):
        Chain("acme", first=2).follow(3, pages[2])


def test_positions_that_begin_anew_are_said_and_those_that_go_back_are_a_break():
    first = seal("acme", Cursor(), ROWS)
    anew = seal("acme", first.header.cursor._replace(position=0, series=2), [(1, b"{}")])
    chain = Chain("acme")
    chain.follow(1, first.data)
    chain.follow(2, anew.data)
    assert (chain.series_begun, chain.end.series) == ([2], 2)
    back = seal("acme", first.header.cursor._replace(position=0), [(1, b"{}")])
    assert breach_of([first.data, back.data]) == (2, Breach.CHAIN_BROKEN)


def test_a_first_page_names_none_before_it():
    begun_late = seal("acme", Cursor(0, 0, "ab" * 32, 1), ROWS)
    assert begun_late.header.previous_hash != NO_HASH
    assert breach_of([begun_late.data]) == (1, Breach.CHAIN_BROKEN)
