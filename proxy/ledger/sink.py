"""Where pages go for ever: what every sink does, and how a page is named in it.

A sink keeps files by name and never replaces one. That alone keeps pages from being written
twice or over one another, whoever believes to have the right to export; a claim only saves the
work of trying.
"""

import re
from collections.abc import Sequence
from typing import Protocol

_PAGE_NAME = re.compile(r"([0-9]{8,16})\.jsonl")


class LedgerSink(Protocol):
    """Keeps pages by tenant and number. Every method raises OSError where the sink cannot be
    reached or refuses; a write may then have happened, and is safe to repeat."""

    async def write(self, tenant_id: str, number: int, data: bytes) -> bool:
        """Keep a page, durably, before this returns. False where there is one of this number already: it stays."""
        ...

    async def read(self, tenant_id: str, number: int) -> bytes | None:
        """A page, or None where there is none."""
        ...

    async def numbers(self, tenant_id: str) -> Sequence[int]:
        """The numbers of a tenant's pages, in order."""
        ...

    async def tenants(self) -> Sequence[str]:
        """Every tenant that has pages, sorted."""
        ...

    async def probe(self) -> None:
        """Ask whether it can be used, as far as that shows without writing anything."""
        ...


def page_name(number: int) -> str:
    """A page's file name: its number in eight digits or more, so that names sort as numbers do."""
    assert number > 0
    return f"{number:08d}.jsonl"


def page_number(name: str) -> int | None:
    """The number that a file's name says; None for any other file."""
    match = _PAGE_NAME.fullmatch(name)
    return int(match[1]) if match and name == page_name(int(match[1]) or 1) else None
