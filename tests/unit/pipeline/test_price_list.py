"""Whose prices hold, and what an operator writes beside a deployment."""

from dataclasses import replace

import pytest

from proxy.core.types import Deployment
from proxy.pipeline.price_list import PriceList, catalog_name
from proxy.pricing.catalog import parse_catalog
from proxy.pricing.facts import STANDARD, ModelFacts
from proxy.settings.model import ProviderSettings, Settings, TransportKind
from proxy.settings.routing import DeploymentSettings, ModelSettings, PriceSettings

AT_MS = 1_764_072_000_000
OPENAI = ProviderSettings("openai", "https://api.openai.com/v1")
KNOWN = b"""{"schema": 1, "catalog": "openai", "taken_on": "2026-11-25", "source": "by hand",
"license": "none", "tools_usd": {},
"models": {"known": {"context_tokens": 1000, "max_output_tokens": 100, "capabilities": ["reasoning"], "prices": [
 {"tiers": {"standard": [{"input_usd_per_mtok": "1", "output_usd_per_mtok": "4"}]}}]}}}"""
CATALOG = parse_catalog({"openai": KNOWN})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "openai"),
        ({"name": "azure"}, "azure"),
        ({"name": "mine"}, "openai"),  # what it speaks
        ({"name": "mine", "catalog": "groq"}, "groq"),
        ({"transport": TransportKind.SIMULATED}, "simulated"),
        ({"transport": TransportKind.SIMULATED, "catalog": "groq"}, "groq"),
    ],
)
def test_whose_prices_hold(changes, expected: str) -> None:
    assert catalog_name(replace(OPENAI, **changes), ["azure", "groq", "openai"]) == expected


def found(model: str, **written) -> ModelFacts | None:
    deployment = DeploymentSettings("openai", model, **written)
    settings = Settings(providers={"openai": OPENAI}, models={"alias": ModelSettings("alias", (deployment,))})
    return PriceList(settings, CATALOG).find(Deployment("openai", model), AT_MS)


def rates(facts: ModelFacts | None) -> tuple[int, ...]:
    assert facts is not None
    (band,) = facts.price.tiers[STANDARD]
    return (
        band.rates.input_nusd_per_mtok,
        band.rates.cached_input_nusd_per_mtok,
        band.rates.cache_write_nusd_per_mtok,
        band.rates.cache_write_long_nusd_per_mtok,
        band.rates.output_nusd_per_mtok,
    )


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (PriceSettings(10, 30), (10, 10, 10, 10, 30)),
        (PriceSettings(10, 30, cached_input_nusd_per_mtok=5), (10, 5, 10, 10, 30)),
        (PriceSettings(10, 30, cache_write_nusd_per_mtok=12), (10, 10, 12, 12, 30)),
        (PriceSettings(10, 30, 0, 0), (10, 0, 0, 0, 30)),  # free is not the same as not said
    ],
)
@pytest.mark.parametrize("model", ["known", "unknown"])
def test_a_written_price_wins(model: str, price: PriceSettings, expected: tuple[int, ...]) -> None:
    assert rates(found(model, price=price)) == expected


def test_what_is_not_written_is_the_catalogues() -> None:
    facts = found("known", max_output_tokens=50)
    assert facts is not None
    assert (facts.context_tokens, facts.max_output_tokens, sorted(facts.capabilities)) == (1_000, 50, ["reasoning"])
    assert rates(facts)[0] == 1_000_000_000
    heard = found("known", audio_seconds_max=1_500)
    assert heard is not None
    assert (facts.audio_ms_max, heard.audio_ms_max, heard.context_tokens) == (None, 1_500_000, 1_000)
    silent = found("known", price=PriceSettings(1, 2), capabilities=frozenset())
    assert silent is not None
    assert (silent.context_tokens, silent.capabilities) == (1_000, frozenset())


def test_a_model_without_any_price_is_not_known_whatever_else_is_said_of_it() -> None:
    assert found("unknown", context_tokens=5) is None
    assert found("unknown") is None
