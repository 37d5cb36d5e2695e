"""How a stream begins: with an answer, or with an error that another provider might not make.

Pure. Pings and comments say nothing yet. An error of the caller's own making is its answer.
"""

from enum import Enum
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.sse import EMPTY_LINE, event_data, event_name

HELD_BYTES_MAX: Final = 65_536

# Types of errors by OpenAI's and Anthropic's references (platform.openai.com/docs/guides/error-codes,
# docs.anthropic.com/en/api/errors).
_OF_THE_CALLER: Final = frozenset(
    {"invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large"}
)


class Opening(Enum):
    """What the bytes so far say."""

    PENDING = "pending"  # nothing yet: pings, comments, half an event
    ANSWER = "answer"
    REFUSAL = "refusal"  # an error of the caller's own making: an answer as well
    ERROR = "error"  # it says: not now, or not here


def read_opening(held: bytes) -> Opening:
    """Look at the first bytes of a stream of events. Many are an answer whatever they are."""
    if held.startswith(b"data: {") and (end := held.find(b"\n\n")) > 0 and held.find(b"error", 0, end) < 0:
        return Opening.ANSWER  # what providers send
    start = 0
    while (line := EMPTY_LINE.search(held, start)) is not None:
        event = held[start : line.start()].lstrip(b"\xef\xbb\xbf\r\n")
        start = line.end()
        if not _is_silent(event):
            return _read_event(event)
    return Opening.ANSWER if len(held) > HELD_BYTES_MAX else Opening.PENDING


def _is_silent(event: bytes) -> bool:
    return event_name(event) == b"ping" or not event_data(event)


def _read_event(event: bytes) -> Opening:
    name, data = event_name(event), event_data(event)
    if name != b"error" and b"error" not in data:
        return Opening.ANSWER
    try:
        document = jsonio.parse(data)
    except InvalidJson:
        document = None
    if not isinstance(document, dict):
        return Opening.ERROR if name == b"error" else Opening.ANSWER
    if name != b"error" and document.get("type") not in ("error", "response.failed") and not document.get("error"):
        return Opening.ANSWER
    return Opening.REFUSAL if _type_of(document) in _OF_THE_CALLER else Opening.ERROR


def _type_of(document: dict[str, Any]) -> str | None:
    """The error's own type, wherever it stands: `error.type`, `response.error.code`, `code`."""
    inner = document.get("error")
    if isinstance(inner, dict):
        kind = inner.get("type")
        return kind if isinstance(kind, str) else None
    kind = document.get("code")
    return kind if isinstance(kind, str) else None
