"""The worst case is one: over generated requests, no report that a provider could make for them
costs more than what was held (I8).

The provider here is written from the vendors' documents, not from the estimator: it decides how
long the input was, which ceiling it read, in which tier it served, how often its tools ran, and
tells the dearest parts of each. At the end, mutants of the estimator show that the proof sees.
"""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from proxy.admission import ceilings, estimate, worst_rates
from proxy.admission.visible_input import Visible
from proxy.core.errors import UnpricedEndpoint
from proxy.core.types import Call, Usage
from proxy.dialects.openai import classify
from proxy.pricing.cost import price
from proxy.pricing.facts import STANDARD, Band, ModelFacts, Price, Rates

TEMPLATE_TOKENS_MAX = 2_000  # what a provider may put around a text


# ── models ───────────────────────────────────────────────────────────────────────────────

# Drawn once: to draw twelve numbers for each band of each tier would take longer than all else.
_RANDOM = random.Random(20261125)
RATES = [Rates(*(_RANDOM.choice([0, 10**6, 10**9, 10**11]) for _ in range(12))) for _ in range(60)]
# And rates as vendors have them, each kind in its proportion to the input's.
_PROPORTIONS = (20, 2, 25, 40, 20, 2, 20, 2, 100, 100, 100, 100)
RATES += [Rates(*(_RANDOM.randint(1, 10**9) * each for each in _PROPORTIONS)) for _ in range(10)]
RATES += [Rates(*(base * each for each in _PROPORTIONS)) for base in (10**6, 10**8) for _ in range(25)]
BANDS = [
    tuple(Band(above_tokens, _RANDOM.choice(RATES)) for above_tokens in bounds)
    for bounds in ([0], [0, 300], [0, 3_000], [0, 500, 40_000])
    for _ in range(20)
]
PRICES = [
    Price(
        {
            STANDARD: _RANDOM.choice(BANDS),
            **{tier: _RANDOM.choice(BANDS) for tier in ("flex", "priority", "fast", "batch") if _RANDOM.random() < 0.5},
        },
        request_nusd=_RANDOM.choice([0, 0, 0, 10**7]),
        tool_nusd={name: _RANDOM.choice([0, 10**7]) for name in ("web_search", "file_search", "code_interpreter")},
        region_pct=_RANDOM.choice([{}, {"us": 110}]),
    )
    for _ in range(200)
]
MODELS = st.builds(
    ModelFacts,
    st.sampled_from(PRICES),
    context_tokens=st.sampled_from([4_000, 50_000, 200_000]),
    max_output_tokens=st.sampled_from([100, 16_384]),
    image_tokens_max=st.sampled_from([None, 1_500]),
)


# ── requests, and how long their input truly is ──────────────────────────────────────────


class Part(NamedTuple):
    """A piece of input, the most tokens that it can be, and the kinds that these can be of."""

    content: Any
    tokens_max: int  # -1: whatever the context has room for
    kinds: frozenset[str] = frozenset({"text"})


TEXTS = st.text(max_size=30) | st.text('a€😀\\"\n', max_size=30)
ALL_KINDS = frozenset({"text", "audio", "image"})


@st.composite
def parts(draw: st.DrawFn, dialect: str, facts: ModelFacts) -> Part:
    text = draw(TEXTS)
    name = "text" if dialect != "responses" else "input_text"
    plain = Part({"type": name, "text": text}, len(text.encode("utf-8", "surrogatepass")))
    picture_tokens = facts.image_tokens_max if facts.image_tokens_max is not None else -1
    picture: Any = {
        "chat": {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        "responses": {"type": "input_image", "image_url": "https://x/y.png"},
        "messages": {"type": "image", "source": {"type": "base64", "data": "AA"}},
    }[dialect]
    unseen: Any = {
        "chat": {"type": "input_audio", "input_audio": {"data": "AA"}},
        "responses": {"type": "input_file", "file_id": "file-1"},
        "messages": {"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}},
    }[dialect]
    return draw(
        st.sampled_from(
            [
                plain,
                plain,
                plain,
                Part(picture, picture_tokens, frozenset({"text", "image"})),
                Part(unseen, -1, ALL_KINDS),
            ]
        )
    )


NUMBERS = st.integers(1, 40_000) | st.floats(0.5, 500) | st.sampled_from([0, -1, None, "50", True])


OPTIONAL: dict[str, dict[str, Any]] = {
    "chat": {
        "max_tokens": NUMBERS,
        "max_completion_tokens": NUMBERS,
        "n": st.integers(1, 5) | st.sampled_from([None, "3", 2.5]),
        "service_tier": st.sampled_from([None, "auto", "default", "flex", "priority", "fast"]),
        "prediction": st.just({"type": "content", "content": "x" * 40}),
        "extra": st.just({"who": "knows"}),
    },
    "responses": {
        "max_output_tokens": NUMBERS,
        "service_tier": st.sampled_from([None, "auto", "default", "flex", "priority"]),
        "previous_response_id": st.sampled_from([None, "resp_1"]),
        "tools": st.lists(st.sampled_from(["web_search", "file_search", "code_interpreter", "function"]), max_size=2),
        "max_tool_calls": st.integers(0, 3) | st.none(),
        "prompt_cache_options": st.sampled_from([{"ttl": "12h"}, {"ttl": "30m"}]),
        "context_management": st.just([{"type": "compaction"}]),
    },
    "messages": {
        "max_tokens": st.integers(1, 40_000),
        "speed": st.sampled_from([None, "standard", "fast"]),
        "inference_geo": st.sampled_from([None, "us", "global"]),
        "cache_control": st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]),
        "tools": st.lists(st.sampled_from([("web_search", 1), ("web_search", 2), ("f", 0)]), max_size=2),
    },
}
CHOSEN = {dialect: st.sets(st.sampled_from(sorted(fields)), max_size=4) for dialect, fields in OPTIONAL.items()}


@st.composite
def requests(
    draw: st.DrawFn, dialect: str, facts: ModelFacts, always: tuple[str, ...]
) -> tuple[dict[str, Any], list[Part]]:
    content = draw(st.lists(parts(dialect, facts), max_size=4))
    document: dict[str, Any] = {"model": "m"}
    messages = [{"role": "user", "content": [part.content for part in content]}]
    document["input" if dialect == "responses" else "messages"] = messages
    for name in sorted({*draw(CHOSEN[dialect]), *always}):
        document[name] = draw(OPTIONAL[dialect][name])
    if dialect == "responses" and "tools" in document:
        document["tools"] = [{"type": kind} for kind in document["tools"]]
    if dialect == "messages" and "tools" in document:
        document["tools"] = [
            {"type": "web_search_20250305", "max_uses": uses} if uses else {"name": "f", "input_schema": {}}
            for _, uses in document["tools"]
        ]
    return document, content


# ── the widest that a provider may report ────────────────────────────────────────────────


def read_number(value: object) -> int | None:
    """A ceiling as a strict provider reads it; it would refuse a text."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return -(-int(value * 1_000) // 1_000) if isinstance(value, float) else value
    return None


@st.composite
def reports(draw: st.DrawFn, dialect: str, document: dict[str, Any], content: list[Part], facts: ModelFacts) -> Usage:
    window, longest = facts.context_tokens or 0, facts.max_output_tokens or 0
    runs = document.get("max_tool_calls") or 0
    hosted = [tool["type"] for tool in document.get("tools", []) if tool.get("type", "function") != "function"]
    fees: list[tuple[str, int]] = []
    if dialect == "responses" and hosted:
        fees = [(hosted[0], runs)] if len(hosted) == 1 else [(hosted[0], runs - runs // 2), (hosted[1], runs // 2)]
    elif dialect == "messages" and hosted:
        runs = sum(tool.get("max_uses", 0) for tool in document["tools"])
        fees = [("web_search", runs)]
    else:
        runs = 0
    compacts = 2 if "context_management" in document else 1

    out_of_sight = (
        bool(hosted)
        or compacts == 2
        or facts.price.request_nusd > 0  # a search model looks things up
        or any(part.tokens_max < 0 for part in content)
        or document.get("previous_response_id") is not None
        or "extra" in document
    )
    if out_of_sight:
        one_pass = window
    else:
        tools_text = len(json.dumps(document.get("tools", [])))
        template = draw(st.integers(0, TEMPLATE_TOKENS_MAX))
        one_pass = min(sum(part.tokens_max for part in content) + template + tools_text, window)
    kinds = frozenset[str]().union(*(part.kinds for part in content), {"text"})
    if out_of_sight:
        kinds = ALL_KINDS
    input_tokens = one_pass * (runs + 1) * compacts

    given = [read_number(document.get(name)) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    ceilings_read = [each for each in given if each is not None]
    one_answer = min(draw(st.sampled_from(ceilings_read)), longest) if ceilings_read else longest
    answers = {"3": 3, None: 1, 2.5: 3}.get(document.get("n"), document.get("n", 1))
    output_tokens = one_answer * answers
    if dialect == "messages":
        output_tokens *= runs + 1
    if "prediction" in document:
        output_tokens += 40 * answers  # all of it was wrong
    if compacts == 2:
        output_tokens += longest * (runs + 1)

    asked = document.get("service_tier")
    tiers = {
        None: ["default", "flex", "priority"],
        "auto": ["default", "flex", "priority"],
        "default": ["default"],
        "flex": ["flex", "default"],
        "priority": ["priority", "default"],
        "fast": ["priority", "default"],
    }[asked]
    tier = "fast" if document.get("speed") == "fast" else draw(st.sampled_from(tiers))
    if dialect == "messages" and document.get("speed") != "fast":
        tier = "standard"
    regions = ["us", None] if document.get("inference_geo") is None else [document["inference_geo"]]

    cached = draw(st.sampled_from([0, input_tokens // 2, input_tokens]))
    written = draw(st.sampled_from([0, input_tokens - cached]))
    long_allowed = "ttl" in json.dumps(document)
    audio = draw(st.sampled_from([0, input_tokens // 2, input_tokens])) if "audio" in kinds else 0
    image = draw(st.sampled_from([0, input_tokens - audio])) if "image" in kinds else 0
    reasoning = draw(st.sampled_from([0, output_tokens]))
    return Usage(
        input_tokens,
        cached,
        written,
        output_tokens,
        reasoning,
        cache_write_long_tokens=draw(st.sampled_from([0, written])) if long_allowed else 0,
        audio_input_tokens=audio,
        cached_audio_input_tokens=draw(st.sampled_from([0, min(audio, cached)])),
        image_input_tokens=image,
        cached_image_input_tokens=draw(st.sampled_from([0, min(image, cached)])),
        audio_output_tokens=draw(st.sampled_from([0, output_tokens])),
        image_output_tokens=draw(st.sampled_from([0, output_tokens])),
        tool_calls=tuple(fees),
        service_tier=tier,
        region=draw(st.sampled_from(regions)),
    )


# ── the proof ────────────────────────────────────────────────────────────────────────────

OPERATIONS = {
    "chat": classify("POST", ("chat", "completions")),
    "responses": classify("POST", ("responses",)),
    "messages": classify("POST", ("messages",)),
}


def check_a_call(
    data: st.DataObject, dialects: tuple[str, ...] = tuple(OPERATIONS), always: tuple[str, ...] = ()
) -> None:
    """One generated call, of one of these dialects and with these fields at least."""
    dialect = data.draw(st.sampled_from(dialects), "dialect")
    facts = data.draw(MODELS, "facts")
    document, content = data.draw(requests(dialect, facts, always), "request")
    text = json.dumps(document, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    try:
        found = estimate.estimate(OPERATIONS[dialect], Call("m", text=text, document=document), facts, catalog="openai")
    except UnpricedEndpoint:
        assume(False)
        return
    usage = data.draw(reports(dialect, document, content, facts), "usage")
    assert price(usage, facts) <= found.held_nusd


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_no_call_costs_more_than_it_held(data: st.DataObject) -> None:
    check_a_call(data)


# ── mutants ──────────────────────────────────────────────────────────────────────────────


def smallest_ceiling(document: dict[str, Any], names: tuple[str, ...]) -> int | None:
    bounds = [bound for name in names if (bound := ceilings.sure_bound(document.get(name))) is not None]
    return min(bounds, default=None)


def one_choice(operation_name: str, document: dict[str, Any]) -> int:
    return 1


def short_rates(price: Price, document: Any, input_tokens_max: int, **rest: Any) -> worst_rates.WorstRates:
    return worst_rates.worst_rates(price, document, 0, **rest)


def standard_rates(price: Price, document: Any, input_tokens_max: int, **rest: Any) -> worst_rates.WorstRates:
    document = {**document, "service_tier": "default", "speed": None}
    return worst_rates.worst_rates(price, document, input_tokens_max, **rest)


def short_kept_writes(price: Price, document: Any, input_tokens_max: int, **rest: Any) -> worst_rates.WorstRates:
    return worst_rates.worst_rates(price, document, input_tokens_max, **{**rest, "keeps_long": False})


def everything_is_seen(operation_name: str, document: Any, text: bytes) -> Visible:
    return Visible(True)


@pytest.mark.parametrize(
    ("name", "mutant", "dialect", "always"),
    [
        # of two ceilings, the smaller
        ("own_ceiling", smallest_ceiling, "chat", ("max_tokens", "max_completion_tokens")),
        ("choices", one_choice, "chat", ("n",)),  # n is forgotten
        # long inputs at the rates of short ones
        ("worst_rates", short_rates, "messages", ()),
        # the tier that a project may be set to is forgotten
        ("worst_rates", standard_rates, "chat", ()),
        # so is the cache's longer retention
        ("worst_rates", short_kept_writes, "messages", ("cache_control",)),
        # pictures and files count as their bytes
        ("look", everything_is_seen, "responses", ()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mutant_is_caught(
    name: str, mutant: Callable[..., Any], dialect: str, always: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, name, mutant)

    @settings(
        max_examples=2_000,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def prove(data: st.DataObject) -> None:
        check_a_call(data, (dialect,), always)

    with pytest.raises(AssertionError):
        prove()
