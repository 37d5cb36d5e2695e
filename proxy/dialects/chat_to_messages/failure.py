"""Anthropic's refusal of a call, in OpenAI's envelope.

Pure. Sources: platform.claude.com/docs/en/api/errors; platform.openai.com/docs/guides/error-codes. Apps switch on
`code`, and SDKs on the status.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.anthropic_errors import error_type

_OVERLOADED: Final = 529  # a status of Anthropic's own
_UNAVAILABLE: Final = 503
_TOO_LONG: Final = ("prompt is too long", "exceed context limit", "context window")
_MESSAGES: Final = ("message", "Message")


class _Kind(NamedTuple):
    type: str
    code: str | None = None


_REQUEST: Final = _Kind("invalid_request_error")
_SERVER: Final = _Kind("server_error")
_KINDS: Final[Mapping[str, _Kind]] = {
    "invalid_request_error": _REQUEST,
    "authentication_error": _Kind("invalid_request_error", "invalid_api_key"),
    "billing_error": _Kind("insufficient_quota", "insufficient_quota"),
    "permission_error": _REQUEST,
    "not_found_error": _Kind("invalid_request_error", "model_not_found"),
    "request_too_large": _Kind("invalid_request_error", "request_too_large"),
    "rate_limit_error": _Kind("rate_limit_error", "rate_limit_exceeded"),
    "api_error": _SERVER,
    "timeout_error": _SERVER,
    "overloaded_error": _SERVER,
}


def chat_failure(status: int, body: bytes) -> tuple[int, bytes]:
    """The status and the body."""
    try:
        document = jsonio.parse(body)
    except InvalidJson:
        document = None
    return _UNAVAILABLE if status == _OVERLOADED else status, jsonio.encode({"error": failure_of(document, status)})


def failure_of(document: object, status: int) -> dict[str, Any]:
    """OpenAI's error object for what Anthropic says of one: `{"error": {"type", "message"}}`. What says less is of
    the status's type: a cloud before the API says a `message` alone, and a proxy sends a page."""
    outer = document if isinstance(document, dict) else {}
    error = outer.get("error")
    said = error if isinstance(error, dict) else outer
    kind = _KINDS.get(str(said.get("type"))) or _of_status(status)
    message = next((text for name in _MESSAGES if isinstance(text := said.get(name), str) and text), None)
    if message is None:
        message = f"The provider answered {status}, and did not say why."
    code = kind.code
    if kind is _REQUEST and any(mark in message.lower() for mark in _TOO_LONG):
        code = "context_length_exceeded"
    return {"message": message, "type": kind.type, "param": None, "code": code}


def _of_status(status: int) -> _Kind:
    # A page that is not there is no model that is not there: that, the API says itself.
    return _REQUEST if status == 404 else _KINDS[error_type(status)]
