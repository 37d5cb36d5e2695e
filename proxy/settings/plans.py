"""`[plans.NAME]`: what each tenant of a plan may use, and each user, virtual key, feature and model of the tenant."""

from dataclasses import replace

from proxy.core.limits import CAP_NUSD_MAX, CAPS, COUNTS_MAX, ScopeLimits, with_burst
from proxy.settings.model import DEFAULT_PLAN, PlanSettings
from proxy.settings.reader import Reader
from proxy.settings.values import parse_feature_name, parse_model_name, parse_plan_name

USER_SHARE_PCT = 20
USER_SHARED_CAPS = tuple(name for name in CAPS if name != "per_call_nusd")  # that one is no window to share
INPUT_BYTES_MAX = 1 << 30
QUEUE_WEIGHT_MAX = 1_000


def read_plans(at: Reader) -> dict[str, PlanSettings]:
    """Every plan that is written, and the default one whether it is or not."""
    plans = {name: _plan(name, plan) for name, plan in at.named_tables(parse_plan_name)}
    return {DEFAULT_PLAN: PlanSettings(DEFAULT_PLAN), **plans}


def user_limits(tenant: ScopeLimits, user: ScopeLimits) -> ScopeLimits:
    """What each user may use: as written, and where no cap of a window is, 20 % of the tenant's.

    One runaway user then cannot spend what all were to share. Rounded down to a whole nano-dollar.
    """
    shares: dict[str, int] = {}
    for name in USER_SHARED_CAPS:
        cap_nusd: int | None = getattr(tenant, name)
        if cap_nusd is not None and getattr(user, name) is None:
            shares[name] = cap_nusd * USER_SHARE_PCT // 100
    return replace(user, **shares)


def _plan(name: str, at: Reader) -> PlanSettings:
    default = PlanSettings(name)
    soft_cap_pct = at.integer("soft_cap_pct", default.soft_cap_pct, 1, 100)
    input_bytes_max = at.integer("input_bytes_max", default.input_bytes_max, 1, INPUT_BYTES_MAX)
    gateway_keys = at.flag("gateway_keys", default.gateway_keys)
    queue_weight = at.integer("queue_weight", default.queue_weight, 1, QUEUE_WEIGHT_MAX)
    tenant = _limits(at.table("tenant"))
    plan = PlanSettings(
        name=name,
        soft_cap_pct=soft_cap_pct,
        input_bytes_max=input_bytes_max,
        gateway_keys=gateway_keys,
        queue_weight=queue_weight,
        tenant=tenant,
        user=user_limits(tenant, _limits(at.table("user"))),
        virtual_key=_limits(at.table("virtual_key")),
        features={name: _limits(one) for name, one in at.table("features").named_tables(parse_feature_name)},
        models={alias: _limits(one) for alias, one in at.table("models").named_tables(parse_model_name)},
    )
    at.close()
    return plan


def _limits(at: Reader) -> ScopeLimits:
    counts = {name: at.integer(name, None, 1, maximum) for name, maximum in COUNTS_MAX.items()}
    caps = {name: at.dollars(setting, None, CAP_NUSD_MAX) for name, setting in CAPS.items()}
    at.close()
    return with_burst(ScopeLimits(**counts, **caps))
