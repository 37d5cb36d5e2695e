"""What each provider's API is like, as data."""

import pytest

from proxy.core.dialect_names import DIALECT_NAMES
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.openai import Shape, classify
from proxy.dialects.target import provider_path, provider_query
from proxy.dialects.translators import is_served, way_to


def test_every_name_of_the_configuration_has_its_data():
    assert tuple(DIALECTS) == DIALECT_NAMES
    assert all(dialect.name == name for name, dialect in DIALECTS.items())


@pytest.mark.parametrize(
    ("dialect", "model", "expected"),
    [
        ("openai", "gpt-5", "/chat/completions"),
        ("azure", "house", "/chat/completions"),
        ("azure-deployments", "house", "/deployments/house/chat/completions"),
        ("azure-deployments", "a/b?c", "/deployments/a%2Fb%3Fc/chat/completions"),  # no way out of its segment
        ("azure-deployments", None, "/chat/completions"),
    ],
)
def test_the_path_of_a_call(dialect, model, expected):
    assert provider_path(DIALECTS[dialect], "/chat/completions", model) == expected


@pytest.mark.parametrize(
    ("query", "version", "expected"),
    [
        ("", None, ""),
        ("a=b", None, "a=b"),
        ("api-version=2023-05-15&a=b", None, "a=b"),
        ("a=b&API%2DVersion=2023-05-15", "2024-10-21", "a=b&api-version=2024-10-21"),
        ("", "preview", "api-version=preview"),
    ],
)
def test_the_query_of_a_call(query, version, expected):
    assert provider_query(query, version) == expected


@pytest.mark.parametrize(
    ("path", "shape", "served", "way"),
    [
        ("chat/completions", Shape.OPENAI, True, None),
        ("chat/completions", Shape.ANTHROPIC, True, "chat_completions>messages"),
        ("messages", Shape.ANTHROPIC, True, None),
        ("messages", Shape.OPENAI, True, "messages>chat_completions"),
        ("messages/count_tokens", Shape.ANTHROPIC, True, None),
        ("messages/count_tokens", Shape.OPENAI, False, None),
        ("messages/batches", Shape.OPENAI, False, None),
        ("embeddings", Shape.OPENAI, True, None),
        ("embeddings", Shape.ANTHROPIC, False, None),
        ("responses", Shape.ANTHROPIC, False, None),
        ("audio/speech", Shape.ANTHROPIC, False, None),
        ("files", Shape.ANTHROPIC, True, None),  # both have it
        ("what/comes/next/year", Shape.ANTHROPIC, True, None),
    ],
)
def test_who_serves_what(path, shape, served, way):
    operation = classify("POST", tuple(path.split("/")))
    assert is_served(shape, operation) is served
    found = way_to(shape, operation)
    assert (None if found is None else found.name) == way
