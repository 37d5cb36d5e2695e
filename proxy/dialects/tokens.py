"""From a provider's usage report to ours, whatever its convention.

Pure. Ours: cached tokens are part of the input, reasoning tokens part of the output. What one
part claims beyond its whole is cut off, so that no report makes a price negative.
Sources: platform.openai.com/docs/api-reference (chat, responses, embeddings, images, audio) and
the types of its SDK, docs.anthropic.com/en/docs/build-with-claude/prompt-caching and the types of
its SDK, api-docs.deepseek.com, docs.x.ai.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from proxy.core.types import Usage

_COUNT_MAX: Final = 10**9  # no context window comes near; what is beyond is no measurement
_SECONDS_MAX: Final = 10**9
_NAME_CHARACTERS_MAX: Final = 32
_TOOLS_MAX: Final = 32
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def read_usage(
    report: Mapping[str, Any], *, excludes_cached: bool, service_tier: str | None = None, writes_text: bool = False
) -> Usage | None:
    """The usage that a `usage` object tells; None where it counts nothing, or absurdly.

    `excludes_cached` says that `input_tokens` leaves cache reads and writes out, as
    Anthropic's does; a report with Anthropic's cache fields is read so anyway. `service_tier` is
    the answer's, for a report that names none. A main count that is negative, no integer or
    beyond a billion voids the report, because a zero in its place would pass for a measurement;
    such a detail alone is left out. So does one that is missing where text is written (`writes_text`), unless the total
    tells of it.
    """
    if "prompt_tokens" in report or "completion_tokens" in report:
        return _chat_usage(report, service_tier, writes_text=writes_text)
    if "cache_read_input_tokens" in report or "cache_creation_input_tokens" in report or excludes_cached:
        return _anthropic_usage(report, service_tier)
    input_tokens, output_tokens = _main(report, "input_tokens"), _main(report, "output_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    if not _counts(report, "input_tokens", "output_tokens"):
        return _duration_usage(report, service_tier)
    if writes_text and (report.get("input_tokens") is None or report.get("output_tokens") is None):
        return None
    # The singular is the transcriptions' and the realtime API's.
    details = _details(report, "input_tokens_details") or _details(report, "input_token_details")
    output_details = _details(report, "output_tokens_details") or _details(report, "output_token_details")
    usage = _with_details(input_tokens, output_tokens, details, output_details, service_tier)
    return _with_server_side_tools(usage, report)


def label(value: object) -> str | None:
    """A tier's or region's name as a provider writes it; None where it is none."""
    return _label(value) if isinstance(value, str) and len(value) <= _NAME_CHARACTERS_MAX else None


@lru_cache(maxsize=64)
def _label(value: str) -> str | None:
    return value if value and value.isprintable() else None


def _chat_usage(report: Mapping[str, Any], service_tier: str | None, *, writes_text: bool) -> Usage | None:
    input_tokens, output_tokens = report.get("prompt_tokens"), report.get("completion_tokens")
    if not (
        type(input_tokens) is int
        and type(output_tokens) is int
        and input_tokens >= 0
        and output_tokens >= 0
        and input_tokens + output_tokens <= _COUNT_MAX
    ):  # embeddings tell no completion
        input_tokens, output_tokens = _main(report, "prompt_tokens"), _main(report, "completion_tokens")
        if input_tokens is None or output_tokens is None or not _counts(report, "prompt_tokens", "completion_tokens"):
            return None
        is_told = report.get("completion_tokens") is not None or _count(report.get("total_tokens")) > input_tokens
        if writes_text and (report.get("prompt_tokens") is None or not is_told):
            return None
    details, output_details = _details(report, "prompt_tokens_details"), _details(report, "completion_tokens_details")
    # xAI and Gemini leave reasoning out of the completion, but not out of the total.
    total_tokens, hidden_tokens = report.get("total_tokens"), 0
    if total_tokens != input_tokens + output_tokens:
        hidden_tokens = max(_count(total_tokens) - input_tokens - output_tokens, 0)
    usage = _with_details(input_tokens, output_tokens, details, output_details, service_tier, hidden_tokens)
    if not usage.cached_input_tokens and "prompt_cache_hit_tokens" in report:  # DeepSeek's name
        cached_tokens = min(_detail(report, "prompt_cache_hit_tokens"), input_tokens - usage.cache_write_tokens)
        usage = usage._replace(cached_input_tokens=cached_tokens)
    return _with_server_side_tools(usage, report) if "server_side_tool_usage_details" in report else usage


def _with_details(
    input_tokens: int,
    output_tokens: int,
    details: Mapping[str, Any],
    output_details: Mapping[str, Any],
    service_tier: str | None,
    hidden_tokens: int = 0,
) -> Usage:
    """OpenAI's shape, in its several spellings. `hidden_tokens` are reasoning beside the output."""
    if details is _NOTHING and output_details is _NOTHING and not hidden_tokens:
        return Usage(input_tokens, 0, 0, output_tokens, service_tier=service_tier)
    output_tokens += hidden_tokens
    reasoning_tokens = min(max(_detail(output_details, "reasoning_tokens"), hidden_tokens), output_tokens)
    cached_tokens = min(_detail(details, "cached_tokens"), input_tokens)
    written_tokens = min(_detail(details, "cache_write_tokens"), input_tokens - cached_tokens)
    usage = Usage(
        input_tokens, cached_tokens, written_tokens, output_tokens, reasoning_tokens, service_tier=service_tier
    )
    audio, image = details.get("audio_tokens"), details.get("image_tokens")
    audio_output, image_output = output_details.get("audio_tokens"), output_details.get("image_tokens")
    if not (audio or image or audio_output or image_output or written_tokens):
        return usage  # as most reports are
    audio_tokens = min(_count(audio), input_tokens)
    image_tokens = min(_count(image), input_tokens - audio_tokens)
    audio_output_tokens = min(_count(audio_output), output_tokens)
    kept, written = _details(details, "cached_tokens_details"), _details(details, "cache_write_tokens_details")
    cached_audio_tokens = min(_detail(kept, "audio_tokens"), audio_tokens, cached_tokens)
    return usage._replace(
        cache_write_long_tokens=min(_detail(written, "ttl_12h_tokens"), written_tokens),
        audio_input_tokens=audio_tokens,
        cached_audio_input_tokens=cached_audio_tokens,
        image_input_tokens=image_tokens,
        cached_image_input_tokens=min(_detail(kept, "image_tokens"), image_tokens, cached_tokens - cached_audio_tokens),
        audio_output_tokens=audio_output_tokens,
        image_output_tokens=min(_count(image_output), output_tokens - audio_output_tokens),
    )


def _anthropic_usage(report: Mapping[str, Any], service_tier: str | None) -> Usage | None:
    fresh_tokens, output_tokens = _main(report, "input_tokens"), _main(report, "output_tokens")
    read_tokens, write_tokens = _main(report, "cache_read_input_tokens"), _main(report, "cache_creation_input_tokens")
    if fresh_tokens is None or output_tokens is None or read_tokens is None or write_tokens is None:
        return None
    if not _counts(report, "input_tokens", "output_tokens"):
        return None
    long_tokens = _detail(_details(report, "cache_creation"), "ephemeral_1h_input_tokens")
    for pass_ in _compactions(report):  # billed, and not in the counts above
        fresh_tokens += _detail(pass_, "input_tokens")
        read_tokens += _detail(pass_, "cache_read_input_tokens")
        write_tokens += _detail(pass_, "cache_creation_input_tokens")
        output_tokens += _detail(pass_, "output_tokens")
        long_tokens += _detail(_details(pass_, "cache_creation"), "ephemeral_1h_input_tokens")
    input_tokens = fresh_tokens + read_tokens + write_tokens
    if input_tokens > _COUNT_MAX or output_tokens > _COUNT_MAX:
        return None
    tier = "fast" if report.get("speed") == "fast" else label(report.get("service_tier"))
    return Usage(
        input_tokens,
        read_tokens,
        write_tokens,
        output_tokens,
        min(_detail(_details(report, "output_tokens_details"), "thinking_tokens"), output_tokens),
        cache_write_long_tokens=min(long_tokens, write_tokens),
        tool_calls=_counted(_details(report, "server_tool_use"), "_requests"),
        service_tier=service_tier if tier is None else tier,
        region=label(report.get("inference_geo")),
    )


def _compactions(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    iterations = report.get("iterations")
    if not isinstance(iterations, list):
        return []
    return [each for each in iterations if isinstance(each, dict) and each.get("type") == "compaction"]


def _duration_usage(report: Mapping[str, Any], service_tier: str | None) -> Usage | None:
    """A transcription that is sold by time (`{"type": "duration", "seconds": 9}`)."""
    seconds = report.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _SECONDS_MAX:
        return None
    return Usage(audio_ms=round(seconds * 1_000), service_tier=service_tier)


def _with_server_side_tools(usage: Usage, report: Mapping[str, Any]) -> Usage:
    """Also what xAI's own tools did."""
    if "server_side_tool_usage_details" not in report:
        return usage
    return usage._replace(tool_calls=_counted(_details(report, "server_side_tool_usage_details"), "_calls"))


def _counted(counts: Mapping[str, Any], suffix: str) -> tuple[tuple[str, int], ...]:
    found = [
        (name.removesuffix(suffix), count)
        for name, count in counts.items()
        if name.endswith(suffix) and _is_count(count) and count and label(name) is not None
    ]
    return tuple(found[:_TOOLS_MAX])


def _counts(report: Mapping[str, Any], *names: str) -> bool:
    """True where the report says at least one of these; a transcription may report seconds."""
    return any(report.get(name) is not None for name in names)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _COUNT_MAX


def _main(report: Mapping[str, Any], name: str) -> int | None:
    """A count; 0 where the report leaves it out, None where it is absurd."""
    value = report.get(name)
    if value is None:
        return 0
    return value if _is_count(value) else None


def _detail(details: Mapping[str, Any], name: str) -> int:
    return _count(details.get(name))


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= _COUNT_MAX else 0


def _details(report: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A report's part; nothing where it says nothing but zeros, as most do."""
    details = report.get(name)
    return details if isinstance(details, dict) and any(details.values()) else _NOTHING
