"""How hard a model is to think: what is written for each effort."""

import pytest

from proxy.dialects.chat_to_messages.effort import Thinking, thinking_of
from proxy.dialects.claude_models import claude_model

ADAPTIVE = {"type": "adaptive"}
SHOWN = {"type": "adaptive", "display": "summarized"}
NOTHING = Thinking()


def budget(tokens):
    return {"type": "enabled", "budget_tokens": tokens}


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("claude-haiku-4-5", None, NOTHING),
        ("claude-haiku-4-5", "none", NOTHING),
        ("claude-haiku-4-5", "low", Thinking(budget(2_048))),
        ("claude-haiku-4-5", "max", Thinking(budget(32_768))),
        ("claude-opus-4-5", "medium", Thinking(budget(8_192), "medium")),
        ("claude-opus-4-5", "max", Thinking(budget(32_768), "high")),  # the most that it knows
        ("claude-opus-4-6", "xhigh", Thinking(ADAPTIVE, "high")),
        ("claude-opus-4-6", "max", Thinking(ADAPTIVE, "max")),
        ("claude-opus-4-7", "xhigh", Thinking(SHOWN, "xhigh")),
        ("claude-opus-5", None, NOTHING),  # it thinks as Anthropic has it think
        ("claude-opus-5", "minimal", Thinking({"type": "disabled"})),
        ("claude-sonnet-5-5", "none", Thinking({"type": "between_tools"})),
        ("claude-opus-5-5", "minimal", Thinking(None, "low")),
        ("claude-opus-5-5", "none", Thinking(None, "low", is_lost=True)),
        ("claude-3-5-haiku-latest", "high", Thinking(is_lost=True)),  # it does not think
    ],
)
def test_an_effort(model, effort, expected):
    document = {} if effort is None else {"reasoning_effort": effort}
    assert thinking_of(document, claude_model(model), 64_000, None, lacks_thinking=False) == expected


@pytest.mark.parametrize(
    ("max_tokens", "expected"),
    [
        (1_365, Thinking(is_lost=True)),  # three quarters of it are 1,023, and a budget is 1,024 at least
        (1_366, Thinking(budget(1_024))),
        (8_192, Thinking(budget(6_144))),
        (10_923, Thinking(budget(8_192))),
        (64_000, Thinking(budget(8_192))),
    ],
)
def test_a_budget_and_the_ceiling(max_tokens, expected):
    document, model = {"reasoning_effort": "medium"}, claude_model("claude-sonnet-4-5")
    assert thinking_of(document, model, max_tokens, None, lacks_thinking=False) == expected


@pytest.mark.parametrize(
    ("model", "choice", "lacks_thinking", "expected"),
    [
        ("claude-sonnet-4-5", {"type": "auto"}, False, Thinking(budget(2_048))),
        ("claude-sonnet-4-5", {"type": "any"}, False, Thinking(is_lost=True)),
        ("claude-sonnet-4-5", {"type": "tool", "name": "f"}, False, Thinking(is_lost=True)),
        ("claude-sonnet-4-5", None, True, Thinking(is_lost=True)),
        ("claude-opus-4-5", {"type": "any"}, False, Thinking(None, "low")),  # its effort is more than thinking
        ("claude-opus-4-5", None, True, Thinking(None, "low", is_lost=True)),
        ("claude-opus-4-6", {"type": "any"}, True, Thinking(ADAPTIVE, "low")),
    ],
)
def test_when_a_model_that_has_a_budget_may_not_think(model, choice, lacks_thinking, expected):
    document = {"reasoning_effort": "low"}
    assert thinking_of(document, claude_model(model), 64_000, choice, lacks_thinking=lacks_thinking) == expected
