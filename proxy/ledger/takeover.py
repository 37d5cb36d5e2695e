"""What an exporter does about pages that are in the sink already, and about those that are not.

A page beyond the cursor was written by an exporter that ended before the cursor moved, or the
store has lost what it knew: it was emptied, or a replica that lagged was promoted. Which of the
two is told by comparing the page's rows with the store's.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from proxy.ledger.cursor import Claim, Cursor
from proxy.ledger.page import Breach, Page, PageBroken, check_page
from proxy.ledger.sink import LedgerSink
from proxy.ledger.store import READ_LIMIT_MAX, LedgerStore


async def check_last_page(claim: Claim, sink: LedgerSink) -> None:
    """See that the chain which this exporter is about to continue is in its own sink.

    Raises:
        PageBroken: it is not: another gateway exports the same store elsewhere, or pages were lost.
        OSError: the sink does not answer.
    """
    cursor = claim.cursor
    if cursor.pages == 0:
        return
    data = await sink.read(claim.tenant_id, cursor.pages)
    if data is None:
        raise PageBroken(
            cursor.pages,
            Breach.PAGE_MISSING,
            "it was the last one, and is not in this sink. Gateways that share a store must share a sink. If the pages "
            "are lost or were moved for good, `tollway ledger export --accept-missing` goes on after it.",
        )
    page = await asyncio.to_thread(check_page, cursor.pages, data)
    if page.header.page_hash != cursor.page_hash:
        raise PageBroken(cursor.pages, Breach.CHAIN_BROKEN, "it is another one than the store says was written.")


class Taken(NamedTuple):
    """Where the export goes on, and the store's last row before that, if any goes."""

    cursor: Cursor
    last_row: bytes | None


async def take_over(claim: Claim, store: LedgerStore, sink: LedgerSink) -> Taken:
    """Where the export goes on, as the next page is in the sink already.

    Where that page holds the very rows that come next, beyond it. Otherwise the store's positions
    have begun anew: beyond the sink's last page, in the next series, and beyond those of the
    store's next rows that are in the page. No row is dropped and none is written twice, but for
    what the store was given again after its loss, which stands in both places with the same bytes.

    Raises:
        PageBroken: the page in the sink is damaged. It is never replaced.
        OSError: the sink does not answer.
    """
    cursor = claim.cursor
    page = await _page(claim.tenant_id, cursor.pages + 1, sink)
    rows = await _rows(claim, len(page.rows), store)
    same = _same_from_the_start(page.rows, [data for _, data in rows])
    header = page.header
    is_whole = 0 < same == len(page.rows) and rows[same - 1][0] == header.last_position
    if is_whole and header.tenant_id == claim.tenant_id and header.previous_hash == cursor.page_hash:
        return Taken(header.cursor, page.rows[-1])
    numbers = await sink.numbers(claim.tenant_id)
    last = (await _page(claim.tenant_id, max(numbers), sink)).header
    position, last_row = rows[same - 1] if same else (cursor.position, None)
    return Taken(Cursor(position, last.number, last.page_hash, last.series + 1), last_row)


async def _page(tenant_id: str, number: int, sink: LedgerSink) -> Page:
    data = await sink.read(tenant_id, number)
    if data is None:
        raise PageBroken(number, Breach.PAGE_MISSING, "it was there a moment ago, and is not now.")
    return await asyncio.to_thread(check_page, number, data)


async def _rows(claim: Claim, count: int, store: LedgerStore) -> Sequence[tuple[int, bytes]]:
    """The store's next rows, at most so many."""
    rows: list[tuple[int, bytes]] = []
    while len(rows) < count:
        after = rows[-1][0] if rows else claim.cursor.position
        limit = min(READ_LIMIT_MAX, 1_000, count - len(rows))
        some = await store.read(claim.tenant_id, after=after, limit=limit)
        rows += some
        if len(some) < limit:
            break
    return rows


def _same_from_the_start(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many rows are the same, from the first on."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
