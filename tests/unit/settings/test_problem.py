"""A problem is one line that reads like the file."""

import pytest

from proxy.settings.problem import Problem, SettingsError, element, member


@pytest.mark.parametrize(
    ("where", "name", "expected"),
    [
        ("", "server", "server"),
        ("server", "bind", "server.bind"),
        ("models", "gpt-5", 'models."gpt-5"'),
        ("models", 'a"\\b', 'models."a\\"\\\\b"'),
        ("models", "a\nb\x1b", 'models."a\\u000Ab\\u001B"'),
        ("models", "\U000e0001", 'models."\\U000E0001"'),
        ("models", "", 'models.""'),
    ],
)
def test_a_path_reads_like_toml(where, name, expected):
    assert member(where, name) == expected


def test_a_position_counts_from_0():
    assert element("models.m.deployments", 0) == "models.m.deployments[0]"


def test_the_error_says_everything():
    error = SettingsError("t.toml", (Problem("a.b", "one", "two", "Do this."), Problem("c", "three", "four")))
    assert str(error).splitlines() == [
        "t.toml: 2 to put right",
        "a.b: expected one; found two. Do this.",
        "c: expected three; found four",
    ]
