"""What differs from one generation of Anthropic's models to the next."""

import pytest

from proxy.dialects.claude_models import claude_model


@pytest.mark.parametrize(
    ("name", "thinks", "is_adaptive", "has_effort", "has_sampling", "system_within"),
    [
        ("claude-3-5-haiku-20241022", False, False, False, True, False),
        ("claude-3-7-sonnet-latest", True, False, False, True, False),
        ("claude-sonnet-4-20250514", True, False, False, True, False),
        ("claude-opus-4-1-20250805", True, False, False, True, False),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", True, False, False, True, False),
        ("claude-sonnet-4-5", True, False, False, True, False),
        ("claude-opus-4-5", True, False, True, True, False),
        ("claude-opus-4-6", True, True, True, True, False),
        ("claude-sonnet-4-6", True, True, True, True, False),
        ("claude-opus-4-7", True, True, True, False, False),
        ("anthropic.claude-opus-4-8", True, True, True, False, True),
        ("claude-opus-5-5", True, True, True, False, True),
        ("claude-sonnet-5", True, True, True, False, False),
        ("claude-fable-5-1", True, True, True, False, False),
        ("something-else", True, True, True, False, False),
    ],
)
def test_a_model(name, thinks, is_adaptive, has_effort, has_sampling, system_within):
    model = claude_model(name)
    assert (model.thinks, model.is_adaptive, model.has_effort) == (thinks, is_adaptive, has_effort)
    assert (model.has_sampling, model.takes_system_within) == (has_sampling, system_within)


@pytest.mark.parametrize(("name", "both"), [("claude-opus-4-20250514", True), ("claude-opus-4-1", False)])
def test_two_ways_to_sample_in_one_call(name, both):
    assert claude_model(name).takes_both_samplings is both
