"""Promise: what goes wrong is the exception that the SDK's users already catch, is tried again
when that may help, and is never paid for by an answer that nobody reads."""

import asyncio
import json
import logging
from typing import Any

import openai
import pytest

from tests.gateway import gateway_before, passthrough_to, running_gateway
from tests.openai_sdk import async_sdk, sync_sdk
from tests.scripted_upstream import Do, Received, Step, answer, scripted_upstream, stream, until

HELLO: Any = [{"role": "user", "content": "Hello"}]
OK = answer(b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[]}')


def refusal(status_line: str, *, retry_after_ms: int | None = None, **headers: str) -> list[Step]:
    body = {"message": "The reason why.", "type": "some_type", "param": "some.param", "code": "some_code"}
    fields = [(b"x-request-id", b"req_no")]
    fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if retry_after_ms is not None:
        fields.append((b"retry-after-ms", b"%d" % retry_after_ms))
    return answer(json.dumps({"error": body}).encode(), status=status_line.encode(), headers=fields)


# ── the provider's errors ────────────────────────────────────────────────────────────────

CLASSES = {
    "400 Bad Request": openai.BadRequestError,
    "401 Unauthorized": openai.AuthenticationError,
    "403 Forbidden": openai.PermissionDeniedError,
    "404 Not Found": openai.NotFoundError,
    "409 Conflict": openai.ConflictError,
    "413 Content Too Large": openai.APIStatusError,
    "422 Unprocessable Content": openai.UnprocessableEntityError,
    "429 Too Many Requests": openai.RateLimitError,
    "500 Internal Server Error": openai.InternalServerError,
    "503 Service Unavailable": openai.InternalServerError,
    "529 Overloaded": openai.InternalServerError,
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("status_line", "expected"), CLASSES.items(), ids=CLASSES)
async def test_an_error_of_the_provider_is_its_own_exception(status_line, expected, streamed):
    async with scripted_upstream(refusal(status_line)) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            with pytest.raises(expected) as caught:
                await client.chat.completions.create(model="m", messages=HELLO, stream=streamed)
        error: Any = caught.value
        assert type(error) is expected
        assert error.status_code == int(status_line[:3])
        assert (error.code, error.param, error.type) == ("some_code", "some.param", "some_type")
        assert "The reason why." in error.message
        assert error.request_id == "req_no"
        (row,) = await gateway.rows()
        assert (row["status"], row["error_source"]) == (error.status_code, "upstream")
        assert error.response.headers["x-tollway-run-id"] == row["run_id"]


# ── the gateway's own ────────────────────────────────────────────────────────────────────


def small_gateway(base_url: str) -> str:
    """No default provider for models, little room, little patience."""
    return f"""
[server]
body_bytes_max = 65_536
[auth]
mode = "trusted-headers"
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateway-own-key"
[providers.hasty]
base_url = "{base_url}"
timeouts_s = {{ total = 0.3 }}
[providers.nobody]
base_url = "http://127.0.0.1:1/v1"
[models.m]
deployments = [{{ provider = "scripted", model = "m" }}]
[models.hasty]
deployments = [{{ provider = "hasty", model = "m" }}]
[models.unreachable]
deployments = [{{ provider = "nobody", model = "m" }}]
[models.of-others]
deployments = [{{ provider = "scripted", model = "m" }}]
tenants = ["others"]
"""


LARGE: Any = [{"role": "user", "content": "x" * 3_000_000}]
FILE: Any = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]
MALFORMED: list[Step] = [b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!"]
KEY_REFUSED = answer(b'{"error":{"message":"Incorrect API key provided: sk-gate*-key"}}', status=b"401 Unauthorized")

OWN: dict[str, tuple[dict[str, Any], list[Step], type[openai.APIStatusError], str, str | None, str]] = {
    "an unknown model": ({"model": "gpt-9"}, OK, openai.NotFoundError, "model_not_found", "model", "caller"),
    "another tenant's": ({"model": "of-others"}, OK, openai.NotFoundError, "model_not_found", "model", "caller"),
    "a model that is a number": (
        {"extra_body": {"model": 7}},
        OK,
        openai.BadRequestError,
        "invalid_parameter",
        "model",
        "caller",
    ),
    "too large": ({"messages": LARGE}, OK, openai.APIStatusError, "request_too_large", None, "caller"),
    "a shared file": (
        {"messages": FILE},
        OK,
        openai.PermissionDeniedError,
        "stateful_path_not_isolated",
        "messages[0].content[0].file.file_id",
        "policy",
    ),
    "nobody listens": (
        {"model": "unreachable"},
        OK,
        openai.InternalServerError,
        "upstream_unreachable",
        None,
        "upstream",
    ),
    "no answer in time": (
        {"model": "hasty"},
        [Do.HANG],
        openai.InternalServerError,
        "upstream_timeout",
        None,
        "upstream",
    ),
    "no HTTP": ({}, MALFORMED, openai.InternalServerError, "upstream_malformed", None, "upstream"),
    "broken off": ({}, [Do.RESET], openai.InternalServerError, "upstream_unreachable", None, "upstream"),
    "the gateway's key": ({}, KEY_REFUSED, openai.InternalServerError, "provider_auth_failed", None, "upstream"),
}
STATUSES = {
    "model_not_found": 404,
    "invalid_parameter": 400,
    "request_too_large": 413,
    "stateful_path_not_isolated": 403,
    "upstream_unreachable": 502,
    "upstream_timeout": 504,
    "upstream_malformed": 502,
    "provider_auth_failed": 502,
}


@pytest.mark.parametrize(("asked", "script", "expected", "code", "param", "source"), OWN.values(), ids=OWN)
async def test_an_error_of_the_gateway_is_one_that_apps_know(asked, script, expected, code, param, source):
    async with scripted_upstream(script) as upstream, running_gateway(small_gateway(upstream.base_url)) as gateway:
        acme = {"x-tollway-tenant": "acme"}
        async with async_sdk(f"{gateway.url}/v1", default_headers=acme) as client:
            with pytest.raises(expected) as caught:
                await client.chat.completions.create(**{"model": "m", "messages": HELLO, **asked})
            error: Any = caught.value
            assert type(error) is expected
            assert (error.status_code, error.code, error.param) == (STATUSES[code], code, param)
            assert error.response.headers["x-tollway-error-source"] == source
            assert error.response.headers["x-tollway-run-id"].startswith("run_")
            assert "sk-gate" not in str(error)
            upstream.script = lambda _request: OK  # and the client goes on
            await client.chat.completions.create(model="m", messages=HELLO)


async def test_a_body_that_is_too_large_is_told_to_the_synchronous_client_too():
    """It sends the whole of it before it reads a word."""
    async with scripted_upstream(OK) as upstream, running_gateway(small_gateway(upstream.base_url)) as gateway:
        with sync_sdk(f"{gateway.url}/v1", default_headers={"x-tollway-tenant": "acme"}) as client:
            with pytest.raises(openai.APIStatusError, match="65536 bytes") as caught:
                await asyncio.to_thread(client.chat.completions.create, model="m", messages=LARGE)
        assert caught.value.status_code == 413
        assert upstream.received == []


async def test_administration_of_an_account_is_not_served():
    async with scripted_upstream(OK) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1", admin_api_key="sk-admin") as client:
            with pytest.raises(openai.NotFoundError) as caught:
                await client.get("/organization/users", cast_to=object)
        assert caught.value.code == "unknown_url"
        assert upstream.received == []


# ── trying again ─────────────────────────────────────────────────────────────────────────


def in_turn(*scripts: list[Step]):
    """A script for each request; the last one stays."""
    left = list(scripts)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


def retry_counts(received: list[Received]) -> list[bytes | None]:
    return [request.header(b"x-stainless-retry-count") for request in received]


@pytest.mark.usefixtures("asked_once")
async def test_the_sdk_retries_as_it_does_and_waits_as_the_provider_says(caplog):
    caplog.set_level(logging.INFO, "openai")
    busy = refusal("429 Too Many Requests", retry_after_ms=7)
    down = refusal("503 Service Unavailable", retry_after_ms=11)
    async with scripted_upstream(in_turn(busy, down, OK)) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1", max_retries=2) as client:
            raw = await client.chat.completions.with_raw_response.create(model="m", messages=HELLO)
        assert raw.retries_taken == 2
        assert [record.args[0] for record in caplog.records if record.msg.startswith("Retrying request")] == [
            0.007,
            0.011,
        ]
        assert retry_counts(upstream.received) == [b"0", b"1", b"2"]
        rows = await gateway.rows()
        assert [row["status"] for row in rows] == [429, 503, 200]  # each is a run of its own
        assert len({row["run_id"] for row in rows}) == 3


@pytest.mark.usefixtures("asked_once")
async def test_the_last_refusal_is_the_apps():
    busy = refusal("429 Too Many Requests", retry_after_ms=1)
    async with scripted_upstream(busy) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1", max_retries=2) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        assert caught.value.response.headers["retry-after-ms"] == "1"
        assert retry_counts(upstream.received) == [b"0", b"1", b"2"]


async def test_what_should_not_be_tried_again_is_tried_once():
    final = refusal("500 Internal Server Error", x_should_retry="false")
    async with scripted_upstream(final) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1", max_retries=2) as client:
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="m", messages=HELLO)
        assert retry_counts(upstream.received) == [b"0"]


async def test_a_refused_key_of_the_gateway_is_not_asked_with_again():
    """It is a 502, which the SDK would try again, and it would be refused each time."""
    async with scripted_upstream(KEY_REFUSED) as upstream, running_gateway(small_gateway(upstream.base_url)) as gateway:
        acme = {"x-tollway-tenant": "acme"}
        async with async_sdk(f"{gateway.url}/v1", default_headers=acme, max_retries=2) as client:
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="m", messages=HELLO)
        assert len(upstream.received) == 1


# ── patience, and leaving ────────────────────────────────────────────────────────────────


def data(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def word(text: str, **rest: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return data(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": choices, **rest}
    )


THINKING: dict[str, list[Step]] = {
    "before the head": [Do.HANG],
    "after the head": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n", Do.HANG],
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("script", THINKING.values(), ids=THINKING)
async def test_a_client_that_waits_no_longer_frees_the_provider(script, streamed):
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            with pytest.raises(openai.APITimeoutError):
                await client.chat.completions.create(model="m", messages=HELLO, stream=streamed, timeout=0.5)
            assert upstream.connections_made == 1
            await until(lambda: upstream.open_connections == 0)
            await gateway.idle()
        (row,) = await gateway.rows()
        assert (row["status"], row["error_source"], row["input_tokens"]) == (499, "caller", None)


async def test_a_cancelled_call_frees_the_provider():
    async with scripted_upstream([Do.HANG]) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            task = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO))
            await until(lambda: len(upstream.received) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: upstream.open_connections == 0)
            await gateway.idle()
            upstream.script = lambda _request: OK
            assert (await client.chat.completions.create(model="m", messages=HELLO)).id == "chatcmpl-1"
        assert [row["status"] for row in await gateway.rows()] == [499, 200]


async def test_a_stream_cancelled_midway_frees_the_provider_and_its_row_says_what_is_known():
    counted = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
    script = stream(word("One, "), word("two, ", usage=counted), Do.HANG)
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        seen = []

        async def read_on(client: openai.AsyncOpenAI) -> None:
            async for each in await client.chat.completions.create(model="alias", messages=HELLO, stream=True):
                seen.append(each.choices[0].delta.content)

        async with async_sdk(f"{gateway.url}/v1") as client:
            task = asyncio.create_task(read_on(client))
            await until(lambda: len(seen) == 2)
            assert upstream.open_connections == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: upstream.open_connections == 0)
            await gateway.idle()
        (row,) = await gateway.rows()
        assert (row["status"], row["error_source"]) == (200, "caller")  # it was told 200, and left
        assert (row["input_tokens"], row["output_tokens"]) == (11, 2)
        assert row["usage_source"] == "estimated"  # more may have been bought than was told
        assert (row["requested_model"], row["served_model"]) == ("alias", "m-1")
        assert gateway.metric('tollway_attempts_total{deployment="scripted/m-2026",outcome="abandoned"}') == 1


async def test_a_closed_stream_frees_the_provider():
    script = stream(word("One, "), Do.HANG)
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        with sync_sdk(f"{gateway.url}/v1") as client:

            def read_one() -> str | None:
                with client.chat.completions.create(model="m", messages=HELLO, stream=True) as coming:
                    return next(iter(coming)).choices[0].delta.content

            assert await asyncio.to_thread(read_one) == "One, "
            await until(lambda: upstream.open_connections == 0)
            await gateway.idle()
        (row,) = await gateway.rows()
        assert (row["error_source"], row["usage_source"]) == ("caller", None)


# ── answers that do not end ──────────────────────────────────────────────────────────────

EVENT = b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{}}\n\n'
SHORT: list[Step] = [
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"id":',
    Do.CLOSE,
]


async def streamed_chat(client: openai.AsyncOpenAI) -> int:
    return len([each async for each in await client.chat.completions.create(model="m", messages=HELLO, stream=True)])


async def helped_chat(client: openai.AsyncOpenAI) -> Any:
    async with client.chat.completions.stream(model="m", messages=HELLO) as coming:
        return await coming.get_final_completion()


async def streamed_response(client: openai.AsyncOpenAI) -> int:
    return len([each async for each in await client.responses.create(model="m", input="Hi", stream=True)])


async def plain_chat(client: openai.AsyncOpenAI) -> Any:
    return await client.chat.completions.create(model="m", messages=HELLO)


CUT = {
    "reset": (streamed_chat, stream(word("One, "), Do.RESET)),
    "closed amid a chunk": (streamed_chat, [*stream(word("One, "))[:2], b"99\r\ndata", Do.CLOSE]),
    "closed between chunks": (streamed_chat, stream(word("One, "), Do.CLOSE)),
    "ended without its last event": (streamed_chat, stream(word("One, "))),
    "ended without its last event, with the helper": (helped_chat, stream(word("One, "))),
    "silent for too long": (streamed_chat, stream(word("One, "), Do.HANG)),
    "a response without its end": (streamed_response, stream(EVENT)),
    "a response that is reset": (streamed_response, stream(EVENT, Do.RESET)),
    "a plain answer shorter than it said": (plain_chat, SHORT),
}


@pytest.mark.parametrize(("asking", "script"), CUT.values(), ids=CUT)
async def test_an_answer_that_is_cut_raises(asking, script):
    """An SDK takes a clean end for the whole answer: it must not get one."""
    async with scripted_upstream(script) as upstream:
        text = passthrough_to(upstream.base_url).replace("[models", "timeouts_s = { idle = 0.3 }\n[models")
        async with running_gateway(text) as gateway, async_sdk(f"{gateway.url}/v1") as client:
            with pytest.raises(openai.APIConnectionError) as caught:
                await asking(client)
            assert type(caught.value) is openai.APIConnectionError
            (row,) = await gateway.rows()
            assert (row["status"], row["error_source"]) == (200, "upstream")
            assert upstream.open_connections <= 1  # at most one that waits for the next request


async def test_an_error_in_the_middle_of_a_stream_is_the_apps_to_see():
    said = {"message": "The model went away.", "type": "server_error", "param": None, "code": "model_gone"}
    script = stream(word("One, "), data({"error": said}))
    async with scripted_upstream(script) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            with pytest.raises(openai.APIError, match=r"The model went away\.") as caught:
                await streamed_chat(client)
        assert caught.value.code == "model_gone"
