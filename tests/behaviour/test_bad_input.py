"""Promise: bad input is a clear error in OpenAI's envelope with the right status, and the
process goes on."""

import gzip

import pytest

from tests.gateway import JSON, error_of, gateway_before, plain_request, priced_to, running_gateway
from tests.scripted_upstream import answer, scripted_upstream

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
GOOD = b'{"model":"m","messages":[]}'
TEXT = [(b"content-type", b"text/plain")]
GZIP = [*JSON, (b"content-encoding", b"gzip")]
ACME = [(b"x-tollway-tenant", b"acme")]

CASES = {
    "truncated JSON": (CHAT, b'{"model":"m","mess', JSON, 400, "invalid_json", None),
    "not JSON": (CHAT, b"hello", JSON, 400, "invalid_json", None),
    "not JSON, said to be text": (CHAT, b"hello", TEXT, 400, "invalid_json", None),
    "empty body": (CHAT, b"", JSON, 400, "invalid_json", None),
    "a list": (CHAT, b"[1]", JSON, 400, "invalid_json", None),
    "null": (CHAT, b"null", JSON, 400, "invalid_json", None),
    "NaN": (CHAT, b'{"model":"m","temperature":NaN}', JSON, 400, "invalid_json", None),
    "not UTF-8": (CHAT, b'{"model":"\xff"}', JSON, 400, "invalid_json", None),
    "nested too deep": (
        CHAT,
        b'{"model":"m","a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        JSON,
        400,
        "invalid_json",
        None,
    ),
    "model is a number": (CHAT, b'{"model":7}', JSON, 400, "invalid_parameter", "model"),
    "model is empty": (CHAT, b'{"model":""}', JSON, 400, "invalid_parameter", "model"),
    "stream is text": (CHAT, b'{"model":"m","stream":"yes"}', JSON, 400, "invalid_parameter", "stream"),
    "no model": (CHAT, b'{"messages":[]}', JSON, 400, "missing_required_parameter", "model"),
    "model twice": (CHAT, b'{"model":"m","model":"other"}', JSON, 400, "duplicate_parameter", "model"),
    "model twice, once disguised": (
        CHAT,
        b'{"model":"m","mod\\u0065l":"x"}',
        JSON,
        400,
        "duplicate_parameter",
        "model",
    ),
    "stream twice": (CHAT, b'{"model":"m","stream":true,"stream":false}', JSON, 400, "duplicate_parameter", "stream"),
    "a coding nobody reads": (
        CHAT,
        GOOD,
        [*JSON, (b"content-encoding", b"br")],
        415,
        "unsupported_content_encoding",
        None,
    ),
    "said gzip, is not": (CHAT, GOOD, GZIP, 415, "unsupported_content_encoding", None),
    "gzip of no JSON": (CHAT, gzip.compress(b"hello"), GZIP, 400, "invalid_json", None),
    "dot segments": ("/v1/../v1/chat/completions", GOOD, JSON, 400, "invalid_path", None),
    "hidden dot segments": ("/v1/%2e%2e/organization/users", GOOD, JSON, 400, "invalid_path", None),
    "outside v1": ("/nothing/here", GOOD, JSON, 404, "unknown_url", None),
    "administration": ("/v1/organization/users", GOOD, JSON, 404, "unknown_url", None),
    "administration in capitals": ("/v1/Organization/users", GOOD, JSON, 404, "unknown_url", None),
    "a prompt without version": (CHAT, GOOD, [*JSON, (b"x-tollway-prompt", b"name")], 400, "invalid_header", None),
    "a user too long": (CHAT, GOOD, [*JSON, (b"x-tollway-user", b"u" * 129)], 400, "invalid_header", None),
    "another tenant": (CHAT, GOOD, [*JSON, (b"x-tollway-tenant", b"other")], 403, "tenant_not_allowed", None),
}


@pytest.mark.parametrize(("target", "body", "headers", "status", "code", "param"), CASES.values(), ids=CASES)
async def test_is_refused_and_the_next_call_is_served(target, body, headers, status, code, param):
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        got_status, head, got = await plain_request(gateway, "POST", target, body, headers)
        error = error_of(got)
        assert (got_status, error["code"], error["param"]) == (status, code, param)
        assert error["message"]
        assert head[b"x-tollway-run-id"].startswith(b"run_")
        assert head[b"x-tollway-error-source"] in (b"caller", b"policy")
        assert upstream.received == []
        assert (await plain_request(gateway, "POST", CHAT, GOOD))[0] == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("background", b"true"),
        ("cached_content", b'"c"'),
        ("fallbacks", b'["o3"]'),
        ("mcp_servers", b'[{"url":"https://host.test"}]'),
        ("models", b'["o3"]'),
        ("plugins", b'[{"id":"web"}]'),
        ("reasoning_effort", b'"high"'),
        ("search_parameters", b'{"mode":"on"}'),
        ("thinking", b'{"type":"enabled"}'),
    ],
)
async def test_what_decides_the_cost_stands_once_and_in_lower_case(name, value):
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        written = name.encode()
        twice = b'{"model":"m","%b":%b,"%b":null}' % (written, value, written)
        for body, param in ((twice, name), (b'{"model":"m","%b":%b}' % (written.title(), value), name.title())):
            status, _, got = await plain_request(gateway, "POST", CHAT, body)
            error = error_of(got)
            assert (status, error["code"], error["param"]) == (400, "duplicate_parameter", param)
        assert upstream.received == []
        assert (await plain_request(gateway, "POST", CHAT, b'{"model":"m","%b":%b}' % (written, value)))[0] == 200


@pytest.mark.parametrize(
    ("target", "body", "capped_status"),
    [
        (CHAT, b'{"model":"priced","max_tokens":5,"messages":[{"role":"user","content":[{"type":{}}]}]}', 200),
        (CHAT, b'{"model":"priced","max_tokens":5,"messages":[{"type":[],"input":{},"audio":null}]}', 200),
        (CHAT, b'{"model":"priced","max_tokens":5,"messages":[],"tools":[{"type":{}}]}', 403),
        (RESPONSES, b'{"model":"priced","max_output_tokens":5,"input":"hi","tools":[{"type":[]}]}', 403),
        ("/v1/embeddings", b'{"model":"priced","input":[{"type":{}}]}', 200),
    ],
)
async def test_a_type_that_is_no_text_is_passed_on_unless_a_cap_needs_to_know_it(target, body, capped_status):
    async with scripted_upstream(answer(b"{}")) as upstream:
        for limit, expected in (("requests_per_minute = 1_000", 200), ("usd_per_day = 5", capped_status)):
            async with running_gateway(f"{priced_to(upstream.base_url)}[plans.default.tenant]\n{limit}\n") as gateway:
                status, _, got = await plain_request(gateway, "POST", target, body, [*JSON, *ACME])
                assert status == expected
                assert status == 200 or error_of(got)["code"] == "unpriced_endpoint"
        assert [request.body for request in upstream.received] == [body] * [200, capped_status].count(200)


async def test_a_50_mb_body_is_413_and_the_caller_can_read_so():
    body = b'{"model":"m","x":"' + b"x" * 50_000_000 + b'"}'
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, got = await plain_request(gateway, "POST", CHAT, body)
        assert (status, error_of(got)["code"]) == (413, "request_too_large")
        assert (await plain_request(gateway, "POST", CHAT, GOOD))[0] == 200


async def test_a_bomb_is_413():
    bomb = gzip.compress(b'{"model":"m","x":"' + b"x" * 50_000_000 + b'"}')
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, got = await plain_request(gateway, "POST", CHAT, bomb, GZIP)
        assert (status, error_of(got)["code"]) == (413, "request_too_large")


async def test_a_100_kb_header_is_431():
    headers = [*JSON, (b"x-long", b"x" * 100_000)]
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, got = await plain_request(gateway, "POST", CHAT, GOOD, headers)
        assert (status, error_of(got)["code"]) == (431, "headers_too_large")
        assert (await plain_request(gateway, "POST", CHAT, GOOD))[0] == 200


CLOSED = """
[auth]
mode = "passthrough"
allow_keyless = true
[providers.simulated]
transport = "simulated"
[models.simulated]
deployments = [{ provider = "simulated", model = "simulated" }]
"""


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("POST", CHAT, b'{"model":"nobody","messages":[]}', 404, "model_not_found"),
        ("GET", "/v1/models/nobody", b"", 404, "model_not_found"),
        ("POST", "/v1/unheard/of", b"{}", 404, "unknown_url"),
        ("GET", "/v1/files", b"", 404, "unknown_url"),
    ],
)
async def test_without_a_default_provider_what_nobody_routes_is_404(method, target, body, status, code):
    async with running_gateway(CLOSED) as gateway:
        got_status, _, got = await plain_request(gateway, method, target, body)
        assert (got_status, error_of(got)["code"]) == (status, code)


async def test_on_anthropics_paths_an_error_has_anthropics_envelope():
    headers = [*JSON, (b"anthropic-version", b"2023-06-01")]
    async with scripted_upstream(answer(b"{}")) as upstream, gateway_before(upstream) as gateway:
        status, _, got = await plain_request(gateway, "POST", "/v1/messages", b"{", headers)
        assert status == 400
        assert got.startswith(b'{"type":"error","error":{"type":"invalid_request_error"')
