"""The exporter over both stores: nothing twice, nothing lost, wherever it is interrupted."""

import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.ledger.chain import Chain
from proxy.ledger.cursor import Cursor
from proxy.ledger.entry import SealedRow
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.ledger.page import read_page
from proxy.ledger.sink import LedgerSink
from proxy.ledger.sink_file import FileSink
from proxy.telemetry.metrics import Metrics
from tests.ledger_crash import BOUND_S, STEPS, FaultySink, FaultyStore, Observed
from tests.ledger_tables import empty_ledger

ROOT = Path(__file__).resolve().parents[2]
SMALL = ExportPace(every_s=0.01, partial_every_s=0.01, seal_rows_max=3, lease_ms=60_000)


@pytest.fixture
def sink(tmp_path):
    return FileSink(tmp_path / "ledger")


def exporter(store, sink, holder="a", pace=SMALL, **options) -> Exporter:
    return Exporter(store, sink, Observed(), Clock(), holder, pace, **options)


def rows(first: int, last: int, tenant_id: str = "acme") -> list[SealedRow]:
    return [SealedRow(tenant_id, f"r{number}", b'{"run_id":"r%d"}' % number) for number in range(first, last + 1)]


def data_of(first: int, last: int) -> list[bytes]:
    return [row.data for row in rows(first, last)]


async def exported(sink: LedgerSink, tenant_id: str = "acme") -> list[bytes]:
    """The rows in a tenant's pages, whose chain is held to be whole."""
    chain = Chain(tenant_id)
    return [row for number, data in await pages(sink, tenant_id) for row in chain.follow(number, data).rows]


async def pages(sink: LedgerSink, tenant_id: str = "acme") -> list[tuple[int, bytes]]:
    return [(number, await sink.read(tenant_id, number) or b"") for number in await sink.numbers(tenant_id)]


async def sizes(sink: LedgerSink, tenant_id: str = "acme") -> list[int]:
    return [len(read_page(number, data).rows) for number, data in await pages(sink, tenant_id)]


# ── the plain way ────────────────────────────────────────────────────────────────────────


async def test_all_rows_of_all_tenants_go_to_the_sink_and_leave_the_store(ledger, sink):
    await ledger.append([*rows(1, 7), *rows(1, 2, "other")])
    turn = await exporter(ledger, sink).run_once()
    assert (turn.rows, turn.pages, turn.left, turn.failures) == (9, 4, False, ())
    assert await sizes(sink) == [3, 3, 1]
    assert await exported(sink) == data_of(1, 7)
    assert await exported(sink, "other") == data_of(1, 2)
    assert list(await ledger.backlog()) == []
    chain = Chain("acme")
    for number, data in await pages(sink):
        chain.follow(number, data)
    assert await ledger.cursor("acme") == chain.end


async def test_the_chain_goes_on_from_turn_to_turn_and_from_process_to_process(ledger, sink):
    for number in range(1, 6):
        await ledger.append(rows(number, number))
        assert (await exporter(ledger, sink, f"process {number}").run_once()).pages == 1
    assert await exported(sink) == data_of(1, 5)
    assert (await exporter(ledger, sink).run_once()).pages == 0  # nothing to do makes no empty page


async def test_full_pages_go_at_once_and_what_fills_none_waits(ledger, sink):
    await ledger.append([*rows(1, 7), *rows(1, 2, "other")])
    turn = await exporter(ledger, sink).run_once(partial=False)
    assert (turn.rows, turn.pages) == (6, 2)
    assert len(await ledger.read("acme")) == 1
    assert len(await ledger.read("other")) == 2


async def test_one_tenants_pages_in_a_turn_are_bounded(ledger, sink):
    await ledger.append([*rows(1, 60), *rows(1, 1, "other")])
    one = exporter(ledger, sink)
    turn = await one.run_once()
    assert (turn.pages, turn.left) == (17, True)  # 16 of one, and then the other
    assert await exported(sink, "other") == data_of(1, 1)
    assert (await one.run_once()).left is False
    assert await exported(sink) == data_of(1, 60)


async def test_a_page_is_bounded_in_bytes(ledger, sink, monkeypatch):
    monkeypatch.setattr("proxy.ledger.exporter.PAGE_BYTES_MAX", 8_000)
    big = [SealedRow("acme", f"r{number}", b'"' + b"x" * 3_000 + b'"') for number in range(5)]
    await ledger.append(big)
    await exporter(ledger, sink, pace=ExportPace(seal_rows_max=1_000)).run_once()
    assert await sizes(sink) == [2, 2, 1]
    assert await exported(sink) == [row.data for row in big]


async def test_rows_too_large_to_be_read_many_at_once_are_read_a_few_at_once(ledger, sink):
    """A call to the store is given up after 250 ms, however much it was to bring."""

    class Slow:
        def __getattr__(self, name):
            return getattr(ledger, name)

        async def read(self, tenant_id, after=0, limit=1_000):
            if limit > 20:
                raise StateUnavailable("too slow", retry_after_ms=1)
            return await ledger.read(tenant_id, after, limit)

    await ledger.append(rows(1, 100))
    one = exporter(Slow(), sink, pace=ExportPace(seal_rows_max=1_000))
    turns = [await one.run_once() for _ in range(4)]
    assert [turn.is_away for turn in turns[:3]] == [True, True, False]  # 250, 62, 15 rows a call
    assert await exported(sink) == data_of(1, 100)


async def test_it_tells_its_observer_what_it_did(ledger, sink):
    await ledger.append(rows(1, 4))
    observer = Observed()
    await Exporter(ledger, sink, observer, Clock(), "a", SMALL).run_once()
    assert observer.rows == [3, 1]
    assert observer.failures == 0
    assert observer.unexported_bytes >= len(b"".join(data_of(1, 4)))
    assert all(0 < seconds < BOUND_S for seconds in observer.seconds)


async def test_what_it_tells_is_what_the_metrics_take(ledger, sink):
    await ledger.append(rows(1, 4))
    metrics = Metrics()
    one = Exporter(ledger, sink, metrics, Clock(), "a", SMALL)
    await one.run_once()
    lines = metrics.render()[0].decode().splitlines()
    assert "tollway_ledger_exported_rows_total 4.0" in lines
    assert "tollway_ledger_export_seconds_count 2.0" in lines
    assert "tollway_ledger_export_failures_total 0.0" in lines
    assert f"tollway_ledger_unexported_bytes {float(one.unexported_bytes)}" in lines
    assert one.unexported_bytes > 0  # as the turn found it
    await one.run_once()
    assert "tollway_ledger_unexported_bytes 0.0" in metrics.render()[0].decode().splitlines()


# ── running beside the gateway ───────────────────────────────────────────────────────────


async def eventually(condition) -> None:
    for _ in range(int(BOUND_S / 0.01)):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in time")


async def test_started_it_exports_what_comes_until_it_is_stopped(ledger, sink):
    one = exporter(ledger, sink)
    one.start()
    for number in range(1, 30):
        await ledger.append(rows(number, number))
    await eventually(lambda: nothing_waits(ledger))
    await one.stop()
    await one.stop()
    assert await exported(sink) == data_of(1, 29)
    await ledger.append(rows(30, 30))
    await asyncio.sleep(0.05)
    assert len(await ledger.read("acme")) == 1
    one.start()
    await eventually(lambda: nothing_waits(ledger))
    await one.stop()
    assert await exported(sink) == data_of(1, 30)


async def nothing_waits(ledger) -> bool:
    return not await ledger.backlog()


async def test_several_gateways_export_each_row_once(ledger, sink):
    """Also while their claims run out under them: the sink decides, not the clock."""
    hasty = ExportPace(every_s=0.001, partial_every_s=0.001, seal_rows_max=3, lease_ms=20)
    several = [exporter(ledger, sink, f"g{number}", hasty) for number in range(4)]
    for one in several:
        one.start()
    for number in range(1, 200):
        await ledger.append(rows(number, number))
    await eventually(lambda: nothing_waits(ledger))
    for one in several:
        await one.stop()
    assert await exported(sink) == data_of(1, 199)


async def test_a_tenant_in_another_exporters_hands_is_left_to_it(ledger, sink):
    await ledger.append([*rows(1, 2), *rows(1, 1, "other")])
    claim = await ledger.claim("acme", "another", 60_000)
    turn = await exporter(ledger, sink).run_once()
    assert (turn.rows, turn.elsewhere, turn.failures) == (1, ("acme",), ())
    await ledger.let_go(claim)
    assert (await exporter(ledger, sink).run_once()).rows == 2


async def test_a_vanished_exporters_tenant_is_taken_over_when_its_claim_runs_out(ledger, sink):
    await ledger.append(rows(1, 2))
    await ledger.claim("acme", "vanished", 100)
    one = exporter(ledger, sink)
    assert (await one.run_once()).elsewhere == ("acme",)
    await asyncio.sleep(0.15)
    assert (await one.run_once()).rows == 2


async def test_a_sink_that_is_away_is_said_and_tried_again(ledger, sink):
    await ledger.append(rows(1, 4))
    faulty = FaultySink(sink, lambda: OSError(28, "No space left on device"))
    one = exporter(ledger, faulty)
    faulty.fail_at(1, before=True)
    turn = await one.run_once()
    assert (turn.rows, turn.is_away) == (0, True)
    assert one.failure == "The ledger's sink cannot be used: [Errno 28] No space left on device"
    assert len(await ledger.read("acme")) == 4
    assert (await one.run_once()).rows == 4
    assert one.failure is None
    assert await exported(sink) == data_of(1, 4)


async def test_a_store_that_is_away_is_said_and_tried_again(ledger, sink):
    await ledger.append(rows(1, 4))
    faulty = FaultyStore(ledger, lambda: StateUnavailable("away", retry_after_ms=1))
    for call in itertools.count(1):
        one = exporter(faulty, sink, pace=ExportPace(seal_rows_max=3, lease_ms=1))
        faulty.fail_at(call, before=True)
        turn = await one.run_once()
        if not faulty.failed:
            break
        assert (turn.is_away, one.failure) == (True, "away")
        await asyncio.sleep(0.003)
    assert call > 5
    assert await exported(sink) == data_of(1, 4)


async def test_a_fault_that_nobody_foresaw_is_said_and_tried_again(ledger, sink):
    await ledger.append(rows(1, 4))
    faulty = FaultyStore(ledger, lambda: ValueError("a fault of ours"))
    faulty.fail_at(1, before=True)
    one = exporter(faulty, sink)
    one.start()
    await eventually(lambda: nothing_waits(ledger))
    await one.stop()
    assert faulty.failed
    assert await exported(sink) == data_of(1, 4)


# ── what is wrong in the sink ────────────────────────────────────────────────────────────


async def test_another_sink_than_the_chain_is_in_is_refused(ledger, sink, tmp_path):
    """Two machines with one Redis and a folder each: the chain would be torn in two."""
    await ledger.append(rows(1, 3))
    await exporter(ledger, sink).run_once()
    await ledger.append([*rows(4, 5), *rows(1, 1, "other")])
    elsewhere = FileSink(tmp_path / "elsewhere")
    one = exporter(ledger, elsewhere)
    turn = await one.run_once()
    assert (turn.rows, turn.is_away) == (1, False)  # the other tenant has no pages yet
    assert "must share a sink" in (one.failure or "")
    assert list(await elsewhere.numbers("acme")) == []
    assert (await exporter(ledger, elsewhere, accept_missing=True).run_once()).rows == 2
    assert list(await elsewhere.numbers("acme")) == [2]
    assert (await exporter(ledger, elsewhere).run_once()).failures == ()


async def test_a_damaged_page_is_never_replaced_and_stops_its_tenant_alone(ledger, sink, tmp_path):
    await ledger.append([*rows(1, 2), *rows(1, 2, "other")])
    folder = tmp_path / "ledger" / "acme"
    folder.mkdir(parents=True)
    (folder / "00000001.jsonl").write_bytes(b"not a page\n")
    one = exporter(ledger, sink)
    turn = await one.run_once()
    assert (turn.rows, turn.is_away) == (2, False)
    assert "The ledger of acme cannot be exported: page 1" in (one.failure or "")
    assert (folder / "00000001.jsonl").read_bytes() == b"not a page\n"
    assert len(await ledger.read("acme")) == 2
    assert await exported(sink, "other") == data_of(1, 2)


async def test_a_row_that_no_page_can_hold_stops_its_tenant_alone(ledger, sink):
    await ledger.append([SealedRow("acme", "r1", b"two\nlines"), *rows(1, 2, "other")])
    turn = await exporter(ledger, sink).run_once()
    assert (turn.rows, len(turn.failures)) == (2, 1)
    assert len(await ledger.read("acme")) == 1


# ── a store that lost what it knew ───────────────────────────────────────────────────────


async def empty(ledger) -> None:
    """As FLUSHALL does; positions begin anew."""
    door = ledger._door
    if hasattr(door, "call"):
        await door.call("FLUSHALL")
        return
    await door.run(empty_ledger)


async def test_a_store_that_was_emptied_goes_on_in_the_same_chain(ledger, sink):
    await ledger.append(rows(1, 7))
    await exporter(ledger, sink).run_once()
    await empty(ledger)
    await ledger.append(rows(8, 9))
    one = exporter(ledger, sink)
    assert (await one.run_once()).failures == ()
    assert await exported(sink) == data_of(1, 9)
    chain = Chain("acme")
    for number, data in await pages(sink):
        chain.follow(number, data)
    assert chain.series_begun == [4]
    await ledger.append(rows(10, 10))
    assert (await one.run_once()).rows == 1
    assert await exported(sink) == data_of(1, 10)


@pytest.mark.parametrize("kept", range(7))
async def test_a_store_that_fell_back_writes_no_row_twice(ledger, sink, kept):
    """A replica that lagged was promoted: it has some of the rows that were exported, and new ones."""
    await ledger.append(rows(1, 7))
    await exporter(ledger, sink).run_once()
    await empty(ledger)
    await ledger.append([*rows(1, kept), *rows(21, 24)])
    for _ in range(3):
        assert (await exporter(ledger, sink, "b").run_once()).failures == ()
    assert await exported(sink) == data_of(1, 7) + data_of(21, 24)
    assert list(await ledger.backlog()) == []


@pytest.mark.parametrize("kept", range(4))
async def test_a_store_that_falls_back_while_a_page_is_written_loses_no_row(ledger, sink, kept):
    """Between reading three rows and moving the cursor it lost some, and took new ones in their positions."""
    await ledger.append(rows(1, 3))

    class SlowSink:
        def __getattr__(self, name):
            return getattr(sink, name)

        async def write(self, *arguments):
            await empty(ledger)
            await ledger.append([*rows(1, kept), *rows(21, 24)])
            return await sink.write(*arguments)

    await exporter(ledger, SlowSink()).run_once()
    for _ in range(3):
        assert (await exporter(ledger, sink, "b").run_once()).failures == ()
    assert await exported(sink) == data_of(1, 3) + data_of(21, 24)
    assert list(await ledger.backlog()) == []


# ── crash points ─────────────────────────────────────────────────────────────────────────


class Crash(BaseException):
    """The process ends here: nothing of the exporter runs any more that would reach the store or the sink."""


@pytest.mark.parametrize("come_between", [False, True])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_a_crash_at_any_call_loses_nothing_and_writes_nothing_twice(ledger, sink, before, come_between):
    """Each call to store and sink in turn is the last one: not done any more, or done and not noticed."""
    for call in itertools.count(1):
        tenant_id = f"t{call}"
        await ledger.append(rows(1, 7, tenant_id))
        store, faulty_sink = FaultyStore(ledger, Crash), FaultySink(sink, Crash)
        store.counts_with(faulty_sink)
        store.fail_at(call, before=before)
        crashing = exporter(store, faulty_sink, "crashing", ExportPace(seal_rows_max=3, lease_ms=1))
        try:
            await crashing.run_once()
        except Crash:
            pass
        await asyncio.sleep(0.003)  # its claim runs out
        last = 7
        if come_between:
            await ledger.append(rows(8, 9, tenant_id))
            last = 9
        turn = await exporter(ledger, sink, "next").run_once()
        assert turn.failures == ()
        assert await exported(sink, tenant_id) == data_of(1, last), call
        assert list(await ledger.backlog()) == []
        assert (await ledger.cursor(tenant_id)).pages == len(await sink.numbers(tenant_id))
        if not store.failed:
            break
    assert call > 15


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_that_is_gone_at_any_step_is_made_good(ledger, sink, request, tmp_path, step):
    """The same with a real process, which ends by os._exit within the step."""
    await ledger.append(rows(1, 7))
    is_redis = request.node.callspec.params["stores"] == "redis"
    state = request.getfixturevalue("redis_url") if is_redis else str(tmp_path / "tollway.db")
    arguments = [sys.executable, "-m", "tests.ledger_crash", state, str(tmp_path / "ledger"), step]
    done = await asyncio.to_thread(
        subprocess.run, arguments, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    assert done.returncode == 42, done.stderr
    await asyncio.sleep(0.01)
    await ledger.append(rows(8, 8))
    turn = await exporter(ledger, sink, "next").run_once()
    assert turn.failures == ()
    assert await exported(sink) == data_of(1, 8)
    assert list(await ledger.backlog()) == []
    assert await ledger.cursor("acme") != Cursor()
    assert {name for name in os.listdir(tmp_path / "ledger" / "acme") if not name.endswith(".unfinished")} == {
        f"{number:08d}.jsonl" for number in await sink.numbers("acme")
    }
