"""A page: a batch of one tenant's rows, sealed into the tenant's chain.

Pure. A page is a file of JSON Lines. Its first line is the header, one JSON object; each other
line is a row, exactly as it was stored. The header's last member is the page's hash:

    {"tollway_ledger":1,"tenant":T,…,"previous":HASH,"hash":HASH}

the SHA-256 of the header up to, and without, `,"hash":`, a line feed, and all the rows with their
line feeds. `previous` is the hash of the page before, so that nothing in the middle can change,
and no page can be left out. docs/ledger.md says how to check it with a shell alone.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.ledger.cursor import Cursor

FORMAT = 1
HEADER_BYTES_MAX = 4_096

_HASH_MEMBER = b',"hash":"'
_SEAL = re.compile(rb'([0-9a-f]{64})"\}')
_HASH_TEXT = re.compile(r"[0-9a-f]{64}")


class Breach(StrEnum):
    """What can be wrong with a chain."""

    NO_PAGE = "no_page"  # not a page of this format at all
    TRUNCATED = "truncated"  # the file ends in the middle of a line
    ROW_MISSING = "row_missing"
    ROW_ADDED = "row_added"
    ROWS_REORDERED = "rows_reordered"
    ROW_CHANGED = "row_changed"
    HEADER_CHANGED = "header_changed"
    PAGE_MISSING = "page_missing"
    PAGE_MISPLACED = "page_misplaced"  # another tenant's page, or another number's
    CHAIN_BROKEN = "chain_broken"  # it is whole, and does not follow the page before


class PageBroken(Exception):
    """A page is not what was sealed. Says which, how, and in words."""

    def __init__(self, number: int, breach: Breach, message: str) -> None:
        super().__init__(f"page {number}: {message}")
        self.number = number
        self.breach = breach


class Header(NamedTuple):
    """A page's first line."""

    tenant_id: str
    number: int
    series: int
    first_position: int
    last_position: int
    rows: int
    crc32: int  # of the rows' lines. The two sums protect nothing: they tell what was changed where the hash is wrong
    crc32_sum: int  # of each row, in any order
    previous_hash: str
    page_hash: str

    @property
    def cursor(self) -> Cursor:
        """How far the export has come with this page."""
        return Cursor(self.last_position, self.number, self.page_hash, self.series)


class Page(NamedTuple):
    """A page, apart: its header and its rows' bytes."""

    header: Header
    rows: Sequence[bytes]


class SealedPage(NamedTuple):
    """A page as it is written."""

    header: Header
    data: bytes


def seal(tenant_id: str, after: Cursor, rows: Sequence[tuple[int, bytes]]) -> SealedPage:
    """Make the page that follows the cursor: rows as (position, bytes), in order, at least one."""
    assert rows
    assert rows[0][0] > after.position
    lines = [data for _, data in rows]
    assert all(b"\n" not in line for line in lines)
    body = b"\n".join((*lines, b""))
    header = Header(
        tenant_id=tenant_id,
        number=after.pages + 1,
        series=after.series,
        first_position=rows[0][0],
        last_position=rows[-1][0],
        rows=len(lines),
        crc32=zlib.crc32(body),
        crc32_sum=_crc32_sum(lines),
        previous_hash=after.page_hash,
        page_hash="",
    )
    opening = _opening(header)
    page_hash = _page_hash(opening, body)
    first_line = b"".join((opening, _HASH_MEMBER, page_hash.encode(), b'"}'))
    assert len(first_line) <= HEADER_BYTES_MAX
    return SealedPage(header._replace(page_hash=page_hash), b"\n".join((first_line, body)))


def read_page(number: int, data: bytes) -> Page:
    """Take a page apart, without checking its hash.

    Raises:
        PageBroken: it is no page, or not whole.
    """
    first_line, line_feed, body = data.partition(b"\n")
    header = _header(number, first_line)
    *rows, rest = body.split(b"\n")
    if rest or not line_feed:
        raise PageBroken(number, Breach.TRUNCATED, "the file ends in the middle of a line.")
    return Page(header, rows)


def check_page(number: int, data: bytes) -> Page:
    """Take a page apart, and hold it to its own hash.

    Raises:
        PageBroken: with what is wrong, as far as the page itself can tell.
    """
    page = read_page(number, data)
    opening, _, rest = data.partition(_HASH_MEMBER)
    body = rest.partition(b"\n")[2]
    if _page_hash(opening, body) == page.header.page_hash:
        return page
    raise PageBroken(number, *_difference(page, body))


def _difference(page: Page, body: bytes) -> tuple[Breach, str]:
    expected, found = page.header.rows, len(page.rows)
    if found < expected:
        return Breach.ROW_MISSING, f"{expected - found} of its {expected} rows are missing."
    if found > expected:
        return Breach.ROW_ADDED, f"it has {found - expected} rows more than the {expected} that were sealed."
    if zlib.crc32(body) == page.header.crc32:
        return Breach.HEADER_CHANGED, "its header was changed after it was sealed."
    if _crc32_sum(page.rows) == page.header.crc32_sum:
        return Breach.ROWS_REORDERED, "its rows are not in the order in which they were sealed."
    return Breach.ROW_CHANGED, "a row was changed after it was sealed."


def _opening(header: Header) -> bytes:
    """The header without its end."""
    members = {
        "tollway_ledger": FORMAT,
        "tenant": header.tenant_id,
        "page": header.number,
        "series": header.series,
        "first_position": header.first_position,
        "last_position": header.last_position,
        "rows": header.rows,
        "crc32": header.crc32,
        "crc32_sum": header.crc32_sum,
        "previous": header.previous_hash,
    }
    return jsonio.encode(members)[:-1]


def _header(number: int, line: bytes) -> Header:
    opening, found, rest = line[:HEADER_BYTES_MAX].partition(_HASH_MEMBER)
    seal_ = _SEAL.fullmatch(rest) if found else None
    if seal_ is None:
        raise PageBroken(number, Breach.NO_PAGE, "its first line is no header of a page.")
    try:
        members = jsonio.parse(opening + b"}")
        header = Header(
            tenant_id=str(members["tenant"]),
            number=int(members["page"]),
            series=int(members["series"]),
            first_position=int(members["first_position"]),
            last_position=int(members["last_position"]),
            rows=int(members["rows"]),
            crc32=int(members["crc32"]),
            crc32_sum=int(members["crc32_sum"]),
            previous_hash=str(members["previous"]),
            page_hash=seal_[1].decode(),
        )
        known = members["tollway_ledger"] == FORMAT and _HASH_TEXT.fullmatch(header.previous_hash) is not None
    except (InvalidJson, KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise PageBroken(number, Breach.NO_PAGE, "its header is not of a format that this release knows.")
    return header


def _page_hash(opening: bytes, body: bytes) -> str:
    digest = hashlib.sha256(opening)
    digest.update(b"\n")
    digest.update(body)
    return digest.hexdigest()


def _crc32_sum(rows: Iterable[bytes]) -> int:
    return sum(map(zlib.crc32, rows))
