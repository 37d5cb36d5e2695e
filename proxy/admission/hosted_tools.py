"""Which of the provider's own tools a call may set going, and how often.

Pure. Each run of such a tool is another pass over a context that the tool has filled, and most
cost a fee. A call that does not bound them has no worst case; neither has one whose tool has no
known fee. Sources: the API references and SDK types of OpenAI (`max_tool_calls`) and Anthropic
(`max_uses`), and the catalogue's fees.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from proxy.admission.ceilings import sure_bound
from proxy.core.errors import UnpricedEndpoint
from proxy.dialects.letter_case import misread_name
from proxy.pricing.facts import Price


class HostedTools(NamedTuple):
    """The most that a call's hosted tools can do."""

    runs: int = 0  # of all of them together
    fees_nusd: int = 0
    are_any: bool = False  # their descriptions alone may fill a context


NO_TOOLS: Final = HostedTools()
# Run by the caller's program: for the provider they are text.
_CALLERS: Final = frozenset(
    {"apply_patch", "computer", "computer_use_preview", "custom", "function", "local_shell", "namespace"}
)
_CALLERS_OF_ANTHROPIC: Final = ("bash_", "browser_", "computer_", "custom", "memory_", "text_editor_")
_BOUND_BY_USES: Final = ("web_search", "web_fetch")
# Fields that set other models or unbounded tools going.
_UNBOUNDED: Final = ("fallbacks", "mcp_servers", "models", "plugins", "search_parameters")
_HARMLESS_OF_GOOGLE: Final = frozenset({"cached_content", "thinking_config", "thought_tag_marker"})
_SMALL_CONTAINERS: Final = (None, "1g")
# All that is read of a tool here, and of what is in it.
_READ: Final = frozenset({"container", "environment", "function", "max_uses", "memory_limit", "type"})
_GOOGLE: Final = frozenset({"google"})


def hosted_tools(operation_name: str, document: Mapping[str, Any], price: Price) -> HostedTools:
    """The bound on a call's hosted tools.

    Raises:
        UnpricedEndpoint: there is none, or a tool has no known fee. The message says what to do.
    """
    for name in _UNBOUNDED:
        if document.get(name):
            raise UnpricedEndpoint(
                f"`{name}` can set off calls that nothing bounds, and a spend cap holds for you. Leave it out.",
                param=name,
            )
    extra = document.get("extra_body")
    google = extra.get("google", {}) if isinstance(extra, dict) else {}
    is_sure = not isinstance(extra, dict) or misread_name(extra, _GOOGLE) is None
    if extra is not None and not (is_sure and isinstance(google, dict) and _HARMLESS_OF_GOOGLE.issuperset(google)):
        raise UnpricedEndpoint(
            "`extra_body` can set off tools that nothing bounds, and a spend cap holds for you. Leave it out.",
            param="extra_body",
        )
    if operation_name == "messages":
        return _by_uses(document, price)
    if operation_name in ("responses", "responses_compact"):
        return _by_calls(document, price)
    if document.get("web_search_options") is not None and not price.request_nusd:
        raise UnpricedEndpoint(
            "`web_search_options` sets off searches that nothing bounds here, and a spend cap holds for you. Ask a "
            "search model, or use the Responses API with `max_tool_calls`.",
            param="web_search_options",
        )
    for tool in _tools(document):
        kind = tool.get("type", "function" if "function" in tool else None)
        if kind not in ("custom", "function"):
            raise UnpricedEndpoint(
                f"Nothing bounds how often the tool `{kind}` runs, and a spend cap holds for you. Leave it out, or use "
                "the Responses API with `max_tool_calls`.",
                param="tools",
            )
    return NO_TOOLS


def _by_calls(document: Mapping[str, Any], price: Price) -> HostedTools:
    """OpenAI's: `max_tool_calls` bounds all of them together."""
    # A stored prompt brings tools that nobody here sees, unless the request's own replace them.
    is_stored = isinstance(document.get("prompt"), dict) and document.get("tools") is None
    names = {name for tool in _tools(document) if (name := _hosted_name(tool)) is not None}
    if not names and not is_stored:
        return NO_TOOLS
    runs = sure_bound(document.get("max_tool_calls"))
    if runs is None:
        if document.get("max_tool_calls") == 0:
            return HostedTools(are_any=True)
        raise _unbounded(", ".join(sorted(names)) or "a stored prompt", "`max_tool_calls`")
    known = price.tool_nusd if is_stored else {name: _fee_nusd(name, price) for name in names}
    return HostedTools(runs, runs * max(known.values(), default=0), are_any=True)


def _by_uses(document: Mapping[str, Any], price: Price) -> HostedTools:
    """Anthropic's: `max_uses` bounds each."""
    runs = fees_nusd = 0
    for tool in _tools(document):
        kind = tool.get("type")
        if kind is None or (isinstance(kind, str) and kind.startswith(_CALLERS_OF_ANTHROPIC)):
            continue
        name = next((name for name in _BOUND_BY_USES if str(kind).startswith(name)), None)
        uses = sure_bound(tool.get("max_uses"))
        if name is None:
            raise UnpricedEndpoint(
                f"The tool `{kind}` has no bound and no known fee, and a spend cap holds for you. Leave it out.",
                param="tools",
            )
        if uses is None:
            raise _unbounded(str(kind), "its `max_uses`")
        runs += uses
        fees_nusd += uses * _fee_nusd(name, price)
    return HostedTools(runs, fees_nusd, are_any=runs > 0)


def _tools(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tools = document.get("tools")
    if isinstance(tools, list):
        for tool in tools:
            if isinstance(tool, dict):
                _refuse_other_case(tool)
                yield tool


def _refuse_other_case(of_tool: Mapping[str, Any]) -> None:
    name = misread_name(of_tool, _READ)
    if name is not None:
        meant = name.casefold()
        raise UnpricedEndpoint(
            f"Some providers read `{name}` of one of your `tools` as `{meant}`, and a spend cap holds for you. Send "
            f"`{meant}` alone.",
            param="tools",
        )


def _hosted_name(tool: Mapping[str, Any]) -> str | None:
    """The name by which a fee is known; None for a tool that the caller runs."""
    kind = tool.get("type")
    if kind is not None and not isinstance(kind, str):
        raise UnpricedEndpoint(
            "The `type` of one of your `tools` is no text, so nobody can say what it costs, and a spend cap holds for "
            "you. Send the name of its type.",
            param="tools",
        )
    if kind is None or kind in _CALLERS:
        return None
    if kind == "shell" and _holds(tool.get("environment"), "type", ("local",)):
        return None
    if kind.startswith("web_search"):
        return "web_search"
    if kind == "code_interpreter" and not _holds(tool.get("container"), "memory_limit", _SMALL_CONTAINERS):
        return "code_interpreter with a large container"
    return kind


def _holds(value: object, name: str, allowed: tuple[object, ...]) -> bool:
    if not isinstance(value, dict):
        return None in allowed
    _refuse_other_case(value)
    return value.get(name) in allowed


def _fee_nusd(name: str, price: Price) -> int:
    if name not in price.tool_nusd:
        raise UnpricedEndpoint(
            f"Nobody here knows what the tool `{name}` costs with this model, and a spend cap holds for you. "
            "Leave it out.",
            param="tools",
        )
    return price.tool_nusd[name]


def _unbounded(what: str, bound: str) -> UnpricedEndpoint:
    return UnpricedEndpoint(
        f"Nothing bounds how often {what} runs, and a spend cap holds for you. Set {bound}.", param="tools"
    )
