"""What one admission asks of the store.

Pure values. A *scope* is whoever a limit is for: the tenant, one of its users, virtual keys,
features or models. Amounts are nano-dollars, below 2**53; instants are milliseconds since the
Unix epoch. `caps.demand_of` makes a scope's part from its limits.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from proxy.core.tenant import require_tenant_id

TIME_MS_MAX = 2**53 - 1
AMOUNT_NUSD_MAX = 2**53 - 1
STEPS_MAX = 1_000
TOKENS_MAX = 100_000_000  # in one call: tokens × 60,000,000 µs stays below 2**53

_is_run_id = re.compile(r"[A-Za-z0-9_-]{1,128}\Z", re.ASCII).match


class WindowKind(StrEnum):
    """Over what time a cap holds."""

    CALL = "call"  # pure: no store knows of it
    HOUR = "hour"
    ROLLING_24H = "24h"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


_PERIOD_LETTERS = {
    WindowKind.HOUR: "h",
    WindowKind.ROLLING_24H: "h",
    WindowKind.DAY: "d",
    WindowKind.MONTH: "m",
}


class Window(NamedTuple):
    """One cap's present window: from `start_ms` on, before `end_ms`. `window_of` makes one.

    A rolling day is counted in hours: its start and end are those of the current hour.
    """

    kind: WindowKind
    start_ms: int
    end_ms: int
    cap_nusd: int | None  # None: counted, and never refused
    period: str  # the counter that amounts are posted to: a letter and the start in seconds


def window_of(kind: WindowKind, start_ms: int, end_ms: int, cap_nusd: int | None) -> Window:
    """A window, and the name of its counter."""
    period = "t" if kind is WindowKind.TOTAL else f"{_PERIOD_LETTERS[kind]}{start_ms // 1_000}"
    return Window(kind, start_ms, end_ms, cap_nusd, period)


class Bucket(NamedTuple):
    """What one request takes of a bucket, and how much it holds, both as time (GCRA)."""

    increment_us: int
    capacity_us: int


class ScopeDemand(NamedTuple):
    """What is asked of one scope. `name` is its name in the store, of `keys.py`."""

    name: str
    requests: Bucket | None = None
    tokens: Bucket | None = None
    tokens_per_minute: int | None = None  # where there is a token bucket: settlement corrects it
    max_concurrency: int | None = None
    windows: tuple[Window, ...] = ()

    @property
    def periods(self) -> tuple[str, ...]:
        """The counters that this reservation is posted to, each once."""
        windows = self.windows
        if len(windows) == 1:
            return (windows[0].period,)
        return tuple(dict.fromkeys([window.period for window in windows]))


class RunStep(NamedTuple):
    """A reservation's identity: a step of one run of one tenant."""

    tenant_id: str
    run_id: str
    step: int

    @property
    def member(self) -> str:
        """What the index of leases calls it."""
        return f"{self.run_id}:{self.step}"

    @property
    def row_id(self) -> str:
        """The name of its row in the ledger: the run's own, for its first step."""
        return self.run_id if self.step == 0 else self.member


class Demand(NamedTuple):
    """One reservation that is asked for. (run id, step) is its identity: a repeat with the same
    one is the same reservation, whatever the rest says."""

    tenant_id: str
    run_id: str
    step: int
    held_nusd: int
    expected_tokens: int
    scopes: tuple[ScopeDemand, ...]
    lease_ms: int
    virtual_key_id: str | None
    row: bytes  # opaque: what the ledger gets if the lease runs out, at the worst case

    @property
    def run_step(self) -> RunStep:
        """Its identity."""
        return RunStep(self.tenant_id, self.run_id, self.step)

    @property
    def is_capped(self) -> bool:
        """True where an amount of money is capped in any scope."""
        return any(window.cap_nusd is not None for scope in self.scopes for window in scope.windows)

    @property
    def from_ms(self) -> int:
        """The first moment at which every window holds."""
        return max([window.start_ms for scope in self.scopes for window in scope.windows], default=0)

    @property
    def until_ms(self) -> int:
        """The moment at which the first window is over."""
        return min([window.end_ms for scope in self.scopes for window in scope.windows], default=TIME_MS_MAX)


def require_demand(demand: Demand) -> Demand:
    """Give the demand back. Raises ValueError for amounts that no counter may hold."""
    require_run_step(demand.run_step)
    if not 0 <= demand.held_nusd <= AMOUNT_NUSD_MAX or not 0 <= demand.expected_tokens <= TOKENS_MAX:
        raise ValueError("A hold, or the tokens that are expected, is out of range.")
    if demand.lease_ms <= 0 or len({scope.name for scope in demand.scopes}) != len(demand.scopes):
        raise ValueError("A lease needs time, and a scope is named once.")
    return demand


def require_run_step(run_step: RunStep) -> RunStep:
    """Give it back. Raises ValueError where it could name something else in the store."""
    require_tenant_id(run_step.tenant_id)
    if _is_run_id(run_step.run_id) is None:
        raise ValueError(f"not a run id: {run_step.run_id!r}")
    if not 0 <= run_step.step < STEPS_MAX:
        raise ValueError(f"not a step: {run_step.step}")
    return run_step
