"""The readable specification of admission, 1: what is kept, and how amounts move in it.

Pure: `reserving` and `ending` say what follows from what is kept, and SQLite keeps what they
say. The scripts do the same in Redis; both pass the same vectors. Invariants, for each scope
and period:

    held    is the sum over its pending reservations
    spent   is the sum over what was settled, and over what expired, at its worst case
    pending is the number of its pending reservations; a scope with one is never forgotten
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from proxy.admission import limits
from proxy.admission.answers import Refused, State
from proxy.admission.terms import Touched

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
TOMBSTONE_MS = HOUR_S * 1_000
EXPIRED_TOMBSTONE_MS = DAY_S * 1_000
DENIED_TOMBSTONE_MS = 10_000
# From its start on, a period is of use to somebody: a rolling day, a late settlement, a reader.
PERIOD_KEPT_S = {"h": 26 * HOUR_S, "d": 3 * DAY_S, "m": 64 * DAY_S}


class Amounts(NamedTuple):
    """One counter of one scope."""

    spent_nusd: int = 0
    held_nusd: int = 0


class ScopeState(NamedTuple):
    """What is kept of one scope."""

    requests_tat_us: int = 0
    tokens_tat_us: int = 0
    pending: int = 0
    periods: Mapping[str, Amounts] = MappingProxyType({})
    forget_at_ms: int | None = None


class Reservation(NamedTuple):
    """What is kept of one (run id, step)."""

    state: State
    held_nusd: int = 0
    cost_nusd: int = 0
    expected_tokens: int = 0
    touched: tuple[Touched, ...] = ()
    row: bytes = b""
    refusal: Refused | None = None
    lease_until_ms: int | None = None
    forget_at_ms: int | None = None  # a pending one is never forgotten


Scopes = Mapping[str, ScopeState]


class Change(NamedTuple):
    """What is to be written, all of it or nothing."""

    reservation: Reservation
    scopes: Scopes
    row: tuple[str, bytes] | None = None  # its name and its bytes; one of that name that is there stays


def close(
    reservation: Reservation, scopes: Scopes, *, spent_nusd: int, tokens: int, now_us: int
) -> dict[str, ScopeState]:
    """Let a pending reservation's hold go, and post what was spent instead, both in its own periods."""
    after = {}
    for entry in reservation.touched:
        scope = posted(scopes[entry.scope], entry.periods, spent_nusd, -reservation.held_nusd)
        scope = token_corrected(scope, entry, reservation.expected_tokens, tokens, now_us)
        scope = scope._replace(pending=scope.pending - 1)
        after[entry.scope] = forgotten_later(scope, entry.periods, now_us) if scope.pending == 0 else scope
    return after


def posted(scope: ScopeState, periods: Iterable[str], spent_nusd: int, held_nusd: int) -> ScopeState:
    """Add to what each of these periods has spent and holds."""
    if spent_nusd == 0 and held_nusd == 0:
        return scope
    amounts = dict(scope.periods)
    for period in periods:
        before = amounts.get(period, Amounts())
        amounts[period] = Amounts(before.spent_nusd + spent_nusd, before.held_nusd + held_nusd)
    return scope._replace(periods=amounts)


def token_corrected(scope: ScopeState, entry: Touched, expected_tokens: int, tokens: int, now_us: int) -> ScopeState:
    """The token bucket took what was expected; now it has taken what was used."""
    if entry.tokens_per_minute == 0 or tokens == expected_tokens:
        return scope
    tat_us = limits.corrected(scope.tokens_tat_us, now_us, entry.tokens_per_minute, expected_tokens, tokens)
    return scope._replace(tokens_tat_us=tat_us)


def forgotten_later(scope: ScopeState, periods: Iterable[str], now_us: int) -> ScopeState:
    """A scope without pending reservations may go once its windows are over and its buckets full;
    one that has spent of a total stays for ever."""
    if scope.periods.get("t", Amounts()).spent_nusd:
        return scope._replace(forget_at_ms=None)  # before it spent, it may have had an end
    kept_s = max((PERIOD_KEPT_S.get(period[0], 0) for period in periods), default=0)
    full_at_us = max(scope.requests_tat_us, scope.tokens_tat_us)
    kept_ms = max(kept_s * 1_000, DAY_S * 1_000, -(-(full_at_us - now_us) // 1_000))
    return scope._replace(forget_at_ms=now_us // 1_000 + kept_ms)


def posted_late(
    touched: Iterable[Touched], scopes: Scopes, spent_nusd: int, expected_tokens: int, tokens: int, now_us: int
) -> dict[str, ScopeState]:
    """Post an amount to scopes that the reservation does not hold anything of (any more)."""
    after = {}
    for entry in touched:
        periods = [period for period in entry.periods if not is_over(period, now_us)]
        scope = posted(scopes[entry.scope], periods, spent_nusd, 0)
        scope = token_corrected(scope, entry, expected_tokens, tokens, now_us)
        is_idle = scope.pending == 0 and scope != ScopeState()
        after[entry.scope] = forgotten_later(scope, entry.periods, now_us) if is_idle else scope
    return after


def is_over(period: str, now_us: int) -> bool:
    """Whether no window can ask for a period any more. What is posted to it is dropped, what it holds may be pruned."""
    return period != "t" and int(period[1:]) + PERIOD_KEPT_S[period[0]] <= now_us // 1_000_000


def first_kept_hour_s(now_us: int) -> int:
    """When the oldest hour that is not over began."""
    return (now_us // 1_000_000 - PERIOD_KEPT_S["h"]) // HOUR_S * HOUR_S + HOUR_S


def pruned(scope: ScopeState, now_us: int) -> ScopeState:
    """Without the periods that no window can ask for any more; what still holds something stays."""
    kept = {
        period: amounts for period, amounts in scope.periods.items() if amounts.held_nusd or not is_over(period, now_us)
    }
    return scope._replace(periods=kept)
