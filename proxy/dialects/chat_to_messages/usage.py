"""The few things that a whole answer and a stream have in common: what was used, why it ended, its names.

Pure. Sources: platform.claude.com/docs/en/api/messages (usage, stop reasons);
platform.openai.com/docs/api-reference/chat (usage). Anthropic counts what was read from its cache, or written to it,
beside the input; OpenAI within it.
"""

from collections.abc import Mapping
from typing import Any, Final

FINISH_REASONS: Final[Mapping[object, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",  # a turn of the provider's own tools, which a chat cannot ask for
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_TIERS: Final = {"standard": "default", "priority": "priority"}


def chat_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's report, as OpenAI's. Raises KeyError, TypeError where it is none."""
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    input_tokens = (usage.get("input_tokens") or 0) + cached + written
    output_tokens = usage["output_tokens"]
    prompt_details = {"cached_tokens": cached}
    if written:
        prompt_details["cache_write_tokens"] = written
    reported: dict[str, Any] = {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": prompt_details,
    }
    details = usage.get("output_tokens_details")
    if isinstance(details, dict) and isinstance(details.get("thinking_tokens"), int):
        reported["completion_tokens_details"] = {"reasoning_tokens": details["thinking_tokens"]}
    return reported


def chat_tier(usage: Mapping[str, Any]) -> str | None:
    """The service tier by OpenAI's name."""
    tier = usage.get("service_tier")
    return _TIERS.get(tier) if isinstance(tier, str) else None


def refusal_of(said: Mapping[str, Any]) -> str | None:
    """Why the model refused, where `said` (a message, or the end of a stream's) tells that it did, and why."""
    details = said.get("stop_details") if said.get("stop_reason") == "refusal" else None
    text = details.get("explanation") if isinstance(details, dict) else None
    return text if isinstance(text, str) and text else None


def chat_id(message_id: str) -> str:
    """An id as OpenAI's are, which leads to Anthropic's."""
    return f"chatcmpl-{message_id.removeprefix('msg_')}"
