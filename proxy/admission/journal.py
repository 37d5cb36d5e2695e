"""This process's own journal: what it holds in the store, how that ended, and what is known of it.

Written beside the request's way, never waited for: the store holds the reservation by then, and
its lease charges it if this process ends before the line is written. What the journal is for:
the next process settles what this one no longer could, and whatever lost its state gets it again.
"""

import asyncio
from pathlib import Path
from typing import Self

from proxy.adapters.journal_file import JournalFile, segments, store_folder
from proxy.admission.ending import Bill
from proxy.admission.records import Done, Ending, Head, Record, Releasing, Reserved, Settling, line_of
from proxy.admission.terms import Demand, RunStep
from proxy.core.clock import Clock

KEPT_S = 3_600  # what the store acknowledged can be posted again for so long
KEPT_BYTES_MAX = 1_073_741_824  # or until there is so much of it: then the oldest goes first


class Journal:
    """The records of one process. Belongs to its event loop."""

    __slots__ = ("_clock", "_epoch", "_file", "_is_used", "_kept_bytes_max", "_segment_of")

    def __init__(self, file: JournalFile, clock: Clock, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._file = file
        self._clock = clock
        self._kept_bytes_max = kept_bytes_max
        self._is_used = False
        self._epoch = ""
        self._segment_of: dict[RunStep, int] = {}  # of what is not done: where its last record is

    @classmethod
    def open(cls, folder: Path, store_url: str, clock: Clock) -> Self:
        """This process's journal for a store, in the folder of `[state] journal`. Blocks on the disk: call it at start.

        Raises:
            OSError: the folder cannot be written; the message says what to do.
        """
        return cls(JournalFile(store_folder(folder, store_url), line_of(Head(""))), clock)

    @property
    def file(self) -> JournalFile:
        """Where it is written."""
        return self._file

    @property
    def failure(self) -> str | None:
        """What keeps records from the disk, or None."""
        return self._file.failure

    @property
    def undone(self) -> int:
        """How many runs are not done."""
        return len(self._segment_of)

    def begin(self, epoch: str) -> None:
        """From here on, what is acknowledged is so by the store of this epoch."""
        self._epoch = epoch
        self._file.begin(line_of(Head(epoch)))

    def reserved(self, demand: Demand) -> None:
        """The store holds it; or holds more of it than before."""
        self._note(demand.run_step, Reserved(self._clock.now_ms(), demand))

    def settling(self, demand: Demand, bill: Bill) -> Settling:
        """The call has ended."""
        run_step = demand.run_step
        settling = Settling(self._clock.now_ms(), run_step, demand.outline.touched, bill, self._epoch)
        self._note(run_step, settling)
        return settling

    def releasing(self, run_step: RunStep) -> Releasing:
        """Nothing is charged."""
        releasing = Releasing(self._clock.now_ms(), run_step)
        self._note(run_step, releasing)
        return releasing

    def done(self, ending: Ending) -> None:
        """The store has answered. Safe to repeat."""
        run_step = ending.run_step
        if self._segment_of.pop(run_step, None) is not None:
            # Whoever does not find it asks the store again, which does no harm: it is worth no write of its own.
            self._file.append(line_of(Done(run_step)), may_wait=True)

    async def trim(self) -> int:
        """Delete the oldest segments as far as nobody needs them. Gives how many.

        In order, and none before an older one: a record of what is done never goes before that
        of what was begun, which alone would say that something is owed.
        """
        found = await asyncio.to_thread(segments, self._file.path)
        kept_bytes, oldest_ms = sum(segment.bytes for segment in found), self._clock.now_ms() - KEPT_S * 1_000
        count = 0
        for segment in found:
            is_kept = segment.changed_at_ms > oldest_ms and kept_bytes <= self._kept_bytes_max
            if is_kept or segment.number == self._file.number or segment.number in self._segment_of.values():
                break
            await asyncio.to_thread(self._file.remove, segment.number)
            kept_bytes -= segment.bytes
            count += 1
        return count

    async def close(self) -> None:
        """Write what waits. A journal in which nothing ever happened leaves nothing behind."""
        await self._file.close(remove=not self._is_used)

    def _note(self, run_step: RunStep, record: Record) -> None:
        self._is_used = True
        self._segment_of[run_step] = self._file.append(line_of(record))
