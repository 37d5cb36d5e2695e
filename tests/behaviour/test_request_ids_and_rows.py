"""Promise: each run has one id, in the answer, its row and its log line; the row holds every field
of what is known, and nothing else; a refusal is logged and counted, and has no row."""

import re
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.adapters.price_files import read_price_files, shipped_folder
from proxy.core.clock import Clock
from proxy.identity.virtual_key import digest, issue, mint, mint_id
from proxy.pricing.catalog import parse_catalog
from tests.gateway import JSON, Gateway, error_of, gateway_before, passthrough_to, plain_request, running_gateway
from tests.scripted_upstream import Do, answer, scripted_upstream, stream

CHAT = "/v1/chat/completions"
PLAIN = b'{"model":"alias","messages":[]}'
STREAM = b'{"model":"alias","stream":true,"messages":[]}'
RUN_ID = re.compile(r"run_[0-9a-f]{32}")
OPENAI_PRICES = parse_catalog(read_price_files(shipped_folder(), {"openai"})).version
TIMINGS = {"run_id", "latency_ms", "first_byte_ms", "overhead_us"}

USAGE = (
    b'{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19,'
    b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}'
)
COMPLETION = b'{"id":"c","model":"m-2026-05-01","choices":[],"usage":' + USAGE + b"}"
EVENT = b'data: {"id":"c","model":"m-2026-05-01","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}\n\n'
USAGE_EVENT = b'data: {"id":"c","model":"m-2026-05-01","choices":[],"usage":' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"


class NoonClock(Clock):
    """It is always the same moment: 2026-02-03, 12:00:00.045 UTC."""

    def now_ms(self) -> int:
        return 1_770_120_000_045


# One run as it is written: what differs from it stands in the table below.
RUN: dict[str, Any] = {
    "kind": "run",
    "adjusts": None,
    "started_at": "2026-02-03T12:00:00.045Z",
    "tenant": "default",
    "user": None,
    "feature": None,
    "virtual_key_id": None,
    "prompt_id": None,
    "prompt_version": None,
    "endpoint": "chat_completions",
    "requested_model": "alias",
    "rule": None,
    "split": None,
    "served_model": "m-2026-05-01",
    "provider": "scripted",
    "deployment": "scripted/m-2026",
    "attempts": 1,
    "given_up": None,
    "fallback_reason": None,
    "translated": None,
    "dropped_fields": None,
    "stream": False,
    "status": 200,
    "error_source": None,
    "input_tokens": 12,
    "cached_input_tokens": 4,
    "cache_write_tokens": 0,
    "output_tokens": 7,
    "reasoning_tokens": 3,
    "usage_source": "exact",
    "price_version": None,
    "held_nusd": None,
    "cost_nusd": None,
    "charged_nusd": None,
    "absorbed_nusd": None,
    "saved_nusd": None,
    "key_source": "caller",
    "cache": None,
}
NO_USAGE = dict.fromkeys(
    (
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "usage_source",
    )
)


def usage(*, input_: int, cached: int = 0, written: int = 0, output: int = 0, reasoning: int = 0) -> dict[str, int]:
    return {
        "input_tokens": input_,
        "cached_input_tokens": cached,
        "cache_write_tokens": written,
        "output_tokens": output,
        "reasoning_tokens": reasoning,
    }


RUNS: dict[str, tuple[str, bytes, list[tuple[bytes, bytes]], list, dict[str, Any]]] = {
    "plain": (CHAT, PLAIN, JSON, answer(COMPLETION), {}),
    "stream": (CHAT, STREAM, JSON, stream(EVENT, USAGE_EVENT, DONE), {"stream": True}),
    "stream without a report": (CHAT, STREAM, JSON, stream(EVENT, DONE), {"stream": True, **NO_USAGE}),
    "who and which prompt, from headers": (
        CHAT,
        PLAIN,
        [
            *JSON,
            (b"x-tollway-user", "jürgen".encode()),
            (b"x-tollway-feature", b"report"),
            (b"x-tollway-prompt", b"sales@2024@7"),
        ],
        answer(COMPLETION),
        {"user": "jürgen", "feature": "report", "prompt_id": "sales@2024", "prompt_version": "7"},
    ),
    "the body's user": (
        CHAT,
        b'{"model":"alias","user":"u-7","messages":[]}',
        JSON,
        answer(COMPLETION),
        {"user": "u-7"},
    ),
    "the body's safety_identifier before its user": (
        CHAT,
        b'{"model":"alias","user":"u-7","safety_identifier":"s-1","messages":[]}',
        JSON,
        answer(COMPLETION),
        {"user": "s-1"},
    ),
    "a model that the default provider may know": (
        CHAT,
        b'{"model":"unheard-of","messages":[]}',
        JSON,
        answer(COMPLETION),
        {"requested_model": "unheard-of", "deployment": "scripted/unheard-of"},
    ),
    "embeddings": (
        "/v1/embeddings",
        b'{"model":"alias","input":"hi"}',
        JSON,
        answer(b'{"data":[],"model":"e-1","usage":{"prompt_tokens":5,"total_tokens":5}}'),
        {"endpoint": "embeddings", "served_model": "e-1", **usage(input_=5)},
    ),
    "a response": (
        "/v1/responses",
        b'{"model":"alias","input":"hi"}',
        JSON,
        answer(
            b'{"id":"resp_1","model":"m-2026-05-01","usage":{"input_tokens":12,"output_tokens":7,'
            b'"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":3}}}'
        ),
        {"endpoint": "responses"},
    ),
    "a message, whose input excludes what was cached": (
        "/v1/messages",
        b'{"model":"alias","max_tokens":9,"messages":[]}',
        [*JSON, (b"anthropic-version", b"2023-06-01")],
        answer(
            b'{"type":"message","model":"m-2026-05-01","usage":{"input_tokens":10,"output_tokens":7,'
            b'"cache_read_input_tokens":4,"cache_creation_input_tokens":2}}'
        ),
        {"endpoint": "messages", **usage(input_=16, cached=4, written=2, output=7)},
    ),
    "an error of the provider's": (
        CHAT,
        PLAIN,
        JSON,
        answer(b'{"error":{"message":"slow down"}}', status=b"429 Too Many Requests"),
        {
            "status": 429,
            "error_source": "upstream",
            "served_model": "m-2026",
            "attempts": 2,  # it was sent once more, after a second
            "given_up": "scripted/m-2026:429",
            **NO_USAGE,
        },
    ),
    "no answer": (
        CHAT,
        PLAIN,
        JSON,
        [Do.CLOSE],
        {"status": 502, "error_source": "upstream", "served_model": "m-2026", **NO_USAGE},
    ),
    "a call that names no model": (
        "/v1/moderations",
        b'{"input":"hi"}',
        JSON,
        answer(b'{"id":"modr-1","model":"omni","results":[]}'),
        {
            "endpoint": "moderations",
            "requested_model": None,
            "served_model": "omni",
            "deployment": "scripted",
            "price_version": OPENAI_PRICES,  # moderations without a model are OpenAI's newest, which is free
            **NO_USAGE,
        },
    ),
}


async def the_row(gateway: Gateway, head: dict[bytes, bytes], tenant_id: str = "default") -> dict[str, Any]:
    """The only row, less its timings, which are looked at here."""
    await gateway.idle()
    (row,) = await gateway.rows(tenant_id)
    assert RUN_ID.fullmatch(row["run_id"])
    assert row["run_id"].encode() == head[b"x-tollway-run-id"]
    assert row.pop("config_version").encode() == head[b"x-tollway-config"]
    assert isinstance(row["overhead_us"], int)
    first_byte_ms = row["first_byte_ms"] if row["first_byte_ms"] is not None else row["latency_ms"]
    assert 0 < row["overhead_us"] / 1_000 <= first_byte_ms <= row["latency_ms"] < 60_000
    assert (row["first_byte_ms"] is None) == (row["status"] == 502)
    (line,) = await gateway.log_lines(1)
    assert line["run_id"] == row["run_id"]
    assert line["latency_ms"] == row["latency_ms"]
    return {name: value for name, value in row.items() if name not in TIMINGS}


@pytest.mark.parametrize(("target", "body", "headers", "script", "differs"), RUNS.values(), ids=RUNS)
async def test_a_row_holds_every_field_and_no_other(target, body, headers, script, differs):
    async with scripted_upstream(script) as upstream:
        dialect = "anthropic" if target == "/v1/messages" else "openai"
        async with running_gateway(passthrough_to(upstream.base_url, dialect=dialect), clock=NoonClock()) as gateway:
            _, head, _ = await plain_request(gateway, "POST", target, body, headers)
            assert await the_row(gateway, head) == {**RUN, **differs}


def test_the_moment_is_the_one_that_is_meant():
    """The clock above, read by hand: 56 years of 365 days and 14 leap days since 1970, then 33 days."""
    days = 56 * 365 + 14 + 33
    assert NoonClock().now_ms() == (days * 86_400 + 12 * 3_600) * 1_000 + 45


@asynccontextmanager
async def gateway_with_virtual_keys(base_url: str, **bound: Any):
    """A gateway in the mode virtual-keys, and a token of it with its id."""
    text = f"""
[auth]
mode = "virtual-keys"
peppers = ["env:PEPPER"]
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateways"
[models.alias]
deployments = [{{ provider = "scripted", model = "m-2026" }}]
"""
    pepper = b"p" * 32
    token = mint(b"t" * 32)
    virtual_key = issue(tenant_id="acme", token=token, virtual_key_id=mint_id(b"i" * 16), now_ms=1, **bound)
    environ = {"PEPPER": "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="}
    async with running_gateway(text, environ=environ, clock=NoonClock()) as gateway:
        await gateway.app.stores.virtual_keys.put(virtual_key, digest(token.reveal(), pepper))
        yield gateway, [*JSON, (b"authorization", b"Bearer " + token.reveal().encode())], virtual_key.id


async def test_the_row_of_a_virtual_key():
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with gateway_with_virtual_keys(upstream.base_url, user="u-1") as (gateway, headers, virtual_key_id):
            named = [(b"x-tollway-feature", b"chat"), (b"x-tollway-prompt", b"greeting@3")]
            status, head, _ = await plain_request(gateway, "POST", CHAT, PLAIN, [*headers, *named])
            assert status == 200
            assert await the_row(gateway, head, "acme") == {
                **RUN,
                "tenant": "acme",
                "user": "u-1",
                "feature": "chat",
                "virtual_key_id": virtual_key_id,
                "prompt_id": "greeting",
                "prompt_version": "3",
                "key_source": "gateway",
            }
            assert await gateway.rows() == []  # of no other tenant
            (line,) = await gateway.log_lines(1)
            assert (line["tenant"], line["virtual_key_id"]) == ("acme", virtual_key_id)


async def test_the_log_line_and_the_metrics_of_a_run():
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url), clock=NoonClock()) as gateway:
            _, head, _ = await plain_request(gateway, "POST", CHAT + "?beta=true", PLAIN)
            await gateway.idle()
            (line,) = await gateway.log_lines(1)
            timings = {name: line.pop(name) for name in ("latency_ms", "overhead_us")}
            assert all(value > 0 for value in timings.values())
            assert line == {
                "at": "2026-02-03T12:00:00.045Z",
                "run_id": head[b"x-tollway-run-id"].decode(),
                "peer": "127.0.0.1",
                "method": "POST",
                "path": CHAT,
                "endpoint": "chat_completions",
                "tenant": "default",
                "virtual_key_id": None,
                "model": "alias",
                "deployment": "scripted/m-2026",
                "attempts": 1,
                "stream": False,
                "cache": None,
                "status": 200,
                "error": None,
                "error_source": None,
                "body_bytes": len(COMPLETION),
                "output_tokens": 7,
                "config": head[b"x-tollway-config"].decode(),
            }
            expected = {
                'requests_total{endpoint="chat_completions",error_source="none",model="alias",status="200"}': 1,
                'request_seconds_count{endpoint="chat_completions"}': 1,
                'first_byte_seconds_count{endpoint="chat_completions"}': 1,
                "overhead_seconds_count": 1,
                'attempts_total{deployment="scripted/m-2026",outcome="answered"}': 1,
                'tokens_total{kind="input"}': 12,
                'tokens_total{kind="cached_input"}': 4,
                'tokens_total{kind="cache_write"}': 0,
                'tokens_total{kind="output"}': 7,
                'tokens_total{kind="reasoning"}': 3,
                'usage_source_total{source="unpriced"}': 1,
                "settlements_pending": 0,
            }
            await gateway.rows()
            assert {name: gateway.metric("tollway_" + name) for name in expected} == expected


REFUSALS = {
    "no key": (CHAT, PLAIN, [], 401, "invalid_api_key", "caller", "chat_completions", "none"),
    "not JSON": (CHAT, b"{", None, 400, "invalid_json", "caller", "chat_completions", "none"),
    "no such model": (CHAT, b'{"model":"x"}', None, 404, "model_not_found", "caller", "chat_completions", "other"),
    "an object of the provider's": (
        "/v1/batches",
        b"{}",
        None,
        404,
        "unknown_url",
        "caller",
        "batches",
        "none",
    ),
    "a path that is none": ("/v1/../admin", b"{}", None, 400, "invalid_path", "caller", "other", "none"),
    "a header that cannot be": (
        CHAT,
        PLAIN,
        [(b"x-tollway-prompt", b"nameless")],
        400,
        "invalid_header",
        "caller",
        "chat_completions",
        "none",
    ),
    "another tenant's name": (
        CHAT,
        PLAIN,
        [(b"x-tollway-tenant", b"other")],
        403,
        "tenant_not_allowed",
        "policy",
        "chat_completions",
        "none",
    ),
}


@pytest.mark.parametrize(
    ("target", "body", "headers", "status", "code", "source", "endpoint", "model"), REFUSALS.values(), ids=REFUSALS
)
async def test_a_refusal_is_logged_and_counted_and_has_no_row(
    target, body, headers, status, code, source, endpoint, model
):
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with gateway_with_virtual_keys(upstream.base_url) as (gateway, known, _):
            sent = [*known, *headers] if headers else known
            if headers == []:
                sent = [*JSON, (b"authorization", b"")]
            got_status, head, got = await plain_request(gateway, "POST", target, body, sent)
            assert (got_status, error_of(got)["code"]) == (status, code)
            await gateway.idle()
            (line,) = await gateway.log_lines(1)
            assert line["run_id"].encode() == head[b"x-tollway-run-id"]
            assert (line["status"], line["error"], line["error_source"]) == (status, code, source)
            assert (line["deployment"], line["overhead_us"], line["body_bytes"]) == (None, None, 0)
            labels = f'endpoint="{endpoint}",error_source="{source}",model="{model}",status="{status}"'
            assert gateway.metric(f"tollway_requests_total{{{labels}}}") == 1
            assert gateway.metric(f'tollway_auth_failures_total{{code="{code}"}}') == (status in (401, 403))
            assert await gateway.app.stores.ledger.tenants() == []
            assert upstream.received == []


async def test_what_the_gateway_answers_itself_is_logged_and_has_no_row():
    async with scripted_upstream(answer(COMPLETION)) as upstream, gateway_before(upstream) as gateway:
        status, head, _ = await plain_request(gateway, "GET", "/v1/models")
        assert status == 200
        (line,) = await gateway.log_lines(1)
        assert (line["run_id"].encode(), line["status"]) == (head[b"x-tollway-run-id"], 200)
        assert await gateway.rows() == []
        labels = 'endpoint="models",error_source="none",model="none",status="200"'
        assert gateway.metric(f"tollway_requests_total{{{labels}}}") == 1


async def test_ids_are_unique_and_in_order_of_time():
    async with scripted_upstream(answer(COMPLETION)) as upstream, gateway_before(upstream) as gateway:
        told = [(await plain_request(gateway, "POST", CHAT, PLAIN))[1][b"x-tollway-run-id"].decode() for _ in range(20)]
        await gateway.idle()
        assert [row["run_id"] for row in await gateway.rows()] == told
        assert len(set(told)) == 20
        milliseconds = [int(run_id.removeprefix("run_")[:12], 16) for run_id in told]
        assert milliseconds == sorted(milliseconds)
