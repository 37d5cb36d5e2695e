import time

import pytest
import uvloop

from benchmarks.fine_timer import FineTimer


@pytest.mark.parametrize("wait_ns", [0, 300_000, 1_700_000])
async def test_it_waits_and_not_much_longer(wait_ns):
    with FineTimer() as timer:
        late_ns = []
        for _ in range(20):
            due_ns = time.perf_counter_ns() + wait_ns
            await timer.until(due_ns)
            late_ns.append(time.perf_counter_ns() - due_ns)
    assert min(late_ns) >= 0
    assert min(late_ns) < 1_000_000  # the best of twenty: a busy machine delays the others


def test_uvloop_has_it_as_well():
    async def wait() -> int:
        with FineTimer() as timer:
            due_ns = time.perf_counter_ns() + 300_000
            await timer.until(due_ns)
            return time.perf_counter_ns() - due_ns

    assert uvloop.run(wait()) >= 0
