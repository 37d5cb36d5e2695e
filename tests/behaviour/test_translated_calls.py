"""Promise: where a provider speaks another API than the caller, nothing is lost in silence, a cap holds what is really
sent, and what is the provider's own passes untouched."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.gateway import JSON, error_of, plain_request, running_gateway
from tests.providers.server import provider_server
from tests.providers.wire import SECRET
from tests.scripted_upstream import Do, answer, scripted_upstream, stream

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
WHO = [*JSON, (b"x-tollway-tenant", b"acme")]
HELLO = [{"role": "user", "content": "hello there"}]


def body_of(**members):
    return json.dumps({"model": "m", "messages": HELLO, **members}).encode()


@asynccontextmanager
async def before(dialect, extra=""):
    async with provider_server(dialect) as server, running_gateway(server.configuration() + extra) as gateway:
        yield gateway, server


async def test_what_cannot_be_honoured_is_refused_and_named():
    async with before("anthropic") as (gateway, server):
        status, _, body = await plain_request(gateway, "POST", CHAT, body_of(seed=1, n=2, logit_bias={"1": 2}), WHO)
        error = error_of(body)
        assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", "seed")
        assert "`seed`" in error["message"]
        assert "n, logit_bias" in error["message"]
        assert server.upstream.received == []
        assert await gateway.rows("acme") == []


async def test_or_left_out_and_told_where_the_tenant_says_so():
    async with before("anthropic", '[tenants.acme]\non_unsupported = "drop"\n') as (gateway, server):
        call = body_of(seed=1, n=2, **{"what? \n is this": 1})
        status, head, _ = await plain_request(gateway, "POST", CHAT, call, WHO)
        assert (status, head[b"x-tollway-dropped"]) == (200, b"seed, n, 1 more")
        assert not {"seed", "n"} & set(server.bodies[0])
        (row,) = await gateway.rows("acme")
        assert row["dropped_fields"] == "seed, n, 1 more"  # a name of the caller's own making is not kept


@pytest.mark.parametrize(
    ("dialect", "target", "body", "param"),
    [
        ("anthropic", CHAT, {"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ("openai", MESSAGES, {"messages": [{"role": "robot", "content": "x"}], "max_tokens": 9}, "messages.0.role"),
        ("openai", MESSAGES, {}, "max_tokens"),
    ],
)
async def test_bad_input_is_refused_in_the_callers_own_envelope(dialect, target, body, param):
    async with before(dialect) as (gateway, server):
        status, head, said = await plain_request(gateway, "POST", target, body_of(**body), WHO)
        assert (status, head[b"x-tollway-error-source"]) == (400, b"caller")
        document = json.loads(said)
        if target == MESSAGES:
            assert (document["type"], document["error"]["type"]) == ("error", "invalid_request_error")
            assert param in document["error"]["message"]
        else:
            assert document["error"]["param"] == param
        assert server.upstream.received == []


@pytest.mark.parametrize(("dialect", "target"), [("anthropic", CHAT), ("openai", MESSAGES)])
async def test_what_is_nested_too_deep_to_be_said_again(dialect, target):
    schema = json.loads('{"properties":' * 300 + "{}" + "}" * 300)
    function = {"name": "f", "parameters": schema, "input_schema": schema}
    tool = {**function, "type": "function", "function": function} if target == CHAT else function
    async with before(dialect) as (gateway, server):
        status, head, said = await plain_request(gateway, "POST", target, body_of(tools=[tool], max_tokens=9), WHO)
        assert (status, head[b"x-tollway-error-source"]) == (400, b"caller")
        assert "nested" in json.loads(said)["error"]["message"]
        assert server.upstream.received == []


async def test_an_endpoint_that_the_provider_does_not_have():
    async with before("anthropic") as (gateway, _):
        status, _, body = await plain_request(gateway, "POST", "/v1/embeddings", b'{"model":"m","input":"x"}', WHO)
        assert (status, error_of(body)["code"]) == (404, "unsupported_endpoint")
    async with before("openai") as (gateway, _):
        counting = f"{MESSAGES}/count_tokens"
        status, _, body = await plain_request(gateway, "POST", counting, body_of(), WHO)
        assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")


@pytest.mark.parametrize("dialect", ["anthropic", "bedrock-anthropic"])
async def test_a_message_to_who_speaks_messages_arrives_byte_for_byte(dialect):
    async with before(dialect) as (gateway, server):
        model = server.model.encode()
        text = b'{ "max_tokens":9,\t"model" : "%b", "messages":[{"content":"h\\u0069","role":"user"}] }'
        deployment = f'{{ provider = "simulated-provider", model = "{server.model}" }}'
        config = f'[models."{server.model}"]\ndeployments = [{deployment}]\n'
        async with running_gateway(server.configuration() + config) as other:
            headers = [*WHO, (b"anthropic-beta", b"things-2026"), (b"anthropic-version", b"2026-10-21")]
            status, head, _ = await plain_request(other, "POST", MESSAGES, text % model, headers)
        (received,) = server.upstream.received
        assert status == 200
        assert received.body_sha256 == hashlib.sha256(text % model).hexdigest()
        assert received.header(b"anthropic-beta") == b"things-2026"
        assert received.header(b"anthropic-version") == b"2026-10-21"
        assert b"x-tollway-translated" not in head
        # Where the model's name must be another, that alone is.
        await plain_request(gateway, "POST", MESSAGES, text % b"m", headers)
        assert server.upstream.received[1].body == text % model


async def test_azures_older_form_of_paths_on_both_sides():
    """The path decides which model is called; what the body calls it does not."""
    async with before("azure-deployments") as (gateway, server):
        target = "/openai/deployments/m/chat/completions?api-version=2023-05-15"
        for body in (body_of(model="anything"), json.dumps({"messages": HELLO}).encode()):
            headers = [*WHO, (b"api-key", b"callers")]
            status, _, _ = await plain_request(gateway, "POST", target, body, headers)
            assert status == 200
        assert {each.target for each in server.upstream.received} == {
            "/openai/deployments/house-gpt/chat/completions?api-version=2024-10-21"
        }
        assert [body["model"] for body in server.bodies] == ["house-gpt", "house-gpt"]
        assert [row["requested_model"] for row in await gateway.rows("acme")] == ["m", "m"]
        other = "/openai/deployments/unknown/chat/completions?api-version=2023-05-15"
        status, _, body = await plain_request(gateway, "POST", other, body_of(model="m"), WHO)
        assert (status, error_of(body)["code"]) == (404, "model_not_found")
        status, _, _ = await plain_request(gateway, "POST", f"/openai{CHAT}", body_of(), WHO)
        assert status == 200  # the newer form


async def test_azures_form_reaches_another_provider_without_its_version():
    async with before("openai") as (gateway, server):
        target = "/openai/deployments/m/chat/completions?api-version=2023-05-15&x=1"
        status, _, _ = await plain_request(gateway, "POST", target, body_of(model="anything"), WHO)
        assert status == 200
        assert server.upstream.received[0].target == "/v1/chat/completions?x=1"
        assert server.bodies[0]["model"] == server.model


async def test_a_call_goes_where_it_can_be_served():
    """Tools, pictures, a schema, a long input: in the operator's order, the first deployment that has it."""
    async with scripted_upstream(answer(b'{"model":"x","choices":[]}')) as upstream:
        text = f"""
[auth]
mode = "trusted-headers"
[providers.scripted]
base_url = "{upstream.base_url}"
[models.m]
deployments = [
  {{ provider = "scripted", model = "small", capabilities = [], context_tokens = 1_000 }},
  {{ provider = "scripted", model = "tooled", capabilities = ["tools", "json_schema"], context_tokens = 1_000 }},
  {{ provider = "scripted", model = "seeing", capabilities = ["tools", "vision"], context_tokens = 100_000 }},
]
"""
        tool = {"type": "function", "function": {"name": "f"}}
        picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]}]
        schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}
        calls: dict[str, dict[str, object]] = {
            "small": {},
            "tooled": {"tools": [tool]},
            "seeing": {"messages": picture},
        }
        async with running_gateway(text) as gateway:
            for model, call in calls.items():
                _, head, _ = await plain_request(gateway, "POST", CHAT, body_of(**call), WHO)
                assert head[b"x-tollway-model"] == f"scripted/{model}".encode()
            long = [{"role": "user", "content": "word " * 2_000}]
            _, head, _ = await plain_request(gateway, "POST", CHAT, body_of(messages=long, tools=[tool]), WHO)
            assert head[b"x-tollway-model"] == b"scripted/seeing"
            sent = len(upstream.received)
            call = body_of(messages=picture, response_format=schema)
            status, _, body = await plain_request(gateway, "POST", CHAT, call, WHO)
            assert (status, error_of(body)["code"]) == (400, "unsupported_parameter")
            assert "capabilities" in error_of(body)["message"]
            assert len(upstream.received) == sent


async def test_a_cap_holds_the_ceiling_that_is_sent():
    """A chat without a ceiling holds the model's own, because Messages has to be told it."""
    async with before("anthropic", "[plans.default.tenant]\nusd_per_day = 0.10\n") as (gateway, server):
        status, _, body = await plain_request(gateway, "POST", CHAT, body_of(), WHO)
        assert (status, error_of(body)["code"]) == (429, "insufficient_quota")  # 32,000 tokens are $0.128
        status, _, _ = await plain_request(gateway, "POST", CHAT, body_of(max_tokens=100), WHO)
        assert status == 200
        assert server.bodies[0]["max_tokens"] == 100
        (row,) = await gateway.rows("acme")
        assert row["held_nusd"] > row["charged_nusd"] == 3 * 1_000 + 5 * 4_000


async def test_a_stream_that_is_cut_is_cut_for_the_caller_too():
    begun = b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"x","usage":{}}}\n\n'
    word = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"text","text":"half"}}\n\n'
    )
    for ending in (Do.RESET, Do.CLOSE):
        async with scripted_upstream(stream(begun, word, ending)) as upstream:
            text = f"""
[auth]
mode = "trusted-headers"
[providers.scripted]
dialect = "anthropic"
base_url = "{upstream.base_url}"
[models.m]
deployments = [{{ provider = "scripted", model = "x" }}]
"""
            async with running_gateway(text) as gateway:
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                call = body_of(stream=True)
                head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-tollway-tenant: acme\r\n"
                head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(call)
                writer.write(head + call)
                said = await reader.read(-1)
                writer.close()
                assert b"half" in said
                assert b"[DONE]" not in said
                assert not said.endswith(b"0\r\n\r\n")  # no clean end of the chunked body
                await gateway.idle()
                (row,) = await gateway.rows("acme")
                assert row["error_source"] == "upstream"


async def test_an_answer_that_is_none_is_the_providers_fault():
    async with scripted_upstream(answer(b'{"type":"message"}')) as upstream:
        text = f"""
[auth]
mode = "trusted-headers"
[providers.scripted]
dialect = "anthropic"
base_url = "{upstream.base_url}"
[models.m]
deployments = [{{ provider = "scripted", model = "x" }}]
"""
        async with running_gateway(text) as gateway:
            status, head, body = await plain_request(gateway, "POST", CHAT, body_of(), WHO)
            assert (status, error_of(body)["code"]) == (502, "upstream_malformed")
            assert head[b"x-tollway-error-source"] == b"upstream"


async def test_a_callers_own_key_is_shown_as_the_other_api_wants_it():
    async with provider_server("anthropic") as server:
        text = f"""
[auth]
mode = "passthrough"
default_provider = "theirs"
[providers.theirs]
dialect = "anthropic"
base_url = "{server.base_url}"
"""
        async with running_gateway(text) as gateway:
            headers = [*JSON, (b"authorization", b"Bearer " + SECRET.encode())]
            status, _, _ = await plain_request(gateway, "POST", CHAT, body_of(model=server.model), headers)
            assert status == 200
            (received,) = server.upstream.received
            assert received.header(b"x-api-key") == SECRET.encode()
            assert received.header(b"authorization") is None


CLIENT = """
import json, sys, anthropic
assert anthropic.__version__.startswith("1."), anthropic.__version__
who = {"x-tollway-tenant": "acme"}
client = anthropic.Anthropic(base_url=sys.argv[1], api_key="callers", max_retries=0, default_headers=who)
sees, thinks = "sees" in sys.argv, "thinks" in sys.argv

def ask(said, **also):
    turns = said if isinstance(said, list) else [{"role": "user", "content": said}]
    return client.messages.create(**{"model": "m", "max_tokens": 50, "messages": turns, **also})

assert ask("hello there").content[0].text == "You said: hello there"
with client.messages.stream(model="m", max_tokens=50, messages=[{"role": "user", "content": "hello there"}]) as stream:
    assert list(stream.text_stream) == ["You", " said:", " hello", " there"]

city = {"city": {"type": "string"}}
schema = {"type": "object", "properties": city, "required": ["city"], "additionalProperties": False}
tools = [{"name": name, "input_schema": schema} for name in ("weather", "news")]
for asking, expected in (("call", 1), ("call both", 2), ("call twice", 2)):
    turns, made = [{"role": "user", "content": asking}], 0
    while True:
        answer = ask(turns, tools=tools)
        turns.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            break
        assert answer.stop_reason == "tool_use" and all(call.input == {"city": "Paris"} for call in calls), answer
        made += len(calls)
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
        turns.append({"role": "user", "content": results})
    assert made == expected and answer.content[0].text.startswith("The tools said: sunny"), (asking, turns)

if sees:
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    answer = ask([{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "look"}]}])
    assert answer.content[0].text == "I see image/png of 3 bytes", answer
if thinks:
    answer = ask("hello there", max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 2000})
    assert answer.content[-1].text == "You said: hello there", answer
answer = ask("hello there", output_config={"format": {"type": "json_schema", "schema": schema}})
assert json.loads(answer.content[0].text) == {"city": "Paris"}, answer
assert ask("refuse").stop_reason == "refusal"
assert ask("hello there", max_tokens=2).stop_reason == "max_tokens"
try:
    ask("fail 429")
except anthropic.RateLimitError as error:
    assert error.body["error"]["type"] == "rate_limit_error"
else:
    raise AssertionError("no error")
print("all of it")
"""


@pytest.mark.parametrize(
    ("dialect", "can"),
    [
        ("anthropic", ["sees", "thinks"]),
        ("openai", ["sees", "thinks"]),
        ("gemini", ["sees", "thinks"]),
        ("bedrock", ["thinks"]),
        ("bedrock-anthropic", ["sees"]),  # its model there thinks as it likes, and takes no budget
    ],
)
async def test_the_older_sdk_of_anthropics(dialect, can):
    """Its first major version, installed beside the newest (the Makefile's `.dev`), in a process of its own."""
    folder = Path(sys.prefix) / "anthropic-1"
    async with before(dialect) as (gateway, _):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "ignore", "-c", CLIENT, gateway.url, *can],
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "all of it\n"), done.stderr
