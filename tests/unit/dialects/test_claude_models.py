"""What differs from one generation of Anthropic's models to the next."""

import pytest

from proxy.dialects.claude_models import claude_model

NO_EFFORT, THREE, FOUR, FIVE = (), ("low", "medium", "high"), ("low", "medium", "high", "max"), None


@pytest.mark.parametrize(
    ("name", "thinks", "is_adaptive", "efforts", "has_sampling"),
    [
        ("claude-3-5-haiku-20241022", False, False, NO_EFFORT, True),
        ("claude-3-7-sonnet-latest", True, False, NO_EFFORT, True),
        ("claude-sonnet-4-20250514", True, False, NO_EFFORT, True),
        ("claude-opus-4-1-20250805", True, False, NO_EFFORT, True),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", True, False, NO_EFFORT, True),
        ("claude-sonnet-4-5", True, False, NO_EFFORT, True),
        ("claude-opus-4-5", True, False, THREE, True),
        ("claude-opus-4-6", True, True, FOUR, True),
        ("claude-sonnet-4-6", True, True, FOUR, True),
        ("claude-opus-4-7", True, True, FIVE, False),
        ("anthropic.claude-opus-4-8", True, True, FIVE, False),
        ("claude-opus-5-5", True, True, FIVE, False),
        ("claude-sonnet-5", True, True, FIVE, False),
        ("claude-haiku-5-5", True, True, FIVE, False),
        ("claude-fable-5-1", True, True, FIVE, False),
        ("something-else", True, True, FIVE, False),
    ],
)
def test_a_model(name, thinks, is_adaptive, efforts, has_sampling):
    model = claude_model(name)
    assert (model.thinks, model.is_adaptive) == (thinks, is_adaptive)
    assert model.efforts == (("low", "medium", "high", "xhigh", "max") if efforts is FIVE else efforts)
    assert model.has_sampling is has_sampling


@pytest.mark.parametrize(
    ("name", "thinks_unasked", "off", "hides", "forced_tools", "system_within"),
    [
        ("claude-haiku-4-5", False, None, False, True, False),
        ("claude-sonnet-4-6", False, None, False, True, False),
        ("claude-opus-4-7", False, None, True, True, False),
        ("claude-opus-4-8", False, None, True, True, True),
        ("claude-sonnet-5", True, "disabled", True, True, False),
        ("claude-sonnet-5-5", True, "between_tools", True, False, True),
        ("claude-opus-5", True, "disabled", True, True, True),
        ("claude-opus-5-5", True, None, True, False, True),  # it always thinks
        ("claude-haiku-5-5", True, "disabled", True, True, True),
        ("claude-fable-5", True, None, True, True, True),
        ("claude-fable-5-1", True, None, True, False, True),
        ("claude-mythos-5-2", True, None, True, False, True),
        ("claude-mythos-preview", True, None, True, True, False),
        ("something-else", True, None, True, True, False),  # nothing is said that it may not know
    ],
)
def test_what_the_newer_ones_do_unasked(name, thinks_unasked, off, hides, forced_tools, system_within):
    model = claude_model(name)
    assert (model.thinks_unasked, model.thinking_off, model.hides_thinking) == (thinks_unasked, off, hides)
    assert (model.takes_forced_tools, model.takes_system_within) == (forced_tools, system_within)


@pytest.mark.parametrize(("name", "both"), [("claude-opus-4-20250514", True), ("claude-opus-4-1", False)])
def test_two_ways_to_sample_in_one_call(name, both):
    assert claude_model(name).takes_both_samplings is both
