"""From a provider's token report to ours, whatever its convention.

Pure. Ours: cached tokens are part of the input, reasoning tokens part of the output.
Sources: platform.openai.com/docs/api-reference (chat, responses, embeddings, images, audio),
docs.anthropic.com/en/docs/build-with-claude/prompt-caching, api-docs.deepseek.com.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from proxy.core.types import Usage

_TOKENS_MAX: Final = 2**53 - 1  # what a counter can hold, and a double is exact to


def read_usage(report: Mapping[str, Any], *, excludes_cached: bool) -> Usage | None:
    """The usage that a `usage` object tells; None where it counts no tokens, or absurdly.

    `excludes_cached` says that `input_tokens` leaves cache reads and writes out, as
    Anthropic's does; a report with Anthropic's cache fields is read so anyway. A main count
    that is negative, no integer or 2**53 and more voids the report, because a zero in its
    place would pass for a measurement; such a detail alone is left out.
    """
    if "prompt_tokens" in report or "completion_tokens" in report:
        return _chat_usage(report)
    if "cache_read_input_tokens" in report or "cache_creation_input_tokens" in report or excludes_cached:
        return _anthropic_usage(report)
    input_tokens, output_tokens = _main(report, "input_tokens"), _main(report, "output_tokens")
    if input_tokens is None or output_tokens is None or not _counts(report, "input_tokens", "output_tokens"):
        return None
    details, output_details = _details(report, "input_tokens_details"), _details(report, "output_tokens_details")
    return Usage(
        input_tokens,
        min(_detail(details, "cached_tokens"), input_tokens),
        min(_detail(details, "cache_write_tokens"), input_tokens),
        output_tokens,
        min(_detail(output_details, "reasoning_tokens"), output_tokens),
    )


def _chat_usage(report: Mapping[str, Any]) -> Usage | None:
    input_tokens, output_tokens = report.get("prompt_tokens"), report.get("completion_tokens")
    if not (_is_count(input_tokens) and _is_count(output_tokens)):  # embeddings tell no completion
        input_tokens, output_tokens = _main(report, "prompt_tokens"), _main(report, "completion_tokens")
        if input_tokens is None or output_tokens is None or not _counts(report, "prompt_tokens", "completion_tokens"):
            return None
    details, output_details = report.get("prompt_tokens_details"), report.get("completion_tokens_details")
    cached_tokens = written_tokens = reasoning_tokens = 0
    if type(details) is dict:
        cached_tokens, written_tokens = _detail(details, "cached_tokens"), _detail(details, "cache_write_tokens")
    if type(output_details) is dict:
        reasoning_tokens = _detail(output_details, "reasoning_tokens")
    if not cached_tokens:
        cached_tokens = _detail(report, "prompt_cache_hit_tokens")  # DeepSeek's name
    # xAI and Gemini leave reasoning out of the completion, but not out of the total.
    hidden_tokens = _detail(report, "total_tokens") - input_tokens - output_tokens
    if hidden_tokens > 0:
        output_tokens += hidden_tokens
        reasoning_tokens = max(reasoning_tokens, hidden_tokens)
    return Usage(
        input_tokens,
        min(cached_tokens, input_tokens),
        min(written_tokens, input_tokens),
        output_tokens,
        min(reasoning_tokens, output_tokens),
    )


def _anthropic_usage(report: Mapping[str, Any]) -> Usage | None:
    fresh_tokens, output_tokens = _main(report, "input_tokens"), _main(report, "output_tokens")
    read_tokens, write_tokens = _main(report, "cache_read_input_tokens"), _main(report, "cache_creation_input_tokens")
    if fresh_tokens is None or output_tokens is None or read_tokens is None or write_tokens is None:
        return None
    input_tokens = fresh_tokens + read_tokens + write_tokens
    if input_tokens > _TOKENS_MAX or not _counts(report, "input_tokens", "output_tokens"):
        return None
    return Usage(input_tokens, read_tokens, write_tokens, output_tokens)


def _counts(report: Mapping[str, Any], *names: str) -> bool:
    """True where the report says at least one of these; a transcription may report seconds."""
    return any(report.get(name) is not None for name in names)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _TOKENS_MAX


def _main(report: Mapping[str, Any], name: str) -> int | None:
    """A count; 0 where the report leaves it out, None where it is absurd."""
    value = report.get(name)
    if value is None:
        return 0
    return value if _is_count(value) else None


def _detail(details: Mapping[str, Any], name: str) -> int:
    value = details.get(name)
    return value if _is_count(value) else 0


def _details(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = report.get(name)
    return details if isinstance(details, dict) else {}
