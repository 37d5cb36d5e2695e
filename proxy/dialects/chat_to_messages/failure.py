"""Anthropic's refusal of a call, in OpenAI's envelope.

Pure. Sources: platform.claude.com/docs/en/api/errors; platform.openai.com/docs/guides/error-codes. Apps switch on
`code`, and SDKs on the status.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from proxy.core import jsonio
from proxy.core.errors import InvalidJson

_OVERLOADED: Final = 529  # a status of Anthropic's own
_UNAVAILABLE: Final = 503
_TOO_LONG: Final = ("prompt is too long", "exceed context limit", "context window")


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
    error = document.get("error") if isinstance(document, dict) else None
    return _UNAVAILABLE if status == _OVERLOADED else status, jsonio.encode({"error": failure_of(error, status)})


def failure_of(error: object, status: int) -> dict[str, Any]:
    """OpenAI's error object for Anthropic's; for what is none, by the status."""
    said = error if isinstance(error, dict) else {}
    kind = _KINDS.get(str(said.get("type"))) or (_SERVER if status >= 500 else _REQUEST)
    message = said.get("message")
    if not isinstance(message, str) or not message:
        message = f"The provider answered {status}, and did not say why."
    code = kind.code
    if kind is _REQUEST and any(mark in message.lower() for mark in _TOO_LONG):
        code = "context_length_exceeded"
    return {"message": message, "type": kind.type, "param": None, "code": code}
