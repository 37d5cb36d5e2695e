"""Providers count in different ways; the gateway's usage does not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.types import Usage
from proxy.dialects.tokens import read_usage


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        # OpenAI, chat completions
        (
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 256, "accepted_prediction_tokens": 0},
            },
            Usage(2006, 1920, 0, 300, 256),
        ),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),  # embeddings
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(5, output_tokens=2)),
        # OpenAI, responses
        (
            {
                "input_tokens": 75,
                "input_tokens_details": {"cached_tokens": 64},
                "output_tokens": 1186,
                "output_tokens_details": {"reasoning_tokens": 1024},
                "total_tokens": 1261,
            },
            Usage(75, 64, 0, 1186, 1024),
        ),
        # OpenAI, images and transcriptions
        (
            {"input_tokens": 50, "output_tokens": 50, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}},
            Usage(50, output_tokens=50, image_input_tokens=40),
        ),
        (
            {
                "input_tokens": 50,
                "output_tokens": 420,
                "total_tokens": 470,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                "output_tokens_details": {"image_tokens": 408, "text_tokens": 12},
            },
            Usage(50, output_tokens=420, image_input_tokens=40, image_output_tokens=408),
        ),
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                "output_tokens": 45,
            },
            Usage(14, output_tokens=45, audio_input_tokens=10),
        ),
        # OpenAI, sound in and out, of which some was cached
        (
            {
                "prompt_tokens": 300,
                "completion_tokens": 90,
                "prompt_tokens_details": {
                    "cached_tokens": 128,
                    "audio_tokens": 200,
                    "image_tokens": 60,
                    "cached_tokens_details": {"audio_tokens": 64, "image_tokens": 32, "text_tokens": 32},
                },
                "completion_tokens_details": {"audio_tokens": 70, "reasoning_tokens": 5},
            },
            Usage(
                300,
                128,
                0,
                90,
                5,
                audio_input_tokens=200,
                cached_audio_input_tokens=64,
                image_input_tokens=60,
                cached_image_input_tokens=32,
                audio_output_tokens=70,
            ),
        ),
        # OpenAI from gpt-5.6 on: writes to the cache, some of them kept for twelve hours
        (
            {
                "input_tokens": 5_000,
                "input_tokens_details": {
                    "cached_tokens": 1_000,
                    "cache_write_tokens": 3_000,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 1_000, "ttl_12h_tokens": 2_000},
                },
                "output_tokens": 10,
            },
            Usage(5_000, 1_000, 3_000, 10, cache_write_long_tokens=2_000),
        ),
        # xAI's own tools
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 2,
                "server_side_tool_usage_details": {"web_search_calls": 3, "x_search_calls": 0, "mcp_calls": -1},
            },
            Usage(10, output_tokens=2, tool_calls=(("web_search", 3),)),
        ),
        ({"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}, Usage(14, output_tokens=45)),
        ({"type": "duration", "seconds": 9}, Usage(audio_ms=9_000)),
        ({"type": "duration", "seconds": 8.47}, Usage(audio_ms=8_470)),
        ({"type": "duration", "seconds": -1}, None),
        ({"type": "duration", "seconds": float("nan")}, None),
        ({"type": "duration", "seconds": 1e300}, None),
        ({"type": "duration", "seconds": True}, None),
        # Anthropic, wherever its fields stand
        (
            {
                "input_tokens": 21,
                "cache_creation_input_tokens": 188,
                "cache_read_input_tokens": 1000,
                "output_tokens": 393,
            },
            Usage(1209, 1000, 188, 393),
        ),
        (
            {
                "input_tokens": 21,
                "cache_creation_input_tokens": 188,
                "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 88, "ephemeral_1h_input_tokens": 100},
                "output_tokens": 393,
                "output_tokens_details": {"thinking_tokens": 300},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
                "service_tier": "priority",
                "inference_geo": "us",
                "speed": "standard",
            },
            Usage(
                209,
                0,
                188,
                393,
                300,
                cache_write_long_tokens=100,
                tool_calls=(("web_search", 2),),
                service_tier="priority",
                region="us",
            ),
        ),
        # a faster mode is a tier of its own; a compaction is billed beside the counts
        (
            {
                "input_tokens": 100,
                "cache_read_input_tokens": 0,
                "output_tokens": 10,
                "service_tier": "standard",
                "speed": "fast",
                "iterations": [
                    {"type": "compaction", "input_tokens": 5_000, "output_tokens": 400, "cache_read_input_tokens": 7},
                    {"type": "message", "input_tokens": 100, "output_tokens": 10},
                ],
            },
            Usage(5_107, 7, 0, 410, service_tier="fast"),
        ),
        # DeepSeek names its cache differently; xAI and Gemini leave reasoning out of the completion
        (
            {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24, "prompt_cache_hit_tokens": 16},
            Usage(20, 16, 0, 4),
        ),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 0, 0, 103, 94),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 115}, Usage(5, 0, 0, 110, 100)),
        # nothing, or nothing that can be believed
        ({}, None),
        ({"total_tokens": 5}, None),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 1, "completion_tokens": -2}, None),
        ({"prompt_tokens": 1.5, "completion_tokens": 2}, None),
        ({"prompt_tokens": "7", "completion_tokens": 2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10**9 + 1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10**9, "completion_tokens": 2}, Usage(10**9, output_tokens=2)),
        ({"input_tokens": [], "output_tokens": 2}, None),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": "x"}, Usage(5, output_tokens=2)),
        (
            {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -4}},
            Usage(5, 0, 0, 2),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}},
            Usage(5, 5, 0, 2),
        ),
    ],
)
def test_read_usage(report: dict[str, Any], expected: Usage | None) -> None:
    assert read_usage(report, excludes_cached=False) == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"prompt_tokens": 5}, None),
        ({"prompt_tokens": 5, "completion_tokens": None}, None),
        ({"prompt_tokens": 5, "total_tokens": 5}, None),
        ({"completion_tokens": 5}, None),
        ({"completion_tokens": 5, "total_tokens": 9}, None),
        ({"input_tokens": 5}, None),
        ({"input_tokens": 5, "output_tokens": None}, None),
        ({"prompt_tokens": 5, "completion_tokens": 0}, Usage(5)),
        ({"prompt_tokens": 5, "total_tokens": 12}, Usage(5, output_tokens=7, reasoning_tokens=7)),  # all of it unseen
        ({"input_tokens": 5, "output_tokens": 2}, Usage(5, output_tokens=2)),
    ],
)
def test_where_text_is_written_half_a_report_is_none(report: dict[str, Any], expected: Usage | None) -> None:
    assert read_usage(report, excludes_cached=False, writes_text=True) == expected


def test_anthropic_excludes_what_was_cached() -> None:
    assert read_usage({"input_tokens": 25, "output_tokens": 1}, excludes_cached=True) == Usage(25, output_tokens=1)
    halves = {"input_tokens": 2**52, "cache_read_input_tokens": 2**52, "output_tokens": 1}
    assert read_usage(halves, excludes_cached=True) is None
    assert read_usage({"input_tokens": 1, "cache_read_input_tokens": -1}, excludes_cached=True) is None


COUNTS = (
    st.none() | st.integers(-(2**60), 2**60) | st.integers(0, 50) | st.floats() | st.text(max_size=2) | st.booleans()
)
PARTS = st.dictionaries(st.sampled_from(["audio_tokens", "image_tokens", "ttl_12h_tokens"]), COUNTS)
DETAILS = COUNTS | st.builds(
    dict.__or__,
    st.dictionaries(
        st.sampled_from(["cached_tokens", "reasoning_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"]),
        COUNTS,
    ),
    st.dictionaries(st.sampled_from(["cached_tokens_details", "cache_write_tokens_details"]), PARTS),
)
NAMES = [
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "prompt_cache_hit_tokens",
]
DETAIL_NAMES = [
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
]
REPORTS = st.builds(
    dict.__or__,
    st.dictionaries(st.sampled_from(NAMES), COUNTS),
    st.dictionaries(st.sampled_from(DETAIL_NAMES), DETAILS),
)


@given(REPORTS, st.booleans())
def test_whatever_is_reported_the_parts_fit_in_the_whole(report: dict[str, Any], excludes_cached: bool) -> None:
    usage = read_usage(report, excludes_cached=excludes_cached)
    if usage is not None:
        assert 0 <= usage.cached_input_tokens <= usage.input_tokens < 2**53
        assert 0 <= usage.cache_write_tokens <= usage.input_tokens - usage.cached_input_tokens
        assert 0 <= usage.cache_write_long_tokens <= usage.cache_write_tokens
        assert 0 <= usage.audio_input_tokens + usage.image_input_tokens <= usage.input_tokens
        assert 0 <= usage.cached_audio_input_tokens <= usage.audio_input_tokens
        assert 0 <= usage.cached_image_input_tokens <= usage.image_input_tokens
        cached_parts = usage.cached_audio_input_tokens + usage.cached_image_input_tokens
        assert cached_parts <= usage.cached_input_tokens
        assert 0 <= usage.audio_output_tokens + usage.image_output_tokens <= usage.output_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens < 2**53
