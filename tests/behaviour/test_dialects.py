"""Promise: an app that speaks Chat Completions or Messages gets its answer from every provider, whatever that speaks.

The official SDKs against the gateway, before a server of each provider that refuses what the real one would.
"""

import base64
import itertools
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
import pytest_asyncio

from tests.anthropic_sdk import anthropic_sdk
from tests.gateway import Gateway, running_gateway
from tests.openai_sdk import async_sdk
from tests.providers.scenario import REFUSAL, THOUGHT
from tests.providers.server import DIALECTS, TRUSTING, ProviderServer, provider_server
from tests.providers.wire import SECRET

PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(53)).decode()  # 61 bytes
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FILLED = {"city": "Paris", "days": 7}
SEEING = [dialect for dialect in DIALECTS if dialect != "bedrock"]  # whose model takes text alone
ANTHROPIC = ("anthropic", "bedrock-anthropic")
USER = [{"role": "user", "content": "hello there"}]

# One gateway serves all tests of this file: they have tenants of their own.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("asked_once")]


class Everyone(NamedTuple):
    """One gateway, and a server of each provider behind it. A model is called as its provider's dialect is."""

    gateway: Gateway
    servers: dict[str, ProviderServer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everyone():
    async with AsyncExitStack() as stack:
        servers = {dialect: await stack.enter_async_context(provider_server(dialect)) for dialect in DIALECTS}
        text = TRUSTING + "".join(server.tables(dialect, dialect) for dialect, server in servers.items())
        yield Everyone(await stack.enter_async_context(running_gateway(text)), servers)


class Before(NamedTuple):
    """What a test has: an SDK's part, the provider that it reaches, and the rows of its own tenant."""

    api: Any
    server: ProviderServer
    rows: Callable[[], Awaitable[list[dict[str, Any]]]]


_TENANTS = itertools.count()


def tenant_before(everyone: Everyone, dialect: str):
    """A tenant of the test's own, and the server, which has heard nothing yet."""
    tenant = f"tenant-{next(_TENANTS)}"
    everyone.servers[dialect].upstream.received.clear()
    return {"x-tollway-tenant": tenant}, everyone.servers[dialect], partial(everyone.gateway.rows, tenant)


# ── Chat Completions, by the openai SDK ──────────────────────────────────────────────────


@asynccontextmanager
async def chat(everyone: Everyone, dialect: str):
    who, server, rows = tenant_before(everyone, dialect)
    async with async_sdk(f"{everyone.gateway.url}/v1", default_headers=who) as sdk:
        yield Before(sdk.chat.completions, server, rows)


def chat_tool(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": SCHEMA}}


async def gathered(stream) -> dict[str, Any]:
    """A streamed chat, put together as an app does."""
    said: dict[str, Any] = {"content": "", "calls": {}, "finish_reason": None, "usage": None, "reasoning": ""}
    async for chunk in stream:
        if chunk.usage is not None:
            said["usage"] = chunk.usage
        for choice in chunk.choices:
            said["content"] += choice.delta.content or ""
            said["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
            said["finish_reason"] = choice.finish_reason or said["finish_reason"]
            for call in choice.delta.tool_calls or ():
                known = said["calls"].setdefault(
                    call.index, {"id": call.id, "name": call.function.name, "arguments": ""}
                )
                known["arguments"] += call.function.arguments or ""
    return said


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_chat(everyone, dialect):
    async with chat(everyone, dialect) as (completions, server, rows):
        raw = await completions.with_raw_response.create(model=dialect, messages=USER, max_completion_tokens=50)
        answer = raw.parse()
        assert answer.choices[0].message.content == "You said: hello there"
        assert answer.choices[0].finish_reason == "stop"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 5)
        translated = "chat_completions>messages" if dialect in ANTHROPIC else None
        assert raw.headers.get("x-tollway-translated") == translated
        (body,) = server.bodies
        assert body["model"] == server.model or dialect == "azure-deployments"
        (row,) = await rows()
        assert (row["endpoint"], row["translated"], row["dropped_fields"]) == ("chat_completions", translated, None)
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (3, 5, "exact")
        assert row["cost_nusd"] == 3 * 1_000 + 5 * 4_000
        assert row["requested_model"] == dialect


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_streamed_chat(everyone, dialect):
    async with chat(everyone, dialect) as (completions, _server, rows):
        stream = await completions.create(
            model=dialect, messages=USER, stream=True, stream_options={"include_usage": True}, max_completion_tokens=50
        )
        said = await gathered(stream)
        assert (said["content"], said["finish_reason"]) == ("You said: hello there", "stop")
        assert (said["usage"].prompt_tokens, said["usage"].completion_tokens) == (3, 5)
        (row,) = await rows()
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (3, 5, "exact")


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("asking", ["call", "call both", "call twice"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_chat_with_tools_until_its_answer(everyone, dialect, asking, streamed):
    """As an app does it: what the SDK gave goes back as it is, with the results."""
    async with chat(everyone, dialect) as (completions, server, _rows):
        messages: list[Any] = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": asking}]
        tools = [chat_tool("weather"), chat_tool("news")]
        made: list[str] = []
        for _ in range(4):
            if streamed:
                stream = await completions.create(model=dialect, messages=messages, tools=tools, stream=True)
                message = await streamed_message(stream)
            else:
                answer = await completions.create(model=dialect, messages=messages, tools=tools)
                message = answer.choices[0].message.to_dict()
                assert answer.choices[0].finish_reason == ("tool_calls" if message.get("tool_calls") else "stop")
            messages.append(message)
            if not message.get("tool_calls"):
                break
            for call in message["tool_calls"]:
                assert json.loads(call["function"]["arguments"]) == FILLED
                made.append(call["function"]["name"])
                result = f"{call['function']['name']} {len(made)}"
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        calls = {"call": ["weather"], "call both": ["weather", "news"], "call twice": ["weather", "weather"]}[asking]
        assert made == calls
        results = "; ".join(f"{name} {index}" for index, name in enumerate(calls, 1))
        assert messages[-1]["content"] == f"The tools said: {results}"
        assert len(server.bodies) == (3 if asking == "call twice" else 2)


async def streamed_message(stream) -> dict[str, Any]:
    """A streamed chat as the message that goes back, with every member that a tool call had."""
    content = ""
    calls: dict[int, Any] = {}
    async for chunk in stream:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            for piece in choice.delta.tool_calls or ():
                call = calls.setdefault(piece.index, piece.to_dict())
                if call is not piece and "function" in call and call.get("seen"):
                    call["function"]["arguments"] += piece.function.arguments or ""
                call["seen"] = True
    for call in calls.values():
        del call["seen"], call["index"]
    message: dict[str, Any] = {"role": "assistant", "content": content or None}
    return {**message, "tool_calls": [calls[index] for index in sorted(calls)]} if calls else message


@pytest.mark.parametrize("dialect", SEEING)
async def test_a_picture_in_a_chat(everyone, dialect):
    async with chat(everyone, dialect) as (completions, _server, _rows):
        url = f"data:image/png;base64,{PICTURE}"
        content = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
        answer = await completions.create(model=dialect, messages=[{"role": "user", "content": content}])
        assert answer.choices[0].message.content == "I see image/png of 61 bytes"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_chat_with_a_schema(everyone, dialect):
    async with chat(everyone, dialect) as (completions, _server, _rows):
        schema = {"name": "trip", "schema": SCHEMA, "strict": True}
        answer = await completions.create(
            model=dialect, messages=USER, response_format={"type": "json_schema", "json_schema": schema}
        )
        assert json.loads(answer.choices[0].message.content) == FILLED


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("dialect", ["anthropic", "bedrock-anthropic", "openai-compatible"])
async def test_a_chat_that_is_thought_about_with_tools(everyone, dialect, streamed):
    """The signed thinking goes out with the call, and comes back with its result: else Anthropic refuses it."""
    async with chat(everyone, dialect) as (completions, server, _rows):
        messages: list[Any] = [{"role": "user", "content": "call"}]
        asked: dict[str, Any] = {"model": dialect, "tools": [chat_tool("weather")], "reasoning_effort": "low"}
        if streamed:
            message = await streamed_message(await completions.create(messages=messages, stream=True, **asked))
        else:
            message = (await completions.create(messages=messages, **asked)).choices[0].message.to_dict()
            assert message["reasoning_content"] == THOUGHT
        result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
        answer = await completions.create(messages=[*messages, message, result], **asked)
        assert answer.choices[0].message.content == "The tools said: sunny"
        if dialect in ANTHROPIC:
            assert [block["type"] for block in server.bodies[-1]["messages"][1]["content"]] == ["thinking", "tool_use"]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_chat_that_is_refused_and_one_that_is_cut(everyone, dialect):
    async with chat(everyone, dialect) as (completions, _server, _rows):
        refused = await completions.create(model=dialect, messages=[{"role": "user", "content": "refuse"}])
        assert (refused.choices[0].finish_reason, refused.choices[0].message.content) == ("content_filter", REFUSAL)
        cut = await completions.create(model=dialect, messages=USER, max_completion_tokens=2)
        assert (cut.choices[0].finish_reason, cut.choices[0].message.content) == ("length", "You said:")


@pytest.mark.parametrize(
    ("status", "told", "error", "code"),
    [
        (400, 400, openai.BadRequestError, "context_length_exceeded"),
        (404, 404, openai.NotFoundError, "model_not_found"),
        (429, 429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, 500, openai.InternalServerError, None),
        (529, 503, openai.InternalServerError, None),
    ],
)
async def test_errors_of_anthropics_in_a_chat(everyone, status, told, error, code):
    async with chat(everyone, "anthropic") as (completions, _server, _rows):
        with pytest.raises(error) as raised:
            await completions.create(model="anthropic", messages=[{"role": "user", "content": f"fail {status}"}])
        assert (raised.value.status_code, raised.value.code) == (told, code)
        assert raised.value.response.headers["x-request-id"] == "req_011simulated"
        assert raised.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
        with pytest.raises(error):
            await completions.create(
                model="anthropic", messages=[{"role": "user", "content": f"fail {status}"}], stream=True
            )


# ── Messages, by the anthropic SDK ───────────────────────────────────────────────────────


@asynccontextmanager
async def messages(everyone: Everyone, dialect: str):
    who, server, rows = tenant_before(everyone, dialect)
    async with anthropic_sdk(everyone.gateway.url, default_headers=who) as sdk:
        yield Before(sdk.messages, server, rows)


def messages_tool(name: str) -> Any:
    return {"name": name, "description": "d", "input_schema": SCHEMA}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_message(everyone, dialect):
    async with messages(everyone, dialect) as (api, server, rows):
        raw = await api.with_raw_response.create(
            model=dialect,
            max_tokens=50,
            system="You are terse.",
            messages=[{"role": "user", "content": "hello cached"}],
        )
        answer = await raw.parse()
        assert [block.text for block in answer.content] == ["You said: hello cached"]
        assert answer.stop_reason == "end_turn"
        assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (3, 3)
        assert answer.usage.output_tokens == 5
        translated = None if dialect in ANTHROPIC else "messages>chat_completions"
        assert raw.headers.get("x-tollway-translated") == translated
        assert raw.headers["request-id"].startswith("req_")
        (row,) = await rows()
        assert (row["endpoint"], row["translated"]) == ("messages", translated)
        assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (6, 3, 5)
        assert len(server.bodies) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_streamed_message(everyone, dialect):
    async with messages(everyone, dialect) as (api, _server, rows):
        async with api.stream(model=dialect, max_tokens=50, messages=USER) as stream:
            pieces = [text async for text in stream.text_stream]
            answer = await stream.get_final_message()
        assert pieces == ["You", " said:", " hello", " there"]
        assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 5)
        (row,) = await rows()
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (3, 5, "exact")


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("asking", ["call", "call both", "call twice"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_messages_with_tools_until_their_answer(everyone, dialect, asking, streamed):
    async with messages(everyone, dialect) as (api, server, _rows):
        turns: list[Any] = [{"role": "user", "content": asking}]
        tools = [messages_tool("weather"), messages_tool("news")]
        made: list[str] = []
        for _ in range(4):
            if streamed:
                async with api.stream(model=dialect, max_tokens=99, messages=turns, tools=tools) as stream:
                    answer = await stream.get_final_message()
            else:
                answer = await api.create(model=dialect, max_tokens=99, messages=turns, tools=tools)
            turns.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
            calls = [block for block in answer.content if block.type == "tool_use"]
            assert answer.stop_reason == ("tool_use" if calls else "end_turn")
            if not calls:
                break
            results = []
            for call in calls:
                assert call.input == FILLED
                made.append(call.name)
                result = {"type": "tool_result", "tool_use_id": call.id, "content": f"{call.name} {len(made)}"}
                results.append(result)
            turns.append({"role": "user", "content": results})
        expected = {"call": ["weather"], "call both": ["weather", "news"], "call twice": ["weather", "weather"]}[asking]
        assert made == expected
        told = "; ".join(f"{name} {index}" for index, name in enumerate(expected, 1))
        assert turns[-1]["content"][0]["text"] == f"The tools said: {told}"
        assert len(server.bodies) == (3 if asking == "call twice" else 2)


@pytest.mark.parametrize("dialect", SEEING)
async def test_a_picture_and_a_document_in_a_message(everyone, dialect):
    async with messages(everyone, dialect) as (api, _server, _rows):
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "look"}]
        answer = await api.create(model=dialect, max_tokens=50, messages=[{"role": "user", "content": content}])
        assert answer.content[0].text == "I see image/png of 61 bytes"
        source = {"type": "base64", "media_type": "application/pdf", "data": PICTURE}
        content = [{"type": "document", "title": "plan.pdf", "source": source}, {"type": "text", "text": "read"}]
        answer = await api.create(model=dialect, max_tokens=50, messages=[{"role": "user", "content": content}])
        assert answer.content[0].text == "I see plan.pdf"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_message_with_a_schema(everyone, dialect):
    async with messages(everyone, dialect) as (api, _server, _rows):
        config = {"format": {"type": "json_schema", "schema": SCHEMA}}
        answer = await api.create(model=dialect, max_tokens=50, messages=USER, output_config=config)
        assert json.loads(answer.content[0].text) == FILLED


@pytest.mark.parametrize("dialect", ["anthropic", "openai", "openai-compatible", "gemini"])
async def test_a_message_that_is_thought_about(everyone, dialect):
    async with messages(everyone, dialect) as (api, server, _rows):
        thinking = {"type": "enabled", "budget_tokens": 2_000}
        answer = await api.create(model=dialect, max_tokens=9_000, messages=USER, thinking=thinking)
        assert answer.content[-1].text == "You said: hello there"
        if dialect in ("anthropic", "openai-compatible"):
            assert answer.content[0].thinking == THOUGHT
        if dialect != "anthropic":
            assert server.bodies[0]["reasoning_effort"] == "low"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_message_that_is_refused_and_one_that_is_cut(everyone, dialect):
    async with messages(everyone, dialect) as (api, _server, _rows):
        refused = await api.create(model=dialect, max_tokens=50, messages=[{"role": "user", "content": "refuse"}])
        assert (refused.stop_reason, refused.content[0].text) == ("refusal", REFUSAL)
        cut = await api.create(model=dialect, max_tokens=2, messages=USER)
        assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "You said:")


@pytest.mark.parametrize("dialect", ["openai", "gemini", "azure", "bedrock"])
@pytest.mark.parametrize(
    ("status", "told", "error", "kind"),
    [
        (400, 400, anthropic.BadRequestError, "invalid_request_error"),
        (404, 404, anthropic.NotFoundError, "not_found_error"),
        (429, 429, anthropic.RateLimitError, "rate_limit_error"),
        (500, 500, anthropic.InternalServerError, "api_error"),
        (503, 529, anthropic.InternalServerError, "overloaded_error"),
    ],
)
async def test_errors_of_others_in_messages(everyone, dialect, status, told, error, kind):
    async with messages(everyone, dialect) as (api, _server, _rows):
        with pytest.raises(error) as raised:
            await api.create(model=dialect, max_tokens=9, messages=[{"role": "user", "content": f"fail {status}"}])
        assert (raised.value.status_code, raised.value.body["error"]["type"]) == (told, kind)
        assert raised.value.response.headers["request-id"] == "req_simulated"


@pytest.mark.parametrize("dialect", ANTHROPIC)
async def test_tokens_are_counted_by_who_speaks_messages(everyone, dialect):
    async with messages(everyone, dialect) as (api, _server, _rows):
        assert (await api.count_tokens(model=dialect, messages=USER)).input_tokens == 3


async def test_the_gateways_key_is_shown_as_each_provider_wants_it(everyone):
    for dialect in DIALECTS:
        async with messages(everyone, dialect) as (api, server, _rows):
            await api.create(model=dialect, max_tokens=50, messages=USER)
            (received,) = server.upstream.received
            shown = {name: value for name, value in received.headers if SECRET.encode() in value}
            name = {"anthropic": b"x-api-key", "azure": b"api-key", "azure-deployments": b"api-key"}.get(dialect)
            assert shown == {name or b"authorization": SECRET.encode() if name else b"Bearer " + SECRET.encode()}
            assert not any(b"callers-token" in value for _, value in received.headers)
