"""Which headers cross the gateway, each way."""

import pytest

from proxy.core.secret import Secret
from proxy.core.types import InboundRequest, KeySource
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.openai import Shape
from proxy.upstream import headers as policy
from proxy.upstream.headers import readable_codings


def request_headers(inbound, payer, provider_key, **also):
    request = InboundRequest("POST", "/v1/x", "/x", ("x",), "", inbound, None)
    dialect = DIALECTS[also.pop("dialect", "openai")]
    return policy.request_headers(request, dialect, payer, provider_key, **also)


def response_headers(upstream, payer, status):
    return policy.response_headers(upstream, dict(reversed(upstream)), payer, status)


SDK = (
    (b"host", b"127.0.0.1:8080"),
    (b"authorization", b"Bearer sk-callers-own"),
    (b"x-api-key", b"sk-callers-own"),
    (b"api-key", b"sk-callers-own"),
    (b"cookie", b"a=b"),
    (b"openai-organization", b"org-1"),
    (b"openai-project", b"proj-1"),
    (b"openai-beta", b"assistants=v2"),
    (b"content-type", b"application/json"),
    (b"content-length", b"17"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"x-stainless-lang", b"python"),
    (b"x-tollway-feature", b"report"),
    (b"x-forwarded-for", b"10.0.0.9"),
    (b"connection", b"keep-alive, X-Hop"),
    (b"x-hop", b"1"),
    (b"expect", b"100-continue"),
)
ALWAYS = [
    (b"openai-beta", b"assistants=v2"),
    (b"content-type", b"application/json"),
    (b"accept", b"application/json"),
    (b"x-stainless-lang", b"python"),
    (b"accept-encoding", b"gzip, deflate"),
]
CALLERS = {b"authorization", b"x-api-key", b"api-key", b"cookie", b"openai-organization", b"openai-project"}


def test_the_gateways_key_replaces_everything_of_the_callers_account():
    headers = request_headers(SDK, KeySource.GATEWAY, Secret("sk-gateway"))
    assert headers == [*ALWAYS, (b"authorization", b"Bearer sk-gateway")]


def test_a_provider_that_wants_no_key_gets_none():
    assert request_headers(SDK, KeySource.GATEWAY, None) == ALWAYS


def test_the_callers_own_key_and_account_cross_untouched():
    headers = request_headers(SDK, KeySource.CALLER, None)
    assert {pair for pair in headers if pair[0] in CALLERS} == {pair for pair in SDK if pair[0] in CALLERS}
    assert [pair for pair in headers if pair[0] not in CALLERS] == ALWAYS


def test_a_streamed_body_keeps_the_length_that_the_caller_told():
    assert (b"content-length", b"17") in request_headers(SDK, KeySource.CALLER, None, content_length=b"17")


def test_a_decompressed_body_loses_its_coding():
    inbound = ((b"content-encoding", b"gzip"),)
    kept = request_headers(inbound, KeySource.CALLER, None)
    assert (b"content-encoding", b"gzip") in kept
    assert (b"content-encoding", b"gzip") not in request_headers(inbound, KeySource.CALLER, None, decompressed=True)


def test_a_connection_header_cannot_take_framing_away():
    inbound = ((b"connection", b"content-type, x-mine"), (b"content-type", b"a/b"), (b"x-mine", b"1"))
    names = [name for name, _ in request_headers(inbound, KeySource.CALLER, None)]
    assert names == [b"content-type", b"accept-encoding"]


def test_list_fields_in_several_lines_count_whole():
    inbound = (
        (b"connection", b"keep-alive"),
        (b"connection", b"x-mine"),
        (b"x-mine", b"1"),
        (b"accept-encoding", b"br"),
        (b"accept-encoding", b"gzip"),
    )
    assert request_headers(inbound, KeySource.CALLER, None) == [(b"accept-encoding", b"gzip")]


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        (None, b"identity"),
        (b"gzip, deflate", b"gzip, deflate"),
        (b"br, zstd", b"identity"),
        (b"GZIP;q=0.5, br", b"gzip"),
        (b"gzip;q=0", b"identity"),
        (b"gzip; q=0.000, deflate", b"deflate"),
        (b"gzip;q=0.01", b"gzip"),
        (b"identity, gzip, gzip", b"identity, gzip"),
        (b"*", b"identity"),
        (b"", b"identity"),
    ],
)
def test_only_codings_that_can_be_read_are_asked_for(accepted, asked):
    assert readable_codings(accepted) == asked


UPSTREAM = (
    (b"date", b"now"),
    (b"server", b"cloudflare"),
    (b"content-type", b"application/json"),
    (b"content-length", b"2"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"close, x-private"),
    (b"x-private", b"1"),
    (b"keep-alive", b"timeout=5"),
    (b"x-request-id", b"req_1"),
    (b"x-ratelimit-remaining-tokens", b"9"),
    (b"openai-processing-ms", b"12"),
    (b"openai-organization", b"org-gateway"),
    (b"set-cookie", b"__cf_bm=1"),
    (b"x-tollway-cost-usd", b"0.00"),
)


def test_an_answer_that_the_gateway_paid_for_shows_nothing_of_its_account():
    names = [name for name, _ in response_headers(UPSTREAM, KeySource.GATEWAY, 200)]
    assert names == [
        b"date",
        b"server",
        b"content-type",
        b"content-length",
        b"x-request-id",
        b"x-ratelimit-remaining-tokens",
        b"openai-processing-ms",
    ]


def test_an_answer_that_the_caller_paid_for_keeps_them():
    names = {name for name, _ in response_headers(UPSTREAM, KeySource.CALLER, 200)}
    assert {b"openai-organization", b"set-cookie"} <= names
    assert b"x-tollway-cost-usd" not in names  # only the gateway speaks under this name


@pytest.mark.parametrize(("status", "kept"), [(200, True), (204, False), (304, False)])
def test_an_answer_without_a_body_announces_no_length(status, kept):
    names = {name for name, _ in response_headers(UPSTREAM, KeySource.CALLER, status)}
    assert (b"content-length" in names) is kept


# ── as each provider's dialect has them ──────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("openai", (b"authorization", b"Bearer sk-1")),
        ("anthropic", (b"x-api-key", b"sk-1")),
        ("azure", (b"api-key", b"sk-1")),
        ("azure-deployments", (b"api-key", b"sk-1")),
        ("gemini", (b"authorization", b"Bearer sk-1")),
        ("bedrock-anthropic", (b"authorization", b"Bearer sk-1")),
    ],
)
def test_the_gateways_key_is_shown_as_the_provider_wants_it(dialect, expected):
    headers = request_headers(SDK, KeySource.GATEWAY, Secret("sk-1"), dialect=dialect)
    assert [pair for pair in headers if pair[0] in CALLERS] == [expected]


def test_the_version_of_anthropics_api_is_the_callers_and_else_one():
    told = request_headers(((b"anthropic-version", b"2026-10-21"),), KeySource.CALLER, None, dialect="anthropic")
    assert [value for name, value in told if name == b"anthropic-version"] == [b"2026-10-21"]
    untold = request_headers((), KeySource.CALLER, None, dialect="anthropic")
    assert [value for name, value in untold if name == b"anthropic-version"] == [b"2023-06-01"]


def test_a_translated_call_has_nothing_of_the_callers_own_api():
    inbound = (
        (b"anthropic-version", b"2026-10-21"),
        (b"anthropic-beta", b"x"),
        (b"content-encoding", b"gzip"),
        (b"x-mine", b"1"),
    )
    headers = request_headers(inbound, KeySource.GATEWAY, Secret("sk-1"), uncoded=True, translated=True)
    assert headers == [(b"x-mine", b"1"), (b"accept-encoding", b"identity"), (b"authorization", b"Bearer sk-1")]
    others = ((b"openai-beta", b"x"), (b"anthropic-version", b"1"))
    headers = request_headers(others, KeySource.GATEWAY, None, dialect="anthropic", uncoded=True, translated=True)
    assert headers == [(b"anthropic-version", b"2023-06-01"), (b"accept-encoding", b"identity")]


def test_a_translated_answer_tells_nothing_of_the_body_that_was():
    upstream = [(b"content-type", b"a/b"), (b"content-length", b"9"), (b"request-id", b"req_1"), (b"retry-after", b"7")]
    assert policy.translated_headers(upstream, Shape.OPENAI) == [(b"x-request-id", b"req_1"), (b"retry-after", b"7")]
    upstream = [(b"x-request-id", b"req_1"), (b"etag", b"x")]
    assert policy.translated_headers(upstream, Shape.ANTHROPIC) == [(b"request-id", b"req_1")]


@pytest.mark.parametrize("twice", [[], [(b"vary", b"a"), (b"vary", b"b")]])
def test_what_the_caller_gets_of_an_answer_keeps_its_order(twice):
    upstream = [(b"content-type", b"a/b"), (b"openai-organization", b"org"), *twice, (b"keep-alive", b"1"), (b"z", b"")]
    expected = [(b"content-type", b"a/b"), *twice, (b"z", b"")]
    assert response_headers(upstream, KeySource.GATEWAY, 200) == expected
