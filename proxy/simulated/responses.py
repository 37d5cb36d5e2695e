"""The Responses API as OpenAI puts it on the wire: one object, or named events with numbers.

Pure; nothing is stored, so `previous_response_id` finds nothing.
Source: https://platform.openai.com/docs/api-reference/responses and …/responses-streaming
"""

from typing import Any, Final

from proxy.core import jsonio
from proxy.simulated import turn, words
from proxy.simulated.behaviour import Behaviour
from proxy.simulated.refusals import Refusal, missing, wrong_type
from proxy.simulated.steps import Document, Reply, Stamp, named_event
from proxy.simulated.tools import choose
from proxy.simulated.turn import Prompt, Turn

_MESSAGE_TOKENS: Final = 3
_ECHOED: Final[dict[str, object]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of the request that the response repeats, and what they are if not given."""


def response(document: Document, model: str, behaviour: Behaviour, stamp: Stamp) -> Reply:
    """Answer POST /responses. Raises Refusal."""
    taken = turn.take(_prompt(document, behaviour))
    output = _output(taken, stamp)
    done = _response(document, model, stamp, taken, output)
    if document.get("stream") is not True:
        return jsonio.encode(done)
    opened = {**done, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    events = [
        {"type": "response.created", "response": opened},
        {"type": "response.in_progress", "response": opened},
        *(_call_events(taken, output) if taken.tool is not None else _message_events(taken, output)),
        {"type": f"response.{done['status']}", "response": done},
    ]
    return [
        named_event({"type": document["type"], "sequence_number": number, **document})
        for number, document in enumerate(events)
    ]


def _prompt(document: Document, behaviour: Behaviour) -> Prompt:
    if isinstance(previous := document.get("previous_response_id"), str):
        message = f"Previous response with id '{previous}' not found."
        raise Refusal(400, message, param="previous_response_id", code="previous_response_not_found")
    given = document.get("input")
    if given is None:
        raise missing("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise wrong_type("input", "a string or an array of objects")
    said = [words.text_of(item.get("content")) for item in items]
    by_user = [text for text, item in zip(said, items, strict=True) if item.get("role") == "user"]
    last = by_user[-1] if by_user else ""
    said.append(words.text_of(document.get("instructions")))
    return Prompt(
        last=last,
        input_tokens=sum(map(words.count_tokens, said)) + _MESSAGE_TOKENS * (len(items) + 1),
        tool=choose(document, last, bool(items) and items[-1].get("type") == "function_call_output"),
        json_schema=_schema(document),
        output_tokens_max=words.positive(document, "max_output_tokens"),
        chunks=behaviour.chunks,
    )


def _schema(document: Document) -> dict[str, Any] | None:
    text = document.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else {"const": {"simulated": True}}


def _output(taken: Turn, stamp: Stamp) -> dict[str, Any]:
    """The one item of the answer."""
    status = "incomplete" if taken.was_cut else "completed"
    if taken.tool is None:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": taken.text}
        item_id = f"msg_{stamp.unique}"
        return {"id": item_id, "type": "message", "status": status, "content": [part], "role": "assistant"}
    return {
        "id": f"fc_{stamp.unique}",
        "type": "function_call",
        "status": status,
        "arguments": taken.text,
        "call_id": f"call_{stamp.unique[:24]}",
        "name": taken.tool.name,
    }


def _response(document: Document, model: str, stamp: Stamp, taken: Turn, output: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"resp_{stamp.unique}",
        "object": "response",
        "created_at": stamp.at_s,
        "status": "incomplete" if taken.was_cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if taken.was_cut else None,
        "model": model,
        "output": [output],
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        **{name: document.get(name, value) for name, value in _ECHOED.items()},
        "usage": {
            "input_tokens": taken.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": taken.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": taken.input_tokens + taken.output_tokens,
        },
    }


def _message_events(taken: Turn, output: dict[str, Any]) -> list[dict[str, Any]]:
    place = {"item_id": output["id"], "output_index": 0, "content_index": 0}
    part = output["content"][0]
    opened = {**output, "status": "in_progress", "content": []}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in taken.pieces()),
        {"type": "response.output_text.done", **place, "text": taken.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": output},
    ]


def _call_events(taken: Turn, output: dict[str, Any]) -> list[dict[str, Any]]:
    place = {"item_id": output["id"], "output_index": 0}
    arguments = {"name": output["name"], "arguments": taken.text}
    opened = {**output, "status": "in_progress", "arguments": ""}
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        *({"type": "response.function_call_arguments.delta", **place, "delta": piece} for piece in taken.pieces()),
        {"type": "response.function_call_arguments.done", **place, **arguments},
        {"type": "response.output_item.done", "output_index": 0, "item": output},
    ]
