"""`[models.ALIAS]`: the alias that callers name, and where it is served."""

from collections.abc import Callable
from typing import NamedTuple

from proxy.core.consent import Tier
from proxy.core.money import NUSD_PER_USD
from proxy.settings.cache import read_policy
from proxy.settings.reader import Reader, Source
from proxy.settings.routing import DeploymentSettings, ModelSettings, PriceSettings, Sticky, Strategy
from proxy.settings.rules import read_rules
from proxy.settings.values import parse_capability, parse_model_name, parse_tenant_id

PER_MTOK_NUSD_MAX = 10_000 * NUSD_PER_USD  # no model costs near it: a slip of the keyboard does
CONTEXT_TOKENS_MAX = 1_000_000_000
AUDIO_SECONDS_MAX = 1_000_000
WEIGHT_MAX = 1_000_000
IN_FLIGHT_MAX = 1_000_000


class Existing(NamedTuple):
    """Parsers of the names of what stands elsewhere in the file."""

    provider: Callable[[str], str]
    plan: Callable[[str], str]
    model: Callable[[str], str]


def read_model(alias: str, at: Reader, source: Source, existing: Existing) -> ModelSettings:
    """One model's table: deployments, or rules that lead to other models."""
    rules = read_rules(at, existing.model, existing.plan)
    wanted = "the model that serves where no rule holds" if at.has("rules") else None
    default = at.text("default", existing.model, None, required=wanted)
    is_ruled = bool(rules) or at.has("rules") or at.has("default")
    entries = at.tables("deployments", required=not is_ruled)
    if is_ruled and at.has("deployments"):
        told = "A model of rules serves through the models that they name. Move the deployments to one of those."
        source.report(f"{at.path}.deployments", f"nothing, as {at.path} has rules", "deployments", told)
    tenants = at.texts("tenants", parse_tenant_id, None)
    plans = at.texts("plans", existing.plan, None)
    strategy = at.choice("strategy", Strategy, Strategy.PRIORITY)
    usual = Sticky.USER if strategy is Strategy.WEIGHTED else Sticky.NONE
    model = ModelSettings(
        alias=alias,
        deployments=tuple(_deployment(entry, source, existing) for entry in entries),
        tenants=None if tenants is None else frozenset(tenants),
        plans=None if plans is None else frozenset(plans),
        strategy=strategy,
        sticky=at.choice("sticky", Sticky, usual),
        rules=rules,
        default=default,
        switched_to=at.text("switched_to", existing.model, None),
        cache=read_policy(at),
    )
    at.close()
    return model


def _deployment(at: Reader, source: Source, existing: Existing) -> DeploymentSettings:
    capabilities = at.texts("capabilities", parse_capability, None)
    tenants = at.texts("tenants", parse_tenant_id, None)
    plans = at.texts("plans", existing.plan, None)
    price = at.table("price")
    deployment = DeploymentSettings(
        provider=at.text("provider", existing.provider, "", required="the name of a provider"),
        model=at.text("model", parse_model_name, "", required="the provider's name of a model"),
        price=_price(price) if at.has("price") and source.is_sound(price.path) else None,
        context_tokens=at.integer("context_tokens", None, 1, CONTEXT_TOKENS_MAX),
        max_output_tokens=at.integer("max_output_tokens", None, 1, CONTEXT_TOKENS_MAX),
        capabilities=None if capabilities is None else frozenset(capabilities),
        audio_seconds_max=at.integer("audio_seconds_max", None, 1, AUDIO_SECONDS_MAX),
        tier=at.choice("tier", Tier, Tier.SAME),
        weight=at.integer("weight", 1, 0, WEIGHT_MAX),
        tenants=None if tenants is None else frozenset(tenants),
        plans=None if plans is None else frozenset(plans),
        in_flight_max=at.integer("in_flight_max", None, 1, IN_FLIGHT_MAX),
        drained=at.flag("drained", False),
    )
    at.close()
    context_tokens, output_tokens = deployment.context_tokens, deployment.max_output_tokens
    if context_tokens is not None and output_tokens is not None and output_tokens > context_tokens:
        expected = f"at most {at.path}.context_tokens ({context_tokens})"
        source.report(f"{at.path}.max_output_tokens", expected, str(output_tokens))
    return deployment


def _price(at: Reader) -> PriceSettings:
    price = PriceSettings(
        input_nusd_per_mtok=at.dollars("input_usd_per_mtok", 0, PER_MTOK_NUSD_MAX, required=True),
        output_nusd_per_mtok=at.dollars("output_usd_per_mtok", 0, PER_MTOK_NUSD_MAX, required=True),
        cached_input_nusd_per_mtok=at.dollars("cached_input_usd_per_mtok", None, PER_MTOK_NUSD_MAX),
        cache_write_nusd_per_mtok=at.dollars("cache_write_usd_per_mtok", None, PER_MTOK_NUSD_MAX),
    )
    at.close()
    return price
