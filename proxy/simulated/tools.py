"""Which tool the simulated provider calls, and with what: values made up from a JSON schema.

Pure. Source: https://platform.openai.com/docs/guides/function-calling
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.simulated.refusals import wrong_value
from proxy.simulated.steps import Document

_DEPTH_MAX: Final = 12
_NAME_PART_CHARS_MIN: Final = 4
_SCALARS: Final[Mapping[str, object]] = {"string": "simulated", "integer": 1, "number": 1.5, "boolean": True}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller offers."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def offered(document: Document) -> list[Tool]:
    """The functions among a request's tools: nested in Chat Completions, flat in Responses."""
    tools = document.get("tools")
    found: list[Tool] = []
    for tool in tools if isinstance(tools, list) else []:
        if not isinstance(tool, dict) or tool.get("type") != "function":
            continue
        function = tool.get("function", tool)
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            found.append(Tool(function["name"], parameters if isinstance(parameters, dict) else {}))
    return found


def choose(document: Document, prompt: str, has_result: bool) -> Tool | None:
    """The tool to call, if one is to be called.

    After a tool's result nothing is called, so that no conversation goes round for ever.
    Else `tool_choice` decides; where it leaves it open, a prompt that says a tool's name, or
    a longer part of it ("weather" for get_weather), gets that tool.
    """
    tools = offered(document)
    choice = document.get("tool_choice", "auto")
    if not tools or has_result or choice == "none":
        return None
    if isinstance(choice, dict):
        named = choice.get("function", choice)
        return next((tool for tool in tools if isinstance(named, dict) and tool.name == named.get("name")), None)
    asked = next((tool for tool in tools if _is_asked_for(tool, prompt.lower())), None)
    return asked if asked is not None or choice != "required" else tools[0]


def _is_asked_for(tool: Tool, prompt: str) -> bool:
    parts = tool.name.lower().replace("-", "_").split("_")
    return tool.name.lower() in prompt or any(len(part) >= _NAME_PART_CHARS_MIN and part in prompt for part in parts)


def sample(schema: Mapping[str, Any], param: str) -> object:
    """A value that fits a JSON schema of the kind that tools and structured outputs use.

    Raises:
        Refusal: what stands in `param` is no such schema.
    """
    try:
        return _sample(schema, schema, 0)
    except (AttributeError, IndexError, KeyError, TypeError):
        raise wrong_value(param, "a JSON schema") from None


def _sample(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> object:
    if depth > _DEPTH_MAX:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if choices := schema.get("enum") or schema.get("examples"):
        return choices[0]
    if reference := schema.get("$ref"):
        return _sample(_resolved(str(reference), root), root, depth + 1)
    for name in ("anyOf", "oneOf", "allOf"):
        if branches := schema.get(name):
            return _sample(branches[0], root, depth + 1)
    return _sample_of_type(schema, root, depth)


def _sample_of_type(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> object:
    kind = schema.get("type", "object" if "properties" in schema else "null")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties: Mapping[str, Any] = schema.get("properties", {})
        return {name: _sample(member, root, depth + 1) for name, member in properties.items()}
    if kind == "array":
        items = schema.get("items")
        return [_sample(items, root, depth + 1)] if isinstance(items, dict) else []
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _SCALARS.get(kind)


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: object = root
    for name in reference.removeprefix("#").split("/")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
