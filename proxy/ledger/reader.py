"""Every row of a tenant once: the sink's pages, then what waits in the store.

Nothing is held still for this. While it reads, an exporter may move rows from the store to the
sink, and after a crash or a loss a row may be in both; so rows that can be in two places are
remembered (by a digest of 8 bytes), and one that comes again with the same bytes is passed over.
Pages that can be in the sink alone, which are nearly all, are read without that.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

from proxy.ledger.chain import Chain
from proxy.ledger.page import Breach, PageBroken, read_page
from proxy.ledger.sink import LedgerSink
from proxy.ledger.store import LedgerStore

READ_ROWS = 1_000
REMEMBERED_MAX = 1_000_000  # some 100 MB, where as much can be in two places
_LOOKS_MAX = 5  # for a page that the store says is there


class LedgerReader:
    """Reads one sink and one store."""

    __slots__ = ("_sink", "_store")

    def __init__(self, store: LedgerStore, sink: LedgerSink) -> None:
        self._store = store
        self._sink = sink

    async def tenants(self) -> Sequence[str]:
        """Every tenant that has rows or had some, sorted."""
        return sorted({*await self._sink.tenants(), *await self._store.tenants()})

    async def batches(self, tenant_id: str, chain: Chain | None = None, first: int = 1) -> AsyncIterator[list[bytes]]:
        """A tenant's rows in order, in batches: pages, and then what waits in the store.

        Args:
            chain: what follows the pages, and is held to the store's cursor; without it no hash is checked.
            first: the page to begin with.

        Raises:
            PageBroken: a page is missing, or is not what was sealed.
            OSError: the sink does not answer.
        """
        cursor = await self._store.cursor(tenant_id)
        numbers = await self._sink.numbers(tenant_id)
        # From here on a row can be in two places: beyond the cursor, and after the store lost what it knew.
        seen = _Seen()
        seen_from = cursor.pages + 1 if cursor.series == 1 else first
        number, after, looks = first - 1, cursor, 0
        last_listed = numbers[-1] if numbers else 0
        while True:
            data = await self._sink.read(tenant_id, number + 1)
            if data is not None:
                number, looks = number + 1, 0
                rows = await asyncio.to_thread(_rows, number, data, chain)
                yield rows if number < seen_from else seen.fresh(rows)
                continue
            if number < max(last_listed, cursor.pages):
                looks += 1
                if looks > _LOOKS_MAX or number < last_listed:
                    raise PageBroken(number + 1, Breach.PAGE_MISSING, "it is not in the sink.")
            waiting = await self._store.read(tenant_id, after=after.position, limit=READ_ROWS)
            cursor = await self._store.cursor(tenant_id)
            if cursor.pages > number:
                continue  # rows have left the store meanwhile: they are in the sink's next page
            if cursor.series != after.series:
                after = cursor  # positions have begun anew
                continue
            if not waiting:
                break
            after = after._replace(position=waiting[-1][0])
            yield seen.fresh([data for _, data in waiting])
        if chain is not None:
            chain.close(cursor)


class _Seen:
    """The rows that were given, by digest, as far as they can come again."""

    __slots__ = ("_digests",)

    def __init__(self) -> None:
        self._digests: dict[bytes, None] = {}  # in order of arrival

    def fresh(self, rows: Sequence[bytes]) -> list[bytes]:
        """Those of the rows that did not come before."""
        found = []
        for row in rows:
            digest = hashlib.blake2b(row, digest_size=8).digest()
            if digest not in self._digests:
                self._digests[digest] = None
                found.append(row)
        while len(self._digests) > REMEMBERED_MAX:
            del self._digests[next(iter(self._digests))]
        return found


def _rows(number: int, data: bytes, chain: Chain | None) -> list[bytes]:
    page = read_page(number, data) if chain is None else chain.follow(number, data)
    return list(page.rows)
