"""Anthropic's Messages API, as strict as its documents.

Sources: platform.claude.com/docs/en/api/messages, /api/errors, /build-with-claude (streaming, thinking, vision, tool
use, structured outputs). Bedrock serves the same API at `/anthropic` with its own keys
(docs.aws.amazon.com/bedrock/latest/userguide/inference-messages-api.html).
"""

import hashlib
import hmac
import json
import re
from typing import Any

from tests.providers.anthropic_rules import check
from tests.providers.scenario import THOUGHT, Asked, Turn, decide, pieces
from tests.providers.wire import SECRET, Events, Refused, bearer_of, body_of, plain
from tests.scripted_upstream import Received, Step

REQUEST_ID = (b"request-id", b"req_011simulated")
VERSIONS = (b"2023-06-01", b"2026-10-21")
_FAIL = re.compile(r"fail (\d{3})")
_ERRORS = {
    400: ("invalid_request_error", "prompt is too long: 300000 tokens > 200000 maximum"),
    404: ("not_found_error", "model: unknown"),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


def respond(received: Received, *, is_bedrock: bool = False) -> list[Step]:
    """The answer to one request."""
    prefix = "/anthropic/v1" if is_bedrock else "/v1"
    try:
        _authenticate(received, is_bedrock=is_bedrock)
        path = received.target.partition("?")[0]
        if received.method != "POST" or path not in (f"{prefix}/messages", f"{prefix}/messages/count_tokens"):
            raise Refused(404, "not_found_error", "Not found")
        counts = path.endswith("/count_tokens")
        body = body_of(received)
        check(body, counts=counts, samples=received.header(b"anthropic-version") == VERSIONS[0])
        asked = read(body)
        if counts:
            return plain({"input_tokens": decide(asked).input_tokens}, headers=(REQUEST_ID,))
        failing = _FAIL.fullmatch(asked.said)
        if failing:
            kind, message = _ERRORS[int(failing[1])]
            raise Refused(int(failing[1]), kind, message)
        turn = decide(asked)
        if body.get("stream"):
            return Events(events_of(turn, body)).steps(b"request-id: req_011simulated\r\n")
        return plain(message_of(turn, body), headers=(REQUEST_ID,))
    except Refused as refused:
        error = {"type": refused.kind, "message": refused.message}
        headers = (REQUEST_ID, (b"retry-after", b"7")) if refused.status == 429 else (REQUEST_ID,)
        return plain({"type": "error", "error": error, "request_id": "req_011simulated"}, refused.status, headers)


def _authenticate(received: Received, *, is_bedrock: bool) -> None:
    shown = (received.header(b"x-api-key") or b"").decode() if not is_bedrock else ""
    if SECRET not in (shown, bearer_of(received)):
        raise Refused(401, "authentication_error", "invalid x-api-key")
    if received.header(b"anthropic-version") not in VERSIONS:
        raise Refused(400, "invalid_request_error", "anthropic-version: header is required")
    if any(name.startswith(b"openai-") for name, _ in received.headers):
        raise Refused(400, "invalid_request_error", "a header of another API")


def signature(thinking: str) -> str:
    """What the server signs its thinking with, to know it again."""
    return hmac.new(b"anthropic", thinking.encode(), hashlib.sha256).hexdigest()


def read(body: dict[str, Any]) -> Asked:
    """The request, for the scenario."""
    asked = Asked(ceiling=body.get("max_tokens"))
    system = body.get("system") or []
    asked.texts += [system] if isinstance(system, str) else [block["text"] for block in system]
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "assistant":
            asked.texts += [block["text"] for block in blocks if block["type"] == "text"]
            if any(block["type"] == "tool_use" for block in blocks):
                asked.rounds += 1
            continue
        for block in blocks:
            _read_block(asked, block, message["role"])
    asked.tools = [(tool["name"], tool["input_schema"]) for tool in body.get("tools") or ()]
    choice = body.get("tool_choice") or {"type": "auto"}
    asked.may_call = choice["type"] != "none"
    asked.must_call = {"any": "", "tool": choice.get("name")}.get(choice["type"])
    answer_format = (body.get("output_config") or {}).get("format")
    asked.schema = answer_format["schema"] if answer_format else None
    asked.thinks = (body.get("thinking") or {"type": "disabled"})["type"] in ("enabled", "adaptive")
    return asked


def _read_block(asked: Asked, block: dict[str, Any], role: str) -> None:
    kind = block["type"]
    if kind == "text":
        (asked.hear if role == "user" else asked.texts.append)(block["text"])
    elif kind == "image":
        source = block["source"]
        size = len(source.get("data", "")) * 3 // 4 - source.get("data", "").count("=")
        asked.pictures.append((source.get("media_type") or source["url"], size))
    elif kind == "document":
        asked.files.append(block.get("title") or "a document")
    elif kind == "tool_result":
        inner = block.get("content") or ""
        inner = inner if isinstance(inner, str) else " ".join(each.get("text", "") for each in inner)
        asked.results.append(inner)
        asked.texts.append(inner)


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if turn.thinking:
        blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": signature(THOUGHT)})
    if turn.text:
        blocks.append({"type": "text", "text": turn.text, "citations": None})
    blocks += [
        {"type": "tool_use", "id": f"toolu_{call_id}", "name": name, "input": arguments}
        for call_id, name, arguments in turn.calls
    ]
    return blocks


def _stop_reason(turn: Turn) -> str:
    if turn.is_refused:
        return "refusal"
    if turn.is_cut:
        return "max_tokens"
    return "tool_use" if turn.calls else "end_turn"


def _usage(turn: Turn) -> dict[str, Any]:
    return {
        "input_tokens": turn.input_tokens - turn.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": turn.cached_tokens,
        "output_tokens": turn.output_tokens,
        "service_tier": "standard",
    }


def message_of(turn: Turn, body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer."""
    return {
        "id": "msg_01simulated",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": _blocks(turn),
        "stop_reason": _stop_reason(turn),
        "stop_sequence": None,
        "usage": _usage(turn),
    }


def events_of(turn: Turn, body: dict[str, Any]) -> list[tuple[str, Any]]:
    """A streamed answer."""
    begun = {
        **message_of(turn, body),
        "content": [],
        "stop_reason": None,
        "usage": {**_usage(turn), "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(_blocks(turn)):
        empty: dict[str, dict[str, Any]] = {
            "text": {"text": ""},
            "thinking": {"thinking": "", "signature": ""},
            "tool_use": {"input": {}},
        }
        events.append(
            {"type": "content_block_start", "index": index, "content_block": {**block, **empty[block["type"]]}}
        )
        if index == 0:
            events.append({"type": "ping"})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in _deltas(block)]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": _stop_reason(turn), "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": turn.output_tokens}})
    events.append({"type": "message_stop"})
    return [(event["type"], event) for event in events]


def _deltas(block: dict[str, Any]) -> list[dict[str, Any]]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    if block["type"] == "thinking":
        thinking = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        return [*thinking, {"type": "signature_delta", "signature": block["signature"]}]
    written = json.dumps(block["input"]) if block["input"] else ""
    half = len(written) // 2
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ("", written[:half], written[half:])]
