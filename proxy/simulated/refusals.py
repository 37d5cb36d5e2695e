"""The errors of the simulated provider, in OpenAI's words and envelope.

Source: https://platform.openai.com/docs/guides/error-codes, and the API's own answers.
"""

from typing import Final

from proxy.core import jsonio
from proxy.core.types import Headers

RETRY_AFTER_MS: Final = 1_000


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = jsonio.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def missing(param: str) -> Refusal:
    """A field without which nothing can be answered."""
    message = f"Missing required parameter: '{param}'."
    return Refusal(400, message, param=param, code="missing_required_parameter")


def wrong_type(param: str, expected: str) -> Refusal:
    """A field of another type than the API takes."""
    message = f"Invalid type for '{param}': expected {expected}, but got something else instead."
    return Refusal(400, message, param=param, code="invalid_type")


def wrong_value(param: str, expected: str) -> Refusal:
    """A field of the right type with a value that cannot be."""
    return Refusal(400, f"Invalid value for '{param}': expected {expected}.", param=param, code="invalid_value")


def not_json() -> Refusal:
    """A body that is no JSON object."""
    message = "We could not parse the JSON body of your request. The API expects a JSON object, in UTF-8."
    return Refusal(400, message)


def too_large() -> Refusal:
    """A body beyond what a transport reads."""
    return Refusal(413, "The request body is larger than the simulated provider reads.")


def unknown_model(model: str) -> Refusal:
    """A name that the grammar of models does not know."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return Refusal(404, message, code="model_not_found")


def unknown_url(method: str, path: str) -> Refusal:
    """A path that no endpoint has."""
    return Refusal(404, f"Invalid URL ({method} {path})")


def wrong_method(allowed: str) -> Refusal:
    """A known path, with another method."""
    message = f"Only {allowed} requests are accepted."
    return Refusal(405, message, code="method_not_supported", headers=((b"allow", allowed.encode()),))


def asked_for(status: int, model: str) -> Refusal:
    """The error that a model's name asks for, as `simulated-429` does."""
    if status == 429:
        return _rate_limited(model)
    message, kind, code = _ASKED_FOR[status]
    return Refusal(status, message, kind=kind, code=code)


def _rate_limited(model: str) -> Refusal:
    return Refusal(
        429,
        f"Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 10000, "
        "Used 10000, Requested 1. Please try again in 1s.",
        kind="requests",
        code="rate_limit_exceeded",
        headers=(
            (b"retry-after", str(RETRY_AFTER_MS // 1_000).encode()),
            (b"retry-after-ms", str(RETRY_AFTER_MS).encode()),
        ),
    )


_ASKED_FOR: Final[dict[int, tuple[str, str, str | None]]] = {
    400: ("The simulated provider was asked to refuse this request.", "invalid_request_error", None),
    401: ("Incorrect API key provided: sk-simu****ated.", "invalid_request_error", "invalid_api_key"),
    403: ("You are not allowed to use this model.", "invalid_request_error", "permission_denied"),
    408: ("The request took too long to arrive.", "invalid_request_error", "request_timeout"),
    409: ("The resource was changed by another request.", "invalid_request_error", "conflict"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    502: ("Bad gateway.", "server_error", None),
    503: ("That model is currently overloaded with other requests.", "server_error", None),
    529: ("The simulated provider is overloaded.", "server_error", "overloaded"),
}

STATUSES: Final = frozenset(_ASKED_FOR) | {429}
"""The statuses that a model's name may ask for."""
