"""What a call needs of the model that answers it."""

import pytest

from proxy.dialects.needs import needed_capabilities
from proxy.dialects.openai import classify


def content(*kinds):
    return [{"role": "user", "content": [{"type": kind} for kind in kinds]}]


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, set()),
        ("chat/completions", {"messages": content("text", "image_url")}, {"vision"}),
        ("chat/completions", {"messages": content("input_audio", "file")}, {"audio_input", "pdf"}),
        ("chat/completions", {"messages": [], "tools": [{}]}, {"tools"}),
        ("chat/completions", {"messages": [], "tools": []}, set()),
        ("chat/completions", {"messages": [], "functions": [{}]}, {"tools"}),
        ("chat/completions", {"messages": [], "response_format": {"type": "json_schema"}}, {"json_schema"}),
        ("chat/completions", {"messages": [], "response_format": {"type": "json_object"}}, set()),
        ("chat/completions", {"messages": [], "modalities": ["text", "audio"]}, {"audio_output"}),
        ("responses", {"input": "hi", "text": {"format": {"type": "json_schema"}}}, {"json_schema"}),
        ("responses", {"input": content("input_image", "input_file")}, {"vision", "pdf"}),
        ("messages", {"messages": content("image", "document")}, {"vision", "pdf"}),
        ("messages", {"messages": [], "output_config": {"format": {"type": "json_schema"}}}, {"json_schema"}),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image"}]}]}]},
            {"vision"},
        ),
        ("embeddings", {"input": "hi", "tools": [{}]}, set()),
        # What is not understood needs nothing: the provider will say what is wrong with it.
        ("chat/completions", {"messages": 7, "tools": 7, "modalities": 7, "response_format": []}, {"tools"}),
        (
            "chat/completions",
            {"messages": [7, {"content": [7, {"type": 7}, {"type": "tool_result", "content": [7]}]}]},
            set(),
        ),
        (
            "messages",
            {"messages": [{"content": [{"type": []}, {"type": "tool_result", "content": [{"type": {}}]}]}]},
            set(),
        ),
    ],
)
def test_needs(path, document, expected):
    assert needed_capabilities(classify("POST", tuple(path.split("/"))), document) == expected


def test_a_call_without_a_document_needs_nothing():
    assert needed_capabilities(classify("POST", ("chat", "completions")), None) == set()
