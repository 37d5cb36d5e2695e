"""A store that fails in a way nobody thought of costs no row, and shows."""

import asyncio
import io

from proxy.core.clock import Clock
from proxy.ledger.entry import SealedRow
from proxy.pipeline.settlement import Settlement
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics


class BrokenLedger:
    """Fails once with an error that no store is meant to raise, then works."""

    def __init__(self) -> None:
        self.calls = 0
        self.rows: list[SealedRow] = []

    async def append(self, rows):
        self.calls += 1
        if self.calls == 1:
            raise ValueError("no such table: ledger")
        self.rows += rows


async def test_an_unforeseen_failure_keeps_the_rows_and_tells_the_operator():
    ledger, metrics = BrokenLedger(), Metrics()
    settlement = Settlement(ledger, metrics, AccessLog(io.BytesIO(), metrics.log_dropped), Clock())
    settlement._rows.append(SealedRow("acme", "run_1", b"{}"))
    settlement.sum_up()
    while ledger.calls == 0:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    assert settlement.failure == "ValueError: no such table: ledger"
    assert await settlement.drain(5.0) == 0
    assert [row.run_id for row in ledger.rows] == ["run_1"]
    assert settlement.failure is None
