from ipaddress import ip_network

import pytest

from proxy.core.errors import IdentityConflict, InvalidApiKey, InvalidHeader, TenantNotAllowed
from proxy.core.secret import Secret
from proxy.core.types import Caller
from proxy.identity.caller import (
    Prompt,
    base_caller,
    caller_of_passthrough,
    caller_of_trusted_headers,
    caller_of_virtual_key,
    is_foreign_page,
    is_trusted_peer,
    parse_prompt,
    presented_token,
    read_claims,
    with_body_user,
)
from proxy.identity.virtual_key import VirtualKey


def claims(**headers: bytes):
    return read_claims(tuple((name.replace("_", "-").encode(), value) for name, value in headers.items()))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"authorization", b"Bearer twk_a")], "twk_a"),
        ([(b"authorization", b"bearer  twk_a ")], "twk_a"),
        ([(b"x-api-key", b"twk_a")], "twk_a"),
        ([(b"api-key", b" twk_a")], "twk_a"),
        ([(b"authorization", b"Bearer twk_a"), (b"x-api-key", b"twk_a")], "twk_a"),
        ([(b"authorization", b"Bearer "), (b"x-api-key", b"twk_a")], "twk_a"),  # an SDK without a key sends this
        ([(b"authorization", b"Bearer")], None),
        ([(b"authorization", b"")], None),
        ([(b"x-goog-api-key", b"twk_a"), (b"cookie", b"twk_a")], None),
        ([(b"authorization", b"Bearer \xff")], "ÿ"),
    ],
)
def test_presented_token(headers, expected):
    assert presented_token(read_claims(tuple(headers))) == expected


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer twk_a"), (b"x-api-key", b"twk_b")],
        [(b"x-api-key", b"twk_a"), (b"api-key", b"twk_b")],
        [(b"x-api-key", b"twk_a"), (b"x-api-key", b"twk_b")],
        [(b"authorization", b"Basic dXNlcjpwYXNz")],
        [(b"authorization", b"twk_a")],
    ],
)
def test_credentials_that_two_readers_could_read_differently_are_refused(headers):
    with pytest.raises(InvalidApiKey) as refused:
        presented_token(read_claims(tuple(headers)))
    assert "twk_a" not in refused.value.message
    assert "dXNl" not in refused.value.message


def test_claims_do_not_show_their_credentials():
    assert "twk_a" not in repr(claims(x_api_key=b"twk_a", x_tollway_user=b"ann"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-tollway-tenant", b"a b"),
        (b"x-tollway-tenant", b"a" * 65),
        (b"x-tollway-tenant", b"a}:b"),
        (b"x-tollway-tenant", b"\xc3\xa4"),
        (b"x-tollway-user", b"x" * 129),
        (b"x-tollway-user", b"\xff\xfe"),
        (b"x-tollway-user", b"a\tb"),
        (b"x-tollway-feature", b"x" * 129),
        (b"x-tollway-feature", b"\xff"),
    ],
)
def test_a_header_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(InvalidHeader) as refused:
        read_claims(((name, value),))
    assert name.decode() in refused.value.message


@pytest.mark.parametrize("name", [b"x-tollway-tenant", b"x-tollway-user", b"x-tollway-feature"])
def test_a_header_given_twice_must_agree_with_itself(name):
    read_claims(((name, b"a"), (name, b"a")))
    with pytest.raises(InvalidHeader, match="twice"):
        read_claims(((name, b"a"), (name, b"b")))


OPEN_KEY = VirtualKey("vk_1", "acme", 1, "abcd", allowed_models=frozenset({"m"}))
BOUND_KEY = VirtualKey("vk_2", "acme", 1, "abcd", user="ann", feature="report")


@pytest.mark.parametrize(
    ("virtual_key", "headers", "user", "feature"),
    [
        (OPEN_KEY, {}, None, None),
        (OPEN_KEY, {"x_tollway_user": "Zoë".encode()}, "Zoë", None),
        (OPEN_KEY, {"x_tollway_feature": b"sql"}, None, "sql"),
        (OPEN_KEY, {"x_tollway_user": b""}, None, None),  # empty is none
        (OPEN_KEY, {"x_tollway_tenant": b"acme"}, None, None),
        (BOUND_KEY, {}, "ann", "report"),
        (BOUND_KEY, {"x_tollway_user": b"ann", "x_tollway_feature": b"report"}, "ann", "report"),
    ],
)
def test_headers_add_what_the_key_leaves_open(virtual_key, headers, user, feature):
    caller = caller_of_virtual_key(virtual_key, claims(**headers), base_caller(virtual_key))
    assert caller == Caller("acme", user, feature, virtual_key.id, virtual_key.allowed_models)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"x_tollway_tenant": b"other"}, TenantNotAllowed),
        ({"x_tollway_tenant": b"ACME"}, TenantNotAllowed),
        ({"x_tollway_user": b"bob"}, IdentityConflict),
        ({"x_tollway_feature": b"sql"}, IdentityConflict),
        ({"x_tollway_user": b"ann", "x_tollway_feature": b"sql"}, IdentityConflict),
    ],
)
def test_headers_change_nothing_that_the_key_says(headers, error):
    with pytest.raises(error) as refused:
        caller_of_virtual_key(BOUND_KEY, claims(**headers), base_caller(BOUND_KEY))
    assert "ann" not in refused.value.message  # what the key is bound to is not told


def test_passthrough_keeps_the_callers_own_token():
    caller = caller_of_passthrough(claims(authorization=b"Bearer sk-own", x_tollway_user=b"ann"), "default")
    assert caller == Caller("default", user="ann", provider_token=Secret("sk-own"))
    assert "sk-own" not in repr(caller)


def test_passthrough_without_a_token_is_a_caller_without_one():
    assert caller_of_passthrough(claims(), "default") == Caller("default")


def test_passthrough_is_the_default_tenant_whatever_a_header_says():
    with pytest.raises(TenantNotAllowed):
        caller_of_passthrough(claims(x_tollway_tenant=b"acme"), "default")


def test_trusted_headers_name_the_caller_and_the_token_is_not_looked_at():
    headers = {"x_tollway_tenant": b"acme", "x_tollway_user": b"ann", "x_tollway_feature": b"sql"}
    caller = caller_of_trusted_headers(claims(authorization=b"Basic x", **headers))
    assert caller == Caller("acme", "ann", "sql")


@pytest.mark.parametrize("headers", [{}, {"x_tollway_user": b"ann"}, {"x_tollway_tenant": b""}])
def test_trusted_headers_without_a_tenant_are_refused(headers):
    with pytest.raises(InvalidHeader, match="x-tollway-tenant"):
        caller_of_trusted_headers(claims(**headers))


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (None, True),  # a Unix socket
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::5", True),
        ("10.2.0.1", False),
        ("8.8.8.8", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_is_trusted_peer(peer, expected):
    assert is_trusted_peer(peer, [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]) is expected


@pytest.mark.parametrize(
    ("known", "document", "expected"),
    [
        (None, {}, None),
        (None, {"user": "u"}, "u"),
        (None, {"user": "u", "safety_identifier": "s"}, "s"),
        (None, {"user": "u", "safety_identifier": None}, "u"),
        (None, {"user": "u", "safety_identifier": "x" * 129}, "u"),
        ("ann", {"user": "u", "safety_identifier": "s"}, "ann"),
        (None, {"user": 5}, None),
        (None, {"user": ["u"]}, None),
        (None, {"user": ""}, None),
        (None, {"user": "x" * 128}, "x" * 128),
        (None, {"user": "ü" * 65}, None),
        (None, {"user": "a\nb"}, None),
    ],
)
def test_with_body_user(known, document, expected):
    assert with_body_user(Caller("acme", user=known, feature="f"), document) == Caller("acme", expected, "f")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"summary@3", Prompt("summary", "3")),
        (b" summary@v1.2 ", Prompt("summary", "v1.2")),
        (b"team@acme/summary@3", Prompt("team@acme/summary", "3")),
        ("größe@ü".encode(), Prompt("größe", "ü")),
    ],
)
def test_parse_prompt(value, expected):
    assert parse_prompt(value) == expected


@pytest.mark.parametrize("value", [b"", b"summary", b"@3", b"summary@", b"\xff@1", b"a" * 129 + b"@1", b"a\tb@1"])
def test_a_prompt_without_a_name_or_version_is_refused(value):
    with pytest.raises(InvalidHeader, match="name@version"):
        parse_prompt(value)


@pytest.mark.parametrize(
    ("origin", "foreign"),
    [
        (b"https://evil.test", True),
        (b"http://evil.test:8080", True),  # a name that its owner has made to mean this machine
        (b"http://localhost.evil.test", True),
        (b"http://127.0.0.1.evil.test", True),
        (b"http://[2001:db8::1]:8080", True),
        (b"http://10.0.0.7", True),
        (b"https://", True),
        (b"null", True),  # a sandboxed frame, a file
        (b"HTTPS://EVIL.test", True),
        (b"http://localhost:3000", False),
        (b"http://app.localhost:3000", False),
        (b"http://127.0.0.1:3000", False),
        (b"http://[::1]:3000", False),
        (b"vscode-webview://1a2b3c", False),
        (b"chrome-extension://abcdef", False),
    ],
)
def test_which_pages_are_of_another_machine(origin, foreign):
    assert is_foreign_page(origin) is foreign
