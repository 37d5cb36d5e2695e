"""What a call needs of the model that answers it, besides answering text with text.

Pure. The names are those of `core.capabilities`. Fields: the API references of chat completions, responses and
messages. What is not understood needs nothing: the provider will say what is wrong with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.dialects.openai import Operation

_NONE: Final[frozenset[str]] = frozenset()
# By the type of a part of a message's content.
_PARTS: Final = {
    "image_url": "vision",
    "input_image": "vision",
    "image": "vision",
    "input_audio": "audio_input",
    "file": "pdf",
    "input_file": "pdf",
    "document": "pdf",
}
_RESPONSE_FORMAT: Final = "response_format"
_HOLDERS: Final = (_RESPONSE_FORMAT, "text", "output_config")
_ASKING: Final = frozenset({"tools", "functions", "modalities", *_HOLDERS})
_MESSAGES: Final = {"chat_completions": "messages", "responses": "input", "messages": "messages"}


def needed_capabilities(operation: Operation, document: Mapping[str, Any] | None) -> frozenset[str]:
    """What this call needs. `document` is the body, parsed."""
    where = _MESSAGES.get(operation.name)
    if where is None or document is None:
        return _NONE
    messages = document.get(where)
    in_parts = (
        [each["content"] for each in messages if isinstance(each, dict) and isinstance(each.get("content"), list)]
        if isinstance(messages, list)
        else ()
    )
    asks = not _ASKING.isdisjoint(document)
    if not in_parts and not asks:
        return _NONE  # text, to be answered with text
    needs = {_PARTS[kind] for content in in_parts for kind in _types_in(content) if kind in _PARTS}
    if asks:
        needs.update(_asked_beside(document))
    return frozenset(needs)


def _asked_beside(document: Mapping[str, Any]) -> Iterator[str]:
    """By the fields beside the messages."""
    if document.get("tools") or document.get("functions"):
        yield "tools"
    if _asks_for_schema(document):
        yield "json_schema"
    modalities = document.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        yield "audio_output"


def _types_in(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str):
                yield kind
            result = part.get("content")  # a tool's result holds parts of its own
            if kind == "tool_result" and isinstance(result, list):
                yield from (
                    inner["type"] for inner in result if isinstance(inner, dict) and isinstance(inner.get("type"), str)
                )


def _asks_for_schema(document: Mapping[str, Any]) -> bool:
    for holder in _HOLDERS:  # of chats, of responses, of messages
        inner = document.get(holder)
        if isinstance(inner, dict):
            form = inner if holder == _RESPONSE_FORMAT else inner.get("format")
            if isinstance(form, dict) and form.get("type") == "json_schema":
                return True
    return False
