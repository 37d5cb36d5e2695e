"""Promise: what was answered before is answered again without asking anybody, byte for byte, to whoever asked the very
same and may: with its row, within its limits, and never to another tenant."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.admission.hits import HitAdmission, HitDemand
from proxy.admission.keeper import Keeper
from proxy.core.errors import StateUnavailable
from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.pipeline import caching, settlement
from proxy.settings.load import load
from proxy.settings.model import Settings
from tests.gateway import (
    JSON,
    BrokenOff,
    Gateway,
    error_of,
    passthrough_to,
    plain_request,
    raw_request,
    running_gateway,
)
from tests.scripted_upstream import Do, ScriptedUpstream, Step, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COST_NUSD = 10 * 1_000 + 5 * 2_000  # by the prices below
EVENTS = (
    b'data: {"id":"c","model":"gpt-x","choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n',
    b'data: {"id":"c","model":"gpt-x","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c","choices":[],"usage":' + json.dumps(USAGE).encode() + b"}\n\n",
)
DONE = b"data: [DONE]\n\n"


def configuration(base_url: str, *, cache: str = '{ mode = "all" }', more: str = "", plan: str = "") -> str:
    return f"""
[auth]
mode = "trusted-headers"
[providers.openai]
base_url = "{base_url}"
[models.m]
deployments = [
  {{ provider = "openai", model = "m-1", price = {{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 2.0 }} }},
]
[models.n]
deployments = [{{ provider = "openai", model = "n-1" }}]
[tenants.acme]
cache = {cache}
[tenants.other]
cache = {cache}
[plans.default.tenant]
{plan}
{more}
"""


def settings_of(text: str) -> Settings:
    """As a reload reads them."""
    return load(text, path="test.toml", environ={}, read_file=Path.read_text)


def completion(text: str = "Hello") -> bytes:
    message = {"role": "assistant", "content": text}
    document = {"id": "c", "object": "chat.completion", "model": "gpt-x", "choices": [{"index": 0, "message": message}]}
    return json.dumps({**document, "usage": USAGE}).encode()


def chat(text: str = "Hi", **more: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


@asynccontextmanager
async def served(text: str = "Hello", **changed: str) -> AsyncIterator[tuple[Gateway, ScriptedUpstream]]:
    state_url, cache_url = changed.pop("state_url", None), changed.pop("cache_url", None)
    async with (
        scripted_upstream(answer(completion(text), headers=[(b"x-request-id", b"req_1")])) as upstream,
        running_gateway(
            configuration(upstream.base_url, **changed), state_url=state_url, cache_url=cache_url
        ) as gateway,
    ):
        yield gateway, upstream


async def ask(
    gateway: Gateway, body: bytes | None = None, *headers: tuple[bytes, bytes], tenant: str = "acme", path: str = CHAT
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent = [*JSON, (b"x-tollway-tenant", tenant.encode()), *headers]
    return await plain_request(gateway, "POST", path, chat() if body is None else body, sent)


def said(head: dict[bytes, bytes]) -> str | None:
    value = head.get(b"x-tollway-cache")
    return None if value is None else value.decode()


async def rows(gateway: Gateway) -> list[dict[str, Any]]:
    """In the order of the calls: a hit's is written at once, another's when its call is over."""
    return sorted(await gateway.rows("acme"), key=lambda row: row["run_id"])


async def test_a_plain_answer_comes_again_byte_for_byte_with_its_row():
    async with served() as (gateway, upstream):
        first = await ask(gateway)
        status, head, body = await ask(gateway)
        assert (first[0], said(first[1])) == (200, "miss")
        assert (status, said(head), body) == (200, "hit", first[2])
        assert len(upstream.received) == 1
        assert (head[b"content-type"], head[b"age"]) == (b"application/json", b"0")
        assert head[b"content-length"] == b"%d" % len(body)
        assert (head[b"x-tollway-model"], head[b"x-tollway-attempts"]) == (b"openai/m-1", b"0")
        assert (head[b"x-tollway-cost-usd"], head[b"x-tollway-saved-usd"]) == (b"0", b"0.00002")
        assert b"x-request-id" not in head  # it names a call that this one is not
        assert head[b"x-tollway-run-id"] != first[1][b"x-tollway-run-id"]
        made, kept = await rows(gateway)
        assert (made["cache"], made["cost_nusd"], made["saved_nusd"]) == ("miss", COST_NUSD, None)
        told = {name: kept[name] for name in ("run_id", "cache", "attempts", "status", "deployment", "served_model")}
        assert told == {
            "run_id": head[b"x-tollway-run-id"].decode(),
            "cache": "hit",
            "attempts": 0,
            "status": 200,
            "deployment": "openai/m-1",
            "served_model": "gpt-x",
        }
        amounts = [kept[name] for name in ("cost_nusd", "charged_nusd", "saved_nusd", "held_nusd", "input_tokens")]
        assert amounts == [0, 0, COST_NUSD, None, None]
        assert gateway.metric('tollway_cache_total{reason="",result="hit"}') == 1
        assert gateway.metric('tollway_usd_total{kind="saved"}') == COST_NUSD / 1e9
        line = (await gateway.log_lines(2))[1]
        assert (line["cache"], line["body_bytes"]) == ("hit", len(body))
        assert (line["deployment"], line["overhead_us"]) == ("openai/m-1", kept["overhead_us"])
        assert 0 < kept["overhead_us"] == kept["latency_ms"] * 1_000 <= line["latency_ms"] * 1_000
        assert gateway.metric("tollway_overhead_seconds_count") == 1  # of what was sent


async def test_a_stream_comes_again_byte_for_byte():
    async with served() as (gateway, upstream):
        upstream.script = lambda _: stream(*EVENTS, DONE)
        body = chat(stream=True, stream_options={"include_usage": True})
        first, again = await ask(gateway, body), await ask(gateway, body)
        assert (said(first[1]), said(again[1])) == ("miss", "hit")
        assert again[2] == first[2] == b"".join((*EVENTS, DONE))
        assert again[1][b"content-type"] == b"text/event-stream"
        assert b"content-length" not in again[1]
        assert len(upstream.received) == 1
        assert (await rows(gateway))[1]["saved_nusd"] == COST_NUSD


async def test_a_stream_at_a_pace():
    async with served(cache='{ mode = "all", events_per_s = 20 }') as (gateway, upstream):
        upstream.script = lambda _: stream(*EVENTS, DONE)
        body = chat(stream=True)
        await ask(gateway, body)
        began = asyncio.get_running_loop().time()
        _, head, again = await ask(gateway, body)
        assert (said(head), again) == ("hit", b"".join((*EVENTS, DONE)))
        assert asyncio.get_running_loop().time() - began >= 3 / 20


async def test_one_form_is_not_given_for_the_other():
    async with served() as (gateway, upstream):
        await ask(gateway, chat(stream=False))
        upstream.script = lambda _: stream(*EVENTS, DONE)
        _, head, body = await ask(gateway, chat(stream=True))
        assert (said(head), body) == ("miss", b"".join((*EVENTS, DONE)))


@pytest.mark.parametrize(
    ("cache", "body", "expected"),
    [
        ('{ mode = "off" }', chat(temperature=0), None),
        ('{ mode = "deterministic" }', chat(), "bypass"),
        ('{ mode = "deterministic" }', chat(temperature=0), "hit"),
        ('{ mode = "all" }', chat(store=True), "bypass"),
        ('{ mode = "all" }', chat(tools=[{"type": "web_search"}]), "bypass"),
    ],
)
async def test_what_may_be_kept(cache, body, expected):
    async with served(cache=cache) as (gateway, upstream):
        await ask(gateway, body)
        _, head, _ = await ask(gateway, body)
        assert said(head) == expected
        assert len(upstream.received) == (1 if expected == "hit" else 2)
        assert (await rows(gateway))[1]["cache"] == expected


async def test_a_tenant_of_whom_nothing_may_be_kept():
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url).replace("[models.m]", 'retention = "zero"\n[models.m]')
        text = text.replace("[tenants.acme]", "[tenants.acme]\nzero_retention = true")
        async with running_gateway(text) as gateway:
            assert [said((await ask(gateway))[1]) for _ in range(2)] == [None, None]
            assert [said((await ask(gateway, tenant="other"))[1]) for _ in range(2)] == ["miss", "hit"]
            assert len(upstream.received) == 3
            assert [row["cache"] for row in await rows(gateway)] == [None, None]


async def test_nobody_has_verified_who_calls_with_a_key_of_its_own():
    async with scripted_upstream(answer(completion())) as upstream:
        everywhere = '[tenants.default]\ncache = { mode = "all" }\n[cache.endpoints.chat_completions]\nmode = "all"\n'
        async with running_gateway(passthrough_to(upstream.base_url, everywhere)) as gateway:
            for _ in range(2):
                status, head, _ = await plain_request(gateway, "POST", CHAT, chat().replace(b'"m"', b'"alias"'))
                assert (status, said(head)) == (200, None)
            assert len(upstream.received) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", {"prompt": "x"}),
        ("/v1/responses/input_tokens", {"input": "x"}),
        ("/v1/rerank", {"query": "x"}),
    ],
)
async def test_at_another_endpoint_nothing_is_kept(path, body):
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url, more='[cache.features]\nf = { mode = "all" }\n')
        text = text.replace("[auth]", '[auth]\ndefault_provider = "openai"')
        async with running_gateway(text) as gateway:
            for _ in range(2):
                call = json.dumps({"model": "m", "temperature": 0, **body}).encode()
                status, head, got = await ask(gateway, call, (b"x-tollway-feature", b"f"), path=path)
                assert (status, said(head)) == (200, None), got
            assert len(upstream.received) == 2


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"1", b"null", b"", b"{"])
async def test_what_is_no_json_object_is_refused_before_anything_is_looked_up(body):
    async with served() as (gateway, upstream):
        for _ in range(2):
            status, head, got = await ask(gateway, body)
            assert (status, said(head)) == (400, None), got
        assert not upstream.received


@pytest.mark.parametrize(
    ("headers", "status", "expected", "then"),
    [
        ([(b"cache-control", b"no-cache")], 200, "miss", "hit"),
        ([(b"cache-control", b"no-store")], 200, "bypass", "hit"),
        ([(b"x-tollway-cache", b"off")], 200, "bypass", "hit"),
        ([(b"x-tollway-cache", b"refresh")], 200, "miss", "hit"),
        ([(b"x-tollway-cache", b"only")], 200, "hit", "hit"),
        ([(b"cache-control", b"max-age=60")], 200, "hit", "hit"),
        ([(b"cache-control", b"max-age=60"), (b"cache-control", b"no-store")], 200, "bypass", "hit"),
        ([(b"x-tollway-cache", b"only"), (b"x-tollway-cache", b"off")], 400, None, "hit"),
        ([(b"x-tollway-cache", b"maybe")], 400, None, "hit"),
    ],
)
async def test_what_the_caller_asks_for(headers, status, expected, then):
    async with served() as (gateway, _):
        await ask(gateway)
        got, head, _ = await ask(gateway, None, *headers)
        assert (got, said(head)) == (status, expected)
        assert said((await ask(gateway))[1]) == then


@pytest.mark.parametrize(
    ("mode", "body", "headers", "why"),
    [
        ("off", chat(), [], "Caching is off for this call."),
        ("all", chat(), [], "No answer is kept that would do."),
        ("all", chat(), [(b"cache-control", b"no-store")], "This call goes past what is kept (`asked`)."),
        ("deterministic", chat(), [], "This call goes past what is kept (`not_deterministic`)."),
        ("all", chat(store=True), [], "This call goes past what is kept (`stateful`)."),
        ("all", chat(tools=[{"type": "web_search"}]), [], "This call goes past what is kept (`tools`)."),
        ("all", chat(Store=True), [], "This call goes past what is kept (`ambiguous`)."),
        ('all", share = "user', chat(), [], "This call goes past what is kept (`unnamed`)."),
    ],
)
async def test_only_a_kept_answer_or_none_and_why_there_is_none(mode, body, headers, why):
    async with served(cache=f'{{ mode = "{mode}" }}') as (gateway, upstream):
        status, _, refusal = await ask(gateway, body, (b"x-tollway-cache", b"only"), *headers)
        error = error_of(refusal)
        assert (status, error["code"]) == (504, "not_cached")
        assert error["message"].startswith(why)
        assert not upstream.received


async def test_none_is_given_and_it_is_said_while_the_state_store_is_away(monkeypatch):
    async def away(*_):
        raise StateUnavailable("it is away")

    async with served() as (gateway, upstream):
        await ask(gateway)
        monkeypatch.setattr(Keeper, "admit_hit", away)
        status, _, refusal = await ask(gateway, None, (b"x-tollway-cache", b"only"))
        assert (status, error_of(refusal)["code"]) == (504, "not_cached")
        assert error_of(refusal)["message"].startswith("The state store does not answer")
        assert len(upstream.received) == 1


async def test_what_is_older_than_the_caller_likes_is_asked_for_anew():
    async with served() as (gateway, upstream):
        await ask(gateway)
        await asyncio.sleep(1.1)
        _, head, _ = await ask(gateway, None, (b"cache-control", b"max-age=0"))
        assert said(head) == "miss"
        assert len(upstream.received) == 2


async def test_its_time_is_over():
    async with served(cache='{ mode = "all", ttl_s = 1 }') as (gateway, upstream):
        await ask(gateway)
        assert said((await ask(gateway))[1]) == "hit"
        await asyncio.sleep(1.1)
        assert said((await ask(gateway))[1]) == "miss"
        assert len(upstream.received) == 2


async def test_a_refresh_takes_the_place_of_what_was_kept():
    async with served() as (gateway, upstream):
        await ask(gateway)
        upstream.script = lambda _: answer(completion("another"))
        await ask(gateway, None, (b"x-tollway-cache", b"refresh"))
        _, head, body = await ask(gateway)
        assert (said(head), body) == ("hit", completion("another"))


@pytest.mark.parametrize(
    ("share", "header", "same", "other"),
    [("user", b"x-tollway-user", b"ada", b"bob")],
)
async def test_among_whom_it_is_shared(share, header, same, other):
    async with served(cache=f'{{ mode = "all", share = "{share}" }}') as (gateway, _):
        await ask(gateway, None, (header, same))
        assert said((await ask(gateway, None, (header, other)))[1]) == "miss"
        assert said((await ask(gateway, None, (header, same)))[1]) == "hit"
        for _ in range(2):  # who is nobody shares with nobody
            assert said((await ask(gateway))[1]) == "bypass"
        assert gateway.metric('tollway_cache_total{reason="unnamed",result="bypass"}') == 2


async def test_another_tenant_has_its_own():
    async with served() as (gateway, upstream):
        await ask(gateway)
        assert said((await ask(gateway, tenant="other"))[1]) == "miss"
        assert len(upstream.received) == 2


async def test_a_hit_takes_a_request_and_no_cap_holds_it():
    async with served(plan="usd_per_day = 0.0025\nrequests_per_minute = 60\nburst = 3") as (gateway, upstream):
        body = chat(max_tokens=100)
        first = await ask(gateway, body)
        assert first[0] == 200, first[2]
        # A cap that has no room for another call.
        status, _, refusal = await ask(gateway, chat("x" * 900, max_tokens=100))
        assert (status, json.loads(refusal)["error"]["code"]) == (429, "insufficient_quota")
        statuses = [await ask(gateway, body) for _ in range(3)]
        assert [status for status, _, _ in statuses] == [200, 200, 429]
        assert [head.get(b"x-tollway-limit-remaining-requests") for _, head, _ in statuses[:2]] == [b"1", b"0"]
        assert json.loads(statuses[2][2])["error"]["code"] == "rate_limit_exceeded"
        assert b"retry-after" in statuses[2][1]
        assert len(upstream.received) == 1


async def test_no_hit_is_given_out_without_room_for_its_row(monkeypatch):
    async with served() as (gateway, upstream):
        await ask(gateway)
        with monkeypatch.context() as patched:
            patched.setattr(settlement, "ROWS_PENDING_MAX", 0)  # the ledger can take no other row
            for body in (None, chat("another")):  # a hit, and a call that would be made
                status, head, refusal = await ask(gateway, body)
                assert (status, error_of(refusal)["code"], said(head)) == (503, "state_unavailable", None)
                assert head[b"retry-after-ms"] == b"1000"
        assert said((await ask(gateway))[1]) == "hit"
        assert len(upstream.received) == 1
        assert [row["cache"] for row in await rows(gateway)] == ["miss", "hit"]


# ── a change of the configuration ────────────────────────────────────────────────────────

SOMEWHERE_ELSE = {
    "nothing": ("", "", "hit"),
    "the price": ("input_usd_per_mtok = 1.0", "input_usd_per_mtok = 3.0", "hit"),
    "a deployment": ('model = "m-1"', 'model = "m-2"', "miss"),
    "api_version": ("[models.m]", 'api_version = "2024-10-21"\n[models.m]', "miss"),
    "dialect": ("[models.m]", 'dialect = "gemini"\n[models.m]', "miss"),
    "base_url": ("/v1", "/v1beta", "miss"),
    "stream_usage": ("[tenants.acme]", '[tenants.acme]\nstream_usage = "inject"', "miss"),
    "on_unsupported": ("[tenants.acme]", '[tenants.acme]\non_unsupported = "drop"', "miss"),
    "residency": ("[tenants.acme]", '[tenants.acme]\nresidency = ["eu"]', "miss"),
    "it is off": ('cache = { mode = "all" }', 'cache = { mode = "off" }', None),
}


@pytest.mark.parametrize("which", list(SOMEWHERE_ELSE))
async def test_what_another_would_answer_now_is_not_found_after_a_reload(which):
    before, after, expected = SOMEWHERE_ELSE[which]
    async with scripted_upstream(answer(completion())) as upstream:
        text = configuration(upstream.base_url).replace("[models.m]", 'region = "eu"\n[models.m]')
        async with running_gateway(text) as gateway:
            assert said((await ask(gateway))[1]) == "miss"
            changed = text.replace(before, after) if before else text
            gateway.app.reload(settings_of(changed))
            status, head, _ = await ask(gateway)
            assert (status, said(head)) == (200, expected)
            assert len(upstream.received) == (1 if expected == "hit" else 2)
            gateway.app.reload(settings_of(text))
            assert said((await ask(gateway))[1]) == "hit"  # what was kept before holds again


# ── what is never kept ───────────────────────────────────────────────────────────────────

POISONS: dict[str, list[Step]] = {
    "an error": answer(b'{"error":{"message":"no"}}', status=b"400 Bad Request"),
    "an error that says it is none": answer(b'{"error":{"message":"no"},"choices":[]}'),
    "another's page": answer(b"<html>Sign in</html>", headers=[(b"content-type", b"text/html")]),
    "a page that says it is JSON": answer(b"<html>Sign in</html>"),
    "JSON of somebody else": answer(b'{"ok":true}'),
    "a list": answer(b"[]"),
    "nothing": answer(b""),
    "a failed choice": answer(b'{"choices":[{"finish_reason":"error","error":{"code":502},"message":{}}]}'),
    "an object of the type error": answer(b'{"object":"error","choices":[]}'),
    "two types": [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n"
        b'{"choices":[]}'
    ],
    "201": answer(completion(), status=b"201 Created"),
    "a redirect": answer(b"", status=b"302 Found", headers=[(b"location", b"https://evil.example/")]),
    "too long": answer(completion("x" * 5_000)),
    "cut off": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{", Do.CLOSE],
}
POISONED_STREAMS: dict[str, list[Step]] = {
    "cut off": stream(*EVENTS, Do.CLOSE),
    "reset": stream(*EVENTS, Do.RESET),
    "without its end": stream(*EVENTS),
    "an error within": stream(EVENTS[0], b'data: {"error":{"message":"overloaded"}}\n\n', DONE),
    "an error of a choice": stream(
        EVENTS[0], b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n', DONE
    ),
    "an error in other letters": stream(EVENTS[0], b'data: {"\\u0065rror":{"message":"overloaded"}}\n\n', DONE),
    "its end alone": stream(DONE),
    "no JSON": stream(EVENTS[0], b"data: {broken\n\n", DONE),
    "no event": stream(EVENTS[0], DONE, b"garbage"),
    "more behind its end": stream(EVENTS[0], DONE, EVENTS[1]),
    "no stream": answer(completion()),
    "too long": stream(*(EVENTS[0] for _ in range(80)), DONE),
}


@pytest.mark.parametrize("poison", list(POISONS))
async def test_what_went_wrong_is_not_kept(poison, asked_once):
    async with served(more="[cache]\nentry_bytes_max = 4096") as (gateway, upstream):
        upstream.script = lambda _: POISONS[poison]
        with suppress(BrokenOff):
            await ask(gateway)
        upstream.script = lambda _: answer(completion("whole"))
        _, head, body = await ask(gateway)
        assert (said(head), body) == ("miss", completion("whole"))


@pytest.mark.parametrize("poison", list(POISONED_STREAMS))
async def test_a_stream_that_went_wrong_is_not_kept(poison, asked_once):
    async with served(more="[cache]\nentry_bytes_max = 4096") as (gateway, upstream):
        upstream.script = lambda _: POISONED_STREAMS[poison]
        body = chat(stream=True)
        async for _ in raw_request(gateway, "POST", CHAT, body, [*JSON, (b"x-tollway-tenant", b"acme")]):
            pass
        await gateway.idle()
        upstream.script = lambda _: stream(*EVENTS, DONE)
        _, head, found = await ask(gateway, body)
        assert (said(head), found) == ("miss", b"".join((*EVENTS, DONE)))


async def test_what_a_users_own_key_paid_for_is_not_kept_and_what_its_tenants_did_is():
    user = (b"x-tollway-user", b"ada")
    async with served(more='[keyring]\nkek = "file:kek"\n') as (gateway, upstream):
        keyring = gateway.app.keyring
        assert keyring is not None
        origin = origin_of(upstream.base_url)
        await keyring.put("acme", "openai", "ada", origin, Secret("sk-of-adas-own-purse"), 1)
        assert [said((await ask(gateway, None, user))[1]) for _ in range(2)] == ["miss", "miss"]
        assert gateway.metric('tollway_cache_not_kept_total{reason="users_own_key"}') == 2
        assert said((await ask(gateway))[1]) == "miss"  # nobody's: it wants none
        assert said((await ask(gateway, None, user))[1]) == "hit"  # nobody pays for what was kept for all
        await keyring.put("acme", "openai", None, origin, Secret("sk-of-acme-itself-1"), 1)
        body = chat("paid by the tenant")
        for headers, expected in (((b"x-tollway-user", b"bob"), "miss"), (user, "hit")):
            assert said((await ask(gateway, body, headers))[1]) == expected
        assert [received.header(b"authorization") for received in upstream.received] == [
            b"Bearer sk-of-adas-own-purse",
            b"Bearer sk-of-adas-own-purse",
            None,
            b"Bearer sk-of-acme-itself-1",
        ]


async def test_what_another_model_answered_in_an_outage_is_not_kept(asked_once):
    async with served() as (gateway, upstream):
        second = '  { provider = "openai", model = "m-2", tier = "equivalent" },\n]\n[models.n]'
        text = configuration(upstream.base_url).replace("]\n[models.n]", second)
        text = text.replace("[tenants.acme]", '[tenants.acme]\nfallback = "equivalent"')
        gateway.app.reload(settings_of(text))
        away = answer(b'{"error":{"message":"not now"}}', status=b"503 Service Unavailable")
        upstream.script = lambda received: away if b'"m-1"' in received.body else answer(completion("of another"))
        for _ in range(2):
            status, head, body = await ask(gateway)
            assert (status, said(head), body) == (200, "miss", completion("of another"))
        assert gateway.metric('tollway_cache_not_kept_total{reason="fallback"}') == 2
        upstream.script = lambda _: answer(completion())
        assert [(said(head), body) for _, head, body in [await ask(gateway) for _ in range(2)]] == [
            ("miss", completion()),
            ("hit", completion()),
        ]


async def test_what_an_inserted_ceiling_has_shortened_is_not_kept():
    more = '[models.priced]\ndeployments = [{ provider = "openai", model = "p-1", max_output_tokens = 20_000, '
    more += "price = { input_usd_per_mtok = 1, output_usd_per_mtok = 4 } }]\n"
    call = chat().replace(b'"m"', b'"priced"')
    async with served(more=more, plan="usd_per_day = 0.05") as (gateway, upstream):
        text = configuration(upstream.base_url, more=more, plan="usd_per_day = 0.05")
        gateway.app.reload(settings_of(text.replace("[tenants.acme]", '[tenants.acme]\nno_ceiling = "insert"')))
        for _ in range(2):
            status, head, _ = await ask(gateway, call)
            assert (status, said(head)) == (200, "miss")
            assert b"x-tollway-inserted-ceiling" in head
        assert gateway.metric('tollway_cache_not_kept_total{reason="shortened"}') == 2


async def test_an_answer_that_has_left_takes_no_room_from_the_next(monkeypatch):
    monkeypatch.setattr(caching, "COPIES_BYTES_MAX", len(completion()) + 10)
    async with served() as (gateway, upstream):
        upstream.script = lambda _: answer(completion(), status=b"400 Bad Request")
        assert (await ask(gateway))[0] == 400
        upstream.script = lambda _: answer(completion())
        for number in range(3):
            assert [said((await ask(gateway, chat(f"{number}")))[1]) for _ in range(2)] == ["miss", "hit"]
        assert gateway.metric('tollway_cache_not_kept_total{reason="too_long"}') == 0


# ── calls that are the same, at once ─────────────────────────────────────────────────────


@pytest.mark.parametrize("memory", ["", "[cache]\nmemory_bytes_max = 0"], ids=["", "without memory"])
async def test_a_hundred_at_once_make_one_call(memory):
    async with served(more=memory) as (gateway, upstream):
        upstream.script = lambda _: [0.2, *answer(completion())]
        answers = await asyncio.gather(*(ask(gateway) for _ in range(100)))
        assert {(status, body) for status, _, body in answers} == {(200, completion())}
        assert sorted(said(head) or "" for _, head, _ in answers) == ["hit"] * 99 + ["miss"]
        assert len(upstream.received) == 1
        assert len(await gateway.rows("acme")) == 100


async def test_if_the_first_one_fails_the_others_go_on_their_own(asked_once):
    async with served() as (gateway, upstream):
        steps = iter([[0.2, *answer(b'{"error":{"message":"no"}}', status=b"400 Bad Request")]])
        upstream.script = lambda _: next(steps, answer(completion()))
        answers = await asyncio.gather(*(ask(gateway) for _ in range(10)))
        assert sorted(status for status, _, _ in answers) == [200] * 9 + [400]


async def test_a_fault_in_keeping_costs_no_run_its_row_and_holds_nobody_up(monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(caching, "entry_of", broken)
    async with served(plan="usd_per_day = 1") as (gateway, upstream):
        for number in (1, 2):
            status, _, body = await asyncio.wait_for(ask(gateway, chat(max_tokens=10)), 5)
            assert (status, body) == (200, completion())
            assert len(upstream.received) == number
        await gateway.idle()
        await until(lambda: not gateway.app.keeper.pending)
        assert len(await rows(gateway)) == 2
        assert gateway.app.keeper.open_reservations == 0


async def test_a_hit_whose_answer_is_lost_leaves_the_run_that_is_made_its_own_row(monkeypatch):
    async with served() as (gateway, upstream):
        await ask(gateway)
        admit = gateway.app.keeper.admit_hit

        async def carried_out_and_lost(demand: HitDemand) -> HitAdmission:
            await admit(demand)
            raise StateUnavailable("the answer was lost")

        monkeypatch.setattr(Keeper, "admit_hit", lambda _, demand: carried_out_and_lost(demand))
        status, head, _ = await ask(gateway)
        assert (status, said(head), len(upstream.received)) == (200, "miss", 2)
        await gateway.idle()
        _, hit, made = await rows(gateway)
        assert (hit["cache"], hit["cost_nusd"]) == ("hit", 0)
        assert (made["cache"], made["cost_nusd"]) == ("miss", COST_NUSD)
        assert made["run_id"] == head[b"x-tollway-run-id"].decode() == hit["run_id"] + "_2"


async def test_nobody_waits_longer_than_it_may():
    async with served(more="[cache]\nwait_s = 0.2") as (gateway, upstream):
        delays = iter([1.0])
        upstream.script = lambda _: [next(delays, 0.0), *answer(completion())]
        first = asyncio.create_task(ask(gateway))
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        _, head, _ = await ask(gateway)
        assert said(head) == "miss"
        assert asyncio.get_running_loop().time() - began < 0.8
        await first
