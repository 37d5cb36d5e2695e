"""Errors as the SDKs expect them."""

import json

import pytest

from proxy.core import errors
from proxy.core.errors import GatewayError, Source
from proxy.edge.problems import render, render_raw


class Throttled(GatewayError):
    status, code, source = 429, "rate_limit_exceeded", Source.POLICY


class OutOfMoney(GatewayError):
    status, code, source = 429, "insufficient_quota", Source.POLICY
    should_retry = False


def test_openai_envelope():
    status, headers, body = render(errors.ModelNotFound("No such model.", param="model"), "run_1")
    assert status == 404
    assert json.loads(body) == {
        "error": {
            "message": "No such model.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }
    assert dict(headers) == {
        b"content-type": b"application/json",
        b"content-length": str(len(body)).encode(),
        b"x-tollway-error-source": b"caller",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidJson("x"), "invalid_request_error"),
        (errors.InvalidApiKey("x"), "invalid_request_error"),
        (errors.TenantNotAllowed("x"), "invalid_request_error"),
        (Throttled("x"), "rate_limit_error"),
        (OutOfMoney("x"), "insufficient_quota"),
        (errors.InternalError("x"), "server_error"),
        (errors.UpstreamUnreachable("x"), "server_error"),
    ],
)
def test_openai_types(error, kind):
    assert json.loads(render(error, None)[2])["error"]["type"] == kind


def test_anthropic_envelope():
    _, _, body = render(errors.InvalidApiKey("Who are you?"), "run_1", anthropic=True)
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "Who are you?"},
        "request_id": "run_1",
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidJson("x"), "invalid_request_error"),
        (errors.MethodNotAllowed("x"), "invalid_request_error"),
        (errors.TenantNotAllowed("x"), "permission_error"),
        (errors.ModelNotFound("x"), "not_found_error"),
        (errors.RequestTooLarge("x"), "request_too_large"),
        (Throttled("x"), "rate_limit_error"),
        (errors.InternalError("x"), "api_error"),
        (errors.StateUnavailable("x"), "api_error"),
        (errors.UpstreamTimedOut("x"), "timeout_error"),
    ],
)
def test_anthropic_types(error, kind):
    assert json.loads(render(error, None, anthropic=True)[2])["error"]["type"] == kind


@pytest.mark.parametrize(
    ("retry_after_ms", "seconds"),
    [(1, b"1"), (1_000, b"1"), (1_001, b"2"), (0, b"0")],  # up: too early is refused again
)
def test_retry_after(retry_after_ms, seconds):
    headers = dict(render(Throttled("x", retry_after_ms=retry_after_ms), None)[1])
    assert headers[b"retry-after"] == seconds
    assert headers[b"retry-after-ms"] == str(retry_after_ms).encode()


def test_should_retry_is_said_only_where_the_class_says_it():
    assert dict(render(OutOfMoney("x"), None)[1])[b"x-should-retry"] == b"false"
    assert b"x-should-retry" not in dict(render(Throttled("x"), None)[1])


def test_a_message_of_any_text_cannot_leave_the_body():
    _, headers, body = render(errors.InvalidPath('a "quoted"\r\nset-cookie: a=b\r\n\r\n'), None)
    assert b"\r\n" not in body
    assert not any(b"\r" in value or b"\n" in value for _, value in headers)


@pytest.mark.parametrize(
    ("error", "status_line"),
    [
        (errors.HeadersTooLarge("x"), b"HTTP/1.1 431 Request Header Fields Too Large"),
        (errors.CallerGone("x"), b"HTTP/1.1 499 "),  # in no register
    ],
)
def test_raw_response(error, status_line):
    head, _, body = render_raw(error).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == status_line
    assert b"connection: close" in lines
    assert b"content-length: %d" % len(body) in lines
    assert json.loads(body)["error"]["code"] == error.code
