"""A chat's tools and what it says of their use, as Messages have them.

Pure. Sources: platform.openai.com/docs/guides/function-calling; platform.claude.com/docs/en/agents-and-tools/tool-use.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core.errors import UnsupportedParameter
from proxy.dialects.members import array_of, flag_of, object_of, text_of, wrong

_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_PASSING: Final = ("description", "strict")
FORCED: Final = ("any", "tool")
"""The types of a choice that leaves the model no way to answer without a tool."""


def tools_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools.

    Raises:
        InvalidParameter: a tool is not as documented.
        UnsupportedParameter: a tool is no function, or is in the API's first form (`functions`).
    """
    tools: list[dict[str, Any]] = []
    given = document.get("tools")
    for index, item in enumerate([] if given is None else array_of(given, "tools")):
        place = f"tools.{index}"
        tool = object_of(item, place)
        if tool.get("type") != "function":
            raise UnsupportedParameter(
                f"`{place}` is no function, and Anthropic's models know no other tool by that name.", param=place
            )
        written = _function(object_of(tool.get("function"), f"{place}.function"), f"{place}.function")
        if tool.get("cache_control") is not None:
            written["cache_control"] = tool["cache_control"]
        tools.append(written)
    if document.get("functions"):
        raise UnsupportedParameter(
            "`functions` is the first form of `tools`, and whoever sends it reads the answer in that form too. Send "
            "`tools`, or ask for a model of a provider that speaks as OpenAI does.",
            param="functions",
        )
    return tools


def choice_of(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which tool is to be used, and whether several at once; None: as the model likes.

    Raises:
        InvalidParameter, UnsupportedParameter: as `tools_of`.
    """
    choice = _choice(document.get("tool_choice"))
    parallel = document.get("parallel_tool_calls")
    if parallel is not None and not flag_of(parallel, "parallel_tool_calls"):
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    return choice


def _choice(choice: object) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        written = {"auto": "auto", "required": "any", "none": "none"}.get(choice)
        if written is None:
            raise wrong("tool_choice", "must be auto, required, none, or name a function.")
        return {"type": written}
    named = object_of(choice, "tool_choice")
    if named.get("type") != "function":
        raise UnsupportedParameter(
            "`tool_choice` names no function, and Anthropic's models are told of one function or of all.",
            param="tool_choice",
        )
    function = object_of(named.get("function"), "tool_choice.function")
    return {"type": "tool", "name": text_of(function.get("name"), "tool_choice.function.name")}


def _function(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": text_of(function.get("name"), f"{place}.name")}
    for name in _PASSING:
        if function.get(name) is not None:
            tool[name] = function[name]
    parameters = function.get("parameters")
    tool["input_schema"] = _NO_PARAMETERS if parameters is None else object_of(parameters, f"{place}.parameters")
    return tool
