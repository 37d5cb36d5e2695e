"""Promise: who calls is said in the SDK's own options, in every mode; and a host that mounts the
gateway, or tests with a mocked provider, needs no socket at all."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import respx
from openai import AsyncOpenAI

from proxy.__main__ import main
from proxy.app import App, create_app
from proxy.core.clock import Clock
from proxy.settings.load import load
from tests.gateway import CALLERS_TOKEN, passthrough_to, running_gateway
from tests.openai_sdk import async_sdk
from tests.scripted_upstream import answer, scripted_upstream

HELLO: Any = [{"role": "user", "content": "Hello"}]
GATEWAYS = "sk-gateway-own-key"
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
OK = answer(json.dumps(COMPLETION).encode())


def trusting(base_url: str, extra: str = "") -> str:
    return f"""
[auth]
mode = "trusted-headers"
default_provider = "scripted"
{extra}
[providers.scripted]
base_url = "{base_url}"
provider_key = "{GATEWAYS}"
"""


# ── trusted headers ──────────────────────────────────────────────────────────────────────


async def test_a_trusted_app_names_its_tenant_in_default_headers():
    async with scripted_upstream(OK) as upstream, running_gateway(trusting(upstream.base_url)) as gateway:
        app = {"x-tollway-tenant": "acme", "x-tollway-feature": "search"}
        async with async_sdk(f"{gateway.url}/v1", api_key="unused", default_headers=app) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
            await client.chat.completions.create(
                model="m", messages=HELLO, extra_headers={"x-tollway-user": "ada", "x-tollway-feature": "chat"}
            )
            await client.chat.completions.create(model="m", messages=HELLO, user="bob")
            await client.with_options(default_headers={"x-tollway-tenant": "umbrella"}).chat.completions.create(
                model="m", messages=HELLO
            )
        rows = await gateway.rows("acme")
        assert [(row["user"], row["feature"]) for row in rows] == [(None, "search"), ("ada", "chat"), ("bob", "search")]
        assert len(await gateway.rows("umbrella")) == 1
        assert {row["key_source"] for row in rows} == {"gateway"}
        for request in upstream.received:
            assert request.header(b"authorization") == f"Bearer {GATEWAYS}".encode()
            assert not any(name.startswith(b"x-tollway-") for name, _ in request.headers)


NOT_TRUSTED: dict[str, tuple[str, dict[str, str], type[openai.APIStatusError], str]] = {
    "no tenant": ("", {}, openai.BadRequestError, "invalid_header"),
    "an impossible tenant": ("", {"x-tollway-tenant": "a b"}, openai.BadRequestError, "invalid_header"),
    "an unknown tenant": (
        "known_tenants_only = true",
        {"x-tollway-tenant": "acme"},
        openai.PermissionDeniedError,
        "tenant_not_allowed",
    ),
}


@pytest.mark.parametrize(("extra", "headers", "expected", "code"), NOT_TRUSTED.values(), ids=NOT_TRUSTED)
async def test_an_app_that_names_no_tenant_that_it_may_is_refused(extra, headers, expected, code):
    async with scripted_upstream(OK) as upstream, running_gateway(trusting(upstream.base_url, extra)) as gateway:
        async with async_sdk(f"{gateway.url}/v1", default_headers=headers) as client:
            with pytest.raises(expected) as caught:
                await client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.code == code
        assert upstream.received == []


# ── passthrough ──────────────────────────────────────────────────────────────────────────


async def test_each_callers_own_key_is_its_own():
    async with scripted_upstream(OK) as upstream, running_gateway(passthrough_to(upstream.base_url)) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            callers = [f"caller-{number}" for number in range(20)]
            await asyncio.gather(
                *(
                    client.with_options(api_key=f"sk-of-{caller}").chat.completions.create(
                        model="m", messages=HELLO, user=caller
                    )
                    for caller in callers
                )
            )
        for request in upstream.received:
            assert request.header(b"authorization") == f"Bearer sk-of-{json.loads(request.body)['user']}".encode()
        assert len(upstream.received) == len(callers)
        assert {row["key_source"] for row in await gateway.rows()} == {"caller"}


# ── virtual keys ─────────────────────────────────────────────────────────────────────────


class SetClock(Clock):
    """Monotonic time that stands until it is moved."""

    __slots__ = ("us",)

    def __init__(self) -> None:
        self.us = 1_000_000

    def monotonic_us(self) -> int:
        return self.us


KEYS_TEXT = """
[auth]
mode = "virtual-keys"
default_provider = "openai"
[providers.openai]
base_url = "https://api.openai.com/v1"
provider_key = "sk-gateway-own-key"
"""


@asynccontextmanager
async def mounted(text: str, folder: Path, provider: respx.Router, clock: Clock | None = None) -> AsyncIterator[App]:
    """The gateway without a socket on either side."""
    path = folder / "tollway.toml"
    path.write_text(f'[state]\nfolder = "{folder / "state"}"\n{text}')
    settings = load(path.read_text(), path=str(path), environ={}, read_file=Path.read_text)
    transports = {"openai": httpx.MockTransport(provider.async_handler)}
    app = create_app(settings, transports=transports, access_log_sink=io.BytesIO(), clock=clock)
    await app.startup()
    try:
        yield app
    finally:
        await app.shutdown()


def client_of(app: App, token: str, *, peer: str = "127.0.0.1", **options: Any) -> AsyncOpenAI:
    # httpx's transport for ASGI; the SDK takes clients of httpx and of its successor alike.
    http_client: Any = httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(peer, 40_000)))
    base_url = "http://gateway.test/v1"
    return AsyncOpenAI(api_key=token, base_url=base_url, max_retries=0, http_client=http_client, **options)


async def typed(folder: Path, *words: str) -> dict[str, Any]:
    """The command, beside the gateway."""
    output = io.StringIO()
    command = [*words, "--json", "--config", str(folder / "tollway.toml")]
    assert await asyncio.to_thread(main, command, environ={}, output=output, errors=io.StringIO()) == 0
    issued: dict[str, Any] = json.loads(output.getvalue())
    return issued


@pytest.fixture
def provider() -> respx.Router:
    """A mocked provider that answers chat; all else is an error of the test."""
    router = respx.Router(base_url="https://api.openai.com/v1")
    router.post("/chat/completions").respond(json=COMPLETION)
    return router


async def test_a_key_in_use_ends_within_five_seconds_of_its_revocation(tmp_path, provider):
    clock = SetClock()
    async with mounted(KEYS_TEXT, tmp_path, provider, clock) as app:
        issued = await typed(tmp_path, "keys", "issue", "--tenant", "acme")
        async with client_of(app, issued["virtual_key"]) as client:
            await client.chat.completions.create(model="m", messages=HELLO)
            await typed(tmp_path, "keys", "revoke", issued["id"])
            clock.us += 5_000_001
            with pytest.raises(openai.AuthenticationError, match="revoked") as caught:
                await client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.code == "invalid_api_key"
        assert len(provider.calls) == 1


async def test_tenants_are_believed_from_listed_networks_alone(tmp_path, provider):
    text = KEYS_TEXT.replace('"virtual-keys"', '"trusted-headers"\ntrusted_peers = ["10.0.0.0/8"]')
    app_of_acme = {"x-tollway-tenant": "acme"}
    async with mounted(text, tmp_path, provider) as app:
        async with client_of(app, "unused", peer="10.1.2.3", default_headers=app_of_acme) as listed:
            await listed.chat.completions.create(model="m", messages=HELLO)
        async with client_of(app, "unused", peer="203.0.113.9", default_headers=app_of_acme) as stranger:
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await stranger.chat.completions.create(model="m", messages=HELLO)
    assert caught.value.code == "tenant_not_allowed"
    assert len(provider.calls) == 1


# ── no sockets ───────────────────────────────────────────────────────────────────────────


async def test_a_mocked_provider_behind_a_mounted_gateway(tmp_path, provider):
    async with mounted(KEYS_TEXT, tmp_path, provider) as app:
        issued = await typed(tmp_path, "keys", "issue", "--tenant", "acme")
        async with client_of(app, issued["virtual_key"]) as client:
            completion = await client.chat.completions.create(model="m", messages=HELLO, extra_body={"x_new": [1, "é"]})
    assert completion.choices[0].message.content == "Hi"
    sent = provider.calls.last.request
    assert sent.headers["authorization"] == f"Bearer {GATEWAYS}"
    assert sent.headers["host"] == "api.openai.com"
    assert json.loads(sent.content) == {"model": "m", "messages": HELLO, "x_new": [1, "é"]}
    assert issued["virtual_key"] not in repr(sent.headers.raw)


@pytest.mark.usefixtures("asked_once")
async def test_a_mocked_stream_and_a_mocked_refusal(tmp_path, provider):
    chunks = [{**COMPLETION, "object": "chat.completion.chunk", "choices": [], "usage": None} for _ in range(3)]
    body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n"
    chat = provider.post("/chat/completions")
    text = KEYS_TEXT.replace("virtual-keys", "passthrough")
    async with mounted(text, tmp_path, provider) as app, client_of(app, CALLERS_TOKEN) as client:
        chat.respond(content=body, headers={"content-type": "text/event-stream"})
        coming = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert len([each async for each in coming]) == len(chunks)
        chat.respond(429, json={"error": {"message": "Slow down.", "code": "rate_limit_exceeded"}})
        with pytest.raises(openai.RateLimitError, match=r"Slow down\.") as caught:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert caught.value.code == "rate_limit_exceeded"
        chat.mock(side_effect=httpx.ConnectError("refused"))
        with pytest.raises(openai.InternalServerError) as unreachable:
            await client.chat.completions.create(model="m", messages=HELLO)
        assert unreachable.value.code == "upstream_unreachable"
