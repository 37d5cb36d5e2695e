"""Promise: an app that uses OpenAI's SDK changes its base URL and nothing else. The same call
gives it the same object, and its provider the same request, as without the gateway."""

import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.gateway import CALLERS_TOKEN, gateway_before, passthrough_to, running_gateway
from tests.openai_sdk import async_sdk
from tests.scripted_upstream import Do, Received, Step, answer, scripted_upstream, stream, until

HELLO: Any = [{"role": "user", "content": "Héllo, “world” 😀"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["°C", "°F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS, "strict": True}}
WEATHER_FLAT: Any = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
SPOKEN = bytes(range(256)) * 40


class City(BaseModel):
    name: str
    inhabitants: int


def document(fields: object) -> list[Step]:
    return answer(json.dumps(fields).encode(), headers=[(b"x-request-id", b"req_upstream_7")])


def events(*documents: dict[str, Any], end: bytes = b"data: [DONE]\n\n") -> list[Step]:
    """A stream of them: named events where they have a type, as Responses has it."""
    pieces = [
        (f"event: {each['type']}\n" if "type" in each else "").encode()
        + b"data: "
        + json.dumps(each, ensure_ascii=False).encode()
        + b"\n\n"
        for each in documents
    ]
    return stream(*pieces, *([end] if end else []), head=b"x-request-id: req_upstream_7\r\n")


# ── what the provider says ───────────────────────────────────────────────────────────────

CHAT_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 4},
}


def chat(message: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_763_000_000,
        "model": "m-2026-01-01",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": CHAT_USAGE,
        "service_tier": "default",
        "x_of_next_year": {"kept": [1.5, None]},
    }


def called(index: int, city: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": json.dumps({"city": city, "unit": "°C"})}
    return {"id": f"call_{index}", "type": "function", "function": function}


def chunk(delta: dict[str, Any] | None, finish_reason: str | None = None, **rest: object) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_763_000_000,
        "model": "m-2026-01-01",
        "choices": choices,
        **rest,
    }


def argument(index: int, piece: str) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})


def opened(index: int) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": ""}
    return chunk({"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": function}]})


WORDS = [
    chunk({"role": "assistant", "content": ""}),
    *(chunk({"content": word}) for word in ("Grüß ", "dich, ", "世界 ", "✓")),
    chunk({}, "stop"),
]
# Two calls of one turn, whose arguments come by turns.
PARALLEL = [
    chunk({"role": "assistant", "content": None}),
    opened(0),
    opened(1),
    argument(0, '{"city": "Par'),
    argument(1, '{"city": "Rom'),
    argument(0, 'is", "unit": "°C"}'),
    argument(1, 'e", "unit": "°F"}'),
    chunk({}, "tool_calls"),
]

# The stream's helper reads one call's arguments to their end before the next one's.
IN_TURN = [*PARALLEL[:2], PARALLEL[3], PARALLEL[5], PARALLEL[2], PARALLEL[4], *PARALLEL[6:]]


def response(status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_763_000_000,
        "status": status,
        "model": "m-2026-01-01",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
            "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 11,
        },
    }


SAID = {"type": "output_text", "text": "Grüß dich ✓", "annotations": [], "logprobs": []}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [SAID]}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"city": "Paris", "unit": "°C"}',
    "status": "completed",
}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
RESPONSE_EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": response("in_progress", [])},
    {"type": "response.output_item.added", "output_index": 0, "item": {**MESSAGE, "content": []}},
    {"type": "response.content_part.added", **PLACE, "part": {**SAID, "text": ""}},
    {"type": "response.output_text.delta", **PLACE, "delta": "Grüß ", "logprobs": []},
    {"type": "response.output_text.delta", **PLACE, "delta": "dich ✓", "logprobs": []},
    {"type": "response.output_text.done", **PLACE, "text": "Grüß dich ✓", "logprobs": []},
    {"type": "response.content_part.done", **PLACE, "part": SAID},
    {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
    {"type": "response.completed", "response": response("completed", [MESSAGE])},
]
NUMBERED: list[dict[str, Any]] = [{"sequence_number": number, **event} for number, event in enumerate(RESPONSE_EVENTS)]
EMBEDDING = {
    "object": "list",
    "model": "m-2026-01-01",
    "data": [
        {"object": "embedding", "index": 0, "embedding": base64.b64encode(struct.pack("<3f", 0.5, -2, 3)).decode()}
    ],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 3,
    "created_at": 1,
    "filename": "ü.jsonl",
    "purpose": "batch",
    "status": "processed",
}
MODERATION = {"id": "modr-1", "model": "m", "results": [{"flagged": True, "categories": {}, "category_scores": {}}]}


def files_page(request: Received) -> list[Step]:
    """Two pages: the SDK asks for the second by itself."""
    last = b"after=file-1" in request.target.encode()
    page = [{**FILE, "id": "file-2"}] if last else [FILE]
    return document({"object": "list", "data": page, "has_more": not last})


# ── the calls ────────────────────────────────────────────────────────────────────────────


async def gathered(stream_coming: Awaitable[Any]) -> list[Any]:
    return [each.model_dump() async for each in await stream_coming]


async def chat_helper(client: AsyncOpenAI) -> list[Any]:
    async with client.chat.completions.stream(
        model="m", messages=HELLO, tools=[WEATHER], stream_options={"include_usage": True}
    ) as coming:
        seen = [event.type async for event in coming]
        return [*seen, (await coming.get_final_completion()).model_dump()]


async def responses_helper(client: AsyncOpenAI) -> list[Any]:
    async with client.responses.stream(model="m", input="Hi") as coming:
        seen = [event.type async for event in coming]
        return [*seen, (await coming.get_final_response()).model_dump()]


async def spoken(client: AsyncOpenAI) -> bytes:
    async with client.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="Hi") as coming:
        return b"".join([piece async for piece in coming.iter_bytes()])


async def all_files(client: AsyncOpenAI) -> list[str]:
    return [file.id async for file in client.files.list(purpose="batch", limit=1)]


async def content_of_a_file(client: AsyncOpenAI) -> bytes:
    return (await client.files.content("file-1")).content


Asking = Callable[[AsyncOpenAI], Awaitable[Any]]
Says = list[Step] | Callable[[Received], list[Step]]

CALLS: dict[str, tuple[Asking, Says]] = {
    "chat": (
        lambda client: client.chat.completions.create(model="m", messages=HELLO, temperature=0.25, seed=2**53 + 1),
        document(chat({"content": "Grüß dich ✓", "refusal": None})),
    ),
    "chat with parallel tool calls": (
        lambda client: client.chat.completions.create(
            model="m", messages=HELLO, tools=[WEATHER], tool_choice="required", parallel_tool_calls=True
        ),
        document(chat({"content": None, "tool_calls": [called(0, "Paris"), called(1, "Rome")]}, "tool_calls")),
    ),
    "chat by a JSON schema": (
        lambda client: client.chat.completions.parse(model="m", messages=HELLO, response_format=City),
        document(chat({"content": '{"name": "Köln", "inhabitants": 1087353}', "refusal": None})),
    ),
    "chat with what the SDK does not know": (
        lambda client: client.chat.completions.create(
            model="m",
            messages=HELLO,
            extra_body={"x_of_next_year": {"deep": [1, 2.5, None, "é"]}, "top_k": 40},
            extra_query={"api-version": "2026-11-01", "q": "a b"},
            extra_headers={"OpenAI-Beta": "things=v9", "X-Mine": "1"},
        ),
        document(chat({"content": "ok"})),
    ),
    "chat, streamed": (
        lambda client: gathered(client.chat.completions.create(model="m", messages=HELLO, stream=True)),
        events(*WORDS),
    ),
    "chat, streamed with its usage": (
        lambda client: gathered(
            client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        ),
        events(*({**each, "usage": None} for each in WORDS), chunk(None, usage=CHAT_USAGE)),
    ),
    "parallel tool calls, streamed": (
        lambda client: gathered(
            client.chat.completions.create(model="m", messages=HELLO, tools=[WEATHER], stream=True)
        ),
        events(*PARALLEL),
    ),
    "the chat stream's helper": (chat_helper, events(*IN_TURN, chunk(None, usage=CHAT_USAGE))),
    "completions, streamed": (
        lambda client: gathered(client.completions.create(model="m", prompt="Hi", stream=True)),
        events({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": []}),
    ),
    "responses": (
        lambda client: client.responses.create(model="m", input="Hi", tools=[WEATHER_FLAT]),
        document(response("completed", [MESSAGE, CALL])),
    ),
    "responses, streamed": (
        lambda client: gathered(client.responses.create(model="m", input="Hi", stream=True)),
        events(*NUMBERED, end=b""),
    ),
    "the responses stream's helper": (responses_helper, events(*NUMBERED, end=b"")),
    "embeddings, base64 unasked": (
        lambda client: client.embeddings.create(model="m", input=["one"]),
        document(EMBEDDING),
    ),
    "moderations": (lambda client: client.moderations.create(input=["a", "b"]), document(MODERATION)),
    "images": (
        lambda client: client.images.generate(model="m", prompt="a cat"),
        document({"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"total_tokens": 3}}),
    ),
    "speech": (spoken, stream(SPOKEN[:5_000], SPOKEN[5_000:], content_type=b"audio/mpeg")),
    "a transcription": (
        lambda client: client.audio.transcriptions.create(model="m", file=("ü.mp3", SPOKEN), language="de"),
        document({"text": "Grüß dich", "usage": {"type": "duration", "seconds": 3}}),
    ),
    "a file upload": (
        lambda client: client.files.create(file=("ü.jsonl", b'{"a":1}\n\x00\xff', "text/plain"), purpose="batch"),
        document(FILE),
    ),
    "a large upload": (lambda client: client.files.create(file=b"x" * 3_000_000, purpose="batch"), document(FILE)),
    "a file's content": (content_of_a_file, answer(SPOKEN, headers=[(b"content-type", b"application/octet-stream")])),
    "pages of files": (all_files, files_page),
    "deleting": (
        lambda client: client.files.delete("file-1"),
        document({"id": "file-1", "object": "file", "deleted": True}),
    ),
    "a path of next year": (
        lambda client: client.post("/future/things?x=1", body={"a": "é"}, cast_to=object),
        document({"any": ["thing", 1]}),
    ),
}


def shown(result: Any) -> Any:
    """What an app can read of a result."""
    if not isinstance(result, BaseModel):
        return result
    # A parsed completion's own type is made by the SDK for each call, and pydantic warns of it.
    return result.model_dump(warnings=False), getattr(result, "_request_id", None)


def told(request: Received) -> tuple[Any, ...]:
    """What a provider can read of a request, less what is drawn by lot and what is each hop's own."""
    headers = dict(request.headers)
    boundary = headers.get(b"content-type", b"").partition(b"boundary=")[2]
    body = request.body.replace(boundary, b"boundary") if boundary else request.body
    if boundary:
        headers[b"content-type"] = headers[b"content-type"].replace(boundary, b"boundary")
    for hop in (b"connection", b"accept-encoding"):
        headers.pop(hop, None)
    return request.method, request.target, headers, body


@pytest.mark.parametrize(("asking", "says"), CALLS.values(), ids=CALLS)
async def test_nothing_differs_from_a_direct_call(asking, says):
    async with scripted_upstream(says) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(upstream.base_url) as directly:
            direct = shown(await asking(directly))
        direct_requests = len(upstream.received)
        async with async_sdk(f"{gateway.url}/v1") as client:
            assert shown(await asking(client)) == direct
        assert direct  # not two empty hands
        sent = [told(request) for request in upstream.received]
        assert sent[direct_requests:] == sent[:direct_requests]
        assert len(sent) == 2 * direct_requests > 0


async def test_only_the_name_of_the_model_differs_where_a_route_gives_another():
    async with scripted_upstream(document(chat({"content": "ok"}))) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(upstream.base_url) as directly, async_sdk(f"{gateway.url}/v1") as client:
            await directly.chat.completions.create(model="m-2026", messages=HELLO, extra_body={"x": {"model": "alias"}})
            await client.chat.completions.create(model="alias", messages=HELLO, extra_body={"x": {"model": "alias"}})
        assert told(upstream.received[0]) == told(upstream.received[1])


# ── what the SDK makes of it ─────────────────────────────────────────────────────────────


async def test_usage_that_the_app_sees_is_in_the_row():
    says = events(*WORDS, chunk(None, usage=CHAT_USAGE))
    async with scripted_upstream(says) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            coming = await client.chat.completions.create(
                model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
            chunks = [each async for each in coming]
        assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "Grüß dich, 世界 ✓"
        usage: Any = chunks[-1].usage
        (row,) = await gateway.rows()
        assert (usage.prompt_tokens, usage.completion_tokens) == (row["input_tokens"], row["output_tokens"]) == (19, 10)
        assert (row["cached_input_tokens"], row["reasoning_tokens"]) == (3, 4)
        assert (row["served_model"], row["stream"], row["status"]) == ("m-2026-01-01", True, 200)


async def test_each_delta_is_in_the_apps_hands_before_the_next_is_sent():
    """A stream that were gathered anywhere on its way would stand still here."""
    go_on = asyncio.Event()
    pieces = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in WORDS]

    async def one_by_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await go_on.wait()
            go_on.clear()
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(one_by_one, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with asyncio.timeout(20), running_gateway(passthrough_to(base_url)) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            deltas = []
            async for each in await client.chat.completions.create(model="m", messages=HELLO, stream=True):
                deltas.append(each.choices[0].delta.content)
                go_on.set()
    server.close()
    await server.wait_closed()
    assert deltas == ["", "Grüß ", "dich, ", "世界 ", "✓", None]


async def test_what_the_gateway_adds_stands_in_headers():
    says = answer(
        json.dumps(chat({"content": "ok"})).encode(),
        headers=[(b"x-request-id", b"req_1"), (b"x-ratelimit-remaining-tokens", b"7"), (b"openai-version", b"v")],
    )
    async with scripted_upstream(says) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            raw = await client.chat.completions.with_raw_response.create(model="alias", messages=HELLO)
        (row,) = await gateway.rows()
        own = {name: value for name, value in raw.headers.items() if name.startswith("x-tollway-")}
        assert own == {
            "x-tollway-run-id": row["run_id"],
            "x-tollway-config": row["config_version"],
            "x-tollway-model": "scripted/m-2026",
            "x-tollway-attempts": "1",
        }
        assert raw.headers["server-timing"].startswith("tollway;dur=")
        assert raw.headers["x-ratelimit-remaining-tokens"] == "7"
        assert raw.headers["openai-version"] == "v"
        completion = raw.parse()
        assert (raw.request_id, completion._request_id) == ("req_1", "req_1")
        assert completion.choices[0].message.content == "ok"


async def test_models_are_the_gateways_own_and_an_unknown_one_is_asked_of_the_provider():
    theirs = {"id": "ft:m:org::1/2", "object": "model", "created": 7, "owned_by": "org-theirs"}
    extra = '[models."vendor/big:free"]\ndeployments = [{ provider = "scripted", model = "big" }]\n'
    async with scripted_upstream(document(theirs)) as upstream, gateway_before(upstream, extra) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            assert [model.id async for model in client.models.list()] == ["alias", "vendor/big:free"]
            assert (await client.models.retrieve("vendor/big:free")).owned_by == "tollway"
            assert upstream.received == []
            assert (await client.models.retrieve("ft:m:org::1/2")).to_dict() == theirs
        async with async_sdk(upstream.base_url) as directly:
            await directly.models.retrieve("ft:m:org::1/2")
        assert told(upstream.received[0]) == told(upstream.received[1])


async def test_leaving_a_streams_context_lets_go_of_the_provider():
    says = stream(b"data: " + json.dumps(WORDS[1]).encode() + b"\n\n", Do.HANG)
    async with scripted_upstream(says) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1") as client:
            async with client.chat.completions.stream(model="m", messages=HELLO) as coming:
                async for event in coming:
                    if event.type == "content.delta":
                        break
                assert upstream.open_connections == 1
            await until(lambda: upstream.open_connections == 0)


# ── the provider that needs no key ───────────────────────────────────────────────────────

SIMULATED = """
[auth]
mode = "passthrough"
default_provider = "simulated"
[providers.simulated]
transport = "simulated"
"""
ASK: Any = {"role": "user", "content": "What is the weather in Paris?"}


@pytest.fixture
async def simulated():
    async with running_gateway(SIMULATED) as gateway, async_sdk(f"{gateway.url}/v1") as client:
        yield client


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_tools_in_two_rounds(simulated, streamed):
    first = await a_round(simulated, [ASK], streamed)
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "get_weather"
    assert set(arguments) == {"city", "unit"}
    assert arguments["unit"] in ("°C", "°F")
    result = {"role": "tool", "tool_call_id": call.id, "content": "19 °C"}
    turns = [ASK, first.choices[0].message.model_dump(exclude_none=True), result]
    second = await a_round(simulated, turns, streamed)
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.tool_calls is None
    assert ASK["content"] in second.choices[0].message.content


async def a_round(client: AsyncOpenAI, turns: list[Any], streamed: bool) -> Any:
    if not streamed:
        return await client.chat.completions.create(model="simulated", messages=turns, tools=[WEATHER])
    async with client.chat.completions.stream(model="simulated", messages=turns, tools=[WEATHER]) as coming:
        return await coming.get_final_completion()


async def test_tools_in_two_rounds_of_responses(simulated):
    first = await simulated.responses.create(model="simulated", input=[ASK], tools=[WEATHER_FLAT])
    (call,) = first.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    turns = [ASK, call.to_dict(), {"type": "function_call_output", "call_id": call.call_id, "output": "19 °C"}]
    async with simulated.responses.stream(model="simulated", input=turns, tools=[WEATHER_FLAT]) as coming:
        text = "".join([event.delta async for event in coming if event.type == "response.output_text.delta"])
        second = await coming.get_final_response()
    assert second.status == "completed"
    assert ASK["content"] in text == second.output_text


async def test_a_stream_says_what_the_plain_answer_says(simulated):
    plain = await simulated.chat.completions.create(model="simulated", messages=[ASK])
    coming = await simulated.chat.completions.create(
        model="simulated", messages=[ASK], stream=True, stream_options={"include_usage": True}
    )
    chunks = [each async for each in coming]
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == (
        plain.choices[0].message.content
    )
    assert chunks[-1].usage == plain.usage
    assert len(chunks) > 5


async def test_an_answer_by_a_schema_is_an_object_of_the_apps_own_class(simulated):
    chat_answer = await simulated.chat.completions.parse(model="simulated", messages=[ASK], response_format=City)
    assert isinstance(chat_answer.choices[0].message.parsed, City)
    response_answer = await simulated.responses.parse(model="simulated", input="A city", text_format=City)
    assert isinstance(response_answer.output_parsed, City)


async def test_embeddings_are_the_same_numbers_in_both_encodings(simulated):
    texts = ["one", "two", "one"]
    unasked = await simulated.embeddings.create(model="simulated-embedding", input=texts)
    floats = await simulated.embeddings.create(model="simulated-embedding", input=texts, encoding_format="float")
    first, second, third = (each.embedding for each in unasked.data)
    assert [each.embedding for each in floats.data] == [first, second, third]
    assert first == third != second
    assert sum(value * value for value in first) == pytest.approx(1.0, abs=1e-5)


async def test_many_calls_at_once_on_one_client_each_get_their_own_answer(simulated):
    async def ask(number: int) -> bool:
        turns: Any = [{"role": "user", "content": f"I am number {number}."}]
        if number % 2:
            plain = await simulated.chat.completions.create(model="simulated", messages=turns)
            return f"number {number}." in plain.choices[0].message.content
        async with simulated.chat.completions.stream(model="simulated-every1ms", messages=turns) as coming:
            final = await coming.get_final_completion()
        return f"number {number}." in final.choices[0].message.content

    assert all(await asyncio.gather(*(ask(number) for number in range(60))))


async def test_the_callers_key_is_sent_as_the_sdk_sends_it():
    async with scripted_upstream(document(MODERATION)) as upstream, gateway_before(upstream) as gateway:
        async with async_sdk(f"{gateway.url}/v1", organization="org-mine", project="proj-mine") as client:
            await client.moderations.create(input="x")
        request = upstream.received[0]
        assert request.header(b"authorization") == f"Bearer {CALLERS_TOKEN}".encode()
        assert (request.header(b"openai-organization"), request.header(b"openai-project")) == (
            b"org-mine",
            b"proj-mine",
        )
