"""Is this the whole answer of its endpoint, and one that went well?

Pure. Asked before an answer is kept: a 200 may hold an error, a part of what was to come, or the page of some proxy in
between, and would be given to everybody who asks the same.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson, RequestTooLarge, UnsupportedEncoding
from proxy.dialects.encoding import decompress
from proxy.dialects.sse import EventSplitter, event_data

PLAIN_RATIO_MAX: Final = 8
"""An encoded answer that is so many times longer than the longest that is kept is not looked at."""

# What a whole answer of an endpoint holds, whatever else: a member, and its type.
_HOLDS: Final[dict[str, tuple[str, type]]] = {
    "chat_completions": ("choices", list),
    "completions": ("choices", list),
    "responses": ("output", list),
    "messages": ("content", list),
    "messages_count_tokens": ("input_tokens", int),
    "embeddings": ("data", list),
    "moderations": ("results", list),
}
_PLAIN: Final = (None, b"", b"identity")
_DONE: Final = b"[DONE]"
_FIELDS: Final = frozenset({b"data", b"event", b"id", b"retry", b""})  # b"": of a comment
_FAILED_TYPES: Final = frozenset({"error", "response.failed", "response.incomplete"})


def is_document_of(operation_name: str) -> bool:
    """True where the endpoint answers with a document whose members are known here."""
    return operation_name in _HOLDS


def is_sound_document(operation_name: str, body: bytes, coding: bytes | None, bytes_max: int) -> bool:
    """True for a whole document without a word of failure; `bytes_max` is that of an answer as it was sent."""
    name, kind = _HOLDS[operation_name]
    try:
        text = body if coding in _PLAIN else decompress(body, coding or b"", PLAIN_RATIO_MAX * bytes_max)
        document: Any = jsonio.parse(text)
    except (InvalidJson, RequestTooLarge, UnsupportedEncoding):
        return False
    if not isinstance(document, dict) or type(document.get(name)) is not kind or _has_failed(document):
        return False
    return operation_name != "responses" or document.get("status") in (None, "completed")


def is_sound_stream(body: bytes) -> bool:
    """True for events that hold JSON each, at least one, without a word of failure, and nothing behind their end.
    Whether its end has come is known to whoever heard it arrive."""
    splitter, said, ended = EventSplitter(len(body)), False, False
    for event in (*splitter.feed(body), *splitter.feed(b"\n\n")):
        data = event_data(event)
        if not data:
            if not all(line.partition(b":")[0] in _FIELDS for line in event.splitlines()):
                return False
        elif data.strip() == _DONE:
            ended = True
        elif ended:
            return False
        else:
            try:
                document: Any = jsonio.parse(data)
            except InvalidJson:
                return False
            if not isinstance(document, dict) or _has_failed(document):
                return False
            kind = document.get("type")
            if isinstance(kind, str) and kind in _FAILED_TYPES:
                return False
            said = True
    return said


def _has_failed(document: Mapping[str, Any]) -> bool:
    if document.get("error") or document.get("object") == "error" or document.get("type") == "error":
        return True
    choices = document.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, dict) and (choice.get("error") or choice.get("finish_reason") == "error")
        for choice in choices
    )
