"""How hard the model is to think: OpenAI's effort, as Anthropic's thinking.

Pure. Sources: platform.openai.com/docs/guides/reasoning; platform.claude.com/docs/en/build-with-claude (effort,
thinking, thinking in tool workflows). A budget is at least 1,024 tokens and less than `max_tokens`. A model that
thinks by a budget can neither be told to use a tool, nor go on about a tool without the thinking that called it;
one that thinks as it likes can do both.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from proxy.dialects.chat_to_messages.tools import FORCED
from proxy.dialects.claude_models import ClaudeModel
from proxy.dialects.members import text_of, wrong

_BUDGET_TOKENS_MIN: Final = 1_024
# What each effort may spend where the model wants a number; of the ceiling, no more than three quarters, because an
# answer has to fit behind it.
_BUDGETS: Final = {"low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
_LEVELS: Final = tuple(_BUDGETS)  # the least first
_OFF: Final = ("none", "minimal")


class Thinking(NamedTuple):
    """What is written for an effort."""

    thinking: dict[str, Any] | None = None
    effort: str | None = None  # `output_config.effort`
    is_lost: bool = False  # the model does otherwise


def thinking_of(
    document: Mapping[str, Any],
    model: ClaudeModel,
    max_tokens: int,
    choice: Mapping[str, Any] | None,
    *,
    lacks_thinking: bool,
) -> Thinking:
    """What to write for `reasoning_effort`.

    Args:
        document: the chat's body.
        model: what the model takes.
        max_tokens: what is written for the ceiling.
        choice: what is written for the choice of tools.
        lacks_thinking: the turn that is being answered came back without its signed thinking, so it may not go on.

    Raises:
        InvalidParameter: it is no effort.
    """
    given = document.get("reasoning_effort")
    if given is None:
        return Thinking()
    effort = text_of(given, "reasoning_effort")
    if effort in _OFF:
        return _unthinking(model, effort)
    if effort not in _BUDGETS:
        raise wrong("reasoning_effort", f"must be {', '.join(_OFF)}, {' or '.join(_BUDGETS)}.")
    level = _level(model, effort)
    if model.is_adaptive:
        # What is thought is billed whether it is shown or not; the chat has a place for it.
        shown = {"display": "summarized"} if model.hides_thinking else {}
        return Thinking({"type": "adaptive", **shown}, level)
    budget = min(_BUDGETS[effort], max_tokens * 3 // 4)
    may_think = model.thinks and not lacks_thinking and (choice is None or choice["type"] not in FORCED)
    if may_think and budget >= _BUDGET_TOKENS_MIN:
        return Thinking({"type": "enabled", "budget_tokens": budget}, level)
    return Thinking(None, level, is_lost=lacks_thinking or level is None)


def _unthinking(model: ClaudeModel, effort: str) -> Thinking:
    if not model.thinks_unasked:
        return Thinking()
    if model.thinking_off is not None:
        return Thinking({"type": model.thinking_off})
    return Thinking(None, model.efforts[0], is_lost=effort == "none")  # as little as it can


def _level(model: ClaudeModel, effort: str) -> str | None:
    """The effort, or the next lower one that the model knows."""
    known = [level for level in _LEVELS[: _LEVELS.index(effort) + 1] if level in model.efforts]
    return known[-1] if known else None
