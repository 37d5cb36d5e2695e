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
            Usage(50, output_tokens=50),
        ),
        ({"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}, Usage(14, output_tokens=45)),
        ({"type": "duration", "seconds": 9}, None),
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
        ({"prompt_tokens": 2**53, "completion_tokens": 2}, None),
        ({"prompt_tokens": 2**53 - 1, "completion_tokens": 2}, Usage(2**53 - 1, output_tokens=2)),
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


def test_anthropic_excludes_what_was_cached() -> None:
    assert read_usage({"input_tokens": 25, "output_tokens": 1}, excludes_cached=True) == Usage(25, output_tokens=1)
    halves = {"input_tokens": 2**52, "cache_read_input_tokens": 2**52, "output_tokens": 1}
    assert read_usage(halves, excludes_cached=True) is None
    assert read_usage({"input_tokens": 1, "cache_read_input_tokens": -1}, excludes_cached=True) is None


COUNTS = (
    st.none() | st.integers(-(2**60), 2**60) | st.integers(0, 50) | st.floats() | st.text(max_size=2) | st.booleans()
)
DETAILS = COUNTS | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "cache_write_tokens"]), COUNTS)
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
        assert 0 <= usage.cache_write_tokens <= usage.input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens < 2**53
