"""Chat Completions said as Messages: request in, request out; answer in, answer out; events in, events out."""

import json
from pathlib import Path

import pytest

from proxy.core.errors import GatewayError
from proxy.dialects.chat_to_messages.answer import ChatAnswers
from proxy.dialects.chat_to_messages.translate import translate
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.translation import TargetModel

FOLDER = Path(__file__).parent / "chat_to_messages"
CREATED_S = 1_700_000_000


def cases(name):
    return [pytest.param(case, id=case["name"]) for case in json.loads((FOLDER / f"{name}.json").read_text())]


def target(case):
    return TargetModel(
        case.get("model", "claude-sonnet-4-5"), DIALECTS["anthropic"], case.get("max_output_tokens", 32_000), None
    )


@pytest.mark.parametrize("case", cases("requests"))
def test_a_request(case):
    translated = translate(case["in"], target(case), CREATED_S)
    assert translated.document == case["out"]
    assert list(translated.dropped) == case.get("dropped", [])


@pytest.mark.parametrize("case", cases("refusals"))
def test_a_request_that_is_none(case):
    with pytest.raises(GatewayError) as raised:
        translate(case["in"], target(case), CREATED_S)
    assert (raised.value.status, raised.value.code) == (400, case.get("code", "invalid_parameter"))
    assert raised.value.param == case["param"]
    assert case["param"] in raised.value.message


@pytest.mark.parametrize("case", cases("answers"))
def test_an_answer(case):
    said = ChatAnswers(CREATED_S, reports_usage=False).whole(json.dumps(case["in"]).encode())
    assert json.loads(said) == case["out"]


@pytest.mark.parametrize("case", cases("errors"))
def test_an_error(case):
    body = case["text"].encode() if "text" in case else json.dumps(case["in"]).encode()
    status, said = ChatAnswers(CREATED_S, reports_usage=False).error(case["status"], body)
    assert (status, json.loads(said)) == (case["told"], {"error": case["out"]})


def chunk_of(expected, case):
    """A whole chunk, of which the file has what differs from one to the next."""
    if expected == "[DONE]" or "error" in expected:
        return expected
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": CREATED_S, "model": "claude-x"}
    chunk = {**head, **case.get("chunk", {})}
    if "usage" in expected:
        return {**chunk, "choices": [], **expected}
    choice = {"index": 0, "logprobs": None, "finish_reason": None, **expected}
    return {**chunk, "choices": [choice], **({"usage": None} if case["reports_usage"] else {})}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("bytes_each", [None, 1, 7], ids=["event by event", "byte by byte", "7 bytes each"])
@pytest.mark.parametrize("case", cases("streams"))
def test_a_stream(case, bytes_each, line_end):
    events = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in case["in"]]
    pieces = [event.replace("\n", line_end).encode() for event in events]
    if bytes_each is not None:
        whole = b"".join(pieces)
        pieces = [whole[at : at + bytes_each] for at in range(0, len(whole), bytes_each)]
    stream = ChatAnswers(CREATED_S, reports_usage=case["reports_usage"]).stream()
    said = b"".join([*(stream.feed(piece) for piece in pieces), stream.close()]).decode()
    events_said = said.split("\n\n")
    assert events_said.pop() == ""
    data = [event.removeprefix("data: ") for event in events_said]
    assert [each if each == "[DONE]" else json.loads(each) for each in data] == [
        chunk_of(expected, case) for expected in case["out"]
    ]
