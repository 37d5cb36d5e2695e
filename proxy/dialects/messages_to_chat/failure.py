"""The refusal of a call by a provider that speaks as OpenAI does, in Anthropic's envelope.

Pure. Sources: platform.openai.com/docs/guides/error-codes; platform.claude.com/docs/en/api/errors. Gemini wraps its
errors in an array.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson

_OVERLOADED: Final = 529  # a status of Anthropic's own
_UNAVAILABLE: Final = 503
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def messages_failure(status: int, body: bytes) -> tuple[int, bytes]:
    """The status and the body."""
    try:
        document = jsonio.parse(body)
    except InvalidJson:
        document = None
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    failure = {"type": "error", "error": failure_of(error, status), "request_id": None}
    return _OVERLOADED if status == _UNAVAILABLE else status, jsonio.encode(failure)


def failure_of(error: object, status: int) -> dict[str, Any]:
    """Anthropic's error object for OpenAI's."""
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str) or not message:
        message = f"The provider answered {status}, and did not say why."
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": kind, "message": message}
