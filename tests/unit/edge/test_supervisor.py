"""How long a dead worker's place stays empty, and what a fork leaves behind. Its life with real workers is in
`tests/behaviour/test_workers.py`."""

import os
import signal

import pytest

from proxy.edge.supervisor import restart_pause_s
from proxy.edge.wakeups import Wakeups


@pytest.mark.parametrize(
    ("short_lives", "pause_s"), [(0, 0.1), (1, 0.2), (2, 0.4), (5, 3.2), (8, 25.6), (9, 30.0), (10_000, 30.0)]
)
def test_restart_pause_s(short_lives, pause_s):
    assert restart_pause_s(short_lives) == pause_s


def test_signals_are_kept_in_order_and_none_is_lost():
    before = signal.getsignal(signal.SIGHUP)
    with Wakeups() as wakeups:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        numbers, _ = wakeups.wait([], 5.0)
        assert list(numbers) == [
            *(signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM),
        ]
        assert wakeups.wait([], 0.0) == (b"", [])
    assert signal.getsignal(signal.SIGHUP) is before
