"""A store that fails in a way nobody thought of costs no row, and shows."""

import io
from collections.abc import Sequence
from typing import cast

from proxy.admission.absorption import AbsorptionStore
from proxy.admission.keeper import Keeper
from proxy.core.clock import Clock
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow
from proxy.pipeline.absorbing import Absorbing
from proxy.pipeline.settlement import Settlement
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics
from tests.scripted_upstream import until


class BrokenLedger(EmbeddedLedgerStore):
    """Fails once with an error that no store is meant to raise, then works."""

    def __init__(self) -> None:
        self.calls_count = 0
        self.rows: list[SealedRow] = []

    async def append(self, rows: Sequence[SealedRow]) -> None:
        self.calls_count += 1
        if self.calls_count == 1:
            raise ValueError("no such table: ledger")
        self.rows += rows


async def test_an_unforeseen_failure_keeps_the_rows_and_tells_the_operator():
    ledger, metrics = BrokenLedger(), Metrics()
    access_log = AccessLog(io.BytesIO(), metrics.log_dropped)
    nobody_bears = Absorbing(cast(AbsorptionStore, None), Clock())
    # Nothing here was reserved.
    settlement = Settlement(ledger, cast(Keeper, None), nobody_bears, metrics, access_log, Clock())
    settlement._rows.append(SealedRow("acme", "run_1", b"{}"))
    settlement.sum_up()
    await until(lambda: settlement.failure is not None)
    assert settlement.failure == "ValueError: no such table: ledger"
    assert await settlement.drain(5.0) == 0
    assert [row.run_id for row in ledger.rows] == ["run_1"]
    assert settlement.failure is None
