"""Is an item of a response's `input` its content, or an id that the provider puts the content to?

Pure. Items are handed back with the ids that they came with. The provider reads what stands in them, and looks the rest
up by the id, whoever's it is. Source: OpenAI's SDK types of `input`.
"""

from collections.abc import Mapping
from typing import Any, Final

# What an item of each type consists of; one of the fields will do. The summary of a reasoning is not what was thought,
# nor are the questions of a search what it found.
_CONTENT: Final[dict[str, tuple[str, ...]]] = {
    "message": ("content",),
    "agent_message": ("content",),
    "reasoning": ("encrypted_content", "content"),
    "compaction": ("encrypted_content",),
    "function_call": ("arguments",),
    "function_call_output": ("output",),
    "custom_tool_call": ("input",),
    "custom_tool_call_output": ("output",),
    "tool_search_call": ("arguments",),
    "tool_search_output": ("tools",),
    "additional_tools": ("tools",),
    "web_search_call": ("action",),
    "file_search_call": ("results",),
    "computer_call": ("action", "actions"),
    "computer_call_output": ("output",),
    "code_interpreter_call": ("code", "outputs"),
    "image_generation_call": ("result",),
    "local_shell_call": ("action",),
    "local_shell_call_output": ("output",),
    "shell_call": ("action",),
    "shell_call_output": ("output",),
    "apply_patch_call": ("operation",),
    "apply_patch_call_output": ("output",),
    "mcp_call": ("arguments",),
    "mcp_list_tools": ("tools", "error"),
    "mcp_approval_request": ("arguments",),
    "mcp_approval_response": ("approve",),
    "program": ("code",),
    "program_output": ("result",),
}
# A call may have no arguments, and a tool nothing to say.
_MAY_BE_EMPTY: Final = frozenset({"arguments", "input", "output"})
# What every item may have and none consists of.
_LABELS: Final = frozenset({"call_id", "created_by", "id", "object", "phase", "role", "status", "type"})
_USUAL: Final = _LABELS.union({"name", "summary"}, *_CONTENT.values())


def has_id(item: Mapping[str, Any]) -> bool:
    """True where a member is the item's id, in any case."""
    return "id" in item or (not _is_plain(item) and any(name.casefold() == "id" for name in item))


def is_id_alone(item: Mapping[str, Any]) -> bool:
    """True for an item with an id and nothing that its type consists of, which the provider would look up.

    Some readers know no case of names: to none of them must it be an id alone, and where a name stands there in two
    cases nobody knows which of them they take.
    """
    if _is_plain(item):
        return _is_alone(item)
    folded = {name.casefold(): value for name, value in item.items()}
    return len(folded) != len(item) or _is_alone(item) or _is_alone(folded)


def _is_alone(item: Mapping[str, Any]) -> bool:
    if item.get("id") is None:
        return False
    kind = item.get("type")
    if kind is None:
        if item.get("role") is None:
            return True  # a reference whose optional type is left out
        kind = "message"
    names = _CONTENT.get(kind) if isinstance(kind, str) else None
    if names is None:  # a type that is not known: anything counts that is no label
        names = tuple(item.keys() - _LABELS)
    return not any(_holds_something(name, item.get(name)) for name in names)


def _is_plain(item: Mapping[str, Any]) -> bool:
    """True where no name has another case."""
    if _USUAL.issuperset(item):
        return True
    names = "".join(item)
    return names.islower() and names.isascii()


def _holds_something(name: str, value: object) -> bool:
    if isinstance(value, bool) or (value == "" and name in _MAY_BE_EMPTY):
        return True
    return any(value) if isinstance(value, list) else bool(value)
