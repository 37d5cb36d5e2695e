"""Which of the provider's own tools a response ran, and how often: they cost by the call.

Pure. OpenAI's usage report leaves them out; the response's `output` lists them. Source:
platform.openai.com/docs/api-reference/responses and …/docs/pricing#built-in-tools: of a web
search only the searching is billed, of the code interpreter each container.
"""

from typing import Any, Final

_ITEMS_MAX: Final = 10_000
_SEARCHING: Final = (None, "search")
# Run by the caller's own program, which the provider does not bill.
_CALLERS: Final = frozenset({"apply_patch", "computer", "custom_tool", "function", "local_shell", "shell"})


def billed_tool_calls(output: object) -> tuple[tuple[str, int], ...]:
    """Each tool that ran, by name, and how often. Names are those of the items' types: `web_search`
    for `web_search_call`, `file_search`, `code_interpreter`, `image_generation`, `mcp`, …"""
    if not isinstance(output, list):
        return ()
    counts: dict[str, int] = {}
    containers: set[object] = set()
    for item in output[:_ITEMS_MAX]:
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or not kind.endswith("_call"):
            continue
        name = kind.removesuffix("_call")
        if name in _CALLERS or (name == "web_search" and _action(item) not in _SEARCHING):
            continue
        if name == "code_interpreter":
            container_id = item.get("container_id")
            if isinstance(container_id, str) and container_id in containers:
                continue
            containers.add(container_id if isinstance(container_id, str) else len(containers))
        counts[name] = counts.get(name, 0) + 1
    return tuple(counts.items())


def _action(item: dict[str, Any]) -> object:
    action = item.get("action")
    return action.get("type") if isinstance(action, dict) else None
