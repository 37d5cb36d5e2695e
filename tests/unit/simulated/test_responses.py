import json

import pytest
from openai import BadRequestError

CLOCK = {
    "type": "function",
    "name": "read_clock",
    "parameters": {"type": "object", "properties": {"zone": {"enum": ["Europe/Paris"]}}},
}


async def test_a_plain_answer(openai_client):
    answer = await openai_client.responses.create(model="simulated", input="Hello there", instructions="Be brief")
    assert answer.status == "completed"
    assert '"Hello there"' in answer.output_text
    assert answer.instructions == "Be brief"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


async def test_a_stream_has_named_numbered_events_and_no_done(openai_client):
    stream = await openai_client.responses.create(model="simulated-3chunks", input="Hello there", stream=True)
    events = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event.sequence_number for event in events] == list(range(11))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1].response
    assert final.output_text == said == events[7].text
    assert final.usage.output_tokens == 3  # "This is the": 11 bytes
    assert events[0].response.usage is None


async def test_the_wire_of_a_stream(openai_client):
    raw = await openai_client.responses.with_raw_response.create(model="simulated", input="Hello", stream=True)
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    text = (await raw.http_response.aread()).decode()
    blocks = text.removesuffix("\n\n").split("\n\n")
    for block in blocks:
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"
    assert "[DONE]" not in text


async def test_a_ceiling_leaves_it_incomplete(openai_client):
    stream = await openai_client.responses.create(model="simulated", input="Hello", stream=True, max_output_tokens=2)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage.output_tokens == 2


async def test_a_tool_is_called_and_its_result_answered(openai_client):
    asked = {"role": "user", "content": "Read the clock"}
    stream = await openai_client.responses.create(model="simulated", input=[asked], tools=[CLOCK], stream=True)
    events = [event async for event in stream]
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert json.loads("".join(pieces)) == {"zone": "Europe/Paris"}
    (call,) = events[-1].response.output
    assert (call.type, call.name) == ("function_call", "read_clock")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "noon"}
    answer = await openai_client.responses.create(
        model="simulated", input=[asked, call.model_dump(exclude_none=True), result], tools=[CLOCK]
    )
    assert answer.output[0].type == "message"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"input": None}, "input"), ({"input": 5}, "input"), ({"previous_response_id": "resp_1"}, "previous_response_id")],
)
async def test_what_cannot_be_answered_is_refused_by_name(openai_client, fields, param):
    with pytest.raises(BadRequestError) as refused:
        await openai_client.responses.create(**{"model": "simulated", "input": "Hello", **fields})
    assert refused.value.param == param
