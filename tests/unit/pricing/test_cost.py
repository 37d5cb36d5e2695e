"""Usage times price, worked out by hand: every provider's shape and every tier, from files."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.types import Usage
from proxy.dialects.openai import classify
from proxy.dialects.usage import UsageTap
from proxy.pricing.catalog import parse_catalog
from proxy.pricing.cost import price
from proxy.pricing.facts import STANDARD, Band, ModelFacts, Price, Rates, flat_rates, own_facts

VECTORS = sorted((Path(__file__).parents[2] / "vectors/usage").glob("*.json"))
CASES = [(file.stem, case) for file in VECTORS for case in json.loads(file.read_text())["cases"]]


def facts_of(model: dict[str, Any]) -> ModelFacts:
    """A price entry as a file holds it."""
    text = json.dumps({"schema": 1, "taken_on": "2026-11-25", "models": {"m": model}}).encode()
    facts = parse_catalog({"vectors": text}).find("vectors", "m", 0)
    assert facts is not None
    return facts


@pytest.mark.parametrize(("provider", "case"), CASES, ids=[f"{provider}: {case['name']}" for provider, case in CASES])
def test_what_a_documented_answer_costs(provider: str, case: dict[str, Any]) -> None:
    segments = tuple(case["path"].removeprefix("/v1/").split("/"))
    tap = UsageTap(classify("POST", segments), b"application/json", None)
    tap.feed(json.dumps(case["answer"]).encode())
    tap.close()
    usage = tap.usage if tap.usage is not None else Usage()
    if "spoken" in case:  # an endpoint that reports nothing is priced by what was asked
        usage = Usage(characters=len(case["spoken"]))
    assert price(usage, facts_of(case["model"])) == case["cost_nusd"]


def test_every_vector_says_how_it_was_worked_out() -> None:
    assert len({provider for provider, _ in CASES}) >= 8
    for provider, case in CASES:
        assert case["worked"], (provider, case["name"])
        assert case["source"], (provider, case["name"])


# ── rounding ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("input_tokens", "rate_nusd_per_mtok", "cost_nusd"),
    [
        (0, 12_500_000, 0),
        (1, 1, 1),  # a millionth of a nano-dollar is one
        (1, 12_500_000, 13),  # 12.5
        (2, 12_500_000, 25),  # rounded once, not for each token
        (1_000_000, 12_500_000, 12_500_000),
        (2**53 - 1, 1_000_000, 2**53 - 1),
    ],
)
def test_a_cost_is_rounded_up_once(input_tokens: int, rate_nusd_per_mtok: int, cost_nusd: int) -> None:
    assert price(Usage(input_tokens), own_facts(rate_nusd_per_mtok, 0)) == cost_nusd


def test_kinds_are_summed_before_they_are_rounded() -> None:
    # half a nano-dollar of input and half a nano-dollar of output are one together
    assert price(Usage(1, output_tokens=1), own_facts(500_000, 500_000)) == 1
    # a nano-dollar a minute: a third of one is rounded up, and so is what is just above one
    facts = ModelFacts(Price({STANDARD: (Band(0, flat_rates(0, 0)),)}, audio_nusd_per_minute=1))
    assert price(Usage(audio_ms=20_000), facts) == 1
    assert price(Usage(audio_ms=60_000), facts) == 1
    assert price(Usage(audio_ms=60_001), facts) == 2


def test_a_per_cent_is_exact_too() -> None:
    facts = ModelFacts(Price({STANDARD: (Band(0, flat_rates(1_000_000, 0)),)}, region_pct={"us": 110}))
    assert price(Usage(10, region="us"), facts) == 11
    assert price(Usage(1, region="us"), facts) == 2  # 1.1
    assert price(Usage(10, region="global"), facts) == 10
    assert price(Usage(10), facts) == 10


@pytest.mark.parametrize(
    ("tier", "input_tokens", "cost_nusd"),
    [
        (None, 10, 10),
        ("default", 10, 10),
        ("standard", 10, 10),
        ("scale", 10, 10),  # a tier without rates of its own
        ("priority", 10, 20),
        ("fast", 10, 20),  # OpenAI's other word
        (None, 100, 100),  # the band begins above its bound
        (None, 101, 303),  # and then holds for all tokens
        ("priority", 101, 606),
    ],
)
def test_the_answers_tier_and_the_inputs_length_decide(tier: str | None, input_tokens: int, cost_nusd: int) -> None:
    bands = {
        STANDARD: (Band(0, flat_rates(1_000_000, 0)), Band(100, flat_rates(3_000_000, 0))),
        "priority": (Band(0, flat_rates(2_000_000, 0)), Band(100, flat_rates(6_000_000, 0))),
    }
    assert price(Usage(input_tokens, service_tier=tier), ModelFacts(Price(bands))) == cost_nusd


def test_a_picture_costs_its_tokens_or_a_piece_and_never_both() -> None:
    rates = flat_rates(0, 0)._replace(image_output_nusd_per_mtok=40_000_000_000)
    facts = ModelFacts(Price({STANDARD: (Band(0, rates),)}, image_nusd=50_000_000))
    assert price(Usage(images=2), facts) == 100_000_000
    assert price(Usage(images=2, output_tokens=1_000, image_output_tokens=1_000), facts) == 40_000_000


# ── whatever is reported ─────────────────────────────────────────────────────────────────

COUNT = st.integers(0, 2**53 - 1)
USAGES = st.builds(
    Usage, *[COUNT] * 15, st.just(()), st.sampled_from([None, "priority", "x"]), st.sampled_from([None, "us"])
)
RATES = st.builds(Rates, *[st.integers(0, 10**13)] * 12)


@given(USAGES, RATES)
def test_no_report_makes_a_cost_negative_or_dearer_than_its_dearest_rates(usage: Usage, rates: Rates) -> None:
    facts = ModelFacts(Price({STANDARD: (Band(0, rates),)}))
    cost_nusd = price(usage, facts)
    most = usage.input_tokens * max(rates[:8]) + usage.output_tokens * max(rates[8:])
    assert 0 <= cost_nusd <= -(-most // 10**6)
    least = usage.input_tokens * min(rates[:8]) + usage.output_tokens * min(rates[8:])
    assert cost_nusd >= least // 10**6
