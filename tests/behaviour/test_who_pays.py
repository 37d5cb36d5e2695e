"""Promise: a caller's own key goes to the default provider and nowhere else; the gateway's
keys are seen by their provider alone; neither is ever shown to a caller."""

import pytest

from tests.gateway import CALLERS_TOKEN, JSON, error_of, passthrough_to, plain_request, running_gateway
from tests.scripted_upstream import answer, scripted_upstream, stream

CHAT = "/v1/chat/completions"
GATEWAYS = "sk-gateway-own-key"


def two_providers(first: str, second: str, *, keyless: str) -> str:
    return passthrough_to(
        first,
        f"""
[providers.other]
base_url = "{second}"
provider_key = "env:OTHER_KEY"
[models.elsewhere]
deployments = [{{ provider = "other", model = "o-1" }}]
""",
    ).replace('mode = "passthrough"', f'mode = "passthrough"\nallow_keyless = {keyless}')


async def test_a_callers_key_reaches_the_default_provider_untouched():
    async with scripted_upstream(answer(b"{}")) as first, scripted_upstream(answer(b"{}")) as second:
        text = two_providers(first.base_url, second.base_url, keyless="true")
        async with running_gateway(text, environ={"OTHER_KEY": GATEWAYS}) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, b'{"model":"m"}'))[0] == 200
            assert first.received[0].header(b"authorization") == f"Bearer {CALLERS_TOKEN}".encode()
            rows = await gateway.rows()
            assert [row["key_source"] for row in rows] == ["caller"]


async def test_a_callers_key_never_reaches_another_provider():
    headers = [*JSON, (b"x-api-key", CALLERS_TOKEN.encode()), (b"openai-organization", b"org-callers")]
    async with scripted_upstream(answer(b"{}")) as first, scripted_upstream(answer(b"{}")) as second:
        text = two_providers(first.base_url, second.base_url, keyless="true")
        async with running_gateway(text, environ={"OTHER_KEY": GATEWAYS}) as gateway:
            status, _, _ = await plain_request(gateway, "POST", CHAT, b'{"model":"elsewhere"}', headers)
            assert status == 200
            assert first.received == []
            assert second.received[0].header(b"authorization") == f"Bearer {GATEWAYS}".encode()
            sent = repr(second.received[0].headers)
            assert CALLERS_TOKEN not in sent
            assert "org-callers" not in sent


async def test_without_keyless_another_provider_is_refused_before_anything_is_sent():
    async with scripted_upstream(answer(b"{}")) as first, scripted_upstream(answer(b"{}")) as second:
        text = two_providers(first.base_url, second.base_url, keyless="false")
        async with running_gateway(text, environ={"OTHER_KEY": GATEWAYS}) as gateway:
            status, _, body = await plain_request(gateway, "POST", CHAT, b'{"model":"elsewhere"}')
            assert (status, error_of(body)["code"]) == (400, "provider_key_missing")
            assert second.received == []


def with_gateways_key(base_url: str, extra: str = "") -> str:
    return f"""
[auth]
mode = "trusted-headers"
default_provider = "scripted"
[providers.scripted]
base_url = "{base_url}"
provider_key = "{GATEWAYS}"
{extra}
"""


ACME = [*JSON, (b"x-tollway-tenant", b"acme")]
REFUSALS = {
    "401": (b"401 Unauthorized", b'{"error":{"message":"Incorrect API key provided: sk-gate****-key"}}'),
    "403 about the key": (b"403 Forbidden", b'{"error":{"code":"insufficient_permissions","message":"sk-gate"}}'),
    "403 in no known words": (b"403 Forbidden", b"go away"),
}


@pytest.mark.parametrize(("status_line", "refusal"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refusal_of_the_gateways_key_is_not_shown(status_line, refusal):
    script = answer(refusal, status=status_line, headers=[(b"set-cookie", b"a=b")])
    async with scripted_upstream(script) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            status, head, body = await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', ACME)
            assert (status, error_of(body)["code"]) == (502, "provider_auth_failed")
            assert head[b"x-tollway-error-source"] == b"upstream"
            assert b"sk-gate" not in body + repr(head).encode()
            assert (await gateway.rows("acme"))[0]["status"] == 502


async def test_a_403_about_the_content_passes():
    refusal = b'{"error":{"code":"content_policy_violation","message":"flagged by our safety system"}}'
    async with scripted_upstream(answer(refusal, status=b"403 Forbidden")) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            status, _, body = await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', ACME)
            assert (status, body) == (403, refusal)


async def test_a_401_of_the_callers_own_key_passes_with_its_bytes():
    refusal = b'{"error":{"message":"Incorrect API key provided: sk-call****","code":"invalid_api_key"}}'
    async with scripted_upstream(answer(refusal, status=b"401 Unauthorized")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            status, _, body = await plain_request(gateway, "POST", CHAT, b'{"model":"m"}')
            assert (status, body) == (401, refusal)


NAMING = {
    "files": ("GET", "/v1/files", b""),
    "a file": ("DELETE", "/v1/files/file-abc123", b""),
    "batches": ("POST", "/v1/batches", b'{"input_file_id":"file-abc"}'),
    "a stored response": ("GET", "/v1/responses/resp_0123456789abcdef", b""),
    "stored completions": ("GET", "/v1/chat/completions", b""),
    "in capitals": ("GET", "/v1/Files", b""),
    "an earlier response": ("POST", "/v1/responses", b'{"model":"m","previous_response_id":"resp_1"}'),
    "disguised": ("POST", "/v1/responses", b'{"model":"m","previous_response_\\u0069d":"resp_1"}'),
    "a conversation": ("POST", "/v1/responses", b'{"model":"m","conversation":"conv_1"}'),
    "a file id": (
        "POST",
        CHAT,
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]}',
    ),
    "a vector store": (
        "POST",
        "/v1/responses",
        b'{"model":"m","tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}',
    ),
}


@pytest.mark.parametrize(("method", "target", "body"), NAMING.values(), ids=NAMING)
async def test_objects_of_a_shared_account_are_out_of_reach(method, target, body):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            status, _, got = await plain_request(gateway, method, target, body, ACME)
            assert (status, error_of(got)["code"]) == (403, "stateful_path_not_isolated")
            assert upstream.received == []


@pytest.mark.parametrize(("method", "target", "body"), NAMING.values(), ids=NAMING)
async def test_the_callers_own_account_is_its_own(method, target, body):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, method, target, body))[0] == 200


async def test_creating_a_response_is_served_and_allow_shared_state_opens_the_rest():
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, "POST", "/v1/responses", b'{"model":"m"}', ACME))[0] == 200
        async with running_gateway(with_gateways_key(upstream.base_url, "allow_shared_state = true")) as gateway:
            assert (await plain_request(gateway, "GET", "/v1/files", b"", ACME))[0] == 200


async def test_no_account_of_the_gateway_is_shown_beside_an_answer():
    headers = [(b"set-cookie", b"__cf_bm=1"), (b"openai-organization", b"org-gw"), (b"x-request-id", b"req_1")]
    async with scripted_upstream(answer(b"{}", headers=headers)) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            _, head, _ = await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', ACME)
            assert b"set-cookie" not in head
            assert b"openai-organization" not in head
            assert head[b"x-request-id"] == b"req_1"


async def test_secrets_are_in_no_log_line_row_or_metric():
    async with scripted_upstream(stream(b"data: {}\n\n", b"data: [DONE]\n\n")) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"canary-prompt"}]}'
            await plain_request(gateway, "POST", CHAT + "?canary-query=1", body, ACME)
            rows = await gateway.rows("acme")
            seen = repr(rows) + gateway.app.metrics.render()[0].decode()
        seen += gateway.log_sink.getvalue().decode()
        assert rows
        assert "run_" in gateway.log_sink.getvalue().decode()
        for secret in (GATEWAYS, CALLERS_TOKEN, "canary-prompt", "canary-query"):
            assert secret not in seen


async def test_a_callers_key_in_the_query_does_not_cross_where_the_gateway_pays():
    target = CHAT + "?key=callers&a=%20b&Api-Key=callers&api%2Dkey=callers&c"
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, "POST", target, b'{"model":"m"}', ACME))[0] == 200
            assert upstream.received[0].target == CHAT + "?a=%20b&c"
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, "POST", target, b'{"model":"m"}'))[0] == 200
            assert upstream.received[1].target == target


async def test_addresses_of_the_operators_network_are_not_told(caplog):
    async with running_gateway(with_gateways_key("http://127.0.0.1:1/v1")) as gateway:
        status, _, body = await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', ACME)
        assert (status, error_of(body)["code"]) == (502, "upstream_unreachable")
        assert b"127.0.0.1" not in body
        assert "127.0.0.1:1" in caplog.text


@pytest.mark.parametrize(
    "name",
    [b"x-http-method-override", b"x-original-url", b"x-rewrite-url", b"x-forwarded-prefix", b"x-host", b"x-real-ip"],
)
async def test_a_header_that_overrides_what_was_checked_does_not_cross(name):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(with_gateways_key(upstream.base_url)) as gateway:
            headers = [*ACME, (name, b"/v1/files")]
            assert (await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', headers))[0] == 200
            assert upstream.received[0].header(name) is None
