"""Which limits and caps hold for a call: of the tenant, its user, virtual key, feature and model.

Pure. Whoever was never seen before gets its plan's, like everybody else: there is no first call
that escapes.
"""

from dataclasses import replace
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from proxy.admission.caps import demand_of
from proxy.admission.hits import hit_scope
from proxy.admission.keys import TENANT, feature_scope, model_scope, user_scope, virtual_key_scope
from proxy.admission.terms import Outline, WindowKind, outline_of
from proxy.core.limits import CAPS, NO_LIMITS, ScopeLimits, has_cap, merged
from proxy.core.types import Caller
from proxy.settings.model import PlanSettings

_KNOWN_MAX: Final = 10_000


class Allowance(NamedTuple):
    """What one scope may use; `scope` is its name in the store."""

    scope: str
    limits: ScopeLimits


class Allowed:
    """What callers who are alike may use, and what that asks of the store: worked out once, and for each new window."""

    __slots__ = ("_by_zone", "_counts_dollars", "call_caps", "hit_scopes", "is_capped", "scopes")

    def __init__(self, scopes: tuple[Allowance, ...], *, counts_dollars: bool) -> None:
        self.scopes = scopes
        self.is_capped = any(has_cap(limits) for _, limits in scopes)  # an amount of money, in any of them
        self.call_caps = tuple(each for each in scopes if each.limits.per_call_nusd is not None)
        self.hit_scopes = tuple(filter(None, (hit_scope(scope, limits) for scope, limits in scopes)))
        self._counts_dollars = counts_dollars
        self._by_zone: dict[ZoneInfo, Outline] = {}

    def outline(self, now_ms: int, zone: ZoneInfo) -> Outline:
        """What a call asks of each scope at this moment."""
        known = self._by_zone.get(zone)
        if known is None or not known.from_ms <= now_ms < known.until_ms:
            known = self._by_zone[zone] = self._outline(now_ms, zone)
        return known

    def _outline(self, now_ms: int, zone: ZoneInfo) -> Outline:
        scopes = tuple(
            demand_of(
                scope,
                limits,
                now_ms=now_ms,
                zone=zone,
                # What a tenant has spent in all is summed whether it is capped or not: the ledger is held against it.
                counted=(WindowKind.TOTAL,) if scope == TENANT and self._counts_dollars else (),
            )
            for scope, limits in self.scopes
        )
        return outline_of(scopes)


class Allowances:
    """The allowances of one snapshot's callers, each worked out once for as long as there is room."""

    __slots__ = ("_free_plans", "_known", "_nothing")

    def __init__(self) -> None:
        self._free_plans: dict[str, bool] = {}  # by name: whether a plan limits nothing
        self._known: dict[tuple[object, ...], Allowed] = {}
        self._nothing = Allowed((), counts_dollars=False)

    def find(self, plan: PlanSettings, caller: Caller, model_alias: str | None, *, counts_dollars: bool) -> Allowed:
        """The scopes in which anything is limited, and the tenant beside them; none where nothing is.
        Without `counts_dollars` only the rates hold."""
        if caller.virtual_key_limits is None and self._limits_nothing(plan):
            return self._nothing
        what = (
            counts_dollars,
            plan.name,
            caller.user,
            caller.virtual_key_id,
            caller.virtual_key_limits,
            caller.feature,
            model_alias,
        )
        known = self._known.get(what)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            scopes = _allowances(plan, caller, model_alias, counts_dollars)
            known = self._known[what] = Allowed(scopes, counts_dollars=counts_dollars)
        return known

    def _limits_nothing(self, plan: PlanSettings) -> bool:
        known = self._free_plans.get(plan.name)
        if known is None:
            always = (plan.tenant, plan.user, plan.virtual_key)
            limits = (*always, *plan.features.values(), *plan.models.values())
            known = self._free_plans[plan.name] = all(each == NO_LIMITS for each in limits)
        return known


def _allowances(
    plan: PlanSettings, caller: Caller, model_alias: str | None, counts_dollars: bool
) -> tuple[Allowance, ...]:
    found = [Allowance(TENANT, plan.tenant)]
    if caller.user is not None:
        found.append(Allowance(user_scope(caller.user), plan.user))
    if caller.virtual_key_id is not None:
        own = merged(caller.virtual_key_limits, plan.virtual_key)
        found.append(Allowance(virtual_key_scope(caller.virtual_key_id), own))
    if caller.feature is not None and caller.feature in plan.features:
        found.append(Allowance(feature_scope(caller.feature), plan.features[caller.feature]))
    if model_alias is not None and model_alias in plan.models:
        found.append(Allowance(model_scope(model_alias), plan.models[model_alias]))
    if not counts_dollars:
        found = [Allowance(scope, replace(limits, **dict.fromkeys(CAPS))) for scope, limits in found]
    limited = [allowance for allowance in found if allowance.limits != NO_LIMITS]
    if limited and limited[0].scope != TENANT:
        limited.insert(0, Allowance(TENANT, NO_LIMITS))  # what is spent is summed for the tenant in any case
    return tuple(limited)
