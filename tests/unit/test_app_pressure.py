"""How late a process is and how large: measured ten times a second, from within."""

import asyncio
import time
from pathlib import Path

import pytest

from proxy.app import pressure
from proxy.app.pressure import EVERY_S, PressureGauge

BLOCKED_S = 0.3
STATUS = Path("/proc/self/status")


async def measured(during_s):
    """What a gauge says, while the loop is at rest for so long and then blocked."""
    seen = []
    gauge = PressureGauge(lambda lag_ms, memory_bytes: seen.append((lag_ms, memory_bytes)))
    gauge.start()
    await asyncio.sleep(during_s)
    time.sleep(BLOCKED_S)  # noqa: ASYNC251  that is what is measured
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gauge.stop()
    count = len(seen)
    await asyncio.sleep(2 * EVERY_S)
    assert len(seen) == count  # it was stopped
    return seen


async def test_a_blocked_loop_is_late_by_what_it_was_blocked_beyond_the_next_turn():
    lags_ms = [lag_ms for lag_ms, _ in await measured(during_s=2.5 * EVERY_S)]
    assert len(lags_ms) >= 2  # of those before, and the one that was held up
    # A turn at most was left when it was blocked; a busy machine can only make the rest more.
    assert 1_000 * (BLOCKED_S - EVERY_S) < max(lags_ms) < 10_000
    assert 0 <= min(lags_ms) < 1_000 * (BLOCKED_S - EVERY_S)


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux has it")
def test_the_memory_is_what_the_system_says():
    seen = asyncio.run(measured(during_s=0.0))
    resident_kb = next(int(row.split()[1]) for row in STATUS.read_text().splitlines() if row.startswith("VmRSS"))
    assert seen[0][1] == pytest.approx(1_024 * resident_kb, rel=0.1)


async def test_where_the_system_does_not_say_nobody_knows(monkeypatch, tmp_path):
    monkeypatch.setattr(pressure, "_STATM", tmp_path / "statm")
    assert {memory_bytes for _, memory_bytes in await measured(during_s=0.0)} == {None}
