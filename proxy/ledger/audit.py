"""Is one tenant's ledger what was written, and does it add up to what the counters say?"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from proxy.ledger.chain import Chain
from proxy.ledger.page import PageBroken
from proxy.ledger.reader import LedgerReader
from proxy.ledger.usage import Summary


class SpentTotal(Protocol):
    """What a tenant's counters say that it was charged in all."""

    async def __call__(self, tenant_id: str, /) -> int | None:
        """In nano-dollars; None where nothing counts it. Raises StateUnavailable."""
        ...


class Finding(NamedTuple):
    """What was found of one tenant."""

    tenant_id: str
    pages: int  # the last one that holds; 0 where there was none to follow
    rows: int  # in pages, and those that wait in the store
    charged_nusd: int
    spent_nusd: int | None  # by the counters; None: not compared
    series_begun: tuple[int, ...]  # pages with which positions began anew: the store had been emptied
    breach: str | None  # the first break's kind
    fault: str | None  # in words; None: all is well


async def audit(
    tenant_id: str,
    reader: LedgerReader,
    spent_total: SpentTotal | None,
    *,
    first: int = 1,
    on_rows: Callable[[int], None] | None = None,
) -> Finding:
    """Follow the chain from the page `first` on, and add up the rows.

    Calls go on meanwhile: the counters are read before and after, and the sum has to lie between.

    Raises:
        OSError: the sink does not answer.
    """
    chain = Chain(tenant_id, first)
    summary = Summary(("tenant",))
    is_compared = spent_total is not None and first == 1
    before_nusd = await spent_total(tenant_id) if spent_total is not None and is_compared else None
    rows, breach, fault = 0, None, None
    try:
        async for batch in reader.batches(tenant_id, chain, first):
            summary.add(batch)
            rows += len(batch)
            if on_rows is not None:
                on_rows(len(batch))
    except PageBroken as broken:
        breach, fault = broken.breach.value, str(broken)
    charged_nusd = summary.total().charged_nusd
    spent_nusd = await spent_total(tenant_id) if spent_total is not None and before_nusd is not None else None
    if fault is None and before_nusd is not None and spent_nusd is not None:
        lowest_nusd, highest_nusd = sorted((before_nusd, spent_nusd))
        fault = (
            None
            if lowest_nusd <= summary.counted_nusd <= highest_nusd
            else f"its rows come to {summary.counted_nusd} nano-dollars, its counters to {spent_nusd}."
        )
    pages = chain.end.pages if chain.end.pages >= first else 0
    return Finding(tenant_id, pages, rows, charged_nusd, spent_nusd, tuple(chain.series_begun), breach, fault)
