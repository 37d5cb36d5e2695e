"""How hard the model is to think: OpenAI's effort, as Anthropic's thinking.

Pure. Sources: platform.openai.com/docs/guides/reasoning; platform.claude.com/docs/en/build-with-claude (effort,
adaptive thinking, extended thinking). A budget is at least 1,024 tokens and less than `max_tokens`; while a model
thinks it can neither be told to use a tool nor be given a temperature.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from proxy.dialects.claude_models import ClaudeModel
from proxy.dialects.members import text_of, wrong

_BUDGET_TOKENS_MIN: Final = 1_024
# What each effort may spend where the model wants a number; of the room that `max_tokens` leaves, at most this.
_BUDGETS: Final = {"low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
_OFF: Final = ("none", "minimal")
_FORCED: Final = ("any", "tool")


class Thinking(NamedTuple):
    """What is written for an effort."""

    thinking: dict[str, Any] | None = None
    effort: str | None = None  # `output_config.effort`
    is_lost: bool = False  # nothing of it could be written


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
        return Thinking()
    if effort not in _BUDGETS:
        raise wrong("reasoning_effort", f"must be {', '.join(_OFF)}, {' or '.join(_BUDGETS)}.")
    may_think = model.thinks and not lacks_thinking and (choice is None or choice["type"] not in _FORCED)
    written = effort if model.has_effort else None
    if may_think and model.is_adaptive:
        return Thinking({"type": "adaptive"}, written)
    budget = min(_BUDGETS[effort], max_tokens - 1)
    if may_think and budget >= _BUDGET_TOKENS_MIN:
        return Thinking({"type": "enabled", "budget_tokens": budget}, written)
    return Thinking(None, written, is_lost=written is None)
