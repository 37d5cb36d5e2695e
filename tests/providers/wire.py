"""What every simulated provider has in common: refusals, plain answers, streams of events."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from tests.scripted_upstream import Received, Step, answer, stream

SECRET = "sk-of-the-gateway-at-the-provider"
"""The only provider key that is accepted."""


class Refused(Exception):
    """The provider says no."""

    def __init__(self, status: int, kind: str, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.code, self.param = status, kind, message, code, param


@dataclass
class Events:
    """A stream: each event's name (empty: none) and data."""

    events: list[tuple[str, Any]]
    done: bool = False  # `data: [DONE]` follows

    def steps(self, headers: bytes) -> list[Step]:
        """As the scripted upstream sends it, each event in a chunk of its own."""
        written = [
            (f"event: {name}\n" if name else "").encode() + b"data: " + encoded(data) + b"\n\n"
            for name, data in self.events
        ]
        if self.done:
            written.append(b"data: [DONE]\n\n")
        return stream(*written, head=headers)


def encoded(document: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def plain(document: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> list[Step]:
    """A whole answer."""
    return answer(encoded(document), status=b"%d Status" % status, headers=headers)


def body_of(received: Received) -> dict[str, Any]:
    """The body, which must say that it is JSON, and be an object."""
    if (received.header(b"content-type") or b"").split(b";")[0] != b"application/json":
        raise Refused(415, "invalid_request_error", "content-type must be application/json")
    try:
        body = json.loads(received.body)
    except ValueError:
        raise Refused(400, "invalid_request_error", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "invalid_request_error", "the body is no object")
    return body


def bearer_of(received: Received) -> str:
    """The token of the authorization header."""
    return (received.header(b"authorization") or b"").decode().removeprefix("Bearer ")


def size_of(data: str) -> int:
    """How many bytes base64 stands for."""
    try:
        return len(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        raise Refused(400, "invalid_request_error", "invalid base64 data") from None


def unknown_in(document: dict[str, Any], known: frozenset[str]) -> str | None:
    """A member that the API does not have."""
    return next((name for name in document if name not in known), None)
