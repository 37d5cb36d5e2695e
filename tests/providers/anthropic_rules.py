"""What Anthropic's API refuses, by its documents.

Sources: platform.claude.com/docs/en/api/messages; /build-with-claude/extended-thinking, /vision, /structured-outputs;
/agents-and-tools/tool-use. The texts of the refusals are near what the API says.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any

from tests.providers.wire import Refused, size_of, unknown_in

MAX_TOKENS = 64_000
_FIELDS = frozenset(
    {
        *("cache_control", "container", "context_management", "inference_geo", "max_tokens", "mcp_servers", "messages"),
        *("metadata", "model", "output_config", "service_tier", "speed", "stop_sequences", "stream", "system"),
        *("temperature", "thinking", "tool_choice", "tools", "top_k", "top_p"),
    }
)
_COUNTED = frozenset(
    {"messages", "model", "output_config", "system", "thinking", "tool_choice", "tools", "cache_control"}
)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_NEWER = re.compile(r"claude-(opus-4-[78]|(opus|sonnet|haiku)-[5-9])")


def refused(message: str) -> Refused:
    """A 400."""
    return Refused(400, "invalid_request_error", message)


def check(body: dict[str, Any], *, counts: bool, samples: bool) -> None:
    """Refuse what the API would. `samples`: its first version, which has a temperature (/docs/en/api/versioning)."""
    known = _COUNTED if counts else _FIELDS if samples else _FIELDS - {"temperature", "top_k", "top_p"}
    if (name := unknown_in(body, known)) is not None:
        raise refused(f"{name}: Extra inputs are not permitted")
    _need(isinstance(body.get("model"), str), "model: Field required")
    if not counts:
        ceiling = body.get("max_tokens")
        _need(isinstance(ceiling, int) and ceiling >= 1, "max_tokens: Field required")
        assert isinstance(ceiling, int)
        _need(ceiling <= MAX_TOKENS, f"max_tokens: {ceiling} > {MAX_TOKENS}, which is the maximum allowed")
    for sequence in body.get("stop_sequences") or ():
        _need(bool(sequence.strip()), "stop_sequences: each stop sequence must contain non-whitespace")
    if "system" in body:
        _check_system(body["system"])
    _check_tools(body)
    _check_thinking(body)
    _check_messages(body)


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise refused(message)


def _check_system(system: Any) -> None:
    for block in [] if isinstance(system, str) else system:
        _need(block.get("type") == "text" and bool(block.get("text")), "system: text content blocks must be non-empty")
        _need(set(block) <= {"type", "text", "cache_control", "citations"}, "system.0: Extra inputs are not permitted")


def _check_tools(body: dict[str, Any]) -> None:
    names = []
    for index, tool in enumerate(body.get("tools") or ()):
        _need(bool(_NAME.fullmatch(str(tool.get("name")))), f"tools.{index}.name: String should match pattern")
        _need(
            tool.get("type", "custom") == "custom", f"tools.{index}: Input tag does not match any of the expected tags"
        )
        known = {"name", "description", "input_schema", "strict", "cache_control", "type"}
        _need(set(tool) <= known, f"tools.{index}: Extra inputs are not permitted")
        schema = tool.get("input_schema")
        _need(
            isinstance(schema, dict) and schema.get("type") == "object",
            f"tools.{index}.input_schema.type: Field required",
        )
        names.append(tool["name"])
    _need(len(names) == len(set(names)), "tools: Tool names must be unique.")
    choice = body.get("tool_choice")
    if choice is None:
        return
    _need(bool(names), "tool_choice may only be specified while providing tools")
    _need(choice.get("type") in ("auto", "any", "tool", "none"), "tool_choice: Input tag does not match")
    if choice["type"] == "tool":
        _need(choice.get("name") in names, f"Tool '{choice.get('name')}' not found in provided tools")
    if choice["type"] == "none":
        _need(set(choice) == {"type"}, "tool_choice.none: Extra inputs are not permitted")


def _check_thinking(body: dict[str, Any]) -> None:
    newer = bool(_NEWER.search(body["model"]))
    thinking = body.get("thinking") or {"type": "disabled"}
    if newer:
        _need(thinking["type"] != "enabled", '"thinking.type.enabled" is not supported for this model.')
        for name in ("temperature", "top_p", "top_k"):
            _need(body.get(name) in (None, 1), f"`{name}` is not supported for this model.")
    else:
        _need(thinking["type"] != "adaptive", "adaptive thinking is not supported on this model")
    config = body.get("output_config") or {}
    _need(set(config) <= {"effort", "format"}, "output_config: Extra inputs are not permitted")
    if "effort" in config:
        _need(newer, "This model does not support the effort parameter.")
        _need(config["effort"] in ("low", "medium", "high", "xhigh", "max"), "output_config.effort: Input should be")
    if "format" in config:
        _need(config["format"].get("type") == "json_schema", "output_config.format.type: Input should be 'json_schema'")
        _need(isinstance(config["format"].get("schema"), dict), "output_config.format.schema: Field required")
    temperature = body.get("temperature")
    _need(temperature is None or 0 <= temperature <= 1, "temperature: range: 0..1")
    if thinking["type"] == "disabled":
        return
    _need(temperature in (None, 1), "`temperature` may only be set to 1 when thinking is enabled.")
    _need(
        (body.get("tool_choice") or {}).get("type") not in ("any", "tool"),
        "Thinking may not be enabled when tool_choice forces tool use.",
    )
    if thinking["type"] == "enabled":
        budget = thinking.get("budget_tokens")
        _need(isinstance(budget, int) and budget >= 1_024, "thinking.enabled.budget_tokens: should be ≥ 1024")
        _need(budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`.")


def _check_messages(body: dict[str, Any]) -> None:
    messages = body.get("messages")
    _need(isinstance(messages, list) and bool(messages), "messages: at least one message is required")
    assert isinstance(messages, list)
    _need(messages[0].get("role") == "user", "messages: first message must use the user role")
    pending: list[str] = []
    used_tools = False
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        _need(set(message) <= {"role", "content"}, f"{where}: Extra inputs are not permitted")
        roles = ("user", "assistant", "system") if "opus-4-8" in body["model"] else ("user", "assistant")
        _need(message.get("role") in roles, f"{where}: role '{message.get('role')}' is not supported on this model")
        content = message.get("content")
        _need(bool(content), f"{where}: all messages must have non-empty content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for at, block in enumerate(blocks):
            _check_block(block, f"{where}.content.{at}", message["role"])
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        first = [block["type"] == "tool_result" for block in blocks[: len(results)]]
        _need(all(first), f"{where}: tool_result blocks must come first")
        _need(set(results) <= set(pending), f"{where}: unexpected `tool_use_id` found in `tool_result` blocks")
        _need(set(pending) <= set(results), f"{where}: `tool_use` ids were found without `tool_result` blocks")
        pending = [block["id"] for block in blocks if block["type"] == "tool_use"]
        _need(len(pending) == len(set(pending)), f"{where}: `tool_use` ids must be unique")
        used_tools = used_tools or bool(pending)
    _need(not pending, "messages: `tool_use` ids were found without `tool_result` blocks immediately after")
    _need(not used_tools or bool(body.get("tools")), "Requests which include tool_use blocks must define tools.")
    _check_returned_thinking(body, messages)


def _check_returned_thinking(body: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    """While it thinks, the turn whose tools are answered begins with its thinking."""
    if (body.get("thinking") or {}).get("type") not in ("enabled", "adaptive"):
        return
    last = messages[-1]["content"]
    if isinstance(last, str) or last[0]["type"] != "tool_result":
        return
    asked = messages[-2]["content"]
    _need(
        asked[0]["type"] in ("thinking", "redacted_thinking"),
        "messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`.",
    )


def _check_block(block: dict[str, Any], where: str, role: str) -> None:
    rule = _RULES.get((role, block.get("type", "")))
    if rule is None:
        raise refused(
            f"{where}: Input tag '{block.get('type')}' found using 'type' does not match any of the expected tags"
        )
    rule(block, where)


def _members(block: dict[str, Any], where: str, *names: str) -> None:
    known = {"type", "cache_control", *names}
    _need(set(block) <= known, f"{where}: Extra inputs are not permitted: {sorted(set(block) - known)}")


def _text(block: dict[str, Any], where: str) -> None:
    _members(block, where, "text", "citations")
    _need(bool(block.get("text")), f"{where}: text content blocks must be non-empty")


def _image(block: dict[str, Any], where: str) -> None:
    _members(block, where, "source")
    source = block["source"]
    if source["type"] == "url":
        _need(source["url"].startswith("https://"), f"{where}: Only HTTPS URLs are supported.")
        return
    _need(
        source.get("media_type") in _PICTURES, f"{where}.source.base64.media_type: Input should be one of {_PICTURES}"
    )
    size_of(source["data"])


def _document(block: dict[str, Any], where: str) -> None:
    _members(block, where, "source", "title", "context", "citations")
    if block["source"]["type"] == "base64":
        _need(block["source"].get("media_type") == "application/pdf", f"{where}: media_type")
        size_of(block["source"]["data"])


def _tool_use(block: dict[str, Any], where: str) -> None:
    _members(block, where, "id", "name", "input", "caller")
    _need(bool(_ID.fullmatch(block["id"])), f"{where}.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    _need(isinstance(block.get("input"), dict), f"{where}.input: Input should be a valid dictionary")


def _tool_result(block: dict[str, Any], where: str) -> None:
    _members(block, where, "tool_use_id", "content", "is_error")
    inner = block.get("content") or []
    for at, each in enumerate([] if isinstance(inner, str) else inner):
        _check_block(each, f"{where}.content.{at}", "user")


def _thinking(block: dict[str, Any], where: str) -> None:
    _members(block, where, "thinking", "signature")
    signed = hmac.new(b"anthropic", block["thinking"].encode(), hashlib.sha256).hexdigest()
    _need(block.get("signature") == signed, f"{where}: Invalid `signature` in `thinking` block")


_RULES: dict[tuple[str, str], Callable[[dict[str, Any], str], None]] = {
    ("user", "text"): _text,
    ("user", "image"): _image,
    ("user", "document"): _document,
    ("user", "tool_result"): _tool_result,
    ("assistant", "text"): _text,
    ("assistant", "thinking"): _thinking,
    ("assistant", "redacted_thinking"): lambda block, where: _members(block, where, "data"),
    ("assistant", "tool_use"): _tool_use,
    ("system", "text"): _text,
}
