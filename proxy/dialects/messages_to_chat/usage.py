"""The few things that a whole answer and a stream have in common: what was used, why it ended, its names.

Pure. Sources: platform.openai.com/docs/api-reference/chat (usage, finish reasons);
platform.claude.com/docs/en/api/messages. OpenAI counts what was read from its cache within the input, Anthropic
beside it.
"""

from collections.abc import Mapping
from typing import Any, Final

_STOP_REASONS: Final[Mapping[object, str]] = {
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}
_CUT: Final = ("length", "content_filter")


def stop_reason(finish_reason: object, *, calls_tools: bool) -> str:
    """Why the answer ended. Some servers say `stop` where tools are called."""
    if calls_tools and finish_reason not in _CUT:
        return "tool_use"
    known = _STOP_REASONS.get(finish_reason) if isinstance(finish_reason, str) else None
    return "end_turn" if known in (None, "tool_use") else known or "end_turn"


def messages_usage(usage: object) -> dict[str, Any]:
    """OpenAI's report, as Anthropic's. Zeros where there is none."""
    report: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    details = report.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return {
        "input_tokens": max(0, _count(report.get("prompt_tokens")) - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": _count(report.get("completion_tokens")),
    }


def messages_id(completion_id: object) -> str:
    """An id as Anthropic's are, which leads to the provider's."""
    return f"msg_{str(completion_id or '').removeprefix('chatcmpl-')}"


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
