"""Listings of the admin API, page by page, as OpenAI's have them: `limit`, `after`, `has_more`."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from proxy.core.errors import InvalidParameter
from proxy.edge.admin_request import Fields
from proxy.settings.values import Mismatch

PAGE_MAX: Final = 1_000
_PAGE_DEFAULT: Final = 100

Item = TypeVar("Item")


class Page(NamedTuple):
    """Which part of a listing is asked for."""

    limit: int
    after: str | None  # the id of the last one on the page before


def asked_page(query: Fields) -> Page:
    """What the query says of it. Raises InvalidParameter."""
    return Page(query.parsed("limit", _limit) or _PAGE_DEFAULT, query.text("after"))


def listing(
    items: Sequence[Item], id_of: Callable[[Item], str], describe: Callable[[Item], object], page: Page
) -> dict[str, object]:
    """One page of the items, which stand in their order.

    Raises:
        InvalidParameter: `after` is none of them.
    """
    start = _start(items, id_of, page)
    shown = items[start : start + page.limit]
    return {
        "object": "list",
        "data": [describe(item) for item in shown],
        "first_id": id_of(shown[0]) if shown else None,
        "last_id": id_of(shown[-1]) if shown else None,
        "has_more": start + len(shown) < len(items),
    }


def on_page(items: Sequence[Item], id_of: Callable[[Item], str], page: Page) -> Sequence[Item]:
    """Those of the page, for what has to be found out of each. Raises as `listing`."""
    start = _start(items, id_of, page)
    return items[start : start + page.limit]


def _start(items: Sequence[Item], id_of: Callable[[Item], str], page: Page) -> int:
    if page.after is None:
        return 0
    start = next((place for place, item in enumerate(items, 1) if id_of(item) == page.after), 0)
    if start == 0:
        raise InvalidParameter(
            "`after` is in no page of this listing: it may have been deleted. Begin without it.", param="after"
        )
    return start


def _limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(PAGE_MAX)) else 0
    if not 1 <= number <= PAGE_MAX:
        raise Mismatch(f"a whole number from 1 to {PAGE_MAX}")
    return number
