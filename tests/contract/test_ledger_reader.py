"""The reader gives each row once, whatever an exporter does meanwhile."""

import itertools

import pytest

from proxy.core.clock import Clock
from proxy.ledger import reader as module
from proxy.ledger.audit import audit
from proxy.ledger.chain import Chain
from proxy.ledger.entry import SealedRow
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.ledger.page import Breach, PageBroken
from proxy.ledger.reader import LedgerReader
from proxy.ledger.sink_file import FileSink
from tests.ledger_crash import Observed
from tests.ledger_tables import empty_ledger


@pytest.fixture
def sink(tmp_path):
    return FileSink(tmp_path / "ledger")


def rows(first: int, last: int, tenant_id: str = "acme") -> list[SealedRow]:
    return [
        SealedRow(
            tenant_id, f"r{n}", b'{"n":%d,"tenant":"acme","kind":"run","held_nusd":99,"charged_nusd":%d}' % (n, n)
        )
        for n in range(first, last + 1)
    ]


def data_of(first: int, last: int) -> list[bytes]:
    return [row.data for row in rows(first, last)]


async def export(ledger, sink) -> None:
    turn = await Exporter(ledger, sink, Observed(), Clock(), "a", ExportPace(seal_rows_max=4)).run_once()
    assert turn.failures == ()


async def read(reader: LedgerReader, chain: Chain | None = None, tenant_id: str = "acme") -> list[bytes]:
    return [row async for batch in reader.batches(tenant_id, chain) for row in batch]


class Meddled:
    """Does something else before one of its calls, as an exporter in another process would."""

    def __init__(self, real, meddling):
        self._real, self._meddling = real, meddling

    def __getattr__(self, name):
        real = getattr(self._real, name)

        async def passed_on(*args, **kwargs):
            await self._meddling()
            return await real(*args, **kwargs)

        return passed_on


async def test_rows_come_from_the_sink_and_the_store_in_order(ledger, sink):
    reader = LedgerReader(ledger, sink)
    assert await read(reader) == []
    await ledger.append(rows(1, 10))
    assert await read(reader) == data_of(1, 10)
    await export(ledger, sink)
    assert await read(reader) == data_of(1, 10)
    await ledger.append(rows(11, 12))
    chain = Chain("acme")
    assert await read(reader, chain) == data_of(1, 12)
    assert (chain.end.pages, chain.rows) == (3, 10)
    assert list(await reader.tenants()) == ["acme"]


async def test_an_exporter_that_comes_between_at_any_call_changes_nothing(ledger, sink, monkeypatch):
    """Before the n-th call of the reader, whatever it is, all that waits is exported; and new rows come."""
    monkeypatch.setattr(module, "READ_ROWS", 3)
    for at in itertools.count(1):
        tenant_id, calls = f"t{at}", 0
        await ledger.append(rows(1, 6, tenant_id))
        await export(ledger, sink)
        await ledger.append(rows(7, 14, tenant_id))

        async def meddle(tenant_id=tenant_id, at=at):
            nonlocal calls
            calls += 1
            if calls == at:
                await export(ledger, sink)
                await ledger.append(rows(15, 15, tenant_id))

        reader = LedgerReader(Meddled(ledger, meddle), Meddled(sink, meddle))
        found = await read(reader, Chain(tenant_id), tenant_id)
        assert found in (data_of(1, 14), data_of(1, 15)), at
        if calls < at:
            break
    assert at > 15


async def test_an_exporter_that_comes_between_at_every_call_changes_nothing(ledger, sink, monkeypatch):
    monkeypatch.setattr(module, "READ_ROWS", 2)
    await ledger.append(rows(1, 9))
    appended = 9

    async def meddle():
        nonlocal appended
        if appended < 40:
            appended += 1
            await ledger.append(rows(appended, appended))
        await export(ledger, sink)

    reader = LedgerReader(Meddled(ledger, meddle), Meddled(sink, meddle))
    found = await read(reader, Chain("acme"))
    assert found == data_of(1, len(found))
    assert len(found) == 40


async def test_a_page_that_the_store_was_not_told_of_counts_once(ledger, sink):
    """An exporter ended between the page and the cursor: its rows are in both."""
    await ledger.append(rows(1, 6))

    class Deaf:
        """A store whose cursor never moves."""

        def __getattr__(self, name):
            return getattr(ledger, name)

        async def advance(self, *_):
            return False

    await Exporter(Deaf(), sink, Observed(), Clock(), "a", ExportPace(seal_rows_max=4)).run_once()
    assert list(await sink.numbers("acme")) == [1]
    assert len(await ledger.read("acme")) == 6
    assert await read(LedgerReader(ledger, sink), Chain("acme")) == data_of(1, 6)


async def test_rows_that_a_journal_gave_the_store_again_count_once(ledger, sink):
    """The store was emptied after they had been exported, and got them again."""
    await ledger.append(rows(1, 6))
    await export(ledger, sink)
    door = ledger._door
    if hasattr(door, "call"):
        await door.call("FLUSHALL")
    else:
        await door.run(empty_ledger)
    await ledger.append([*rows(5, 6), *rows(7, 8)])
    reader = LedgerReader(ledger, sink)
    assert await read(reader, Chain("acme")) == data_of(1, 8)
    await export(ledger, sink)
    chain = Chain("acme")
    assert await read(reader, chain) == data_of(1, 8)
    assert chain.series_begun == [3]
    finding = await audit("acme", reader, None)
    assert (finding.charged_nusd, finding.fault) == (36, None)  # 1 + … + 8


async def test_a_missing_page_is_said(ledger, sink, tmp_path):
    await ledger.append(rows(1, 12))
    await export(ledger, sink)
    reader = LedgerReader(ledger, sink)
    for number in (3, 2, 1):  # the last one first: only the store knows of it
        page = tmp_path / "ledger" / "acme" / f"{number:08d}.jsonl"
        content = page.read_bytes()
        page.unlink()
        with pytest.raises(PageBroken) as caught:
            await read(reader)
        assert (caught.value.number, caught.value.breach) == (number, Breach.PAGE_MISSING)
        page.write_bytes(content)
    assert await read(reader, Chain("acme")) == data_of(1, 12)


async def test_counters_that_move_while_rows_are_read_are_no_difference(ledger, sink):
    """A call ends while the ledger is read: counters and rows move in one step, the reader sees them apart."""
    await ledger.append(rows(1, 4))
    spent = [10, 15]  # 1 + 2 + 3 + 4, and 5 more

    async def spent_total(tenant_id):
        return spent.pop(0)

    assert (await audit("acme", LedgerReader(ledger, sink), spent_total)).fault is None

    async def settled(tenant_id):
        return 11

    assert (await audit("acme", LedgerReader(ledger, sink), settled)).fault is not None
