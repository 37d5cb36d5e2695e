"""May a kept answer be given to this caller? One step, which takes its request buckets and writes its row.

Pure; `hit.lua` is its twin. Nothing is held and no money moves: caps, tokens and concurrency have no say. Order of
the checks: the tenant, its virtual key, the answer, then the request buckets of every scope.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from proxy.admission import limits
from proxy.admission.answers import LimitKind, LimitRefused, Revoked
from proxy.admission.book import Scopes, ScopeState, forgotten_later
from proxy.admission.limits import requests_bucket
from proxy.admission.terms import AMOUNT_NUSD_MAX, RunStep, ScopeDemand, require_run_step
from proxy.core.limits import ScopeLimits

_ALIKE_MAX: Final = 10_000

CLOCKS_APART_MS: Final = 5_000
"""So far the clocks of two hosts may be apart. What was asked for later than that from now has no age that could be
told, and no purge would reach it."""


class HitDemand(NamedTuple):
    """One kept answer that is to be given out. The run id is its identity: a repeat takes nothing again."""

    tenant_id: str
    run_id: str
    alias: str  # the model that the call named; "" for none
    asked_at_ms: int  # when the provider was asked for what is kept
    virtual_key_id: str | None
    scopes: tuple[ScopeDemand, ...]  # those with a request bucket
    row: bytes  # opaque: what the ledger gets


class HitAdmitted(NamedTuple):
    """It may be given out, and has its row."""

    now_us: int
    requests_tat_us: tuple[int, ...]  # in the order of the demand's scopes


class Purged(NamedTuple):
    """It is not to be given to anybody any more; or not yet, since it claims to be of the future."""


class Shredded(NamedTuple):
    """The tenant is no more."""


HitAdmission: TypeAlias = HitAdmitted | LimitRefused | Revoked | Purged | Shredded


def hit_scope(scope: str, scope_limits: ScopeLimits) -> ScopeDemand | None:
    """What a kept answer takes of one scope; None: nothing."""
    per_minute = scope_limits.requests_per_minute
    if per_minute is None:
        return None
    return ScopeDemand(scope, requests_bucket(per_minute, scope_limits.burst or per_minute))


def admit_hit(
    demand: HitDemand,
    scopes: Scopes,
    *,
    now_us: int,
    is_shredded: bool = False,
    is_revoked: bool = False,
    purged_before_ms: int = 0,
    has_row: bool = False,
) -> tuple[HitAdmission, Scopes]:
    """Decide one. The scopes are those to write; with an answer other than HitAdmitted there is no row."""
    if is_shredded:
        return Shredded(), {}
    if is_revoked:
        return Revoked(), {}
    if demand.asked_at_ms < purged_before_ms or demand.asked_at_ms > now_us // 1_000 + CLOCKS_APART_MS:
        return Purged(), {}
    if has_row:
        return HitAdmitted(now_us, _tats_us(demand.scopes, scopes)), {}
    met = [refused for scope in demand.scopes if (refused := _met(scope, scopes[scope.name], now_us)) is not None]
    if met:
        return max(met, key=lambda each: each.retry_after_ms), {}
    after = {scope.name: _taken(scope, scopes[scope.name], now_us) for scope in demand.scopes}
    return HitAdmitted(now_us, _tats_us(demand.scopes, after)), after


def require_hit(demand: HitDemand) -> HitDemand:
    """Give it back. Raises ValueError for what could name something else in the store."""
    require_run_step(RunStep(demand.tenant_id, demand.run_id, 0))
    if not 0 <= demand.asked_at_ms <= AMOUNT_NUSD_MAX:
        raise ValueError("When the provider was asked is out of range.")
    _require_scopes(demand.scopes)
    return demand


@lru_cache(maxsize=_ALIKE_MAX)  # of callers who are alike they are the same
def _require_scopes(scopes: tuple[ScopeDemand, ...]) -> None:
    if len({scope.name for scope in scopes}) != len(scopes):
        raise ValueError("A scope is named once.")
    if any(scope.requests is None for scope in scopes):
        raise ValueError("A scope without a request bucket is not asked for a kept answer.")


def _met(demand: ScopeDemand, scope: ScopeState, now_us: int) -> LimitRefused | None:
    bucket = demand.requests
    assert bucket is not None
    if limits.conforms(scope.requests_tat_us, now_us, bucket):
        return None
    return LimitRefused(demand.name, LimitKind.REQUESTS, limits.retry_after_ms(scope.requests_tat_us, now_us, bucket))


def _taken(demand: ScopeDemand, scope: ScopeState, now_us: int) -> ScopeState:
    assert demand.requests is not None
    scope = scope._replace(requests_tat_us=limits.taken(scope.requests_tat_us, now_us, demand.requests))
    return forgotten_later(scope, scope.periods, now_us) if scope.pending == 0 else scope


def _tats_us(demands: Iterable[ScopeDemand], scopes: Scopes) -> tuple[int, ...]:
    return tuple(scopes[demand.name].requests_tat_us for demand in demands)
