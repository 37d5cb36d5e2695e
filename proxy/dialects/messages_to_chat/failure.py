"""The refusal of a call by a provider that speaks as OpenAI does, in Anthropic's envelope.

Pure. Sources: platform.openai.com/docs/guides/error-codes; platform.claude.com/docs/en/api/errors. Gemini wraps its
errors in an array.
"""

from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.dialects.anthropic_errors import error_type

_OVERLOADED: Final = 529  # a status of Anthropic's own
_UNAVAILABLE: Final = 503


def messages_failure(status: int, body: bytes) -> tuple[int, bytes]:
    """The status and the body."""
    try:
        document = jsonio.parse(body)
    except InvalidJson:
        document = None
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error") if isinstance(document, dict) else None
    told = _OVERLOADED if status == _UNAVAILABLE else status
    return told, jsonio.encode({"type": "error", "error": failure_of(error, told), "request_id": None})


def failure_of(error: object, status: int) -> dict[str, Any]:
    """Anthropic's error object for OpenAI's."""
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str) or not message:
        message = f"The provider answered {status}, and did not say why."
    return {"type": error_type(status), "message": message}
