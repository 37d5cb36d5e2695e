"""What a Chat Completions API refuses, by the documents of those who serve one.

Sources: platform.openai.com/docs/api-reference/chat/create, /docs/guides (function calling, structured outputs,
reasoning); ai.google.dev/gemini-api/docs/openai and /thought-signatures. The texts are near what the APIs say.
"""

import re
from collections.abc import Callable
from typing import Any

from tests.providers.wire import Refused, size_of, unknown_in

_COMMON = frozenset(
    {
        *("frequency_penalty", "max_completion_tokens", "max_tokens", "messages", "model", "n", "parallel_tool_calls"),
        *("presence_penalty", "reasoning_effort", "response_format", "seed", "stop", "stream", "stream_options"),
        *("temperature", "tool_choice", "tools", "top_p"),
    }
)
_OPENAI_ALONE = frozenset(
    {
        *("audio", "function_call", "functions", "logit_bias", "logprobs", "metadata", "modalities", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "top_logprobs"),
        *("user", "verbosity", "web_search_options"),
    }
)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_REASONING = re.compile(r"(gpt-5|o\d)")
_DATA_URL = re.compile(r"data:([a-z]+/[a-z+.-]+);base64,(.*)", re.DOTALL)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")


def refused(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """A 400."""
    return Refused(400, "invalid_request_error", message, code, param)


def check(body: dict[str, Any], flavour: str) -> None:
    """Refuse what the API would."""
    is_openai = flavour in ("openai", "azure", "azure-deployments")
    if (name := unknown_in(body, _COMMON | _OPENAI_ALONE if is_openai else _COMMON)) is not None:
        raise refused(f"Unrecognized request argument supplied: {name}", name)
    _need(isinstance(body.get("model"), str), "you must provide a model parameter", "model")
    reasons = is_openai and bool(_REASONING.match(body["model"]))
    if reasons and "max_tokens" in body:
        raise refused(
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "max_tokens", "unsupported_parameter"
        )
    if "reasoning_effort" in body:
        _need(reasons or not is_openai, "Unrecognized request argument supplied: reasoning_effort", "reasoning_effort")
        _need(body["reasoning_effort"] in _EFFORTS, "Invalid value: reasoning_effort", "reasoning_effort")
    if "stream_options" in body:
        _need(
            body.get("stream") is True, "'stream_options' is only allowed when 'stream' is enabled.", "stream_options"
        )
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1), ("n", 1, 128)):
        value = body.get(name)
        _need(value is None or low <= value <= high, f"Invalid '{name}'", name)
    stop = body.get("stop")
    _need(stop is None or isinstance(stop, str) or len(stop) <= 4, "Invalid 'stop': array too long", "stop")
    user = body.get("user")
    _need(user is None or len(user) <= 64, "Invalid 'user': string too long", "user")
    _check_format(body)
    _check_tools(body)
    _check_messages(body, signs=flavour == "gemini")


def _need(holds: bool, message: str, param: str | None = None) -> None:
    if not holds:
        raise refused(message, param)


def _check_format(body: dict[str, Any]) -> None:
    answer_format = body.get("response_format")
    if answer_format is None:
        return
    _need(answer_format.get("type") in ("text", "json_object", "json_schema"), "Invalid value", "response_format.type")
    if answer_format["type"] == "json_schema":
        schema = answer_format.get("json_schema") or {}
        _need(
            bool(_NAME.fullmatch(str(schema.get("name")))),
            "Missing required parameter",
            "response_format.json_schema.name",
        )
        _need(
            isinstance(schema.get("schema"), dict), "Missing required parameter", "response_format.json_schema.schema"
        )
        if schema.get("strict"):
            _need(
                schema["schema"].get("additionalProperties") is False,
                "Invalid schema: 'additionalProperties' is required to be supplied and to be false.",
                "response_format",
            )


def _check_tools(body: dict[str, Any]) -> None:
    names = []
    for index, tool in enumerate(body.get("tools") or ()):
        _need(tool.get("type") == "function", f"Invalid value: tools[{index}].type", f"tools[{index}].type")
        _need(set(tool) == {"type", "function"}, f"Unknown parameter: tools[{index}]", f"tools[{index}]")
        function = tool["function"]
        _need(bool(_NAME.fullmatch(str(function.get("name")))), f"Invalid 'tools[{index}].function.name'", "tools")
        _need(
            set(function) <= {"name", "description", "parameters", "strict"},
            f"Unknown parameter: tools[{index}].function",
        )
        names.append(function["name"])
    for name in ("tool_choice", "parallel_tool_calls"):
        _need(name not in body or bool(names), f"'{name}' is only allowed when 'tools' are specified.", name)
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        _need(choice["function"]["name"] in names, "Tool choice not found in 'tools' parameter.", "tool_choice")
    else:
        _need(choice in (None, "auto", "none", "required"), "Invalid value: tool_choice", "tool_choice")


def _check_messages(body: dict[str, Any], *, signs: bool) -> None:
    messages = body.get("messages")
    _need(isinstance(messages, list) and bool(messages), "Invalid 'messages': empty array.", "messages")
    assert isinstance(messages, list)
    pending: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages.[{index}]"
        if message.get("role") == "tool":
            _need(
                message.get("tool_call_id") in pending,
                "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
                where,
            )
            pending.remove(message["tool_call_id"])
            _need(isinstance(message.get("content"), str | list), "Invalid value for 'content'", f"{where}.content")
            continue
        _need(not pending, "An assistant message with 'tool_calls' must be followed by tool messages.", where)
        if message.get("role") == "assistant":
            pending = _check_assistant(message, where, signs=signs)
            continue
        _need(message.get("role") in ("system", "developer", "user"), f"Invalid value: '{message.get('role')}'", where)
        content = message.get("content")
        _need(isinstance(content, str) or bool(content), f"Invalid value for 'content': {where}", where)
        for part in [] if isinstance(content, str) else content:
            rule = _PARTS.get(part.get("type"))
            _need(rule is not None, f"Invalid value: '{part.get('type')}'.", f"{where}.content")
            _need(part["type"] == "text" or message["role"] == "user", "Only text is supported here", where)
            assert rule is not None
            rule(part, where)
    _need(not pending, "An assistant message with 'tool_calls' must be followed by tool messages.", "messages")


def _check_assistant(message: dict[str, Any], where: str, *, signs: bool) -> list[str]:
    known = {"role", "content", "tool_calls", "refusal", "name", "reasoning_content"}
    _need(set(message) <= known, f"Unknown parameter in {where}: {sorted(set(message) - known)}", where)
    calls = message.get("tool_calls") or []
    _need(message.get("content") is not None or bool(calls), f"Invalid value for 'content': {where}", where)
    for at, call in enumerate(calls):
        allowed = {"id", "type", "function", "extra_content"} if signs else {"id", "type", "function"}
        _need(
            set(call) <= allowed, f"Unknown parameter: {where}.tool_calls[{at}]: {sorted(set(call) - allowed)}", where
        )
        _need(isinstance(call["function"]["arguments"], str), "arguments must be a string", where)
        if signs and at == 0:
            google = (call.get("extra_content") or {}).get("google") or {}
            _need(
                google.get("thought_signature") == f"signed-{call['id']}",
                "Function call is missing a thought_signature in functionCall parts.",
            )
    return [call["id"] for call in calls]


def _text(part: dict[str, Any], where: str) -> None:
    _need(isinstance(part.get("text"), str), f"Invalid value for 'text': {where}", where)
    _need(set(part) == {"type", "text"}, f"Unknown parameter: {where}: {sorted(part)}", where)


def _image(part: dict[str, Any], where: str) -> None:
    url = part["image_url"]["url"]
    data = _DATA_URL.fullmatch(url)
    _need(data is not None or url.startswith(("https://", "http://")), "Invalid image URL", where)
    if data is not None:
        size_of(data[2])


def _file(part: dict[str, Any], where: str) -> None:
    data = _DATA_URL.fullmatch(part["file"].get("file_data", ""))
    _need(data is not None and bool(part["file"].get("filename")), f"Missing required parameter: {where}.file", where)
    assert data is not None
    size_of(data[2])


_PARTS: dict[str, Callable[[dict[str, Any], str], None]] = {"text": _text, "image_url": _image, "file": _file}
