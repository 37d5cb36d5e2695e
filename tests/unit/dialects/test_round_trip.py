"""What is said in the other API and back is what was said; and no JSON is more than a refusal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import GatewayError, UpstreamMalformed
from proxy.dialects.chat_to_messages.answer import ChatAnswers
from proxy.dialects.chat_to_messages.translate import translate as to_messages
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.messages_to_chat.answer import MessagesAnswers
from proxy.dialects.messages_to_chat.translate import translate as to_chat
from proxy.dialects.translation import TargetModel

CLAUDE = TargetModel("claude-sonnet-4-5", DIALECTS["anthropic"], 8_192)
GPT = TargetModel("gpt-5-mini", DIALECTS["openai"], 8_192)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: not text.isspace()
)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
ARGUMENTS = st.dictionaries(NAMES, st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.none()), max_size=3)
PICTURES = st.sampled_from(["https://example.com/a.png", "data:image/png;base64,AAAA"])


@st.composite
def said_by_users(draw):
    if draw(st.booleans()):
        return [{"type": "text", "text": draw(TEXTS)}]
    parts = [{"type": "text", "text": text} for text in draw(st.lists(TEXTS, min_size=1, max_size=2))]
    return [*parts, {"type": "image_url", "image_url": {"url": draw(PICTURES)}}]


@st.composite
def chats(draw):
    """A chat in the form that the way back gives: parts, unless a message is one text."""
    messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    ids = iter(range(1_000))
    for _ in range(draw(st.integers(1, 3))):
        parts = draw(said_by_users())
        single = len(parts) == 1
        messages.append({"role": "user", "content": parts[0]["text"] if single else parts})
        calls = [
            {
                "id": f"call_{next(ids)}",
                "type": "function",
                "function": {"name": draw(NAMES), "arguments": json.dumps(draw(ARGUMENTS), separators=(",", ":"))},
            }
            for _ in range(draw(st.integers(0, 3)))
        ]
        if calls:
            text = draw(st.one_of(st.none(), TEXTS))
            messages.append({"role": "assistant", "content": text, "tool_calls": calls})
            results = [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXTS)} for call in calls]
            messages += draw(st.permutations(results))
        messages.append({"role": "assistant", "content": draw(TEXTS)})
    messages.append({"role": "user", "content": draw(TEXTS)})
    return messages


def sorted_out(messages):
    """Arguments as what they say: how their JSON is spaced and escaped is no part of it."""
    return [
        {
            **message,
            "tool_calls": [
                {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
                for call in message["tool_calls"]
            ],
        }
        if "tool_calls" in message
        else message
        for message in messages
    ]


@given(chats())
def test_a_conversation_is_the_same_after_both_ways(messages):
    """No text, no id of a tool's call and no place is lost."""
    there = to_messages({"max_tokens": 9, "messages": messages}, CLAUDE, 0)
    back = to_chat(there.document, GPT, 0)
    assert (there.dropped, back.dropped) == ((), ())
    assert sorted_out(back.document["messages"]) == sorted_out(messages)
    again = to_messages(back.document, CLAUDE, 0)
    assert again.document["messages"] == there.document["messages"]
    assert again.document.get("system") == there.document.get("system")


# ── what is no call, and no answer ───────────────────────────────────────────────────────

MEMBERS = st.sampled_from(
    [
        *("messages", "model", "max_tokens", "role", "content", "type", "text", "tool_calls", "tool_call_id", "id"),
        *("function", "name", "arguments", "tools", "tool_choice", "input_schema", "parameters", "thinking", "system"),
        *("image_url", "url", "source", "data", "media_type", "stop", "stop_sequences", "response_format", "effort"),
        *("json_schema", "schema", "output_config", "format", "temperature", "metadata", "user", "extra_content"),
        *(
            "choices",
            "delta",
            "index",
            "message",
            "usage",
            "error",
            "content_block",
            "stop_reason",
            "tollway",
            "stream",
        ),
    ]
)
WORDS = st.sampled_from(
    [
        *("user", "assistant", "system", "tool", "text", "image", "image_url", "tool_use", "tool_result", "function"),
        *(
            "base64",
            "url",
            "document",
            "file",
            "json_schema",
            "auto",
            "message",
            "message_start",
            "content_block_start",
        ),
        *("content_block_delta", "text_delta", "input_json_delta", "message_delta", "message_stop", "", "thinking"),
    ]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 10), st.floats(allow_nan=False), WORDS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(MEMBERS, WORDS), inner, max_size=5)),
    max_leaves=25,
)
MESSAGES = st.lists(st.dictionaries(MEMBERS, JSON, max_size=5), max_size=4)
CALLS = st.builds(
    lambda rest, messages: {**rest, "messages": messages},
    st.dictionaries(MEMBERS, JSON, max_size=6),
    st.one_of(JSON, MESSAGES),
)


@pytest.mark.parametrize(("translate", "target"), [(to_messages, CLAUDE), (to_chat, GPT)], ids=["messages", "chat"])
@given(call=CALLS)
def test_any_json_is_translated_or_refused(translate, target, call):
    refused: GatewayError | None = None
    try:
        translate(call, target, 0)
    except GatewayError as error:
        refused = error
    assert refused is None or (refused.status == 400 and refused.param)


@pytest.mark.parametrize("answers", [ChatAnswers(0, reports_usage=True), MessagesAnswers()], ids=["chat", "messages"])
@given(document=JSON, events=st.lists(JSON, max_size=4))
def test_any_answer_is_said_or_is_malformed(answers, document, events):
    try:
        json.loads(answers.whole(json.dumps(document).encode()))
    except UpstreamMalformed:
        pass
    status, body = answers.error(500, json.dumps(document).encode())
    assert (status, "error" in json.loads(body)) == (500, True)
    stream = answers.stream()
    try:
        for event in events:
            stream.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
        stream.close()
    except UpstreamMalformed:
        pass
