import json

import pytest
from pydantic import BaseModel

from proxy.simulated.script import script
from proxy.simulated.steps import Stamp

HELLO = [{"role": "user", "content": "Hello there"}]
STAMP = Stamp(at_s=1_700_000_000, unique="0123456789abcdef0123456789abcdef")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
            "required": ["city"],
        },
    },
}
ARGUMENTS = {"city": "simulated", "days": 2}


def streamed(**fields) -> list[bytes]:
    body = json.dumps({"model": "simulated-3chunks", "messages": HELLO, "stream": True, **fields}).encode()
    return [step.chunk for step in script("POST", "/v1/chat/completions", body, STAMP).steps]


async def test_a_plain_answer(openai_client):
    answer = await openai_client.chat.completions.create(model="simulated", messages=HELLO)
    assert answer.object == "chat.completion"
    assert answer.model == "simulated"
    assert answer.choices[0].finish_reason == "stop"
    assert '"Hello there"' in answer.choices[0].message.content
    assert answer.system_fingerprint
    text_bytes = len(answer.choices[0].message.content.encode())
    assert text_bytes / 4 <= answer.usage.completion_tokens < text_bytes / 4 + 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_stream_says_what_the_plain_answer_says(openai_client):
    plain = await openai_client.chat.completions.create(model="simulated", messages=HELLO)
    stream = await openai_client.chat.completions.create(model="simulated", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_in_done_and_has_no_usage_unasked():
    events = streamed()
    assert len(events) == 3 + 3  # the role, the finish, [DONE]
    assert events[-1] == b"data: [DONE]\n\n"
    assert not any(b"usage" in event for event in events)


def test_usage_asked_for_is_one_more_event_and_null_in_the_others():
    *others, last, done = streamed(stream_options={"include_usage": True})
    assert done == b"data: [DONE]\n\n"
    assert len(others) == 3 + 2
    assert all(event.endswith(b',"usage":null}\n\n') for event in others)
    document = json.loads(last.removeprefix(b"data: "))
    assert document["choices"] == []
    assert document["usage"]["completion_tokens"] == 3  # "This is the": 11 bytes


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}, {"x": 1}])
def test_usage_that_is_not_asked_for_is_not_sent(options):
    assert streamed(stream_options=options) == streamed()


async def test_a_ceiling_is_kept(openai_client):
    answer = await openai_client.chat.completions.create(model="simulated", messages=HELLO, max_completion_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


async def test_more_choices_than_one(openai_client):
    answer = await openai_client.chat.completions.create(model="simulated", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    alone = await openai_client.chat.completions.create(model="simulated", messages=HELLO)
    assert answer.usage.completion_tokens == 3 * alone.usage.completion_tokens
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens


async def test_a_tool_is_called_and_its_result_answered(openai_client):
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = await openai_client.chat.completions.create(model="simulated", messages=asked, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", ARGUMENTS)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    answer = await openai_client.chat.completions.create(
        model="simulated", messages=[*asked, message.model_dump(exclude_none=True), result], tools=[WEATHER]
    )
    assert answer.choices[0].finish_reason == "stop"


async def test_a_tool_call_is_streamed_in_pieces(openai_client):
    async with openai_client.chat.completions.stream(
        model="simulated", messages=HELLO, tools=[WEATHER], tool_choice="required"
    ) as stream:
        events = [event async for event in stream]
    assert sum(event.type == "tool_calls.function.arguments.delta" for event in events) > 1
    final = await stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments) == ARGUMENTS


async def test_a_structured_answer_fits_its_schema(openai_client):
    class City(BaseModel):
        name: str
        people: int

    answer = await openai_client.chat.completions.parse(model="simulated", messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="simulated", people=1)


async def test_the_older_completions(openai_client):
    plain = await openai_client.completions.create(model="simulated", prompt="Once upon a time")
    assert plain.object == "text_completion"
    stream = await openai_client.completions.create(
        model="simulated", prompt="Once upon a time", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == plain.choices[0].text
    assert chunks[-1].usage == plain.usage


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": "usage"}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(fields, param):
    body = json.dumps({"model": "simulated", "messages": HELLO, **fields}).encode()
    answer = script("POST", "/v1/chat/completions", body, STAMP)
    assert answer.status == 400
    assert json.loads(answer.steps[0].chunk)["error"]["param"] == param
