"""What one admission asks of the store.

Pure values. A *scope* is whoever a limit is for: the tenant, one of its users, virtual keys,
features or models. Amounts are nano-dollars, below 2**53; instants are milliseconds since the
Unix epoch. `caps.demand_of` makes a scope's part from its limits.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from proxy.core import jsonio
from proxy.core.tenant import require_tenant_id

TIME_MS_MAX = 2**53 - 1
AMOUNT_NUSD_MAX = 2**53 - 1
MINUTE_US = 60_000_000
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


_NO_BUCKET = Bucket(-1, -1)


class ScopeDemand(NamedTuple):
    """What is asked of one scope, whatever the call. `name` is its name in the store, of `keys.py`."""

    name: str
    requests: Bucket | None = None
    tokens_per_minute: int | None = None  # a token bucket, which holds a minute's: settlement corrects it
    max_concurrency: int | None = None
    windows: tuple[Window, ...] = ()

    @property
    def periods(self) -> tuple[str, ...]:
        """The counters that this reservation is posted to, each once."""
        windows = self.windows
        if len(windows) == 1:
            return (windows[0].period,)
        return tuple(dict.fromkeys([window.period for window in windows]))


class Touched(NamedTuple):
    """What a reservation touched of one scope, and its end therefore has to touch again."""

    scope: str
    tokens_per_minute: int  # 0: no token bucket
    periods: tuple[str, ...]


def touched_by(scopes: Iterable[ScopeDemand]) -> tuple[Touched, ...]:
    """What a reservation will have touched."""
    return tuple([Touched(scope.name, scope.tokens_per_minute or 0, scope.periods) for scope in scopes])


class RequestsGauge(NamedTuple):
    """Where a bucket of requests stands among an admission's figures, and how it is read."""

    place: int
    capacity_us: int
    increment_us: int


class TokensGauge(NamedTuple):
    """Likewise, a bucket of tokens."""

    place: int
    tokens_per_minute: int


class CapGauge(NamedTuple):
    """Likewise, what a cap's window has spent and holds."""

    place: int
    cap_nusd: int


class Gauges(NamedTuple):
    """How an admission's figures are read: see `Admitted`."""

    requests: tuple[RequestsGauge, ...]
    requests_max: int | None  # what the smallest of those buckets holds
    tokens: tuple[TokensGauge, ...]
    tokens_max: int | None  # likewise
    caps: tuple[CapGauge, ...]
    capped: tuple[tuple[str, WindowKind, int], ...]  # the scope, the kind and the start of each of those windows


class Outline(NamedTuple):
    """What of a demand is the same for call after call of callers who are alike, while their windows hold."""

    scopes: tuple[ScopeDemand, ...]
    scope_names: tuple[str, ...]
    touched: tuple[Touched, ...]
    touched_text: bytes  # as the scripts take it
    checks_format: bytes  # likewise what is asked of each scope: %d is what a call takes of a token bucket
    tokens_per_minute: tuple[int, ...]  # of those buckets
    gauges: Gauges
    from_ms: int  # the first moment at which every window holds
    until_ms: int  # the moment at which the first window is over
    is_capped: bool  # an amount of money is capped in any scope


def outline_of(scopes: tuple[ScopeDemand, ...]) -> Outline:
    """The outline of a demand of these scopes. Raises ValueError where one of them is named twice."""
    names = tuple([scope.name for scope in scopes])
    if len(set(names)) != len(names):
        raise ValueError("A scope is named once.")
    touched, windows = touched_by(scopes), [window for scope in scopes for window in scope.windows]
    return Outline(
        scopes,
        names,
        touched,
        touched_json(touched),
        b"[%b]" % b",".join(map(_checks_format, scopes)),
        tuple([scope.tokens_per_minute for scope in scopes if scope.tokens_per_minute is not None]),
        _gauges(scopes),
        max([window.start_ms for window in windows], default=0),
        min([window.end_ms for window in windows], default=TIME_MS_MAX),
        any(window.cap_nusd is not None for window in windows),
    )


def touched_json(touched: Iterable[Touched]) -> bytes:
    """What a reservation touched, as text: an array of arrays."""
    return jsonio.encode(list(map(tuple, touched)))


def _checks_format(scope: ScopeDemand) -> bytes:
    tokens = b"-1,-1" if scope.tokens_per_minute is None else b"%%d,%d" % MINUTE_US
    max_concurrency = -1 if scope.max_concurrency is None else scope.max_concurrency
    windows = jsonio.encode([_checked(window) for window in scope.windows])
    return b"[%d,%d,%b,%d,%b]" % (*(scope.requests or _NO_BUCKET), tokens, max_concurrency, windows)


def _checked(window: Window) -> tuple[str, int, int]:
    cap_nusd = -1 if window.cap_nusd is None else window.cap_nusd
    return window.period, cap_nusd, int(window.kind is WindowKind.ROLLING_24H)


def _gauges(scopes: Iterable[ScopeDemand]) -> Gauges:
    requests, tokens, caps, capped, place = [], [], [], [], 0
    for scope in scopes:
        if scope.requests is not None:
            requests.append(RequestsGauge(place, scope.requests.capacity_us, scope.requests.increment_us))
        if scope.tokens_per_minute is not None:
            tokens.append(TokensGauge(place + 1, scope.tokens_per_minute))
        for at, window in enumerate(scope.windows, place + 2):
            if window.cap_nusd is not None:
                caps.append(CapGauge(at, window.cap_nusd))
                capped.append((scope.name, window.kind, window.start_ms))
        place += 2 + len(scope.windows)
    return Gauges(
        tuple(requests),
        min([gauge.capacity_us // gauge.increment_us for gauge in requests], default=None),
        tuple(tokens),
        min([gauge.tokens_per_minute for gauge in tokens], default=None),
        tuple(caps),
        tuple(capped),
    )


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
    """One reservation that is asked for. A repeat with the same run and step is the same reservation, whatever
    the rest says."""

    run_step: RunStep
    held_nusd: int
    expected_tokens: int
    outline: Outline  # of what is asked of each scope
    lease_ms: int
    virtual_key_id: str | None
    row: bytes  # opaque: what the ledger gets if the lease runs out, at the worst case

    @property
    def tenant_id(self) -> str:
        """Whose it is."""
        return self.run_step.tenant_id

    @property
    def scopes(self) -> tuple[ScopeDemand, ...]:
        """What is asked of each scope."""
        return self.outline.scopes


def require_demand(demand: Demand) -> Demand:
    """Give the demand back. Raises ValueError for amounts that no counter may hold."""
    require_run_step(demand.run_step)
    if not 0 <= demand.held_nusd <= AMOUNT_NUSD_MAX or not 0 <= demand.expected_tokens <= TOKENS_MAX:
        raise ValueError("A hold, or the tokens that are expected, is out of range.")
    if demand.lease_ms <= 0:
        raise ValueError("A lease needs time.")
    return demand


def require_run_step(run_step: RunStep) -> RunStep:
    """Give it back. Raises ValueError where it could name something else in the store."""
    tenant_id, run_id, step = run_step
    require_tenant_id(tenant_id)
    if _is_run_id(run_id) is None:
        raise ValueError(f"not a run id: {run_id!r}")
    if not 0 <= step < STEPS_MAX:
        raise ValueError(f"not a step: {step}")
    return run_step
