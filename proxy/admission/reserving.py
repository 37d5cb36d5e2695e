"""The readable specification of admission, 2: reserve everything, or nothing; and grow a hold.

Pure; `admit.lua` and `grow.lua` are its twins. Order of the checks: what is known already, the
windows, the virtual key, every cap, every limit. Caps come first: "retry in two seconds" would
mislead a caller whose money is spent.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proxy.admission import limits
from proxy.admission.answers import (
    Admission,
    Admitted,
    CapRefused,
    Grown,
    Growth,
    Known,
    LimitKind,
    LimitRefused,
    NotPending,
    Refused,
    Revoked,
    State,
    WrongWindow,
)
from proxy.admission.book import (
    DAY_S,
    DENIED_TOMBSTONE_MS,
    HOUR_S,
    Amounts,
    Change,
    Reservation,
    Scopes,
    ScopeState,
    first_kept_hour_s,
    posted,
    pruned,
)
from proxy.admission.terms import Demand, ScopeDemand, Window, WindowKind


class Use(NamedTuple):
    """What a window has spent and holds, and in which hours, if it is a rolling one."""

    spent_nusd: int
    held_nusd: int
    hours: Sequence[tuple[int, int]] = ()  # start in seconds, spent and held; oldest first

    @property
    def total_nusd(self) -> int:
        return self.spent_nusd + self.held_nusd


def admit(
    demand: Demand, kept: Reservation | None, scopes: Scopes, *, now_us: int, is_revoked: bool = False
) -> tuple[Admission, Change | None]:
    """Decide one admission. No change: nothing is written."""
    if kept is not None:
        return _repeated(demand, kept, scopes, now_us), None
    now_ms = now_us // 1_000
    outline = demand.outline
    if not outline.from_ms <= now_ms < outline.until_ms:
        return WrongWindow(now_ms), None
    if is_revoked:
        return Revoked(), None
    refusal: Refused | None = first_cap(demand.scopes, scopes, demand.held_nusd, now_us)
    refusal = refusal or met_limit(demand.scopes, scopes, demand.expected_tokens, now_us)
    if refusal is not None:
        denied = Reservation(State.DENIED, refusal=refusal, forget_at_ms=now_ms + DENIED_TOMBSTONE_MS)
        return refusal, Change(denied, {})
    taken = {
        scope.name: _take_buckets(scope, scopes[scope.name], demand.expected_tokens, now_us) for scope in demand.scopes
    }
    return _reserved(demand, scopes, taken, now_us)


def restore(
    demand: Demand, kept: Reservation | None, scopes: Scopes, *, now_us: int
) -> tuple[Admission, Change | None]:
    """Put back a reservation, or what it grew by, that the store lost. It has been dispatched: nothing is checked."""
    if kept is not None and kept.state is State.PENDING and demand.held_nusd > kept.held_nusd:
        change = _holding_more(kept, scopes, demand.held_nusd, demand.row)
        return _repeated(demand, kept, {**scopes, **change.scopes}, now_us), change
    if kept is not None:
        return _repeated(demand, kept, scopes, now_us), None
    return _reserved(demand, scopes, dict(scopes), now_us)


def grow(
    demand: Demand, kept: Reservation | None, scopes: Scopes, *, held_nusd: int, row: bytes, now_us: int
) -> tuple[Growth, Change | None]:
    """Let a pending reservation hold so much in all, in the periods in which it was admitted."""
    if kept is None or kept.state is not State.PENDING:
        return NotPending(None if kept is None else kept.state), None
    more_nusd = held_nusd - kept.held_nusd
    if more_nusd <= 0:
        return Grown(kept.held_nusd), None
    refusal = first_cap(demand.scopes, scopes, more_nusd, now_us)
    if refusal is not None:
        return refusal, None
    return Grown(held_nusd), _holding_more(kept, scopes, held_nusd, row)


def first_cap(demands: Iterable[ScopeDemand], scopes: Scopes, needed_nusd: int, now_us: int) -> CapRefused | None:
    """The first cap that cannot hold so much more."""
    for demand in demands:
        for window in demand.windows:
            used = use_of(window, scopes[demand.name], now_us)
            if window.cap_nusd is not None and used.total_nusd + needed_nusd > window.cap_nusd:
                return CapRefused(
                    scope=demand.name,
                    kind=window.kind,
                    cap_nusd=window.cap_nusd,
                    spent_nusd=used.spent_nusd,
                    held_nusd=used.held_nusd,
                    needed_nusd=needed_nusd,
                    resets_at_ms=resets_at_ms(window, used, needed_nusd),
                )
    return None


def use_of(window: Window, scope: ScopeState, now_us: int) -> Use:
    """What a window has spent and holds. A rolling day sums 25 hours: its own, the 24 before, and
    those begun since that share a window of 24 hours with it, as long as they are kept."""
    if window.kind is not WindowKind.ROLLING_24H:
        return Use(*scope.periods.get(window.period, Amounts()))
    own_s = window.start_ms // 1_000
    begun_s = now_us // 1_000_000 // HOUR_S * HOUR_S
    last_s = max(own_s, min(begun_s, own_s + DAY_S))
    first_s = max(own_s - DAY_S, first_kept_hour_s(now_us))  # of a reservation from hours ago some may be pruned
    starts_s = range(first_s, last_s + 1, HOUR_S)
    amounts = [scope.periods.get(f"h{start_s}", Amounts()) for start_s in starts_s]
    return Use(
        spent_nusd=sum(each.spent_nusd for each in amounts),
        held_nusd=sum(each.held_nusd for each in amounts),
        hours=[(start_s, sum(each)) for start_s, each in zip(starts_s, amounts, strict=True)],
    )


def resets_at_ms(window: Window, used: Use, needed_nusd: int) -> int | None:
    """When so much would fit, if nothing else were spent until then: at the window's end; for a
    rolling one, once enough hours have left it. None: never by itself."""
    assert window.cap_nusd is not None
    if window.kind is WindowKind.TOTAL:
        return None
    if window.kind is not WindowKind.ROLLING_24H:
        return window.end_ms
    left_nusd = used.total_nusd
    for start_s, amount_nusd in used.hours:
        left_nusd -= amount_nusd
        if left_nusd + needed_nusd <= window.cap_nusd:
            return (start_s + DAY_S + HOUR_S) * 1_000
    return None


def met_limit(demands: Sequence[ScopeDemand], scopes: Scopes, expected_tokens: int, now_us: int) -> LimitRefused | None:
    """The limit that is met: concurrency first, else the bucket that takes longest to come free."""
    for demand in demands:
        if demand.max_concurrency is not None and scopes[demand.name].pending >= demand.max_concurrency:
            return LimitRefused(demand.name, LimitKind.CONCURRENCY, limits.CONCURRENCY_RETRY_MS)
    met = []
    for demand in demands:
        scope = scopes[demand.name]
        for limit, tat_us, bucket in (
            (LimitKind.REQUESTS, scope.requests_tat_us, demand.requests),
            (LimitKind.TOKENS, scope.tokens_tat_us, limits.tokens_bucket(demand.tokens_per_minute, expected_tokens)),
        ):
            if bucket is not None and not limits.conforms(tat_us, now_us, bucket):
                met.append(LimitRefused(demand.name, limit, limits.retry_after_ms(tat_us, now_us, bucket)))
    return max(met, key=lambda each: each.retry_after_ms, default=None)


def _holding_more(kept: Reservation, scopes: Scopes, held_nusd: int, row: bytes) -> Change:
    more_nusd = held_nusd - kept.held_nusd
    after = {entry.scope: posted(scopes[entry.scope], entry.periods, 0, more_nusd) for entry in kept.touched}
    return Change(kept._replace(held_nusd=held_nusd, row=row), after)


def _take_buckets(demand: ScopeDemand, scope: ScopeState, expected_tokens: int, now_us: int) -> ScopeState:
    if demand.requests is not None:
        scope = scope._replace(requests_tat_us=limits.taken(scope.requests_tat_us, now_us, demand.requests))
    tokens = limits.tokens_bucket(demand.tokens_per_minute, expected_tokens)
    if tokens is not None and tokens.increment_us > 0:
        scope = scope._replace(tokens_tat_us=limits.taken(scope.tokens_tat_us, now_us, tokens))
    return scope


def _reserved(demand: Demand, before: Scopes, taken: Scopes, now_us: int) -> tuple[Admitted, Change]:
    after = {}
    for scope in demand.scopes:
        state = posted(taken[scope.name], scope.periods, 0, demand.held_nusd)
        state = state._replace(pending=state.pending + 1, forget_at_ms=None)
        is_new = any(period not in before[scope.name].periods for period in scope.periods)
        after[scope.name] = pruned(state, now_us) if is_new and demand.held_nusd else state
    reservation = Reservation(
        state=State.PENDING,
        held_nusd=demand.held_nusd,
        expected_tokens=demand.expected_tokens,
        touched=demand.outline.touched,
        row=demand.row,
        lease_until_ms=now_us // 1_000 + demand.lease_ms,
    )
    return Admitted(now_us, _figures(demand, after, now_us)), Change(reservation, after)


def _repeated(demand: Demand, kept: Reservation, scopes: Scopes, now_us: int) -> Admission:
    """The same request again gets the same answer, by name if it has ended meanwhile."""
    if kept.state is State.PENDING:
        return Admitted(now_us, _figures(demand, scopes, now_us), repeated=True)
    if kept.state is State.DENIED:
        assert kept.refusal is not None
        return kept.refusal
    return Known(kept.state)


def _figures(demand: Demand, scopes: Scopes, now_us: int) -> tuple[int, ...]:
    figures = []
    for scope in demand.scopes:
        state = scopes[scope.name]
        figures += [state.requests_tat_us, state.tokens_tat_us]
        figures += [use_of(window, state, now_us).total_nusd for window in scope.windows]
    return tuple(figures)
