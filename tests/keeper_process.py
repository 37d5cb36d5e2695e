"""A process with a keeper, which ends at the point that it is told.

`python -m tests.keeper_process STORE FOLDER POINT LEASE_S`, where STORE is a Redis URL or the path of a
SQLite file; its calls are those of a tenant named as the point, or of `acme` under load. It says on
standard output what its callers were told, one line each, before anything else can happen:
`admitted RUN`, `charged RUN COST`, `let-go RUN`.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy.admission.answers import Admitted
from proxy.admission.ending import Bill
from proxy.admission.terms import Demand
from proxy.core.errors import StateUnavailable
from tests.keepers import HELD_NUSD, Kept, demand, redis_place, sqlite_place

POINTS: Final = ("admitting", "admitted", "dispatched", "settling", "answered", "settled", "load")
CALLERS: Final = 8  # under load
_BOUND_S: Final = 20
_GONE: Final = 9


def asked_for(run_id: str, lease_ms: int, tenant_id: str = "acme") -> Demand:
    """A call whose worst row says what it costs."""
    return demand(run_id, lease_ms=lease_ms, tenant_id=tenant_id)._replace(row=f"worst {run_id} {HELD_NUSD}".encode())


def bill_of(run_id: str, cost_nusd: int) -> Bill:
    """Likewise of the row of its end."""
    return Bill(cost_nusd, None, f"row {run_id} {cost_nusd}".encode())


@dataclass
class Ending:
    """The store, in which the process ends: before a method is carried out for a tenant, or after."""

    store: Any
    tenant_id: str
    before: str = ""
    after: str = ""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)

        async def call(*args: Any, **named: Any) -> Any:
            is_own = bool(args) and getattr(args[0], "tenant_id", None) == self.tenant_id  # not an orphan's
            if is_own and name == self.before:
                os._exit(_GONE)
            answer = await method(*args, **named)
            if is_own and name == self.after:
                os._exit(_GONE)
            return answer

        return call


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(store: str, folder: str, point: str, lease_s: float) -> None:
    async with AsyncExitStack() as stack:
        opened = redis_place(store, Path(folder)) if "://" in store else sqlite_place(Path(store), Path(folder))
        place = await stack.enter_async_context(opened)
        ending = Ending(place.store, point)
        kept = Kept(place, lease_s, ending)
        kept.keeper.start()
        assert await kept.keeper.ready(_BOUND_S)
        if point == "load":
            await asyncio.gather(*(go_on(kept, f"c{number}", lease_s) for number in range(CALLERS)))
        lease_ms = round(lease_s * 1_000)
        for run_id in ("open-1", "open-2"):  # two calls that are under way whatever happens
            await admit(kept, asked_for(run_id, lease_ms, point))
        ending.before = {"settling": "settle_all"}.get(point, "")
        ending.after = {"admitting": "admit", "answered": "settle_all"}.get(point, "")
        asked = asked_for("a", lease_ms, point)
        await admit(kept, asked)
        if point == "admitted":  # in the same turn: not even the journal knows
            os._exit(_GONE)
        await asyncio.sleep(0.01)
        if point == "dispatched":
            os._exit(_GONE)
        say("charged", "a", 300)
        kept.keeper.settle(asked, bill_of("a", 300))
        assert await kept.keeper.drain(_BOUND_S) == 0
        os._exit(_GONE)


async def admit(kept: Kept, asked: Demand) -> None:
    answer = await kept.keeper.admit(asked)
    assert isinstance(answer, Admitted), answer
    say("admitted", asked.run_step.run_id)


async def go_on(kept: Kept, name: str, lease_s: float) -> None:
    """Calls without end: somebody else ends the process."""
    lease_ms = round(lease_s * 1_000)
    for number in range(1_000_000):
        asked = asked_for(run_id := f"{name}-{os.getpid()}-{number}", lease_ms)
        try:
            await admit(kept, asked)
        except StateUnavailable:
            continue
        await asyncio.sleep(0.002)
        if number % 5 == 4:
            say("let-go", run_id)
            kept.keeper.release(asked.run_step)
        else:
            cost_nusd = number % HELD_NUSD + 1
            say("charged", run_id, cost_nusd)
            kept.keeper.settle(asked, bill_of(run_id, cost_nusd))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
