"""Endings on their way to the store: settlements and releases, carried out behind the answer.

No request waits for one. What the loop gathered goes out together, a bounded number at a time;
what the store did not answer goes back to the end of the queue, so that one that it can never
answer holds up nobody, and is asked again until its outcome is definite. Between two runs there
is no order to keep: an ending is posted to the periods of its own reservation.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from proxy.admission.answers import ReleaseCode, SettleCode, Settlement
from proxy.admission.journal import Journal
from proxy.admission.records import Ending, Releasing, Settling
from proxy.admission.replay import SETTLED_KNOWN_MS
from proxy.admission.store import AdmissionStore
from proxy.admission.terms import RunStep
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateUnavailable

_log = logging.getLogger("tollway.admission")

AT_ONCE = 32  # calls that go together; an admission waits behind them at most
WAITING_MAX = 20_000  # in memory; beyond it nothing new is admitted, and what is under way still ends
BACK_OFF_MIN_S = 0.05
BACK_OFF_MAX_S = 2.0

OnSettled: TypeAlias = Callable[[RunStep, Settlement], None]


async def carry_out(store: AdmissionStore, ending: Ending, now_ms: int) -> Settlement | ReleaseCode:
    """Ask the store for one ending; its answer is definite. Raises StateUnavailable where it gives none."""
    if isinstance(ending, Releasing):
        return await store.release(ending.run_step)
    answer = await store.settle(ending.run_step, ending.bill)
    if answer.code is not SettleCode.UNKNOWN:
        return answer
    # It has lost what it knew, or this is so old that it has settled it and forgotten: to post that
    # would charge it twice.
    if ending.at_ms < now_ms - SETTLED_KNOWN_MS and await store.epoch() == ending.epoch:
        return answer
    return await store.post(ending.run_step, ending.touched, ending.bill)


class Backlog:
    """The endings of this process that the store has not answered yet. Belongs to one event loop."""

    __slots__ = (
        *("_arrival", "_clock", "_is_back", "_journal", "_on_settled"),
        *("_rest", "_store", "_told", "_tries", "_under_way", "_waiting"),
    )

    def __init__(self, store: AdmissionStore, journal: Journal, clock: Clock, on_settled: OnSettled) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._on_settled = on_settled
        self._waiting: list[Ending] = []
        self._under_way = 0
        self._told: set[RunStep] = set()  # faults that the log has; as bounded as what waits
        self._is_back = asyncio.Event()
        self._tries = 0  # in a row in which the store answered nothing
        self._arrival: asyncio.Future[None] | None = None  # what `run` waits for, while nothing waits
        self._rest: asyncio.Future[None] | None = None  # what whoever drains waits for: nothing waits

    def __len__(self) -> int:
        return len(self._waiting) + self._under_way

    @property
    def has_room(self) -> bool:
        """False: the store has been away for so long that nothing new should be begun."""
        return len(self._waiting) + self._under_way < WAITING_MAX

    def add(self, ending: Ending) -> None:
        """Carry it out, soon. It has been journalled."""
        self._waiting.append(ending)
        if self._arrival is not None:
            _come_to_pass(self._arrival)

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is carried out; gives how many are not, in time. The journal has those."""
        if len(self):
            if self._rest is None or self._rest.done():
                self._rest = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._rest,), timeout=timeout_s)
        return len(self)

    def try_now(self) -> None:
        """The store is back: wait no longer."""
        self._is_back.set()

    async def run(self) -> None:
        """Carry out what arrives, for as long as this is not cancelled."""
        waiting, create_future = self._waiting, asyncio.get_running_loop().create_future
        while True:
            if not waiting:
                self._arrival = create_future()
                await self._arrival
            unanswered = group = waiting[:AT_ONCE]  # so it is if this is cancelled; to ask again does no harm
            del waiting[:AT_ONCE]
            self._under_way = len(group)
            try:
                unanswered = await self._ask_together(group)
            except Exception:  # noqa: BLE001  if this ended, nothing would be settled for as long as the process lives
                _log.exception("%d endings could not be carried out, and are kept", len(group))
            finally:
                self._under_way = 0
                waiting += unanswered
                if self._rest is not None and not waiting:
                    _come_to_pass(self._rest)
            if len(unanswered) < len(group):
                self._tries = 0
            else:
                self._tries += 1
                await self._back_off()

    async def _ask_together(self, group: Sequence[Ending]) -> list[Ending]:
        """Ask for all settlements at once, and for what is left of the group one by one. Gives those that the store
        has not answered."""
        settling: list[Settling] = []
        left: list[Ending] = []
        unanswered: list[Ending] = []
        for ending in group:
            if isinstance(ending, Settling):
                settling.append(ending)
            else:
                left.append(ending)
        try:
            ended = [(ending.run_step, ending.bill) for ending in settling]
            answers = await self._store.settle_all(ended) if ended else ()
        except StateUnavailable:
            unanswered += settling
        except Exception:  # noqa: BLE001  one of them is at fault: asked alone, it costs the others nothing
            left += settling
        else:
            for ending, answer in zip(settling, answers, strict=True):
                if isinstance(answer, GatewayError):
                    unanswered.append(ending)
                elif answer.code is SettleCode.UNKNOWN:
                    left.append(ending)
                else:
                    self._note(ending, answer)
        if left:
            answered = await asyncio.gather(*(self._carry_out(ending) for ending in left))
            unanswered += [ending for ending, is_done in zip(left, answered, strict=True) if not is_done]
        return unanswered

    async def _carry_out(self, ending: Ending) -> bool:
        try:
            answer = await carry_out(self._store, ending, self._clock.now_ms())
        except GatewayError:
            return False
        except Exception:  # noqa: BLE001  a fault in one must not cost the others theirs; it is kept
            if ending.run_step not in self._told:
                self._told.add(ending.run_step)
                _log.exception("the ending of run %s could not be carried out, and is kept", ending.run_step.run_id)
            return False
        self._note(ending, answer)
        return True

    def _note(self, ending: Ending, answer: Settlement | ReleaseCode) -> None:
        self._told.discard(ending.run_step)
        try:
            self._journal.done(ending)
            if isinstance(answer, Settlement):
                self._on_settled(ending.run_step, answer)
        except Exception:  # noqa: BLE001  the store has it: to ask again would say nothing new
            _log.exception("the ending of run %s was carried out, but not noted", ending.run_step.run_id)

    async def _back_off(self) -> None:
        longest_s = min(BACK_OFF_MAX_S, BACK_OFF_MIN_S * float(1 << min(self._tries, 10)))
        self._is_back.clear()
        try:
            async with asyncio.timeout(longest_s * random.uniform(0.5, 1)):
                await self._is_back.wait()
        except TimeoutError:
            pass


def _come_to_pass(awaited: asyncio.Future[None]) -> None:
    if not awaited.done():
        awaited.set_result(None)
