"""The keeper of this process's reservations: what the pipeline asks for admission.

Only `admit` (and `grow`) is waited for. How a call ends is journalled and then carried out in the
background, until the store has answered. Around that, for as long as the process lives: the
heart-beat of what is open, the sweep of what has run out, the watch over the store's epoch with
the recovery when it changes, and the adoption of what vanished processes left.

Nothing is admitted until all that this process and its neighbours know has been posted to the
epoch that the store is in. An admission of unknown outcome is never dispatched: it is released.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from proxy.adapters.time_limit import TimeLimit
from proxy.admission.answers import Admission, Admitted, Grown, Growth, NotPending, WrongEpoch
from proxy.admission.backlog import Backlog, OnSettled
from proxy.admission.ending import Bill
from proxy.admission.hits import HitAdmission, HitDemand
from proxy.admission.journal import Journal
from proxy.admission.recovery import Recovery, ask_each
from proxy.admission.store import ADMIT_TIMEOUT_S, AdmissionStore
from proxy.admission.terms import Demand, RunStep
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateUnavailable

_log = logging.getLogger("tollway.admission")

WATCH_S = 1.0
WATCH_AGAIN_S = 0.2  # while the store is away
LOOK_PAUSE_S = 0.05  # however many callers ask for a look
ADOPT_S = 10.0
TRIM_S = 60.0
STOP_S = 5.0
RETRY_AFTER_MS = 1_000


class Keeper:
    """Made once a process and store; everything after `start` happens on one event loop."""

    def __init__(
        self,
        store: AdmissionStore,
        journal: Journal,
        clock: Clock,
        lease_s: float,
        on_settled: OnSettled,
        admit_timeout_s: float | None = None,
    ) -> None:
        """`on_settled` hears each definite answer to a settlement, once. An embedded store that
        shares a slow disk may be given more time for an admission than one that others answer for."""
        self._store = store
        self._admit_time = TimeLimit(ADMIT_TIMEOUT_S if admit_timeout_s is None else admit_timeout_s)
        self._journal = journal
        self._lease_s = lease_s
        self._backlog = Backlog(store, journal, clock, on_settled)
        self._recovery = Recovery(store, journal, clock)
        self._open: dict[RunStep, Demand] = {}
        self._gone: set[RunStep] = set()  # of those: the store has expired them, and their settlement will correct it
        self._epoch: str | None = None  # the one in which all is posted; None: none is
        self._is_whole = asyncio.Event()  # set while there is one
        self._away: str | None = None  # what is wrong with the store
        self._is_doubted = False  # an admission came to nothing: does the store take what is written?
        self._look = asyncio.Event()
        self._adopting: dict[str, asyncio.Task[bool]] = {}
        self._loops: list[asyncio.Task[None]] = []

    # ── what the pipeline calls ──────────────────────────────────────────────────────────

    @property
    def pending(self) -> int:
        """Settlements and releases that the store has not answered yet."""
        return len(self._backlog)

    @property
    def open_reservations(self) -> int:
        """Reservations of calls that are under way."""
        return len(self._open)

    @property
    def failure(self) -> str | None:
        """Why nothing is admitted now, or None."""
        if self._journal.failure is not None:
            return f"the journal cannot be written: {self._journal.failure}"
        if not self._backlog.has_room:
            return "too many settlements wait for the state store"
        if self._away is not None:
            return self._away
        return None if self._epoch is not None else "what the state store may have lost is being posted again"

    async def admit(self, demand: Demand) -> Admission:
        """Reserve all of it, or be told why not, within 300 ms (unless given more); never WrongEpoch.

        Raises:
            StateUnavailable: nothing can be promised now. If it was reserved, it is being released.
        """
        epoch = self._epoch
        if epoch is None or self.failure is not None:
            raise self._unavailable()
        run_step = demand.run_step
        try:
            with self._admit_time.wait():
                answer = await self._store.admit(demand, epoch)
                # A tenant that nobody has asked for in this epoch: all that was lost has been posted.
                if (
                    isinstance(answer, WrongEpoch)
                    and epoch == self._epoch
                    and await self._adopt(demand.tenant_id, epoch)
                ):
                    answer = await self._store.admit(demand, epoch)
        except TimeoutError as error:
            self._release_unknown(run_step)
            self._doubt()
            raise self._unavailable() from error
        except BaseException as error:  # cancelled, or no answer: it may be reserved all the same
            self._release_unknown(run_step)
            if isinstance(error, StateUnavailable):
                self._doubt()
            raise
        if isinstance(answer, Admitted):
            self._open[run_step] = demand
            self._journal.reserved(demand)
        elif isinstance(answer, WrongEpoch):
            self._look.set()
            raise self._unavailable()
        return answer

    async def admit_hit(self, demand: HitDemand) -> HitAdmission:
        """Let a kept answer be given out, or be told why not, within 300 ms. It holds nothing, so nothing is kept
        of it here.

        Raises:
            StateUnavailable: nothing can be promised now.
        """
        if self._away is not None:
            raise self._unavailable()
        try:
            with self._admit_time.wait():
                return await self._store.admit_hit(demand)
        except TimeoutError as error:
            raise self._unavailable() from error

    async def grow(self, demand: Demand, held_nusd: int, row: bytes) -> Growth:
        """Let an open reservation hold so much in all. `demand` is the one that was admitted.

        Raises:
            StateUnavailable: it may hold so much; its end frees all of it either way.
        """
        answer = await self._store.grow(demand, held_nusd, row)
        if isinstance(answer, Grown):
            self._open[demand.run_step] = grown = demand._replace(held_nusd=answer.held_nusd, row=row)
            self._journal.reserved(grown)
        elif isinstance(answer, NotPending) and answer.state is None and demand.run_step in self._open:
            self._look.set()  # the store has lost it, and it will be put back
            raise self._unavailable()
        return answer

    def settle(self, demand: Demand, bill: Bill) -> None:
        """The call has ended and cost this. Not waited for."""
        self._close(demand.run_step)
        self._backlog.add(self._journal.settling(demand, bill))

    def release(self, run_step: RunStep) -> None:
        """The call was not made, and costs nothing. Not waited for."""
        self._close(run_step)
        self._backlog.add(self._journal.releasing(run_step))

    def give_up(self, run_step: RunStep) -> None:
        """The call has ended, and nobody can say how: its lease is left to run out, which charges the
        worst case and writes the row that admission stored. Does nothing to one that has ended."""
        self._close(run_step)

    # ── a life ───────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to keep. Waits for nothing: see `ready`."""
        assert not self._loops
        create_task = asyncio.get_running_loop().create_task
        self._loops = [
            create_task(self._backlog.run()),
            create_task(self._watch()),
            create_task(self._repeat(self._beat, self._lease_s / 3)),
            create_task(self._repeat(self._sweep, max(1.0, self._lease_s / 6))),
            create_task(self._repeat(self._adopt_orphans, ADOPT_S)),
            create_task(self._repeat(self._trim, TRIM_S)),
        ]

    async def ready(self, timeout_s: float) -> bool:
        """Wait until calls can be admitted; False: not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_whole.wait()
        except TimeoutError:
            return False
        return True

    async def drain(self, timeout_s: float) -> int:
        """Carry out what waits; gives how many could not be in time. The journal has those."""
        return await self._backlog.drain(timeout_s)

    async def stop(self) -> None:
        """Stop keeping, and close the journal. What is open is left to its lease. Safe to repeat."""
        loops, self._loops = [*self._loops, *self._adopting.values()], []
        for task in loops:
            task.cancel()
        if loops:
            await asyncio.wait(loops, timeout=STOP_S)
        self._become(None)
        await self._journal.close()

    # ── the store's epoch ────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        while True:
            pause_s, wrong = WATCH_AGAIN_S, "the state store does not answer"
            try:
                epoch = await self._store.epoch()
                if self._is_doubted:
                    wrong = "the state store answers, and carries nothing out"
                    await self._store.probe()
                    self._is_doubted = False
                if self._away is not None:
                    self._away = None
                    _log.warning("the state store is there again")
                    self._backlog.try_now()
                if epoch != self._epoch:
                    await self._recover(epoch)
                pause_s = WATCH_S
            except StateUnavailable as error:
                self._leave(wrong, error)
            except GatewayError as error:
                self._tell(error)
                self._leave(wrong, error)
            except Exception as error:  # noqa: BLE001  the watch must not end while the process lives
                self._tell(error)
            await asyncio.sleep(LOOK_PAUSE_S)
            try:
                async with asyncio.timeout(pause_s):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()

    def _doubt(self) -> None:
        """An admission came to nothing: see soon whether that is so for everybody."""
        self._is_doubted = True
        self._look.set()

    def _leave(self, wrong: str, error: GatewayError) -> None:
        if self._away is None:
            _log.error("no call is admitted under a limit or a cap: %s: %s", wrong, error.for_operators)
        self._away = wrong

    async def _recover(self, epoch: str) -> None:
        """Post to a new epoch what the store may have lost; then, and not before, go on in it."""
        if self._epoch is not None:
            _log.warning("the state store was restarted, emptied or promoted: posting again what it may have lost")
        self._become(None)
        self._gone.clear()
        begun_with = dict(self._open)
        await self._recovery.put_back(begun_with.values())
        tenants = await self._recovery.post_again(epoch)
        await asyncio.sleep(await self._store.settle_in_ms(epoch) / 1_000)
        late = [demand for run_step, demand in self._open.items() if begun_with.get(run_step) is not demand]
        await self._recovery.put_back(late)  # whose answers were still on their way
        if await self._store.epoch() != epoch:
            self._look.set()
            return
        self._journal.begin(epoch)
        await self._adopt_all(tenants | {demand.tenant_id for demand in self._open.values()}, epoch)
        self._become(epoch)

    def _become(self, epoch: str | None) -> None:
        self._epoch = epoch
        if epoch is None:
            self._is_whole.clear()
        else:
            self._is_whole.set()

    async def _adopt(self, tenant_id: str, epoch: str) -> bool:
        """Once for all who ask at the same time; one that is cancelled leaves it to the others."""
        adopting = self._adopting.get(tenant_id)
        if adopting is None:
            adopting = asyncio.get_running_loop().create_task(self._adopt_now(tenant_id, epoch))
            self._adopting[tenant_id] = adopting
            adopting.add_done_callback(lambda _: self._adopting.pop(tenant_id, None))
        return await asyncio.shield(adopting)

    async def _adopt_now(self, tenant_id: str, epoch: str) -> bool:
        try:
            return await self._store.adopt(tenant_id, epoch)
        except StateUnavailable:
            return False

    async def _adopt_all(self, tenants: Iterable[str], epoch: str) -> None:
        await ask_each(tenants, partial(self._store.adopt, epoch=epoch))

    # ── what is repeated ─────────────────────────────────────────────────────────────────

    async def _repeat(self, step: Callable[[], Awaitable[object]], period_s: float) -> None:
        while True:
            delay_s = period_s * random.uniform(0.8, 1.0)
            try:
                await step()
            except GatewayError:
                delay_s = min(delay_s, WATCH_AGAIN_S)
            except Exception as error:  # noqa: BLE001  none of these loops may end while the process lives
                self._tell(error)
            await asyncio.sleep(delay_s)

    async def _beat(self) -> None:
        """Move the leases of what is open on."""
        by_tenant: dict[str, list[RunStep]] = {}
        for run_step in self._open.keys() - self._gone:
            by_tenant.setdefault(run_step.tenant_id, []).append(run_step)
        epoch, lease_ms = self._epoch, round(self._lease_s * 1_000)
        found: list[RunStep] = []

        async def extend(tenant_id: str) -> None:
            found.extend(await self._store.extend(tenant_id, by_tenant[tenant_id], lease_ms))

        await ask_each(by_tenant, extend)
        gone = [run_step for run_step in found if run_step in self._open]
        if not gone:
            return
        if epoch is not None and await self._store.epoch() == epoch == self._epoch:
            self._gone.update(gone)  # their leases ran out while the store was away
        else:
            self._look.set()  # they are lost, not expired, and will be put back

    async def _sweep(self) -> None:
        await self._store.sweep()

    async def _adopt_orphans(self) -> None:
        await self._is_whole.wait()
        epoch = self._epoch
        if epoch is not None:
            await self._adopt_all(await self._recovery.adopt_orphans(epoch), epoch)

    async def _trim(self) -> None:
        await self._journal.trim()

    def _close(self, run_step: RunStep) -> None:
        self._open.pop(run_step, None)
        self._gone.discard(run_step)

    def _release_unknown(self, run_step: RunStep) -> None:
        """Whether it is reserved or not: it must not be, nor become so when a late call arrives."""
        self._look.set()
        self._backlog.add(self._journal.releasing(run_step))

    def _unavailable(self) -> StateUnavailable:
        reason = self.failure or "the state store did not answer in time"
        return StateUnavailable(f"No call is admitted now: {reason}. Try again shortly.", retry_after_ms=RETRY_AFTER_MS)

    def _tell(self, error: Exception) -> None:
        _log.error("what keeps reservations goes on after a fault: %s", error, exc_info=error)
