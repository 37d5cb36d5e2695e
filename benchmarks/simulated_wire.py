"""A simulated answer as it goes over the wire: HTTP/1.1, in chunks where its script says so (RFC 9112)."""

from http import HTTPStatus
from typing import Final

from proxy.simulated.steps import Script, Step

_LAST_CHUNK: Final = b"0\r\n\r\n"


def head_of(answer: Script) -> bytes:
    """The status line and the headers."""
    lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}".encode()]
    lines += [name + b": " + value for name, value in answer.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def framed(step: Step, answer: Script) -> bytes:
    """A step's chunk as it goes over the wire."""
    return b"%x\r\n%b\r\n" % (len(step.chunk), step.chunk) if answer.is_chunked else step.chunk


def end_of(answer: Script) -> bytes:
    """What follows the last chunk."""
    return _LAST_CHUNK if answer.is_chunked else b""


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 529 is in no registry
        return "Overloaded"
