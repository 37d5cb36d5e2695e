"""Files of prices: what is read from them, what is refused, and which price holds when."""

import json
from typing import Any

import pytest

from proxy.adapters.price_files import names_in, read_price_files, shipped_folder
from proxy.core.capabilities import CAPABILITIES
from proxy.pricing.catalog import Catalog, file_name, parse_catalog
from proxy.pricing.facts import STANDARD
from proxy.pricing.problem import PriceError
from proxy.pricing.reader import parse_nusd

DAY_MS = 86_400_000
JANUARY_2_MS = 1_767_312_000_000  # 2026-01-02T00:00:00Z


def parse(models: Any, name: str = "openai", **fields: Any) -> Catalog:
    document = {"schema": 1, "taken_on": "2026-11-25", "models": models, **fields}
    return parse_catalog({name: json.dumps(document).encode()})


def model(*rates: dict[str, Any], **fields: Any) -> dict[str, Any]:
    bands = [{"input_usd_per_mtok": "1", "output_usd_per_mtok": "4"}] if not rates else list(rates)
    return {"prices": [{"tiers": {"standard": bands}}], **fields}


def problems(models: Any, **fields: Any) -> list[str]:
    with pytest.raises(PriceError) as refused:
        parse(models, **fields)
    return [str(problem) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("text", "nusd"),
    [
        ("0.0125", 12_500_000),
        ("0.25", 250_000_000),
        ("10000", 10_000_000_000_000),
        ("0", 0),
        ("0.000000001", 1),
        ("0.0000000001", None),  # finer than a nano-dollar
        ("-1", None),
        ("1e3", None),
        ("1,000", None),
        (" 1", None),
        ("1.", None),
        (".5", None),
        ("٣", None),
        ("", None),
        (0.25, None),  # a JSON number has been rounded already
        (1, None),
        (None, None),
        (True, None),
    ],
)
def test_dollars_are_read_exactly(text: object, nusd: int | None) -> None:
    assert parse_nusd(text) == nusd


def test_what_a_file_says_of_a_model() -> None:
    catalog = parse(
        {
            "m": model(
                {"input_usd_per_mtok": "2", "cached_input_usd_per_mtok": "0.2", "output_usd_per_mtok": "8"},
                {"above_tokens": 200_000, "input_usd_per_mtok": "4", "output_usd_per_mtok": "12"},
                context_tokens=1_000_000,
                max_output_tokens=64_000,
                image_tokens_max=5_000,
                audio_seconds_max=1_500,
                capabilities=["tools", "vision"],
            )
        },
        tools_usd={"web_search": "0.01"},
    )
    facts = catalog.find("openai", "m", 0)
    assert facts is not None
    assert (facts.context_tokens, facts.max_output_tokens, facts.image_tokens_max) == (1_000_000, 64_000, 5_000)
    assert facts.audio_ms_max == 1_500_000
    assert facts.capabilities == {"tools", "vision"}
    assert facts.price.tool_nusd == {"web_search": 10_000_000}
    short, long = facts.price.tiers[STANDARD]
    assert (short.above_tokens, long.above_tokens) == (0, 200_000)
    assert short.rates.input_nusd_per_mtok == 2_000_000_000
    assert short.rates.cached_input_nusd_per_mtok == 200_000_000
    # what is not said costs what the same tokens cost otherwise
    assert short.rates.cache_write_nusd_per_mtok == short.rates.cache_write_long_nusd_per_mtok == 2_000_000_000
    assert short.rates.audio_input_nusd_per_mtok == 2_000_000_000
    assert short.rates.cached_audio_input_nusd_per_mtok == 200_000_000
    assert short.rates.reasoning_nusd_per_mtok == short.rates.audio_output_nusd_per_mtok == 8_000_000_000
    # a later band says what is different
    assert (long.rates.input_nusd_per_mtok, long.rates.cached_input_nusd_per_mtok) == (4_000_000_000, 200_000_000)


def test_sound_that_costs_more_is_not_cheap_because_it_was_cached() -> None:
    rates = {"input_usd_per_mtok": "1", "cached_input_usd_per_mtok": "0.1", "output_usd_per_mtok": "1"}
    facts = parse({"m": model({**rates, "audio_input_usd_per_mtok": "30"})}).find("openai", "m", 0)
    assert facts is not None
    assert facts.price.tiers[STANDARD][0].rates.cached_audio_input_nusd_per_mtok == 30_000_000_000


# ── which one holds ──────────────────────────────────────────────────────────────────────


def test_the_price_of_its_day_holds() -> None:
    prices = [
        {"tiers": {"standard": [{"input_usd_per_mtok": usd, "output_usd_per_mtok": "1"}]}, **day}
        for usd, day in (("3", {}), ("2", {"valid_from": "2026-01-02"}), ("1", {"valid_from": "2026-02-01"}))
    ]
    catalog = parse({"m": {"prices": prices}})

    def input_usd(at_ms: int) -> int:
        facts = catalog.find("openai", "m", at_ms)
        assert facts is not None
        return facts.price.tiers[STANDARD][0].rates.input_nusd_per_mtok // 10**9

    assert [input_usd(at_ms) for at_ms in (0, JANUARY_2_MS - 1, JANUARY_2_MS, JANUARY_2_MS + 29 * DAY_MS)] == [
        3,
        3,
        2,
        2,
    ]
    assert input_usd(JANUARY_2_MS + 30 * DAY_MS) == 1


def test_before_its_first_day_a_model_has_no_price() -> None:
    entry = model()
    entry["prices"][0]["valid_from"] = "2026-01-02"
    catalog = parse({"m": entry})
    assert catalog.find("openai", "m", JANUARY_2_MS - 1) is None
    assert catalog.find("openai", "m", JANUARY_2_MS) is not None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("gpt-5", True),
        ("GPT-5", False),
        ("gpt-5-unknown", False),
        ("models/gpt-5", True),
        ("google/gpt-5", True),
        ("ft:gpt-4o:acme::id", True),
        ("ft:gpt-5:acme::id", False),
        ("family-x", True),
        ("family", False),
        ("", False),
    ],
)
def test_names_are_found(asked: str, found: bool) -> None:
    catalog = parse({"gpt-5": model(), "ft:gpt-4o": model(), "family-*": model()})
    assert (catalog.find("openai", asked, 0) is not None) is found
    assert catalog.find("nowhere", asked, 0) is None


def test_the_longest_family_wins() -> None:
    dear = {"input_usd_per_mtok": "9", "output_usd_per_mtok": "9"}
    facts = parse({"a*": model(), "a-b*": model(dear)}).find("openai", "a-b-c", 0)
    assert facts is not None
    assert facts.price.tiers[STANDARD][0].rates.input_nusd_per_mtok == 9_000_000_000


def test_an_endpoint_of_a_region_adds_its_surcharge() -> None:
    entry = model({"input_usd_per_mtok": "0.000000005", "output_usd_per_mtok": "1"})
    entry["prices"][0]["endpoint_pct"] = {"eu": 110}
    text = json.dumps({"schema": 1, "taken_on": "2026-11-25", "models": {"m": entry}}).encode()
    catalog = parse_catalog({"openai": text, "openai@eu": text, "openai@mars": text})
    assert file_name("openai@eu") == file_name("openai") == "openai"
    found = [catalog.find(name, "m", 0) for name in ("openai", "openai@eu", "openai@mars")]
    rates = [facts.price.tiers[STANDARD][0].rates for facts in found if facts is not None]
    assert [each.output_nusd_per_mtok for each in rates] == [10**9, 11 * 10**8, 10**9]
    assert [each.input_nusd_per_mtok for each in rates] == [5, 6, 5]  # 5.5, upwards


def test_the_version_names_the_day_and_the_content() -> None:
    one, other = parse({"m": model()}), parse({"m": model(context_tokens=5)})
    assert one.version == parse({"m": model()}).version
    assert one.version.startswith("2026-11-25-")
    assert one.version != other.version
    assert one.version != parse({"m": model()}, "azure").version


# ── what is refused ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (
            model({"input_usd_per_mtok": "-1", "output_usd_per_mtok": "1"}),
            "m.prices[0].tiers.standard[0].input_usd_per_mtok",
        ),
        (
            model({"input_usd_per_mtok": "10000.1", "output_usd_per_mtok": "1"}),
            "m.prices[0].tiers.standard[0].input_usd_per_mtok",
        ),
        (
            model({"input_usd_per_mtok": "much", "output_usd_per_mtok": "1"}),
            "m.prices[0].tiers.standard[0].input_usd_per_mtok",
        ),
        (
            model({"input_usd_per_mtok": 1, "output_usd_per_mtok": "1"}),
            "m.prices[0].tiers.standard[0].input_usd_per_mtok",
        ),
        (model({"input_usd_per_mtok": "1"}), "m.prices[0].tiers.standard[0].output_usd_per_mtok"),
        (model({"output_usd_per_mtok": "1"}), "m.prices[0].tiers.standard[0].input_usd_per_mtok"),
        (model({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "x": "1"}), "m.prices[0].tiers.standard[0].x"),
        (
            model({"above_tokens": 5, "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}),
            "m.prices[0].tiers.standard[0].above_tokens",
        ),
        (
            model({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}, {"input_usd_per_mtok": "1"}),
            "m.prices[0].tiers.standard[1].above_tokens",
        ),
        ({"prices": []}, "m.prices"),
        ({"prices": [{}]}, "m.prices[0].tiers"),
        ({"prices": [{"tiers": {"flex": []}}]}, "m.prices[0].tiers"),
        ({"prices": [{"tiers": {"standard": []}}]}, "m.prices[0].tiers.standard"),
        ({"prices": [{"image_usd": "1001"}]}, "m.prices[0].image_usd"),
        ({"prices": [{"image_usd": "0.1"}, {"image_usd": "0.2"}]}, "m.prices[1].valid_from"),
        ({"prices": [{"image_usd": "0.1", "valid_from": "soon"}]}, "m.prices[0].valid_from"),
        (
            {
                "prices": [
                    {"image_usd": "0.1", "valid_from": "2026-02-01"},
                    {"image_usd": "0.2", "valid_from": "2026-01-01"},
                ]
            },
            "m.prices[1].valid_from",
        ),
        ({"prices": [{"image_usd": "0.1", "region_pct": {"us": 90}}]}, "m.prices[0].region_pct"),
        ({"prices": [{"image_usd": "0.1", "tools_usd": {"x": "-1"}}]}, "m.prices[0].tools_usd.x"),
        ({"prices": [{"image_usd": "0.1", "surprise": 1}]}, "m.prices[0].surprise"),
        (model(capabilities=["flight"]), "m.capabilities"),
        (model(context_tokens="many"), "m.context_tokens"),
        (model(max_output_tokens=-1), "m.max_output_tokens"),
        (model(colour="red"), "m.colour"),
        ("free", "m"),
    ],
)
def test_a_price_that_cannot_be_is_refused_with_its_path(entry: Any, path: str) -> None:
    found = problems({"good": model(), "m": entry})
    assert [problem.split(": ")[0] for problem in found] == [f"openai.models.{path}"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    bad = model({"input_usd_per_mtok": "-1", "output_usd_per_mtok": "much"})
    assert len(problems({"a": bad, "b": {"prices": []}}, taken_on="one day", schema=2, surprise=1)) == 6
    with pytest.raises(PriceError, match=r"openai: expected JSON.*and 1 more"):
        parse_catalog({"openai": b"{", "xai": b"[]"})


def test_capabilities_have_one_spelling() -> None:
    parse({"m": model(capabilities=sorted(CAPABILITIES))})


# ── the shipped files ────────────────────────────────────────────────────────────────────


def test_the_shipped_files_are_good() -> None:
    folder = shipped_folder()
    names = names_in(folder)
    assert {"openai", "anthropic", "gemini", "azure", "bedrock", "vertex", "mistral", "simulated"} <= set(names)
    texts = read_price_files(folder, names)
    catalog = parse_catalog(texts)
    assert sum(len(list(catalog.models(name))) for name in names) > 1_500
    for name in names:
        document = json.loads(texts[name])
        assert document["source"]
        assert document["license"]


@pytest.mark.parametrize(
    ("name", "asked", "input_usd", "output_usd"),
    [
        ("openai", "gpt-5-mini", "0.25", "2"),  # developers.openai.com/api/docs/pricing
        ("anthropic", "claude-haiku-4-5", "1", "5"),  # platform.claude.com/docs/en/about-claude/pricing
        ("gemini", "gemini-2.5-pro", "1.25", "10"),  # ai.google.dev/gemini-api/docs/pricing
        ("simulated", "simulated-slow-429", "1", "4"),
    ],
)
def test_some_prices_as_their_vendors_publish_them(name: str, asked: str, input_usd: str, output_usd: str) -> None:
    catalog = parse_catalog(read_price_files(shipped_folder(), [name]))
    facts = catalog.find(name, asked, JANUARY_2_MS)
    assert facts is not None
    rates = facts.price.tiers[STANDARD][0].rates
    assert (rates.input_nusd_per_mtok, rates.output_nusd_per_mtok) == (parse_nusd(input_usd), parse_nusd(output_usd))
