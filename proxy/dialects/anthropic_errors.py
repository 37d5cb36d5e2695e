"""What Anthropic's API calls the errors of each status.

Pure. Source: platform.claude.com/docs/en/api/errors.
"""

from collections.abc import Mapping
from typing import Final

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: int) -> str:
    """The `type` of an error's object."""
    return _TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
