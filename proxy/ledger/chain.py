"""Follows one tenant's chain, page by page, to the first page that does not fit.

Pure. Each page is held to its own hash and to the page before; the end is held to the store's
cursor, since the last pages could be taken away without a trace in the others.
"""

from proxy.ledger.cursor import NO_HASH, Cursor
from proxy.ledger.page import Breach, Page, PageBroken, check_page


class Chain:
    """The chain so far."""

    __slots__ = ("_end", "_hashes_from", "_tenant_id", "rows", "series_begun")

    def __init__(self, tenant_id: str, first: int = 1) -> None:
        """`first`: the page to begin with. Before any but the first, whatever it names is believed."""
        self._tenant_id = tenant_id
        self._end = Cursor(pages=first - 1)
        self._hashes_from = first
        self.rows = 0
        self.series_begun: list[int] = []  # pages with which positions began anew: the store had been emptied

    @property
    def end(self) -> Cursor:
        """Where the chain ends, as far as it was followed."""
        return self._end

    def follow(self, number: int, data: bytes) -> Page:
        """Take the page with this number, which must be the next one.

        Raises:
            PageBroken: it is not what was sealed, or does not follow. The chain stays where it was.
        """
        end = self._end
        if number != end.pages + 1:
            raise PageBroken(end.pages + 1, Breach.PAGE_MISSING, f"it is missing; the next one is page {number}.")
        page = check_page(number, data)
        header = page.header
        if header.tenant_id != self._tenant_id or header.number != number:
            message = f"in its place stands page {header.number} of {header.tenant_id}."
            raise PageBroken(number, Breach.PAGE_MISPLACED, message)
        if number > self._hashes_from and header.previous_hash != end.page_hash:
            raise PageBroken(number, Breach.CHAIN_BROKEN, f"it does not follow page {end.pages} as that is now.")
        if number == 1 and header.previous_hash != NO_HASH:
            raise PageBroken(number, Breach.CHAIN_BROKEN, "it names a page before it.")
        if number > self._hashes_from:
            self._check_positions(page)
        self._end = header.cursor
        self.rows += header.rows
        return page

    def close(self, cursor: Cursor) -> None:
        """Hold the end to the store's cursor. One page more than the cursor knows is sound: it was
        written, and the store not told yet.

        Raises:
            PageBroken: pages are missing at the end, or the last one is another than was written.
        """
        end = self._end
        if end.pages < cursor.pages:
            message = "it is missing: the store says that it was written."
            raise PageBroken(end.pages + 1, Breach.PAGE_MISSING, message)
        if end.pages == cursor.pages and end.pages >= self._hashes_from and end.page_hash != cursor.page_hash:
            raise PageBroken(end.pages, Breach.CHAIN_BROKEN, "it is another one than the store says was written.")

    def _check_positions(self, page: Page) -> None:
        header, end = page.header, self._end
        if header.series == end.series + 1:
            self.series_begun.append(header.number)
        elif header.series != end.series or header.first_position <= end.position:
            message = "its positions do not follow those of the page before."
            raise PageBroken(header.number, Breach.CHAIN_BROKEN, message)
