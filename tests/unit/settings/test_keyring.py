"""`[keyring]`: which KEK seals stored provider keys, and what is wrong with how it is written."""

import base64
from pathlib import Path

import pytest

from proxy.core.secret import Secret
from proxy.settings.load import load
from proxy.settings.model import KekKind, KekSettings, KeyringSettings
from proxy.settings.problem import SettingsError

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
KEK = base64.b64encode(bytes(range(32))).decode()


def load_text(text, environ=None):
    def read_file(_path):
        raise AssertionError("a KEK's file is not read here")

    return load(text, path="/etc/tollway/t.toml", environ=environ or {}, read_file=read_file)


def problem_of(text, environ=None):
    with pytest.raises(SettingsError) as refused:
        load_text(text, environ)
    (problem,) = refused.value.problems
    return problem


def test_without_the_section_there_is_no_kek():
    assert load_text("").keyring == KeyringSettings((), 365, None)
    assert load_text("[keyring]").keyring.kek == ()


@pytest.mark.parametrize(
    ("written", "kek"),
    [
        (f"aws-kms:{ARN}", KekSettings(KekKind.AWS_KMS, ARN)),
        (
            "aws-kms:arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234",
            KekSettings(KekKind.AWS_KMS, "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234"),
        ),
        ("env:TOLLWAY_KEK", KekSettings(KekKind.ENV, "TOLLWAY_KEK", Secret(KEK))),
        ("file:kek", KekSettings(KekKind.FILE, "kek")),
        ("file:/etc/tollway/kek", KekSettings(KekKind.FILE, "/etc/tollway/kek")),
    ],
)
def test_a_kek_is_in_aws_kms_in_the_environment_or_in_a_file(written, kek):
    settings = load_text(f'[keyring]\nkek = "{written}"', {"TOLLWAY_KEK": KEK})
    assert settings.keyring.kek == (kek,)
    assert KEK not in repr(settings)
    assert load_text(f'[keyring]\nkek = ["{written}", "file:old"]', {"TOLLWAY_KEK": KEK}).keyring.kek == (
        kek,
        KekSettings(KekKind.FILE, "old"),
    )


@pytest.mark.parametrize(
    ("written", "path", "expected"),
    [
        ('"kek"', "keyring.kek", "aws-kms:ARN, env:NAME or file:PATH"),
        ('"file:"', "keyring.kek", "aws-kms:ARN, env:NAME or file:PATH"),
        ('"env?:TOLLWAY_KEK"', "keyring.kek", "aws-kms:ARN, env:NAME or file:PATH"),
        ('"env:TOLLWAY_KEK"', "keyring.kek", "the environment variable TOLLWAY_KEK"),
        ('"env:A-B"', "keyring.kek", "the name of an environment variable"),
        ('"aws-kms:1234abcd"', "keyring.kek", "a key's ARN"),
        ('"aws-kms:arn:aws:s3:::bucket"', "keyring.kek", "a key's ARN"),
        ("7", "keyring.kek", "a text or a list of texts"),
        ('["file:kek", 7]', "keyring.kek[1]", "a text"),
        ('["file:kek", "file:kek"]', "keyring.kek[1]", "another KEK than keyring.kek[0]"),
        (f'"{KEK}"', "keyring.kek", "aws-kms:ARN, env:NAME or file:PATH"),
    ],
)
def test_what_is_no_kek_is_refused_with_its_path_and_what_was_expected(written, path, expected):
    problem = problem_of(f"[keyring]\nkek = {written}")
    assert problem.path == path
    assert expected in problem.expected
    assert KEK not in str(problem)


def test_an_alias_is_refused_with_the_reason():
    problem = problem_of('[keyring]\nkek = "aws-kms:arn:aws:kms:eu-west-1:111122223333:alias/tollway"')
    assert problem.suggestion is not None
    assert "alias" in problem.suggestion


@pytest.mark.parametrize("value", ["short", base64.b64encode(b"x" * 31).decode(), KEK + "x"])
def test_a_variable_that_holds_something_else_is_refused_and_not_shown(value):
    problem = problem_of('[keyring]\nkek = "env:TOLLWAY_KEK"', {"TOLLWAY_KEK": value})
    assert "base64 of 32 bytes" in problem.expected
    assert value not in str(problem)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("rotate_after_days = 0", "keyring.rotate_after_days"),
        ("rotate_after_days = 3651", "keyring.rotate_after_days"),
        ('kms_endpoint_url = "http://kms.example"', "keyring.kms_endpoint_url"),
        ('kms_endpoint_url = "https://user:secret@kms.example"', "keyring.kms_endpoint_url"),
        ('kms_endpoint_url = "kms.example"', "keyring.kms_endpoint_url"),
        ('keks = "file:kek"', "keyring.keks"),
    ],
)
def test_the_other_settings_have_their_bounds(line, path):
    assert problem_of(f"[keyring]\n{line}").path == path


@pytest.mark.parametrize("url", ["https://vpce-1.kms.eu-west-1.vpce.amazonaws.com", "http://127.0.0.1:4566"])
def test_an_endpoint_is_https_or_loopback(url):
    settings = load_text(f'[keyring]\nkek = "aws-kms:{ARN}"\nkms_endpoint_url = "{url}"\nrotate_after_days = 90')
    assert settings.keyring.kms_endpoint_url == url
    assert settings.keyring.rotate_after_days == 90
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[keyring]\nkek = "file:kek"\nkms_endpoint_url = "https://kms.example"',
            "keyring.kms_endpoint_url does nothing",
        ),
        ('[state]\nurl = "redis://localhost/0"\n[keyring]\nkek = "file:kek"', "keyring.kek is a file of this machine"),
    ],
)
def test_what_is_legal_and_unwise_is_said(text, said):
    (warning,) = load_text(text).warnings
    assert said in warning


def test_the_quickstart_has_a_kek_of_its_own():
    root = Path(__file__).resolve().parents[3]
    settings = load_text((root / "config/quickstart.toml").read_text())
    assert settings.keyring.kek == (KekSettings(KekKind.FILE, "kek"),)
