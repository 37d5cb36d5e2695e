"""The Chat Completions API of OpenAI, Azure, Gemini and Bedrock, each as strict as its documents, with its oddities.

Sources: platform.openai.com/docs/api-reference/chat; learn.microsoft.com/azure/ai-foundry/openai/reference;
ai.google.dev/gemini-api/docs/openai; docs.aws.amazon.com/bedrock (OpenAI-compatible endpoint, API keys).
"""

import json
import re
from typing import Any

from tests.providers.openai_rules import check
from tests.providers.scenario import Asked, Turn, decide, pieces
from tests.providers.wire import SECRET, Events, Refused, bearer_of, body_of, plain
from tests.scripted_upstream import Received, Step

REQUEST_ID = (b"x-request-id", b"req_simulated")
DEPLOYMENT = "house-gpt"
"""Azure's name for the model that is deployed there."""
_PATHS = {
    "openai": "/v1",
    "gemini": "/v1beta/openai",
    "azure": "/openai/v1",
    "azure-deployments": f"/openai/deployments/{DEPLOYMENT}",
    "bedrock": "/openai/v1",
    "openai-compatible": "/v1",
}
_FAIL = re.compile(r"fail (\d{3})")
_DATA_URL = re.compile(r"data:([a-z]+/[a-z+.-]+);base64,(.*)", re.DOTALL)
_ERRORS = {
    400: ("invalid_request_error", "This model's maximum context length is 128000 tokens.", "context_length_exceeded"),
    404: ("invalid_request_error", "The model `x` does not exist", "model_not_found"),
    429: ("rate_limit_error", "Rate limit reached for requests", "rate_limit_exceeded"),
    500: ("server_error", "The server had an error while processing your request.", None),
    503: ("server_error", "The engine is currently overloaded", None),
}


def respond(received: Received, flavour: str) -> list[Step]:
    """The answer to one request."""
    try:
        _authenticate(received, flavour)
        path, _, query = received.target.partition("?")
        if flavour == "azure-deployments":
            if "api-version=2024-10-21" not in query.split("&"):
                raise Refused(404, "404", "Resource not found")
            if not path.startswith(_PATHS[flavour] + "/"):
                raise Refused(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
        endpoint = path.removeprefix(_PATHS[flavour])
        body = body_of(received)
        if received.method == "POST" and endpoint == "/embeddings":
            return plain(_embeddings(body), headers=(REQUEST_ID,))
        if received.method != "POST" or endpoint != "/chat/completions":
            raise Refused(404, "invalid_request_error", f"Invalid URL ({received.method} {path})")
        check(body, flavour)
        asked = read(body)
        failing = _FAIL.fullmatch(asked.said)
        if failing:
            kind, message, code = _ERRORS[int(failing[1])]
            raise Refused(int(failing[1]), kind, message, code)
        turn = decide(asked)
        if body.get("stream"):
            return Events(_chunks(turn, body, flavour), done=True).steps(b"x-request-id: req_simulated\r\n")
        return plain(_completion(turn, body, flavour), headers=(REQUEST_ID,))
    except Refused as refused:
        return _refusal(refused, flavour)


def _authenticate(received: Received, flavour: str) -> None:
    shown = (received.header(b"api-key") or b"").decode() if flavour.startswith("azure") else bearer_of(received)
    if shown != SECRET:
        raise Refused(401, "invalid_request_error", "Incorrect API key provided", "invalid_api_key")
    if any(name.startswith(b"anthropic-") or name == b"x-api-key" for name, _ in received.headers):
        raise Refused(400, "invalid_request_error", "a header of another API")


def _refusal(refused: Refused, flavour: str) -> list[Step]:
    headers = (REQUEST_ID, (b"retry-after", b"7")) if refused.status == 429 else (REQUEST_ID,)
    if flavour == "gemini":
        error: dict[str, Any] = {"code": refused.status, "message": refused.message, "status": "INVALID_ARGUMENT"}
        return plain([{"error": error}], refused.status, headers)
    error = {"message": refused.message, "type": refused.kind, "param": refused.param, "code": refused.code}
    return plain({"error": error}, refused.status, headers)


def read(body: dict[str, Any]) -> Asked:
    """The request, for the scenario."""
    asked = Asked(ceiling=body.get("max_completion_tokens") or body.get("max_tokens"))
    for message in body["messages"]:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if message["role"] == "user":
            for part in parts:
                _read_part(asked, part)
        elif message["role"] == "tool":
            text = " ".join(part["text"] for part in parts)
            asked.results.append(text)
            asked.texts.append(text)
        else:
            asked.texts += [part["text"] for part in parts]
            asked.rounds += bool(message.get("tool_calls"))
    asked.tools = [
        (tool["function"]["name"], tool["function"].get("parameters") or {}) for tool in body.get("tools") or ()
    ]
    choice = body.get("tool_choice")
    asked.may_call = choice != "none"
    asked.must_call = choice["function"]["name"] if isinstance(choice, dict) else "" if choice == "required" else None
    answer_format = body.get("response_format") or {}
    asked.schema = answer_format["json_schema"]["schema"] if answer_format.get("type") == "json_schema" else None
    asked.thinks = body.get("reasoning_effort") not in (None, "none", "minimal")
    return asked


def _read_part(asked: Asked, part: dict[str, Any]) -> None:
    if part["type"] == "text":
        asked.hear(part["text"])
    elif part["type"] == "image_url":
        url = part["image_url"]["url"]
        data = _DATA_URL.fullmatch(url)
        size = 0 if data is None else len(data[2]) * 3 // 4 - data[2].count("=")
        asked.pictures.append((url if data is None else data[1], size))
    else:
        asked.files.append(part["file"]["filename"])


def _usage(turn: Turn) -> dict[str, Any]:
    return {
        "prompt_tokens": turn.input_tokens,
        "completion_tokens": turn.output_tokens,
        "total_tokens": turn.input_tokens + turn.output_tokens,
        "prompt_tokens_details": {"cached_tokens": turn.cached_tokens},
    }


def _calls(turn: Turn, flavour: str) -> list[dict[str, Any]]:
    calls = []
    for index, (call_id, name, arguments) in enumerate(turn.calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        call: dict[str, Any] = {"id": call_id, "type": "function", "function": function}
        if flavour == "gemini" and index == 0:
            call["extra_content"] = {"google": {"thought_signature": f"signed-{call_id}"}}
        calls.append(call)
    return calls


def _finish_reason(turn: Turn) -> str:
    if turn.is_refused:
        return "content_filter"
    if turn.is_cut:
        return "length"
    return "tool_calls" if turn.calls else "stop"


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-simulated", "object": kind, "created": 1_790_000_000, "model": body["model"]}


def _completion(turn: Turn, body: dict[str, Any], flavour: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None, "refusal": None}
    if turn.calls:
        message["tool_calls"] = _calls(turn, flavour)
    if turn.thinking and flavour == "openai-compatible":
        message["reasoning_content"] = turn.thinking
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(turn)}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage(turn)}


def _chunks(turn: Turn, body: dict[str, Any], flavour: str) -> list[tuple[str, Any]]:
    head = _head(body, "chat.completion.chunk")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if turn.thinking and flavour == "openai-compatible":
        deltas += [{"reasoning_content": piece} for piece in pieces(turn.thinking)]
    deltas += [{"content": piece} for piece in pieces(turn.text)]
    for index, call in enumerate(_calls(turn, flavour)):
        if flavour == "gemini":  # whole, in one piece
            deltas.append({"tool_calls": [{"index": index, **call}]})
            continue
        written = call["function"]["arguments"]
        begun = {**call, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [{"index": index, **begun}]})
        half = len(written) // 2
        for piece in (written[:half], written[half:]):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": _finish_reason(turn)}]})
    if flavour.startswith("azure"):
        filtered = {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
        chunks.insert(0, {**head, "choices": [], "prompt_filter_results": [filtered]})
    if flavour == "gemini":  # cumulative, on each
        for count, chunk in enumerate(chunks, 1):
            chunk["usage"] = {**_usage(turn), "completion_tokens": turn.output_tokens * count // len(chunks)}
    elif (body.get("stream_options") or {}).get("include_usage"):
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**head, "choices": [], "usage": _usage(turn)})
    return [("", chunk) for chunk in chunks]


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": index, "embedding": [0.5, -0.25]} for index in range(len(inputs))]
    tokens = sum(len(str(text).split()) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
