"""Places for calls under way: so many at once, and in turn where there are too few.

A tenant may have all of them while nobody else wants one. Where several tenants wait, those that have less than their
share come first, in turn by their weights; so a flood of one costs the others the time until the next place is free,
and no more. Where all that wait have their share, the turns go on among them: no place stands idle while anybody waits.
"""

import asyncio
from typing import Final

from proxy.admission.turns import Turns
from proxy.core.errors import RateLimited

WAITING_MAX: Final = 50  # of one tenant
WAIT_S: Final = 1.0


class FairQueue:
    """One set of places. Belongs to one event loop."""

    __slots__ = ("_held", "_share", "_turns", "capacity", "in_flight")

    def __init__(self, capacity: int, share_pct: int = 20) -> None:
        """`share_pct` is one tenant's part of the places while others wait."""
        assert capacity >= 1
        self.capacity = capacity
        self.in_flight = 0
        self._share = _share(capacity, share_pct)
        self._held: dict[str, int] = {}
        self._turns: Turns[asyncio.Future[None]] = Turns()

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self._turns.waiting

    @property
    def tenants(self) -> int:
        """How many tenants have places."""
        return len(self._held)

    def held_by(self, tenant_id: str) -> int:
        """How many places a tenant has."""
        return self._held.get(tenant_id, 0)

    def resize(self, capacity: int, share_pct: int) -> None:
        """Have more places, or fewer: those beyond are taken away as they are left."""
        assert capacity >= 1
        self.capacity, self._share = capacity, _share(capacity, share_pct)
        for tenant_id in self._turns.tenants:
            self._turns.prefer(tenant_id, self.held_by(tenant_id) < self._share)
        self._hand_out()

    def enter(self, tenant_id: str) -> bool:
        """Take a place, if one is free and nobody waits for it. False: `wait` for one."""
        if self.in_flight >= self.capacity or self._turns.waiting:
            return False
        self.in_flight += 1
        self._held[tenant_id] = self._held.get(tenant_id, 0) + 1
        return True

    async def wait(self, tenant_id: str, weight: int) -> None:
        """Wait for a place, and take it. Cancelled, it has none.

        Raises:
            RateLimited: too many of the tenant's calls wait, or none came free in time.
        """
        if self._turns.waiting_of(tenant_id) >= WAITING_MAX:
            raise _busy()
        waiter = asyncio.get_running_loop().create_future()
        self._turns.join(tenant_id, weight, waiter, is_preferred=self.held_by(tenant_id) < self._share)
        self._hand_out()
        try:
            async with asyncio.timeout(WAIT_S):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self.leave(tenant_id)  # it was handed a place that nobody is there to take
            else:
                self._turns.leave(tenant_id, waiter)
            if isinstance(error, TimeoutError):
                raise _busy() from None
            raise

    def leave(self, tenant_id: str) -> None:
        """Give a place back."""
        held = self._held[tenant_id] - 1
        if held:
            self._held[tenant_id] = held
        else:
            del self._held[tenant_id]
        self.in_flight -= 1
        if self._turns.waiting:
            self._turns.prefer(tenant_id, held < self._share)
            self._hand_out()

    def _hand_out(self) -> None:
        while self.in_flight < self.capacity:
            following = self._turns.next()
            if following is None:
                return
            tenant_id, waiter = following
            if waiter.done():  # it was cancelled, and is about to say so
                continue
            self.in_flight += 1
            held = self._held[tenant_id] = self._held.get(tenant_id, 0) + 1
            self._turns.prefer(tenant_id, held < self._share)
            waiter.set_result(None)


def _share(capacity: int, share_pct: int) -> int:
    return max(1, capacity * share_pct // 100)


def _busy() -> RateLimited:
    return RateLimited(
        "As many calls are under way as this gateway carries at once, and others come first. Try again shortly.",
        retry_after_ms=1_000,
    )
