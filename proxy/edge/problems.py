"""The gateway's own errors as the caller's SDK expects them: the one renderer.

Formats: OpenAI's error object (platform.openai.com/docs/guides/error-codes) and Anthropic's
(docs.anthropic.com/en/api/errors).
"""

from http import HTTPStatus

from proxy.core import jsonio
from proxy.core.errors import GatewayError
from proxy.core.types import Headers, InboundRequest
from proxy.dialects.anthropic_errors import error_type
from proxy.dialects.openai import StreamEnd


def speaks_anthropic(request: InboundRequest) -> bool:
    """True for a caller that reads Anthropic's errors: its SDKs say so in a header, and its paths do."""
    return b"anthropic-version" in request.fields or request.segments[:1] == ("messages",)


def render(error: GatewayError, run_id: str | None, *, anthropic: bool = False) -> tuple[int, Headers, bytes]:
    """Give status, headers and body for one error.

    OpenAI's `type` follows what OpenAI itself sends: its 401, 403 and 404 are
    `invalid_request_error` too, an exhausted quota is `insufficient_quota` in both fields, and
    a fault of the server is `server_error`. Apps switch on `code`. One difference: for a rate
    OpenAI names the bucket (`requests`, `tokens`); here it is `rate_limit_error` for each.

    `retry-after` is in whole seconds, rounded up, since an SDK that comes back too early is
    refused again; `retry-after-ms` is exact, and read first by OpenAI's SDKs.
    """
    body = _anthropic_body(error, run_id) if anthropic else _openai_body(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-tollway-error-source", error.source.value.encode()),
    ]
    if error.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if error.should_retry else b"false"))
    if error.retry_after_ms is not None:
        assert error.retry_after_ms >= 0
        headers.append((b"retry-after", b"%d" % -(-error.retry_after_ms // 1_000)))
        headers.append((b"retry-after-ms", b"%d" % error.retry_after_ms))
    return error.status, tuple(headers), body


def render_event(error: GatewayError, stream_end: StreamEnd | None) -> bytes:
    """Give an error as the last event of a stream that has begun, as the API's own streams say it.

    Chat completions: `data: {"error": …}`; responses and messages: a named event (the vendors'
    streaming references).
    """
    if stream_end is StreamEnd.MESSAGE_STOP:
        return b"event: error\ndata: " + _anthropic_body(error, None) + b"\n\n"
    if stream_end is StreamEnd.RESPONSE:
        problem = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return b"event: error\ndata: " + jsonio.encode(problem) + b"\n\n"
    return b"data: " + _openai_body(error) + b"\n\n"


def render_raw(error: GatewayError) -> bytes:
    """Give a whole HTTP/1.1 response, for a request that is refused before the application.

    In OpenAI's envelope: at that point nobody knows yet whom the caller takes us for.
    """
    status, headers, body = render(error, None)
    parts = [b"HTTP/1.1 %d %s\r\n" % (status, _phrase(status))]
    for name, value in headers:
        parts += name, b": ", value, b"\r\n"
    parts += b"connection: close\r\n\r\n", body
    return b"".join(parts)


def _openai_body(error: GatewayError) -> bytes:
    problem = {"message": error.message, "type": _openai_type(error), "param": error.param, "code": error.code}
    return jsonio.encode({"error": problem})


def _openai_type(error: GatewayError) -> str:
    if error.code == "insufficient_quota":
        return "insufficient_quota"
    if error.status == 429:
        return "rate_limit_error"
    return "server_error" if error.status >= 500 else "invalid_request_error"


def _anthropic_body(error: GatewayError, run_id: str | None) -> bytes:
    problem = {"type": error_type(error.status), "message": error.message}
    return jsonio.encode({"type": "error", "error": problem, "request_id": run_id})


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:  # 499 and 529 are in use, and in no register
        return b""
