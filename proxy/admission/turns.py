"""Whose turn it is, where several tenants wait: deficit round robin, a place being worth one.

Pure. Shreedhar and Varghese, "Efficient fair queueing using deficit round robin" (1995): a tenant whose turn comes may
take as many places as its weight, then the next one has its turn. Memory only for tenants that wait.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Waiter = TypeVar("Waiter")

WEIGHT_MAX: Final = 1_000


class Turns(Generic[Waiter]):
    """Who waits, by tenant."""

    __slots__ = ("_left", "_queues", "_weights", "waiting")

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Waiter]] = OrderedDict()  # the first has its turn
        self._weights: dict[str, int] = {}
        self._left = 0  # of the first one's turn
        self.waiting = 0

    @property
    def tenants(self) -> int:
        """How many tenants wait."""
        return len(self._queues)

    def waiting_of(self, tenant_id: str) -> int:
        """How many of one tenant's wait."""
        queue = self._queues.get(tenant_id)
        return 0 if queue is None else len(queue)

    def join(self, tenant_id: str, weight: int, waiter: Waiter) -> None:
        """Stand at the end of the tenant's own queue."""
        assert 1 <= weight <= WEIGHT_MAX
        queue = self._queues.get(tenant_id)
        if queue is None:
            queue = self._queues[tenant_id] = deque()
            if len(self._queues) == 1:
                self._left = weight
        self._weights[tenant_id] = weight
        queue.append(waiter)
        self.waiting += 1

    def leave(self, tenant_id: str, waiter: Waiter) -> None:
        """Give up waiting; nothing, where it does not wait any more."""
        queue = self._queues.get(tenant_id)
        if queue is None or waiter not in queue:
            return
        queue.remove(waiter)
        self.waiting -= 1
        if not queue:
            self._forget(tenant_id)

    def next(self, is_preferred: Callable[[str], bool]) -> tuple[str, Waiter] | None:
        """Take whoever's turn it is, among the tenants that are preferred if there are any; None: nobody waits."""
        if not self._queues:
            return None
        for _ in range(len(self._queues)):
            tenant_id = next(iter(self._queues))
            if is_preferred(tenant_id):
                return self._take(tenant_id)
            self._pass_on()
        return self._take(next(iter(self._queues)))

    def _take(self, tenant_id: str) -> tuple[str, Waiter]:
        queue = self._queues[tenant_id]
        waiter = queue.popleft()
        self.waiting -= 1
        self._left -= 1
        if not queue:
            self._forget(tenant_id)
        elif self._left <= 0:
            self._pass_on()
        return tenant_id, waiter

    def _pass_on(self) -> None:
        self._queues.move_to_end(next(iter(self._queues)))
        self._left = self._weights[next(iter(self._queues))]

    def _forget(self, tenant_id: str) -> None:
        had_turn = next(iter(self._queues)) == tenant_id
        del self._queues[tenant_id], self._weights[tenant_id]
        if had_turn and self._queues:
            self._left = self._weights[next(iter(self._queues))]
