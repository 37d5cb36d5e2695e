"""What is legal but unwise about plans, caps and prices.

Pure. What depends on the price catalogue is in `advise_prices`: whoever has read the catalogue
calls it, and hands in what a model's longest answer costs.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from proxy.core.limits import CAPS, ScopeLimits, has_cap
from proxy.core.money import usd_text
from proxy.settings.model import AuthMode, PlanSettings, Settings, StreamUsage, TenantSettings
from proxy.settings.plans import USER_SHARE_PCT, user_limits
from proxy.settings.problem import element, member
from proxy.settings.routing import DeploymentSettings

MaxOutputCost: TypeAlias = Callable[[DeploymentSettings], int | None]
"""What a deployment's longest answer costs, in nano-dollars; None where nobody knows a price."""

_SHOWN_MAX: Final = 4  # of the models of a cap, and of the caps


class Cap(NamedTuple):
    """One amount of one scope, and where the file says it."""

    path: str
    nusd: int
    is_share: bool = False  # it may not be written: as much is a user's part of the tenant's


class _Unfit(NamedTuple):
    """A cap that the longest answer of a model does not fit into."""

    cap: Cap
    alias: str
    cost_nusd: int


def scopes_of(plan: PlanSettings) -> Iterator[tuple[str, ScopeLimits]]:
    """Each scope of a plan, and where it stands in the file."""
    where = member("plans", plan.name)
    for scope in ("tenant", "user", "virtual_key"):
        yield f"{where}.{scope}", getattr(plan, scope)
    for feature, limits in plan.features.items():
        yield member(f"{where}.features", feature), limits
    for alias, limits in plan.models.items():
        yield member(f"{where}.models", alias), limits


def is_capped(plan: PlanSettings) -> bool:
    """True where any scope of the plan caps an amount of money."""
    return any(has_cap(limits) for _, limits in scopes_of(plan))


def advise_spending(settings: Settings) -> Iterator[str]:
    """What can be said without knowing a price."""
    for plan in settings.plans.values():
        yield from _advise_plan(plan, settings)
    for tenant in settings.tenants.values():
        yield from _advise_tenant(tenant, settings.plans[tenant.plan])
    yield from _advise_own_keys(settings)


def advise_prices(settings: Settings, max_output_cost: MaxOutputCost) -> Iterator[str]:
    """Calls that caps will refuse: to a model without a price, and those whose longest answer never fits."""
    plans = [plan for plan in settings.plans.values() if is_capped(plan)]
    if not plans:
        return
    unfit: list[_Unfit] = []
    for alias, model in settings.models.items():
        costs_nusd: list[int] = []
        for index, deployment in enumerate(model.deployments):
            cost_nusd = max_output_cost(deployment)
            if cost_nusd is not None:
                costs_nusd.append(cost_nusd)
                continue
            where = element(member(member("models", alias), "deployments"), index)
            yield (
                f"{where}: nobody knows a price for {deployment.provider}/{deployment.model}, so under a cap "
                "(plans." + ", plans.".join(plan.name for plan in plans) + ") its calls are refused as unpriced_model. "
                "Give it a price."
            )
        if costs_nusd:
            unfit += _never_fit(alias, max(costs_nusd), plans)
    if unfit:
        yield _advise_ceiling(unfit)


def _never_fit(alias: str, cost_nusd: int, plans: list[PlanSettings]) -> Iterator[_Unfit]:
    for plan in plans:
        tightest = min(_caps_of_a_call(plan, alias), key=lambda cap: cap.nusd, default=None)
        if tightest is not None and cost_nusd > tightest.nusd:
            yield _Unfit(tightest, alias, cost_nusd)


def _advise_ceiling(unfit: list[_Unfit]) -> str:
    """One line: of ten plans and ten models, a hundred would hide what else there is."""
    share = f" (a user's is {USER_SHARE_PCT} % of the tenant's where none is written)"
    share = share if any(each.cap.is_share for each in unfit) else ""
    if len(unfit) == 1:
        ((cap, alias, cost_nusd),) = unfit
        return (
            f"{cap.path} (${usd_text(cap.nusd)}) is less than the longest answer of {alias} costs "
            f"(${usd_text(cost_nusd)}): a call that names no max_tokens never fits it whole. Raise the cap{share}, "
            'or set no_ceiling = "insert" or "extend" for the tenants of this plan.'
        )
    by_cap: dict[Cap, list[str]] = {}
    for cap, alias, cost_nusd in unfit:
        by_cap.setdefault(cap, []).append(f"{alias} (${usd_text(cost_nusd)})")
    said = [f"{cap.path} (${usd_text(cap.nusd)}) for {_in_short(models, ', ')}" for cap, models in by_cap.items()]
    return (
        "these caps are less than the longest answer of a model costs, so that a call that names no max_tokens never "
        f"fits whole: {_in_short(said, '; ')}. Raise the caps{share}, "
        'or set no_ceiling = "insert" or "extend" for the tenants of these plans.'
    )


def _in_short(said: list[str], between: str) -> str:
    shown = said[:_SHOWN_MAX]
    return between.join(shown) + (f"{between}and {len(said) - len(shown)} more" if len(said) > len(shown) else "")


def _caps_of_a_call(plan: PlanSettings, alias: str) -> Iterator[Cap]:
    """The caps that a call to this model may meet, those of features apart."""
    where = member("plans", plan.name)
    scopes = [(f"{where}.{scope}", getattr(plan, scope)) for scope in ("tenant", "user", "virtual_key")]
    if alias in plan.models:
        scopes.append((member(f"{where}.models", alias), plan.models[alias]))
    shares = user_limits(plan.tenant, ScopeLimits())
    for path, limits in scopes:
        for name, setting in CAPS.items():
            cap_nusd: int | None = getattr(limits, name)
            if cap_nusd is not None:
                is_share = limits is plan.user and cap_nusd == getattr(shares, name)
                yield Cap(f"{path}.{setting}", cap_nusd, is_share)


def _advise_plan(plan: PlanSettings, settings: Settings) -> Iterator[str]:
    for where, limits in scopes_of(plan):
        if limits.burst is not None and limits.requests_per_minute is None:
            yield f"{where}.burst does nothing without requests_per_minute. Add that, or remove it."
    for alias in plan.models:
        if alias not in settings.models and settings.auth.default_provider is None:
            where = member(member("plans", plan.name) + ".models", alias)
            yield f"{where} limits a model that is not under [models]: no call can name it."


def _advise_tenant(tenant: TenantSettings, plan: PlanSettings) -> Iterator[str]:
    where = member("tenants", tenant.id)
    if is_capped(plan):
        if tenant.stream_usage is StreamUsage.LEAVE:
            yield (
                f'{where}.stream_usage is "leave" under the caps of plans.{plan.name}: a stream whose caller does not '
                'ask for its usage is charged by an estimate. Set "auto".'
            )
    elif tenant.soft_cap_webhook is not None:
        yield f"{where}.soft_cap_webhook is never called: plans.{plan.name} caps no amount of money."


def _advise_own_keys(settings: Settings) -> Iterator[str]:
    """Where callers bring their own provider keys, a cap that does not count them may count nothing."""
    auth = settings.auth
    if auth.mode is not AuthMode.PASSTHROUGH:
        return
    tenant = settings.tenants.get(auth.default_tenant, TenantSettings(auth.default_tenant))
    if is_capped(settings.plans[tenant.plan]) and not tenant.count_own_key:
        yield (
            f'auth.mode is "{auth.mode}" and {member("tenants", tenant.id)}.count_own_key is false: the caps of '
            f"plans.{tenant.plan} do not count what callers spend with their own provider keys. Set it, if they should."
        )
