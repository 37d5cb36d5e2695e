"""`[models.ALIAS]`: the alias that callers name, and where it is served."""

from collections.abc import Callable

from proxy.core.money import NUSD_PER_USD
from proxy.settings.model import DeploymentSettings, ModelSettings, PriceSettings
from proxy.settings.reader import Reader, Source
from proxy.settings.values import parse_capability, parse_model_name, parse_tenant_id

PER_MTOK_NUSD_MAX = 10_000 * NUSD_PER_USD  # no model costs near it: a slip of the keyboard does
CONTEXT_TOKENS_MAX = 1_000_000_000
AUDIO_SECONDS_MAX = 1_000_000


def read_model(alias: str, at: Reader, source: Source, parse_existing: Callable[[str], str]) -> ModelSettings:
    """One model's table. `parse_existing` takes the name of a provider that is there."""
    deployments = tuple(_deployment(entry, source, parse_existing) for entry in at.tables("deployments"))
    tenants = at.texts("tenants", parse_tenant_id, None)
    at.close()
    return ModelSettings(alias, deployments, None if tenants is None else frozenset(tenants))


def _deployment(at: Reader, source: Source, parse_existing: Callable[[str], str]) -> DeploymentSettings:
    capabilities = at.texts("capabilities", parse_capability, None)
    price = at.table("price")
    deployment = DeploymentSettings(
        provider=at.text("provider", parse_existing, "", required="the name of a provider"),
        model=at.text("model", parse_model_name, "", required="the provider's name of a model"),
        price=_price(price) if at.has("price") and source.is_sound(price.path) else None,
        context_tokens=at.integer("context_tokens", None, 1, CONTEXT_TOKENS_MAX),
        max_output_tokens=at.integer("max_output_tokens", None, 1, CONTEXT_TOKENS_MAX),
        capabilities=None if capabilities is None else frozenset(capabilities),
        audio_seconds_max=at.integer("audio_seconds_max", None, 1, AUDIO_SECONDS_MAX),
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
