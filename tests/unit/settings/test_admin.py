"""Who may administer is written without a secret in the file, and without two who cannot be told apart."""

from pathlib import Path

import pytest

from proxy.core.secret import Secret
from proxy.settings.load import load
from proxy.settings.model import AdminRole, AdminSettings, AdminTokenSettings
from proxy.settings.problem import SettingsError

TOKEN = "5f1e0cd0ba5e77e1" * 2
ENVIRON = {"A": TOKEN, "B": TOKEN[::-1], "AGAIN": TOKEN, "SHORT": TOKEN[1:], "SPACE": TOKEN + " x", "LONG": TOKEN * 17}


def settings_of(*tokens, bind="127.0.0.1:8081"):
    text = f'[server]\nadmin_bind = "{bind}"\n[admin]\ntokens = [{", ".join(tokens)}]\n'
    return load(text, path="t.toml", environ=ENVIRON, read_file=Path.read_text)


def entry(name="ci", token="env:A", roles='["read"]'):
    return f'{{ name = "{name}", token = "{token}", roles = {roles} }}'


def test_tokens_have_names_and_roles():
    admin = settings_of(entry(), entry("app", "env:B", '["keys", "operate", "keys"]')).admin
    assert admin.tokens == (
        AdminTokenSettings("ci", Secret(TOKEN), frozenset({AdminRole.READ})),
        AdminTokenSettings("app", Secret(TOKEN[::-1]), frozenset({AdminRole.ISSUE_KEYS, AdminRole.OPERATE})),
    )
    assert TOKEN not in repr(admin)


def test_without_a_token_nobody_may():
    assert settings_of().admin == AdminSettings()
    assert settings_of(entry(token="env?:ABSENT")).admin == AdminSettings()
    assert load("", path="t.toml", environ={}, read_file=Path.read_text).admin == AdminSettings()


@pytest.mark.parametrize(
    ("tokens", "path", "expected"),
    [
        ([entry(token=TOKEN)], "admin.tokens[0].token", "env:NAME"),
        ([entry(token="env:ABSENT")], "admin.tokens[0].token", "the environment variable ABSENT"),
        ([entry(token="env:SHORT")], "admin.tokens[0].token", "32 to 512"),
        ([entry(token="env:SPACE")], "admin.tokens[0].token", "no space"),
        ([entry(token="env:LONG")], "admin.tokens[0].token", "32 to 512"),
        (['{ name = "ci", roles = ["read"] }'], "admin.tokens[0].token", "env:NAME"),
        (['{ token = "env:A", roles = ["read"] }'], "admin.tokens[0].name", "a name"),
        ([entry("cli:root")], "admin.tokens[0].name", "1 to 64 letters"),
        ([entry(roles="[]")], "admin.tokens[0].roles", "read, operate, keys"),
        (['{ name = "ci", token = "env:A" }'], "admin.tokens[0].roles", "read, operate, keys"),
        ([entry(roles='["reed"]')], "admin.tokens[0].roles[0]", "one of read, operate, keys"),
        ([entry(), entry(token="env:B")], "admin.tokens[1].name", "another name"),
        ([entry(), entry("app", "env:AGAIN")], "admin.tokens[1].token", "a token of its own"),
        (['{ name = "ci", token = "env:A", roles = ["read"], role = "read" }'], "admin.tokens[0].role", "roles"),
    ],
)
def test_what_is_wrong_is_said_without_the_token(tokens, path, expected):
    with pytest.raises(SettingsError) as caught:
        settings_of(*tokens)
    found = [problem for problem in caught.value.problems if problem.path == path]
    assert [expected in problem.expected for problem in found] == [True]
    assert TOKEN[1:] not in str(caught.value)


def test_tokens_that_leave_the_machine_in_the_clear_are_warned_of():
    (warning,) = (each for each in settings_of(entry(), bind="0.0.0.0:8081").warnings if "admin" in each)
    assert "plain http" in warning
    assert not [each for each in settings_of(entry()).warnings if "admin" in each]
    assert not [each for each in settings_of(bind="0.0.0.0:8081").warnings if "admin" in each]
