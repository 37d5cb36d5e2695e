"""What a call holds: worked out by hand for each kind of call, and what is refused."""

import json
from itertools import pairwise
from typing import Any

import pytest

from proxy.admission import estimate as module
from proxy.admission.estimate import (
    FRAME_TOKENS,
    TOOL_TOKENS,
    Estimate,
    ceiling_that_fits,
    estimate,
    expect_tokens,
    is_free,
    worst_nusd,
)
from proxy.core.errors import UnpricedEndpoint
from proxy.core.limits import CAP_NUSD_MAX
from proxy.core.types import Call, Usage
from proxy.dialects.openai import Operation, classify
from proxy.pricing.facts import STANDARD, Band, ModelFacts, Price, flat_rates

CHAT = classify("POST", ("chat", "completions"))
RESPONSES = classify("POST", ("responses",))
MESSAGES = classify("POST", ("messages",))
COMPLETIONS = classify("POST", ("completions",))
EMBEDDINGS = classify("POST", ("embeddings",))
MODERATIONS = classify("POST", ("moderations",))
IMAGES = classify("POST", ("images", "generations"))
SPEECH = classify("POST", ("audio", "speech"))
TRANSCRIPTIONS = classify("POST", ("audio", "transcriptions"))

# A dollar for a million tokens in, four for a million out: 1,000 and 4,000 nano-dollars a token.
RATES = flat_rates(1_000_000_000, 4_000_000_000)
FACTS = ModelFacts(
    Price(
        {STANDARD: (Band(0, RATES),)},
        tool_nusd={"web_search": 10_000_000, "file_search": 2_500_000, "code_interpreter": 30_000_000, "mcp": 0},
    ),
    context_tokens=100_000,
    max_output_tokens=10_000,
    image_tokens_max=1_500,
)
USER = {"role": "user", "content": "Hi"}


def priced(**amounts: Any) -> ModelFacts:
    """A model that is sold by other units than tokens."""
    return ModelFacts(Price({STANDARD: (Band(0, flat_rates(0, 0)),)}, **amounts))


def hold(
    operation: Operation, document: dict[str, Any] | None, facts: ModelFacts = FACTS, catalog: str = "openai"
) -> Estimate:
    text = None if document is None else json.dumps(document).encode()
    return estimate(operation, Call("m", text=text, document=document), facts, catalog=catalog)


def of_form(operation: Operation, fields: dict[str, str], facts: ModelFacts = FACTS) -> Estimate:
    return estimate(operation, Call("m", document=fields), facts, catalog="openai")


def visible(document: dict[str, Any]) -> int:
    """The tokens of a body that is all text: its bytes, and the frame."""
    return len(json.dumps(document)) + FRAME_TOKENS


# ── ceilings and choices ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("operation", "fields", "catalog", "output_tokens"),
    [
        (CHAT, {"max_completion_tokens": 100}, "openai", 100),
        (CHAT, {"max_tokens": 100}, "openai", 100),
        (CHAT, {"max_tokens": 100, "max_completion_tokens": 300}, "openai", 300),  # the larger reading
        (CHAT, {"max_tokens": 100, "max_completion_tokens": 300}, "deepseek", 100),  # which knows one name
        (CHAT, {"max_completion_tokens": 100}, "mistral", 10_000),
        (CHAT, {"max_tokens": 99.2}, "openai", 100),
        (CHAT, {"max_tokens": "100"}, "openai", 10_000),  # which some would pass over
        (CHAT, {"max_tokens": True}, "openai", 10_000),
        (CHAT, {"max_tokens": float("inf")}, "openai", 10_000),
        (CHAT, {"max_tokens": 0}, "openai", 10_000),  # "no limit" to some
        (CHAT, {"max_tokens": -1}, "openai", 10_000),
        (CHAT, {"max_tokens": None}, "openai", 10_000),
        (CHAT, {}, "openai", 10_000),
        (CHAT, {"max_tokens": 10**30}, "openai", 10_000),
        (CHAT, {"max_output_tokens": 5}, "openai", 10_000),  # another endpoint's name
        (CHAT, {"max_tokens": 100, "n": 3}, "openai", 300),
        (CHAT, {"max_tokens": 100, "n": 2.5}, "openai", 300),
        (CHAT, {"max_tokens": 100, "n": "3"}, "openai", 300),
        (CHAT, {"max_tokens": 100, "n": 0}, "openai", 100),
        (COMPLETIONS, {"max_tokens": 100, "n": 2, "best_of": 5, "prompt": "x"}, "openai", 500),
        (COMPLETIONS, {"max_tokens": 100, "n": 7, "best_of": 5, "prompt": "x"}, "openai", 700),
        (COMPLETIONS, {"max_tokens": 100, "best_of": 2, "prompt": ["x", "y", "z"]}, "openai", 600),
        (COMPLETIONS, {"max_tokens": 100, "prompt": [1, 2, 3]}, "openai", 100),  # one prompt, in token ids
        (COMPLETIONS, {"max_tokens": 100, "prompt": [[1, 2], [3]]}, "openai", 200),
        (RESPONSES, {"max_output_tokens": 100, "input": "Hi"}, "openai", 100),
        (RESPONSES, {"input": "Hi", "background": True}, "openai", 10_000),
        (MESSAGES, {"max_tokens": 100, "thinking": {"type": "enabled", "budget_tokens": 90}}, "anthropic", 100),
    ],
)
def test_what_an_answer_holds(operation: Operation, fields: dict[str, Any], catalog: str, output_tokens: int) -> None:
    document = {"model": "m", **({"messages": [USER]} if operation in (CHAT, MESSAGES) else {}), **fields}
    found = hold(operation, document, catalog=catalog)
    assert found.output_tokens_max == output_tokens
    assert found.input_tokens_max == visible(document)
    assert found.held_nusd == visible(document) * 1_000 + output_tokens * 4_000


def test_an_echo_and_a_prediction_are_output_too() -> None:
    document = {"model": "m", "prompt": "x" * 500, "max_tokens": 100, "echo": True}
    assert hold(COMPLETIONS, document).output_tokens_max == 100 + len(json.dumps(document))
    document = {"messages": [USER], "max_tokens": 100, "prediction": {"type": "content", "content": "x" * 500}}
    assert hold(CHAT, document).output_tokens_max == 100 + len(json.dumps(document))


# ── what goes in ─────────────────────────────────────────────────────────────────────────

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("operation", "fields", "added_tokens"),
    [
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, 0),
        (CHAT, {"messages": [{"role": "user", "content": [PICTURE, PICTURE]}]}, 3_000),
        (CHAT, {"messages": [USER], "tools": [{"type": "function", "function": {"name": "f"}}]}, TOOL_TOKENS),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}]}, 0),
        (RESPONSES, {"input": [{"type": "input_image", "image_url": "https://x/y.png"}]}, 1_500),
        (RESPONSES, {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "A" * 100}]}, 400),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "a", "output": "12"}]}, 0),
        (MESSAGES, {"messages": [USER], "system": [{"type": "text", "text": "Be brief"}]}, 0),
        (
            MESSAGES,
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "A" * 50}]}
                ]
            },
            200,
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]},
            1_500,
        ),
    ],
)
def test_what_is_in_the_body_is_bounded_by_it(operation: Operation, fields: dict[str, Any], added_tokens: int) -> None:
    document = {"model": "m", **fields}
    assert hold(operation, document).input_tokens_max == visible(document) + added_tokens


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "x"}}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"text": "a", "image_url": "x"}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": {}, "text": "a"}]}]}),
        (CHAT, {"messages": [{"role": "user", "type": ["text"], "content": "a"}]}),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "Type": "input_image"}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": "a", "Content": "b", "\u017fummary": "c"}]}),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}),
        (CHAT, {"messages": [USER], "documents": [{"url": "x"}]}),  # a field that nobody here knows
        (RESPONSES, {"input": "Hi", "previous_response_id": "resp_1"}),
        (RESPONSES, {"input": "Hi", "conversation": {"id": "conv_1"}}),
        (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}),
        (RESPONSES, {"input": [{"type": "message", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
        (RESPONSES, {"input": "Hi", "tools": [{"type": "mcp", "server_label": "x"}], "max_tool_calls": 0}),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]}),
    ],
)
def test_what_is_somewhere_else_holds_the_context_window(operation: Operation, fields: dict[str, Any]) -> None:
    found = hold(operation, {"model": "m", "max_tokens": 5, "max_output_tokens": 5, **fields})
    assert found.input_tokens_max == 100_000
    assert found.held_nusd == 100_000 * 1_000 + 5 * 4_000


def test_a_long_text_holds_no_more_than_the_model_takes() -> None:
    assert hold(CHAT, {"messages": [{"role": "user", "content": "x" * 200_000}]}).input_tokens_max == 100_000


def test_without_a_bound_on_pictures_one_holds_the_window() -> None:
    facts = ModelFacts(FACTS.price, 100_000, 10_000)
    assert hold(CHAT, {"messages": [{"role": "user", "content": [PICTURE]}]}, facts).input_tokens_max == 100_000


# ── rates ────────────────────────────────────────────────────────────────────────────────

TIERED = ModelFacts(
    Price(
        {
            STANDARD: (Band(0, RATES), Band(50_000, flat_rates(2_000_000_000, 6_000_000_000))),
            "flex": (Band(0, flat_rates(500_000_000, 2_000_000_000)),),
            "priority": (Band(0, flat_rates(3_000_000_000, 9_000_000_000)),),
            "ultrafast": (Band(0, flat_rates(30_000_000_000, 90_000_000_000)),),
        }
    ),
    100_000,
    10_000,
)


@pytest.mark.parametrize(
    ("tier", "text_nusd", "output_nusd"),
    [
        (None, 3_000, 9_000),  # the project may be set to priority
        ("auto", 3_000, 9_000),
        ("default", 1_000, 4_000),
        ("flex", 1_000, 4_000),  # or be served in the standard tier
        ("priority", 3_000, 9_000),
        ("fast", 3_000, 9_000),
        ("ultrafast", 30_000, 90_000),
        ("new-tier", 30_000, 90_000),
        (7, 30_000, 90_000),
    ],
)
def test_the_tier_that_may_be_billed_is_held(tier: object, text_nusd: int, output_nusd: int) -> None:
    document = {"messages": [USER], "max_tokens": 10} | ({} if tier is None else {"service_tier": tier})
    assert hold(CHAT, document, TIERED).held_nusd == visible(document) * text_nusd + 10 * output_nusd


def test_what_the_operator_says_of_his_project_is_believed() -> None:
    document = {"messages": [USER], "max_tokens": 10}
    call = Call("m", text=json.dumps(document).encode(), document=document)
    found = estimate(CHAT, call, TIERED, catalog="openai", project_tier="default")
    assert found.held_nusd == visible(document) * 1_000 + 10 * 4_000


def test_an_input_that_may_be_long_holds_the_long_rates() -> None:
    document = {"messages": [{"role": "user", "content": "x" * 60_000}], "max_tokens": 10, "service_tier": "default"}
    assert hold(CHAT, document, TIERED).held_nusd == visible(document) * 2_000 + 10 * 6_000


def test_cache_writes_longer_kept_ones_and_regions_are_held() -> None:
    rates = RATES._replace(cache_write_nusd_per_mtok=1_250_000_000, cache_write_long_nusd_per_mtok=2_000_000_000)
    facts = ModelFacts(Price({STANDARD: (Band(0, rates),)}, region_pct={"us": 110}), 100_000, 10_000)
    document: dict[str, Any] = {"messages": [USER], "max_tokens": 10, "inference_geo": "global"}
    assert hold(MESSAGES, document, facts).held_nusd == visible(document) * 1_250 + 10 * 4_000
    document = {"messages": [USER], "max_tokens": 10, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert hold(MESSAGES, document, facts).held_nusd == visible(document) * 2_200 + 10 * 4_400


# ── tools ────────────────────────────────────────────────────────────────────────────────


def test_hosted_tools_hold_a_window_for_each_run_and_one_more() -> None:
    document = {
        "input": "Hi",
        "tools": [{"type": "web_search"}, {"type": "code_interpreter"}, {"type": "function"}],
        "max_tool_calls": 3,
        "max_output_tokens": 50,
    }
    found = hold(RESPONSES, document)
    assert found.input_tokens_max == 400_000
    assert found.held_nusd == 400_000 * 1_000 + 50 * 4_000 + 3 * 30_000_000  # the dearest of the fees


def test_anthropics_tools_are_bounded_one_by_one() -> None:
    tools = [
        {"type": "web_search_20250305", "max_uses": 2},
        {"name": "f", "input_schema": {}},
        {"type": "bash_20250124"},
    ]
    found = hold(MESSAGES, {"messages": [USER], "tools": tools, "max_tokens": 50})
    assert found.input_tokens_max == 300_000
    assert found.held_nusd == 300_000 * 1_000 + 3 * 50 * 4_000 + 2 * 10_000_000


def test_a_compaction_reads_and_writes_once_more() -> None:
    document = {"input": "Hi", "max_output_tokens": 50, "context_management": [{"type": "compaction"}]}
    found = hold(RESPONSES, document)
    assert (found.input_tokens_max, found.output_tokens_max) == (200_000, 50 + 20_000)
    with pytest.raises(UnpricedEndpoint):  # whose length nothing bounds
        hold(RESPONSES, document, ModelFacts(FACTS.price, 100_000))
    clearing = {"type": "clear_tool_uses_x"}
    document = {"messages": [USER], "max_tokens": 50, "context_management": {"edits": [clearing]}}
    assert hold(MESSAGES, document).input_tokens_max == visible(document)
    for disguised in ({"edits": [clearing], "Edits": [{}]}, {"edits": [{**clearing, "Type": "compact_x"}]}):
        assert hold(MESSAGES, {**document, "context_management": disguised}).input_tokens_max == 200_000


@pytest.mark.parametrize(
    ("operation", "fields", "said"),
    [
        (RESPONSES, {"tools": [{"type": "web_search"}]}, "max_tool_calls"),
        (RESPONSES, {"tools": [{"type": "image_generation"}], "max_tool_calls": 1}, "image_generation"),
        (RESPONSES, {"tools": [{"type": []}], "max_tool_calls": 1}, "no text"),
        (RESPONSES, {"tools": [{"type": {"web_search": {}}}], "max_tool_calls": 1}, "no text"),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}, "max_tool_calls"),
        (
            RESPONSES,
            {"tools": [{"type": "code_interpreter", "container": {"memory_limit": "64g"}}], "max_tool_calls": 1},
            "large container",
        ),
        (RESPONSES, {"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        (RESPONSES, {"reasoning": {"mode": "standard", "Mode": "pro"}}, "reasoning.mode"),
        # Some readers know no case, and take the last of two.
        (RESPONSES, {"tools": [{"type": "function", "Type": "web_search"}], "max_tool_calls": 1}, "`Type`"),
        (
            RESPONSES,
            {"tools": [{"type": "shell", "environment": {"type": "local", "TYPE": "auto"}}], "max_tool_calls": 1},
            "`TYPE`",
        ),
        (CHAT, {"tools": [{"type": "function", "Type": "web_search_preview", "function": {}}]}, "`Type`"),
        (CHAT, {"tools": [{"Type": "web_search_preview", "function": {}}]}, "`Type`"),
        (MESSAGES, {"tools": [{"name": "f", "Type": "web_search_20250305"}]}, "`Type`"),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "max_uses": 1, "Max_Uses": 9}]}, "`Max_Uses`"),
        (CHAT, {"extra_body": {"google": {}, "Google": {"tools": []}}}, "extra_body"),
        (CHAT, {"tools": [{"type": "web_search"}]}, "web_search"),
        (CHAT, {"tools": [{"google_search": {}}]}, "Leave it out"),
        (CHAT, {"tools": [{"type": []}]}, "Leave it out"),
        (MESSAGES, {"tools": [{"type": {}}]}, "Leave it out"),
        (CHAT, {"web_search_options": {}}, "search model"),
        (CHAT, {"extra_body": {"google": {"tools": []}}}, "extra_body"),
        (CHAT, {"search_parameters": {"mode": "on"}}, "search_parameters"),
        (MESSAGES, {"tools": [{"type": "web_search_20250305"}]}, "max_uses"),
        (MESSAGES, {"tools": [{"type": "code_execution_20250825"}]}, "code_execution"),
        (MESSAGES, {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        (MESSAGES, {"fallbacks": [{"model": "x"}]}, "fallbacks"),
        (classify("POST", ("rerank",)), {}, "allow_unmetered"),
        (classify("POST", ("batches",)), {}, "allow_unmetered"),
    ],
)
def test_what_nothing_bounds_is_refused(operation: Operation, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UnpricedEndpoint, match=said):
        hold(operation, {"model": "m", **fields})


def test_a_model_whose_limits_nobody_knows_is_refused_where_they_are_needed() -> None:
    unknown = ModelFacts(FACTS.price)
    with pytest.raises(UnpricedEndpoint, match="max_completion_tokens"):
        hold(CHAT, {"messages": [USER]}, unknown)
    with pytest.raises(UnpricedEndpoint, match="context_tokens"):
        hold(CHAT, {"messages": [{"role": "user", "content": [{"type": "file"}]}], "max_tokens": 5}, unknown)
    document = {"messages": [USER], "max_tokens": 5}
    assert hold(CHAT, document, unknown).held_nusd == visible(document) * 1_000 + 5 * 4_000


# ── everything else ──────────────────────────────────────────────────────────────────────


def test_embeddings_hold_their_bytes() -> None:
    document = {"model": "m", "input": ["one", "two"]}
    assert hold(EMBEDDINGS, document).held_nusd == visible(document) * 1_000
    ids = {"model": "m", "input": [[1, 2], [3]]}
    assert hold(EMBEDDINGS, ids).held_nusd == visible(ids) * 1_000
    assert hold(EMBEDDINGS, {"model": "m", "input": [{"image": "x"}] * 2}).held_nusd == 200_000 * 1_000


def test_moderations_are_free_where_the_catalogue_says_so() -> None:
    assert hold(MODERATIONS, {"input": "x"}, priced()).held_nusd == 0
    assert hold(MODERATIONS, {"input": "x"}).held_nusd == visible({"input": "x"}) * 1_000


def test_pictures_by_the_piece_and_by_tokens() -> None:
    assert hold(IMAGES, {"prompt": "x", "n": 3}, priced(image_nusd=20_000_000)) == Estimate(
        60_000_000,
        hold(IMAGES, {"prompt": "x", "n": 3}, priced(image_nusd=1)).expected_tokens,
        0,
        0,
        unreported=Usage(images=3),
        fixed_fusd=60_000_000_000_000,
    )
    by_tokens = ModelFacts(FACTS.price, None, None, picture_tokens_max=6_600)
    document = {"prompt": "x", "n": 2}
    assert hold(IMAGES, document, by_tokens).held_nusd == visible(document) * 1_000 + 2 * 6_600 * 4_000
    with pytest.raises(UnpricedEndpoint, match="picture"):
        hold(IMAGES, document, ModelFacts(FACTS.price))
    # a body that nobody reads may ask for ten
    assert hold(IMAGES, None, priced(image_nusd=20_000_000)).held_nusd == 200_000_000


def test_speech_holds_its_letters() -> None:
    by_letters = priced(speech_nusd_per_mchar=15_000_000_000)
    found = hold(SPEECH, {"input": "Grüße", "voice": "x"}, by_letters)
    assert (found.held_nusd, found.unreported) == (7 * 15_000, Usage(characters=5))
    with pytest.raises(UnpricedEndpoint):
        hold(SPEECH, {"input": ["x"]}, by_letters)
    with pytest.raises(UnpricedEndpoint):  # by tokens, and nobody knows how long it may speak
        hold(SPEECH, {"input": "x"}, ModelFacts(FACTS.price))
    document = {"input": "x"}
    assert hold(SPEECH, document).held_nusd == visible(document) * 1_000 + 10_000 * 4_000


def test_transcriptions_hold_the_most_that_the_model_takes() -> None:
    assert hold(TRANSCRIPTIONS, None).held_nusd == 100_000 * 1_000 + 10_000 * 4_000
    by_time = Price({STANDARD: (Band(0, flat_rates(0, 0)),)}, audio_nusd_per_minute=6_000_000)
    assert hold(TRANSCRIPTIONS, None, ModelFacts(by_time, audio_ms_max=1_500_000)).held_nusd == 25 * 6_000_000
    with pytest.raises(UnpricedEndpoint, match="by time"):
        hold(TRANSCRIPTIONS, None, ModelFacts(by_time))
    # Several passes of one sound take more than the model takes at once; time is what it is.
    with pytest.raises(UnpricedEndpoint, match="chunking_strategy"):
        of_form(TRANSCRIPTIONS, {"chunking_strategy": ""})
    by_time_alone = ModelFacts(by_time, audio_ms_max=1_500_000)
    assert of_form(TRANSCRIPTIONS, {"chunking_strategy": ""}, by_time_alone).held_nusd == 25 * 6_000_000


def test_a_forms_pictures_are_as_many_as_it_says_and_what_it_brings_is_out_of_sight() -> None:
    by_piece = priced(image_nusd=20_000_000)
    assert of_form(IMAGES, {"n": "3"}, by_piece).held_nusd == 60_000_000
    assert of_form(IMAGES, {}, by_piece).held_nusd == 20_000_000
    by_tokens = ModelFacts(FACTS.price, 100_000, None, picture_tokens_max=6_600)
    assert of_form(IMAGES, {"n": "2"}, by_tokens).held_nusd == 100_000 * 1_000 + 2 * 6_600 * 4_000
    with pytest.raises(UnpricedEndpoint, match="context_tokens"):
        of_form(IMAGES, {}, ModelFacts(FACTS.price, None, None, picture_tokens_max=6_600))


@pytest.mark.parametrize(
    ("method", "path", "free"),
    [
        ("GET", "responses/resp_1", True),
        ("HEAD", "models", True),
        ("DELETE", "files/file-1", True),
        ("POST", "messages/count_tokens", True),
        ("POST", "responses/input_tokens", True),
        ("POST", "chat/completions", False),
        ("POST", "rerank", False),
    ],
)
def test_what_is_free(method: str, path: str, free: bool) -> None:
    assert is_free(method, classify(method, tuple(path.split("/")))) is free


# ── what fits ────────────────────────────────────────────────────────────────────────────


def test_the_ceiling_that_fits_is_the_highest() -> None:
    found = hold(CHAT, {"messages": [USER], "n": 2})
    for headroom_nusd in (0, found.held_nusd // 3, found.held_nusd - 1, found.held_nusd, 10**15):
        ceiling = ceiling_that_fits(found, headroom_nusd)
        if ceiling is None:
            assert worst_nusd(found, 1) > headroom_nusd
        else:
            assert worst_nusd(found, ceiling) <= headroom_nusd
            assert ceiling == 10_000 or worst_nusd(found, ceiling + 1) > headroom_nusd
    assert ceiling_that_fits(found, 10**15) == 10_000
    assert ceiling_that_fits(found, 0) is None


def test_slices_of_a_stream_add_up_to_the_whole() -> None:
    found = hold(CHAT, {"messages": [USER]})
    held_nusd = [worst_nusd(found, tokens) for tokens in range(0, 10_001, 1_000)]
    assert [after - before for before, after in pairwise(held_nusd)] == [4_000_000] * 10
    assert held_nusd[-1] == found.held_nusd == worst_nusd(found, 20_000)


def test_what_can_never_fit_stays_a_number_that_a_counter_holds() -> None:
    held_nusd = hold(CHAT, {"messages": [USER], "n": 10**17}).held_nusd
    assert CAP_NUSD_MAX < held_nusd < 2**53 - CAP_NUSD_MAX  # above any cap, and below 2**53 with it


def test_expected_tokens_are_likely_ones() -> None:
    assert expect_tokens(b"x" * 400, 100) == 200
    assert expect_tokens(b"x" * 400, None) == 612
    assert expect_tokens(None, None) == 512
    assert hold(CHAT, {"messages": [USER], "max_tokens": 10, "n": 2}).expected_tokens < 50


@pytest.mark.parametrize(
    "path", [("chat", "completions"), ("completions",), ("messages",), ("responses",), ("responses", "compact")]
)
def test_what_passes_for_plain_is_plain_whatever_its_value(path, monkeypatch):
    plain, operation = module._PLAIN, classify("POST", path)
    facts = ModelFacts(Price({STANDARD: (Band(0, flat_rates(1_000, 2_000)),)}), 128_000, 4_096)

    def worst(document: dict[str, Any]) -> object:
        text = json.dumps(document).encode()
        try:
            return module.estimate(operation, Call("m", False, text, text, document), facts, catalog="openai")
        except UnpricedEndpoint as error:
            return error.message

    values: tuple[Any, ...] = (
        None,
        True,
        0,
        7,
        "x",
        "auto",
        [],
        ["x"],
        [{"type": "web_search"}],
        {},
        {"type": "x", "mode": "pro"},
    )
    documents: list[dict[str, Any]] = [{"model": "m", name: value} for name in sorted(plain) for value in values]
    found = [worst(document) for document in documents]
    monkeypatch.setattr(module, "_PLAIN", frozenset())
    assert found == [worst(document) for document in documents]
