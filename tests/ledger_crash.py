"""Stores and sinks that fail at a chosen call, and a process that ends at a chosen step of an export."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.clock import Clock
from proxy.ledger import sink_file
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.ledger.sink_file import FileSink
from proxy.ledger.store import RedisLedgerStore

BOUND_S = 20.0
STEPS = ("claimed", "read", "sealed", "half written", "unnamed", "named", "written", "moving", "moved", "second page")


class Observed:
    """What an exporter told."""

    def __init__(self):
        self.rows, self.seconds, self.failures, self.unexported_bytes = [], [], 0, 0

    def ledger_unexported(self, unexported_bytes):
        self.unexported_bytes = unexported_bytes

    def ledger_exported(self, rows, seconds):
        self.rows.append(rows)
        self.seconds.append(seconds)

    def ledger_export_failed(self):
        self.failures += 1


class _Faulty:
    """Passes calls on, and raises at one of them: before it is done, or after."""

    def __init__(self, real, error: Callable[[], BaseException]):
        self._real, self._error = real, error
        self._call, self._at, self._before = 0, 0, True
        self.failed = False

    def fail_at(self, call: int, *, before: bool) -> None:
        self._call, self._at, self._before, self.failed = 0, call, before, False

    def counts_with(self, other: "_Faulty") -> None:
        """Count the other's calls too."""
        other._count = self._count  # type: ignore[method-assign]

    def _count(self, before: bool) -> None:
        self._call += before
        # What is no Exception is the process's end: nothing that still runs in it reaches anything.
        is_gone = self.failed and not isinstance(self._error(), Exception)
        if is_gone or (self._call == self._at and before == self._before and not self.failed):
            self.failed = True
            raise self._error()

    def __getattr__(self, name):
        real = getattr(self._real, name)

        async def passed_on(*args, **kwargs):
            self._count(True)
            result = await real(*args, **kwargs)
            self._count(False)
            return result

        return passed_on


class FaultyStore(_Faulty):
    """A store that fails."""


class FaultySink(_Faulty):
    """A sink that fails."""


class _EndsAt:
    """Ends the process when a step is reached."""

    def __init__(self, step: str):
        self._step = step

    def __call__(self, step: str) -> None:
        if step == self._step:
            os._exit(42)


class _EndingStore:
    def __init__(self, real, reached: _EndsAt):
        self._real, self._reached, self._moved = real, reached, 0

    def __getattr__(self, name):
        real = getattr(self._real, name)

        async def passed_on(*args, **kwargs):
            if name == "advance":
                self._reached("moving")
            if name == "claim" and self._moved == 0 and getattr(self, "_read", False):
                self._reached("sealed")
            result = await real(*args, **kwargs)
            if name == "claim":
                self._reached("claimed")
            if name == "read":
                self._read = True
                self._reached("read")
            if name == "advance":
                self._moved += 1
                self._reached("moved")
            return result

        return passed_on


class _EndingSink:
    def __init__(self, real, store: _EndingStore, reached: _EndsAt):
        self._real, self._store, self._reached = real, store, reached

    async def write(self, *args):
        if self._store._moved == 1:
            self._reached("second page")
        result = await self._real.write(*args)
        self._reached("written")
        return result

    def __getattr__(self, name):
        return getattr(self._real, name)


def _end_within_a_write(reached: _EndsAt) -> None:
    """Between the bytes of a page, between its sync and its name, and between that and its folder's sync."""
    real_write, real_name = sink_file._write_durably, sink_file._name

    def write_durably(path, data):
        if reached._step == "half written":
            path.write_bytes(data[: len(data) // 2])
            reached("half written")
        real_write(path, data)
        reached("unnamed")

    def name(unfinished, final):
        is_new = real_name(unfinished, final)
        reached("named")
        return is_new

    sink_file._write_durably, sink_file._name = write_durably, name


async def _main(state: str, folder: str, step: str) -> None:
    door = RedisDoor(state) if "://" in state else SqliteDoor(Path(state))
    real = RedisLedgerStore(door) if isinstance(door, RedisDoor) else EmbeddedLedgerStore(door)
    reached = _EndsAt(step)
    _end_within_a_write(reached)
    store = _EndingStore(real, reached)
    sink = _EndingSink(FileSink(Path(folder)), store, reached)
    pace = ExportPace(seal_rows_max=3, lease_ms=1)
    await Exporter(store, sink, Observed(), Clock(), "crashing", pace).run_once()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
