"""The tools of a call of Messages and what it says of their use, as a chat's.

Pure. Sources: platform.claude.com/docs/en/agents-and-tools/tool-use; platform.openai.com/docs/guides/function-calling.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core.errors import UnsupportedParameter
from proxy.dialects.members import array_of, flag_of, object_of, text_of, wrong

_WRITTEN: Final = {"auto": "auto", "any": "required", "none": "none"}


def tools_of(document: Mapping[str, Any], lost: list[str]) -> list[dict[str, Any]]:
    """The tools that the caller runs. Those that Anthropic would run, or has its own schema for, are lost.

    Raises:
        InvalidParameter: a tool is not as documented.
    """
    tools: list[dict[str, Any]] = []
    given = document.get("tools")
    for index, item in enumerate([] if given is None else array_of(given, "tools")):
        place = f"tools.{index}"
        tool = object_of(item, place)
        if tool.get("type") not in (None, "custom"):
            lost.append(place)
            continue
        function: dict[str, Any] = {"name": text_of(tool.get("name"), f"{place}.name")}
        for name in ("description", "strict"):
            if tool.get(name) is not None:
                function[name] = tool[name]
        function["parameters"] = object_of(tool.get("input_schema"), f"{place}.input_schema")
        tools.append({"type": "function", "function": function})
    return tools


def write_tools(body: dict[str, Any], document: Mapping[str, Any], lost: list[str]) -> None:
    """Write the tools and their choice.

    Raises:
        InvalidParameter: they are not as documented.
        UnsupportedParameter: what is to be used is no tool of the caller's.
    """
    tools = tools_of(document, lost)
    if not tools:
        return  # there is nothing to choose from
    body["tools"] = tools
    given = document.get("tool_choice")
    if given is None:
        return
    choice = object_of(given, "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        name = text_of(choice.get("name"), "tool_choice.name")
        if all(tool["function"]["name"] != name for tool in tools):
            raise UnsupportedParameter(
                f"`tool_choice` names `{name[:64]}`, which is no tool that this model's provider can be told of.",
                param="tool_choice",
            )
        body["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in _WRITTEN:
        body["tool_choice"] = _WRITTEN[kind]
    else:
        raise wrong("tool_choice.type", "must be auto, any, tool or none.")
    alone = choice.get("disable_parallel_tool_use")
    if alone is not None and flag_of(alone, "tool_choice.disable_parallel_tool_use"):
        body["parallel_tool_calls"] = False
