"""A chat's tools and what it says of their use, as Messages have them.

Pure. Sources: platform.openai.com/docs/guides/function-calling; platform.claude.com/docs/en/agents-and-tools/tool-use.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from proxy.core.errors import UnsupportedParameter
from proxy.dialects.members import array_of, flag_of, object_of, text_of, wrong

_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_PASSING: Final = ("description", "strict")
_MODES: Final = {"auto": "auto", "required": "any"}
FORCED: Final = ("any", "tool")
"""The types of a choice that leaves the model no way to answer without a tool."""


def tools_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools: of those, the ones that the choice allows.

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
    allowed = _allowed(document.get("tool_choice"))
    return tools if allowed is None else [tool for tool in tools if tool["name"] in allowed.names]


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
        written = _MODES.get(choice) if choice != "none" else "none"
        if written is None:
            raise wrong("tool_choice", "must be auto, required, none, or name a function.")
        return {"type": written}
    allowed = _allowed(choice)
    if allowed is not None:
        return {"type": allowed.mode}
    named = object_of(choice, "tool_choice")
    if named.get("type") != "function":
        raise UnsupportedParameter(
            "`tool_choice` names no function, and Anthropic's models are told of one function or of all.",
            param="tool_choice",
        )
    function = object_of(named.get("function"), "tool_choice.function")
    return {"type": "tool", "name": text_of(function.get("name"), "tool_choice.function.name")}


class _Allowed(NamedTuple):
    names: frozenset[str]
    mode: str  # the type of the choice among them


def _allowed(choice: object) -> _Allowed | None:
    """What a choice of some of the tools says; None: it is another choice."""
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return None
    place = "tool_choice.allowed_tools"
    allowed = object_of(choice.get("allowed_tools"), place)
    mode = _MODES.get(text_of(allowed.get("mode"), f"{place}.mode"))
    if mode is None:
        raise wrong(f"{place}.mode", "must be auto or required.")
    names: list[str] = []
    for index, item in enumerate(array_of(allowed.get("tools"), f"{place}.tools")):
        where = f"{place}.tools.{index}"
        function = object_of(object_of(item, where).get("function"), f"{where}.function")
        names.append(text_of(function.get("name"), f"{where}.function.name"))
    return _Allowed(frozenset(names), mode)


def _function(function: Mapping[str, Any], place: str) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": text_of(function.get("name"), f"{place}.name")}
    for name in _PASSING:
        if function.get(name) is not None:
            tool[name] = function[name]
    parameters = function.get("parameters")
    schema = _NO_PARAMETERS if parameters is None else object_of(parameters, f"{place}.parameters")
    # OpenAI takes a schema that does not say what it is of; Anthropic wants it said.
    tool["input_schema"] = schema if "type" in schema else {"type": "object", **schema}
    return tool
