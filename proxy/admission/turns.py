"""Whose turn it is, where several tenants wait: deficit round robin, by weight.

Pure. Shreedhar and Varghese, "Efficient fair queueing using deficit round robin" (1995): in its turn a tenant may
spend its weight, and keeps what is too little for one more place. A place costs what the lightest tenant that waits
weighs, so weights of 100 and 200 mean what 1 and 2 do, and nobody takes more at a time than the proportions demand.
Each step takes the same time however many wait, and there is memory only for those that do.
"""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeAlias, TypeVar

Waiter = TypeVar("Waiter")

WEIGHT_MAX: Final = 1_000


class _Line(Generic[Waiter]):
    """One tenant's own queue."""

    __slots__ = ("credit", "ring", "waiters", "weight")

    def __init__(self, weight: int, ring: "_Ring[Waiter]") -> None:
        self.weight = weight
        self.ring = ring
        self.credit = 0  # of its weight, not yet spent on places
        self.waiters: deque[Waiter] = deque()


_Ring: TypeAlias = "OrderedDict[str, _Line[Waiter]]"
"""The tenants in the order of their turns; the first has its turn."""


class Turns(Generic[Waiter]):
    """Who waits, by tenant. While tenants that are preferred wait, the others' turns do not come."""

    __slots__ = ("_lines", "_others", "_preferred", "_weights", "waiting")

    def __init__(self) -> None:
        self._lines: dict[str, _Line[Waiter]] = {}
        self._preferred: _Ring[Waiter] = OrderedDict()
        self._others: _Ring[Waiter] = OrderedDict()
        self._weights: dict[int, int] = {}  # how many tenants wait that weigh so much: as few entries as plans differ
        self.waiting = 0

    @property
    def tenants(self) -> tuple[str, ...]:
        """Who waits."""
        return tuple(self._lines)

    def waiting_of(self, tenant_id: str) -> int:
        """How many of one tenant's wait."""
        line = self._lines.get(tenant_id)
        return 0 if line is None else len(line.waiters)

    def join(self, tenant_id: str, weight: int, waiter: Waiter, *, is_preferred: bool) -> None:
        """Stand at the end of the tenant's own queue; a tenant that did not wait, behind all that do."""
        assert 1 <= weight <= WEIGHT_MAX
        line = self._lines.get(tenant_id)
        if line is None:
            ring = self._preferred if is_preferred else self._others
            line = self._lines[tenant_id] = ring[tenant_id] = _Line(weight, ring)
            self._weigh(weight, 1)
        elif line.weight != weight:  # its plan has changed meanwhile
            self._weigh(line.weight, -1)
            self._weigh(weight, 1)
            line.weight = weight
        line.waiters.append(waiter)
        self.waiting += 1

    def prefer(self, tenant_id: str, is_preferred: bool) -> None:
        """Let a tenant's turn come before the others', or among them; nothing, where it does not wait."""
        line = self._lines.get(tenant_id)
        ring = self._preferred if is_preferred else self._others
        if line is not None and line.ring is not ring:
            del line.ring[tenant_id]
            line.ring = ring
            ring[tenant_id] = line
            if line.credit >= min(self._weights):  # it was in the middle of its turn, which goes on
                ring.move_to_end(tenant_id, last=False)

    def leave(self, tenant_id: str, waiter: Waiter) -> None:
        """Give up waiting; nothing, where it does not wait any more."""
        line = self._lines.get(tenant_id)
        if line is None or waiter not in line.waiters:
            return
        line.waiters.remove(waiter)
        self.waiting -= 1
        if not line.waiters:
            self._forget(tenant_id, line)

    def next(self) -> tuple[str, Waiter] | None:
        """Take whoever's turn it is; None: nobody waits."""
        if not self._lines:
            return None
        tenant_id, line = next(iter((self._preferred or self._others).items()))
        cost = min(self._weights)
        if line.credit < cost:  # its turn begins
            line.credit += line.weight
        line.credit -= cost
        waiter = line.waiters.popleft()
        self.waiting -= 1
        if not line.waiters:
            self._forget(tenant_id, line)
        elif line.credit < cost:
            line.ring.move_to_end(tenant_id)
        return tenant_id, waiter

    def _forget(self, tenant_id: str, line: _Line[Waiter]) -> None:
        del self._lines[tenant_id], line.ring[tenant_id]
        self._weigh(line.weight, -1)

    def _weigh(self, weight: int, more: int) -> None:
        count = self._weights.get(weight, 0) + more
        if count:
            self._weights[weight] = count
        else:
            del self._weights[weight]
