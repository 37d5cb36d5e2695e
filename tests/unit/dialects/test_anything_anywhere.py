"""Every golden call, answer and stream, with an odd value in the place of each of its values in turn: it is translated,
refused, or malformed, and nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.core import jsonio
from proxy.core.errors import GatewayError, UpstreamMalformed
from proxy.dialects.chat_to_messages.answer import ChatAnswers
from proxy.dialects.chat_to_messages.translate import translate as to_messages
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.messages_to_chat.answer import MessagesAnswers
from proxy.dialects.messages_to_chat.translate import translate as to_chat
from proxy.dialects.translation import AnswerTranslator, TargetModel

VECTORS = Path(__file__).parents[2] / "vectors"
ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    {},
    [None],
    [{}],
    [[]],
    {"type": "text"},
    {"type": 7},
    {"x": []},
]
WAYS = {
    "chat_to_messages": (to_messages, TargetModel("claude-opus-4-8", DIALECTS["anthropic"], 8_192)),
    "messages_to_chat": (to_chat, TargetModel("gemini-3.8-flash", DIALECTS["gemini"], 8_192)),
}
ANSWERS: dict[str, AnswerTranslator] = {
    "chat_to_messages": ChatAnswers(0, reports_usage=True),
    "messages_to_chat": MessagesAnswers(),
}


def cases(folder, name):
    return json.loads((VECTORS / folder / f"{name}.json").read_text())


def places_in(document, at=()):
    """The path of every value."""
    if at:
        yield at
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, inner in items:
        yield from places_in(inner, (*at, name))


def with_value(document, place, value):
    changed = copy.deepcopy(document)
    holder = changed
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return changed


def odd_variants(document):
    """Each as it would be read off the wire."""
    for place in places_in(document):
        for value in ODD:
            yield jsonio.parse(json.dumps(with_value(document, place, value)).encode())


@pytest.mark.parametrize("folder", WAYS)
def test_of_a_call(folder):
    translate, target = WAYS[folder]
    tried = refused = 0
    for case in cases(folder, "requests") + cases(folder, "refusals"):
        for call in odd_variants(case["in"]):
            tried += 1
            try:
                jsonio.encode(translate(call, target, 0).document)
            except GatewayError as error:
                refused += 1
                if error.status != 400 or not error.param:
                    raise
    assert tried > 5_000
    assert 0.2 < refused / tried < 0.95  # both happen, so both are tried


@pytest.mark.parametrize("folder", ANSWERS)
def test_of_an_answer(folder):
    malformed = 0
    for case in cases(folder, "answers"):
        for answer in odd_variants(case["in"]):
            body = json.dumps(answer).encode()
            try:
                json.loads(ANSWERS[folder].whole(body))
            except UpstreamMalformed:
                malformed += 1
            status, said = ANSWERS[folder].error(500, body)
            assert (status, "error" in json.loads(said)) == (500, True)
    assert malformed > 100


@pytest.mark.parametrize("folder", ANSWERS)
def test_of_a_stream(folder):
    malformed = 0
    for case in cases(folder, "streams"):
        for events in odd_variants(case["in"]):
            stream = ANSWERS[folder].stream()
            try:
                for event in events:
                    stream.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
                stream.close()
            except UpstreamMalformed:
                malformed += 1
    assert malformed > 100
