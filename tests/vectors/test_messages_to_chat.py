"""Messages said as Chat Completions: request in, request out; answer in, answer out; events in, events out."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.core.errors import GatewayError, UpstreamMalformed
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.messages_to_chat.answer import MessagesAnswers
from proxy.dialects.messages_to_chat.translate import translate
from proxy.dialects.translation import TargetModel

FOLDER = Path(__file__).parent / "messages_to_chat"
STARTED: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "gpt-x",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0},
}


def cases(name):
    return [pytest.param(case, id=case["name"]) for case in json.loads((FOLDER / f"{name}.json").read_text())]


def target(case):
    capabilities = frozenset(case["capabilities"]) if "capabilities" in case else None
    return TargetModel("gpt-5-mini", DIALECTS[case.get("dialect", "openai")], 32_000, capabilities)


@pytest.mark.parametrize("case", cases("requests"))
def test_a_request(case):
    translated = translate(case["in"], target(case), 0)
    assert translated.document == case["out"]
    assert list(translated.dropped) == case.get("dropped", [])


@pytest.mark.parametrize("case", cases("refusals"))
def test_a_request_that_is_none(case):
    with pytest.raises(GatewayError) as raised:
        translate(case["in"], target(case), 0)
    assert (raised.value.status, raised.value.code) == (400, case.get("code", "invalid_parameter"))
    assert raised.value.param == case["param"]
    assert case["param"] in raised.value.message


@pytest.mark.parametrize("case", cases("answers"))
def test_an_answer(case):
    assert json.loads(MessagesAnswers().whole(json.dumps(case["in"]).encode())) == case["out"]


@pytest.mark.parametrize("arguments", ["{", "[1]", '"text"', "7"])
def test_arguments_that_a_model_broke_are_not_guessed_at(arguments):
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    with pytest.raises(UpstreamMalformed):
        MessagesAnswers().whole(json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())


@pytest.mark.parametrize("case", cases("errors"))
def test_an_error(case):
    body = case["text"].encode() if "text" in case else json.dumps(case["in"]).encode()
    status, said = MessagesAnswers().error(case["status"], body)
    assert (status, json.loads(said)) == (case["told"], {"type": "error", "error": case["out"], "request_id": None})


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bytes_each", [None, 1, 7], ids=["event by event", "byte by byte", "7 bytes each"])
@pytest.mark.parametrize("case", cases("streams"))
def test_a_stream(case, bytes_each, line_end):
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
    data = [each if isinstance(each, str) else json.dumps({**head, **each}) for each in case["in"]]
    pieces = [f": keep-alive\n\ndata: {each}\n\n".replace("\n", line_end).encode() for each in data]
    if bytes_each is not None:
        whole = b"".join(pieces)
        pieces = [whole[at : at + bytes_each] for at in range(0, len(whole), bytes_each)]
    stream = MessagesAnswers().stream()
    said = b"".join([*(stream.feed(piece) for piece in pieces), stream.close()]).decode()
    events = said.split("\n\n")
    assert events.pop() == ""
    parsed = []
    for event in events:
        name, line = event.split("\n")
        parsed.append(json.loads(line.removeprefix("data: ")))
        assert name == f"event: {parsed[-1]['type']}"  # Anthropic's SDK passes over an event without it
    assert parsed == [{**each, "message": STARTED} if each["type"] == "message_start" else each for each in case["out"]]
