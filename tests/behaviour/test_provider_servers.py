"""The simulated providers are what they stand for: the official SDKs read them, and they refuse what the real would."""

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.anthropic_sdk import anthropic_sdk
from tests.openai_sdk import async_sdk
from tests.providers.anthropic_rules import check as check_messages
from tests.providers.openai_rules import check as check_chat
from tests.providers.server import DIALECTS, provider_server
from tests.providers.wire import SECRET, Refused

USER: Any = [{"role": "user", "content": "hello there"}]
OF_OPENAI = [each for each in DIALECTS if each not in ("anthropic", "bedrock-anthropic", "azure-deployments")]


@pytest.mark.parametrize("dialect", OF_OPENAI)
async def test_the_openai_sdk_reads_them(dialect):
    async with provider_server(dialect) as server:
        headers = {"api-key": SECRET} if dialect == "azure" else {}
        async with async_sdk(server.base_url, api_key=SECRET, default_headers=headers) as sdk:
            answer = await sdk.chat.completions.create(model=server.model, messages=USER)
            assert answer.choices[0].message.content == "You said: hello there"
            stream = await sdk.chat.completions.create(model=server.model, messages=USER, stream=True)
            said = [choice.delta.content async for chunk in stream for choice in chunk.choices]
            assert "".join(piece or "" for piece in said) == "You said: hello there"
            with pytest.raises(openai.APIStatusError) as raised:
                await sdk.chat.completions.create(
                    model=server.model, messages=[{"role": "user", "content": "fail 429"}]
                )
            assert raised.value.status_code == 429


async def test_the_sdk_for_azure_reads_its_older_form():
    async with provider_server("azure-deployments") as server:
        endpoint = server.base_url.removesuffix("/openai")
        async with openai.AsyncAzureOpenAI(
            azure_endpoint=endpoint, api_key=SECRET, api_version="2024-10-21", max_retries=0
        ) as sdk:
            answer = await sdk.chat.completions.create(model=server.model, messages=USER)
            assert answer.choices[0].message.content == "You said: hello there"
            with pytest.raises(openai.NotFoundError):
                await sdk.chat.completions.create(model="nobody-deployed-this", messages=USER)


@pytest.mark.parametrize("dialect", ["anthropic", "bedrock-anthropic"])
async def test_the_anthropic_sdk_reads_them(dialect):
    async with provider_server(dialect) as server:
        credentials: dict[str, Any] = (
            {"api_key": SECRET} if dialect == "anthropic" else {"api_key": None, "auth_token": SECRET}
        )
        async with anthropic_sdk(server.base_url, **credentials) as sdk:
            answer: Any = await sdk.messages.create(model=server.model, max_tokens=50, messages=USER)
            assert answer.content[0].text == "You said: hello there"
            async with sdk.messages.stream(model=server.model, max_tokens=50, messages=USER) as stream:
                assert [text async for text in stream.text_stream] == ["You", " said:", " hello", " there"]
            with pytest.raises(anthropic.NotFoundError):
                await sdk.messages.create(
                    model=server.model, max_tokens=9, messages=[{"role": "user", "content": "fail 404"}]
                )


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_another_key_is_refused(dialect):
    async with provider_server(dialect) as server, async_sdk(server.base_url, api_key="sk-of-somebody") as sdk:
        with pytest.raises(openai.AuthenticationError):
            await sdk.chat.completions.create(model=server.model, messages=USER)


TOOL: Any = {"name": "f", "input_schema": {"type": "object"}}
CALLED: Any = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
]
RESULT: Any = {"type": "tool_result", "tool_use_id": "t", "content": "r"}
THINKING: Any = {"type": "enabled", "budget_tokens": 2_000}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"seed": 1}, "seed: Extra inputs"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 99_999}, "maximum allowed"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "first message"),
        ({"messages": [{"role": "system", "content": "a"}, *USER]}, "first message"),
        ({"messages": [*USER, {"role": "system", "content": "a"}]}, "role 'system' is not supported"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-empty"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
        ({"messages": CALLED, "tools": [TOOL]}, "without `tool_result`"),
        ({"messages": [*CALLED, {"role": "user", "content": "b"}], "tools": [TOOL]}, "without `tool_result`"),
        (
            {
                "messages": [*CALLED, {"role": "user", "content": [{"type": "text", "text": "b"}, RESULT]}],
                "tools": [TOOL],
            },
            "must come first",
        ),
        ({"messages": [*CALLED, {"role": "user", "content": [RESULT]}]}, "must define tools"),
        ({"tools": [TOOL, TOOL]}, "unique"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "pattern"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "input_schema.type"),
        ({"tool_choice": {"type": "auto"}}, "while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "not found"),
        ({"stop_sequences": ["\n"]}, "non-whitespace"),
        ({"temperature": 1.5}, "temperature"),
        ({"thinking": {"type": "enabled", "budget_tokens": 500}}, "1024"),
        ({"thinking": THINKING, "max_tokens": 2_000}, "greater than"),
        ({"thinking": THINKING, "max_tokens": 9_000, "temperature": 0.5}, "temperature"),
        (
            {"thinking": THINKING, "max_tokens": 9_000, "tools": [TOOL], "tool_choice": {"type": "any"}},
            "forces tool use",
        ),
        (
            {
                "thinking": THINKING,
                "max_tokens": 9_000,
                "tools": [TOOL],
                "messages": [*CALLED, {"role": "user", "content": [RESULT]}],
            },
            "Expected `thinking`",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "forged"}]},
                ]
            },
            "Invalid `signature`",
        ),
        ({"output_config": {"effort": "low"}}, "effort"),
        ({"thinking": {"type": "adaptive"}}, "adaptive"),
        ({"model": "claude-opus-4-8", "thinking": THINKING, "max_tokens": 9_000}, "thinking.type.enabled"),
        ({"model": "claude-opus-4-8", "temperature": 0}, "temperature"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": ""}}
                        ],
                    }
                ]
            },
            "media_type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A"}}
                        ],
                    }
                ]
            },
            "base64",
        ),
    ],
)
def test_what_anthropics_refuses(members, message):
    call = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": USER, **members}
    check_messages({"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": USER}, counts=False, samples=True)
    with pytest.raises(Refused) as raised:
        check_messages({name: value for name, value in call.items() if value is not None}, counts=False, samples=True)
    assert message in raised.value.message


def test_the_newer_version_of_its_api_has_no_temperature():
    call = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": USER, "temperature": 0.5}
    check_messages(call, counts=False, samples=True)
    with pytest.raises(Refused, match="Extra inputs"):
        check_messages(call, counts=False, samples=False)


FUNCTION: Any = {"type": "function", "function": {"name": "f", "parameters": {}}}
ASKED: Any = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
ANSWERED: Any = {"role": "tool", "tool_call_id": "t", "content": "r"}


@pytest.mark.parametrize(
    ("flavour", "members", "message"),
    [
        ("openai", {"top_k": 5}, "top_k"),
        ("gemini", {"user": "u"}, "user"),
        ("openai", {"max_tokens": 9}, "max_completion_tokens"),
        ("openai", {"messages": []}, "empty array"),
        ("openai", {"messages": [*USER, ANSWERED]}, "preceding message"),
        ("openai", {"messages": [*USER, ASKED]}, "followed by tool messages"),
        ("openai", {"messages": [*USER, ASKED, *USER]}, "followed by tool messages"),
        ("openai", {"messages": [*USER, {"role": "assistant", "content": None}]}, "content"),
        ("openai", {"messages": [{"role": "robot", "content": "a"}]}, "robot"),
        ("openai", {"stream_options": {"include_usage": True}}, "stream_options"),
        ("openai", {"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ("openai", {"user": "u" * 65}, "user"),
        ("openai", {"tool_choice": "auto"}, "tool_choice"),
        ("openai", {"temperature": 3}, "temperature"),
        (
            "openai",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
            "additionalProperties",
        ),
        ("gemini", {"messages": [*USER, ASKED, ANSWERED], "tools": [FUNCTION]}, "thought_signature"),
        (
            "openai",
            {"messages": [*USER, {**ASKED, "tool_calls": [{**ASKED["tool_calls"][0], "extra_content": {}}]}, ANSWERED]},
            "extra_content",
        ),
    ],
)
def test_what_the_others_refuse(flavour, members, message):
    call = json.loads(json.dumps({"model": "gpt-5-mini", "messages": USER}))
    check_chat(call, flavour)
    with pytest.raises(Refused) as raised:
        check_chat({**call, **members}, flavour)
    assert message in raised.value.message
