"""What can be typed, and what is made of it."""

import pytest

from proxy.cli.argument_types import duration_ms, model_list
from proxy.cli.arguments import parse_arguments


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["serve"], "serve"),
        (["check", "--connect"], "check"),
        (["keys", "issue", "--tenant", "acme"], "keys issue"),
        (["keys", "list"], "keys list"),
        (["keys", "revoke", "vk_1"], "keys revoke"),
    ],
)
def test_every_command_takes_config_and_json_on_either_side(words, command):
    bare = parse_arguments(words)
    assert (bare.command, bare.config, bare.as_json) == (command, None, False)
    for typed in ([*words, "--config", "a.toml", "--json"], ["--config", "a.toml", "--json", *words]):
        arguments = parse_arguments(typed)
        assert (arguments.command, arguments.config, arguments.as_json) == (command, "a.toml", True)


def test_issue_takes_everything_a_key_can_carry():
    arguments = parse_arguments(
        ["keys", "issue", "--tenant=acme", "--user=u", "--feature=f", "--models=a,b", "--expires=30d"]
    )
    assert (arguments.tenant, arguments.user, arguments.feature) == ("acme", "u", "f")
    assert (arguments.models, arguments.expires) == (frozenset({"a", "b"}), 30 * 24 * 3_600_000)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [("1m", 60_000), ("12h", 43_200_000), ("1d", 86_400_000), ("2w", 1_209_600_000), ("36500d", 3_153_600_000_000)],
)
def test_a_time_span(text, expected_ms):
    assert duration_ms(text) == expected_ms


def test_models_stand_between_commas():
    assert model_list("gpt-5, gpt-5-mini") == frozenset({"gpt-5", "gpt-5-mini"})


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["keys"],
        ["keys", "issue"],
        ["keys", "issue", "--tenant", "a b"],
        ["keys", "issue", "--tenant", "acme", "--models", "a,,b"],
        *(
            ["keys", "issue", "--tenant", "acme", "--expires", span]
            for span in ("0d", "30", "d", "1.5h", "-1d", "36501d")
        ),
        ["keys", "revoke"],
        ["keys", "list", "--tenant", ""],
    ],
)
def test_what_cannot_be_read_is_usage(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: tollway")


@pytest.mark.parametrize(("words", "verb"), [([], "serve"), (["tenants"], "shred"), (["deployments"], "drain")])
def test_where_the_command_is_missing_all_of_them_are_listed(words, verb, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(words)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"\n    {verb} " in said
    assert said.endswith(f"\n{' '.join(['tollway', *words])}: error: which of these commands?\n")


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["keys", "issue", "--help"], ["--version"]])
def test_help_is_an_answer(words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(words)
    assert caught.value.code == 0
    assert "tollway" in capsys.readouterr().out
