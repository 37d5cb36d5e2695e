"""From the source's table to our files: units, tiers, what is filled and what is left out."""

import json
from typing import Any

import pytest

from proxy.pricing.catalog import parse_catalog
from proxy.pricing.convert import Converted, convert
from proxy.pricing.writer import encode, merge

ENTRY = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_input_tokens": 272_000,
    "max_output_tokens": 128_000,
    "input_cost_per_token": 2.5e-07,
    "output_cost_per_token": 2e-06,
    "cache_read_input_token_cost": 2.5e-08,
    "supports_function_calling": True,
    "supports_vision": False,
}


def convert_table(table: dict[str, Any]) -> Converted:
    return convert(table, source="a table", taken_on="2026-11-25")


def convert_one(name: Any = "gpt-x", **fields: Any) -> dict[str, Any]:
    """The model that one entry becomes."""
    converted = convert_table({name: {key: value for key, value in (ENTRY | fields).items() if value is not None}})
    assert not converted.problems
    ((_, document),) = converted.documents.items()
    ((_, model),) = document["models"].items()
    parse_catalog({"c": json.dumps(document).encode()})  # which is good
    return model


def test_an_entry_in_our_terms() -> None:
    assert convert_one() == {
        "context_tokens": 272_000,
        "max_output_tokens": 128_000,
        "capabilities": ["tools"],
        "prices": [
            {
                "tiers": {
                    "standard": [
                        {
                            "input_usd_per_mtok": "0.25",
                            "cached_input_usd_per_mtok": "0.025",
                            "output_usd_per_mtok": "2",
                        }
                    ]
                }
            }
        ],
    }


def test_long_inputs_and_tiers() -> None:
    tiers = convert_one(
        input_cost_per_token_above_272k_tokens=5e-07,
        output_cost_per_token_above_272k_tokens=3e-06,
        input_cost_per_token_priority=4.5e-07,
        output_cost_per_token_priority=3.6e-06,
        input_cost_per_token_batches=1.25e-07,
        output_cost_per_token_batches=1e-06,
        input_cost_per_token_above_272k_tokens_batches=2.5e-07,
    )["prices"][0]["tiers"]
    assert list(tiers) == ["standard", "batch", "priority"]
    # the cached rate grows as the input's does
    assert tiers["standard"][1] == {
        "above_tokens": 272_000,
        "input_usd_per_mtok": "0.5",
        "cached_input_usd_per_mtok": "0.05",
        "output_usd_per_mtok": "3",
    }
    # a tier's own rates hold; what it does not say is the dearer of what is known
    assert tiers["priority"] == [
        {"input_usd_per_mtok": "0.45", "cached_input_usd_per_mtok": "0.025", "output_usd_per_mtok": "3.6"},
        {
            "above_tokens": 272_000,
            "input_usd_per_mtok": "0.5",
            "cached_input_usd_per_mtok": "0.05",
            "output_usd_per_mtok": "3.6",
        },
    ]
    assert tiers["batch"][1]["input_usd_per_mtok"] == "0.25"
    assert tiers["batch"][1]["output_usd_per_mtok"] == "3"


def test_what_else_an_entry_can_say() -> None:
    version = convert_one(
        litellm_provider="anthropic",
        cache_creation_input_token_cost=3.125e-07,
        cache_creation_input_token_cost_above_1hr=5e-07,
        search_context_cost_per_query={"search_context_size_low": 0.01, "search_context_size_high": 0.03},
        provider_specific_entry={"us": 1.1, "fast": 2.0},
    )["prices"][0]
    assert version["tools_usd"] == {"web_search": "0.03"}
    assert version["region_pct"] == {"us": 110}
    assert version["tiers"]["standard"][0]["cache_write_usd_per_mtok"] == "0.3125"
    assert version["tiers"]["standard"][0]["cache_write_long_usd_per_mtok"] == "0.5"
    assert version["tiers"]["fast"][0]["output_usd_per_mtok"] == "4"


@pytest.mark.parametrize(
    ("fields", "version"),
    [
        (
            {"mode": "audio_transcription", "input_cost_per_second": 0.000283333333333},
            {"audio_usd_per_minute": "0.017"},
        ),
        ({"mode": "audio_speech", "input_cost_per_character": 1.5e-05}, {"speech_usd_per_mchar": "15"}),
        ({"mode": "image_generation", "output_cost_per_image": 0.04}, {"image_usd": "0.04"}),
    ],
)
def test_other_units(fields: dict[str, Any], version: dict[str, Any]) -> None:
    none = dict.fromkeys(("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost"))
    assert convert_one("m", **{**none, **fields})["prices"] == [version]


def test_a_search_model_searches_in_every_call() -> None:
    version = convert_one("gpt-x-search-preview", search_context_cost_per_query={"m": 0.025})["prices"][0]
    assert version["request_usd"] == "0.025"


@pytest.mark.parametrize(
    ("name", "fields", "catalog", "model"),
    [
        ("gemini/gemini-x", {"litellm_provider": "gemini"}, "gemini", "gemini-x"),
        ("azure/gpt-x", {"litellm_provider": "azure"}, "azure", "gpt-x"),
        ("azure/eu/gpt-x", {"litellm_provider": "azure"}, "azure-eu", "gpt-x"),
        ("azure/global/gpt-x", {"litellm_provider": "azure"}, "azure", "gpt-x"),
        ("vertex_ai/meta/llama-x", {"litellm_provider": "vertex_ai-llama_models"}, "vertex", "meta/llama-x"),
        ("anthropic.claude-x", {"litellm_provider": "bedrock_converse"}, "bedrock", "anthropic.claude-x"),
        ("together_ai/Qwen/x", {"litellm_provider": "together_ai"}, "together", "Qwen/x"),
    ],
)
def test_where_a_model_belongs(name: str, fields: dict[str, Any], catalog: str, model: str) -> None:
    documents = convert_table({name: ENTRY | fields}).documents
    assert {each: list(document["models"]) for each, document in documents.items()} == {catalog: [model]}


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gpt-x", {"litellm_provider": "somebody-else"}),
        ("gpt-x", {"mode": "video_generation"}),
        ("bedrock/us-gov-west-1/claude-x", {"litellm_provider": "bedrock"}),
        ("low/1024-x-1024/gpt-image-x", {"mode": "image_generation"}),
        ("gpt-x", {"input_cost_per_token": None}),
        ("gpt-x", {"output_cost_per_token": 0}),  # free, or nobody knows
    ],
)
def test_what_is_not_taken(name: str, fields: dict[str, Any]) -> None:
    assert convert_table({name: ENTRY | fields}).documents == {}


@pytest.mark.parametrize("value", [-1e-06, 0.02, float("nan"), float("inf"), "much", True, [1]])
def test_an_absurd_price_is_a_problem(value: Any) -> None:
    problems = convert_table({"gpt-x": ENTRY | {"input_cost_per_token": value}}).problems
    assert [problem.path for problem in problems] == ["gpt-x.input_cost_per_token"]


def test_an_alias_has_the_price_of_what_it_stands_for() -> None:
    models = convert_table({"gpt-x": ENTRY, "gpt-latest": {"alias_of": "gpt-x"}}).documents["openai"]["models"]
    assert models["gpt-latest"] == models["gpt-x"]


def test_a_zone_has_the_limits_of_the_whole() -> None:
    zone = {key: value for key, value in ENTRY.items() if not key.startswith(("max_", "supports_"))}
    table = {
        "azure/gpt-x": ENTRY | {"litellm_provider": "azure"},
        "azure/eu/gpt-x": zone | {"litellm_provider": "azure", "input_cost_per_token": 2.75e-07},
    }
    model = convert_table(table).documents["azure-eu"]["models"]["gpt-x"]
    assert (model["context_tokens"], model["capabilities"]) == (272_000, ["tools"])
    assert model["prices"][0]["tiers"]["standard"][0]["input_usd_per_mtok"] == "0.275"


# ── writing ──────────────────────────────────────────────────────────────────────────────


def document_of(**models: Any) -> dict[str, Any]:
    return convert_table({name: ENTRY | fields for name, fields in models.items()}).documents["openai"]


def test_the_same_facts_are_the_same_bytes_and_read_back() -> None:
    document = document_of(b={}, a={"input_cost_per_token_above_200k_tokens": 1e-06})
    text = encode(document)
    assert json.loads(text) == document
    assert encode(json.loads(text)) == text
    assert text.index(b'"a"') < text.index(b'"b"')


def test_a_price_that_changed_is_added_with_its_day() -> None:
    old = document_of(same={}, other={})
    new = document_of(same={}, other={"input_cost_per_token": 5e-07}) | {"taken_on": "2026-12-01"}
    merged = merge(old, new)["models"]
    assert merged["same"] == old["models"]["same"]
    first, second = merged["other"]["prices"]
    assert first == old["models"]["other"]["prices"][0]
    assert second["valid_from"] == "2026-12-01"
    assert second["tiers"]["standard"][0]["input_usd_per_mtok"] == "0.5"
    # an update of the same day takes its place
    again = document_of(same={}, other={"input_cost_per_token": 6e-07}) | {"taken_on": "2026-12-01"}
    assert len(merge(merge(old, new), again)["models"]["other"]["prices"]) == 2


def test_a_model_that_is_gone_keeps_its_last_price() -> None:
    old, new = document_of(gone={}, kept={}), document_of(kept={}, new={})
    assert merge(old, new)["models"].keys() == {"gone", "kept", "new"}


def test_where_nothing_changed_the_file_stays_as_it_was() -> None:
    old = document_of(a={})
    assert merge(old, document_of(a={}) | {"taken_on": "2027-01-01"}) == old
    assert merge(None, old) == old
