"""After the store may have lost something, and after a process is gone: what to ask of it again.

A store's new epoch says that it was restarted, emptied or promoted. Then this process's open
reservations are put back, and what was settled within the journals' keep time is posted again:
from this process's journal and from every other in the folder. All of it is idempotent by run
and step, so it does not matter who else does the same.

An *orphan* is a journal whose process is gone. Its endings are carried out; its open
reservations are left to their leases, which charge them at the worst case, and put back first
where the store may have lost them. An orphan stays as long as it can be posted again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from proxy.adapters.journal_file import Segment, journals, orphaned, retire, segments
from proxy.admission.backlog import AT_ONCE, carry_out
from proxy.admission.journal import KEPT_S, Journal
from proxy.admission.records import Ending, Settling
from proxy.admission.replay import Owed, may_be_lost, owed, undone
from proxy.admission.store import AdmissionStore
from proxy.admission.terms import Demand, RunStep
from proxy.core.clock import Clock

Item = TypeVar("Item")


async def ask_each(items: Iterable[Item], ask: Callable[[Item], Awaitable[object]]) -> None:
    """Ask for some at a time; the first fault is raised once those have ended."""
    remaining = iter(items)
    while some := tuple(islice(remaining, AT_ONCE)):
        answers = await asyncio.gather(*(ask(item) for item in some), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


class Recovery:
    """Asks the store for what journals say it owes. Every method raises StateUnavailable where the
    store does not answer; what was done by then does no harm when it is done again."""

    __slots__ = ("_adopted", "_clock", "_journal", "_store")

    def __init__(self, store: AdmissionStore, journal: Journal, clock: Clock) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._adopted: dict[Path, str] = {}  # orphans that owe nothing → in which epoch that is so

    async def put_back(self, demands: Iterable[Demand]) -> None:
        """Reservations that are under way, so that what they hold counts again."""
        await ask_each(demands, self._store.restore)

    async def post_again(self, epoch: str) -> set[str]:
        """What any journal says was acknowledged in another epoch than this. Gives the tenants of
        reservations that were put back: somebody has to sweep them."""
        own = self._journal.file
        await own.sync()
        tenants: set[str] = set()
        for path in await asyncio.to_thread(journals, own.path.parent):
            found = await asyncio.to_thread(segments, path)
            if not await asyncio.to_thread(_any_lost, found, epoch):
                continue
            if path == own.path or not await self._adopt(path, epoch, tenants):
                await self._ask(found, frozenset(), epoch)  # its process lives, and sees to the rest
        return tenants

    async def adopt_orphans(self, epoch: str) -> set[str]:
        """See to the journals whose processes are gone. Gives the tenants as `post_again` does."""
        tenants: set[str] = set()
        found = await asyncio.to_thread(journals, self._journal.file.path.parent)
        self._adopted = {path: self._adopted[path] for path in found if path in self._adopted}
        for path in found:
            if path != self._journal.file.path:
                await self._adopt(path, epoch, tenants)
        return tenants

    async def _adopt(self, path: Path, epoch: str, tenants: set[str]) -> bool:
        """False: it is none, or somebody else has it in hand."""
        with orphaned(path) as is_ours:
            if not is_ours:
                return False
            found = await asyncio.to_thread(segments, path)
            if self._adopted.get(path) != epoch:
                left = await asyncio.to_thread(undone, found)
                tenants |= await self._ask(found, left, epoch)
                self._adopted[path] = epoch
            newest_ms = max((segment.changed_at_ms for segment in found), default=0)
            if newest_ms <= self._clock.now_ms() - KEPT_S * 1_000:
                await asyncio.to_thread(retire, path)
                self._adopted.pop(path, None)  # others that look meanwhile find it gone, and drop it too
            return True

    async def _ask(self, found: Sequence[Segment], left: frozenset[RunStep], epoch: str) -> set[str]:
        tenants = set()
        for segment in found:
            part: Owed = await asyncio.to_thread(owed, segment, left, epoch=epoch, now_ms=self._clock.now_ms())
            await self.put_back(part.reservations)
            await ask_each(part.endings, partial(self._carry_out, epoch))
            tenants |= {demand.tenant_id for demand in part.reservations}
        return tenants

    async def _carry_out(self, epoch: str, ending: Ending) -> None:
        if isinstance(ending, Settling) and ending.epoch != epoch:  # the store may well know nothing of it
            await self._store.post(ending.run_step, ending.touched, ending.bill)
        else:
            await carry_out(self._store, ending, self._clock.now_ms())


def _any_lost(found: Sequence[Segment], epoch: str) -> bool:
    return any(may_be_lost(segment, epoch) for segment in found)
