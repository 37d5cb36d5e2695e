"""How an answer's head is written.

Pure. The framing is decided here, whatever the application says. Answers of one kind have the same names of headers
in the same order, so all that depends on the names is worked out once for them.
"""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

# Of this hop alone, and ours to write.
_OF_THE_HOP: Final = frozenset({b"connection", b"transfer-encoding", b"keep-alive"})
_FRAMING_NAMES: Final = _OF_THE_HOP | {b"content-length"}
_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # lower case, as ASGI demands
_STATUS_LINES: Final = {int(s): b"HTTP/1.1 %d %s" % (s, s.phrase.encode()) for s in HTTPStatus if s >= 200}
_SHAPES_MAX: Final = 256


class _Shape(NamedTuple):
    """What heads with the same names have in common."""

    template: bytes  # with a `%b` for each value
    lines: int  # behind the first
    length_at: int | None  # which of the values is the content-length
    closes: bool


def encode_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, bodiless: bool, chunked_allowed: bool, close: bool
) -> tuple[bytes, int | None, bool]:
    """Write an answer's head. Gives its bytes, the content-length if any, and whether the connection closes.

    The framing is decided here, whatever the application says: a content-length it gave, else
    chunks, else (HTTP/1.0) the connection's end.

    Raises:
        RuntimeError: a header that would end the line early, or is no header.
    """
    lines = headers if isinstance(headers, list) else list(headers)
    if lines:
        names, values = zip(*lines, strict=True)
        shape = _shape(status, names, bodiless, chunked_allowed, close)
        if shape is not None:
            length = None if shape.length_at is None else values[shape.length_at]
            if length is None or length.isdigit():
                block = shape.template % values
                _refuse_line_breaks(block, shape.lines)
                return block, None if length is None else int(length), shape.closes
    return _encode(status, lines, bodiless=bodiless, chunked_allowed=chunked_allowed, close=close)


@lru_cache(maxsize=_SHAPES_MAX)
def _shape(status: int, names: tuple[bytes, ...], bodiless: bool, chunked_allowed: bool, close: bool) -> _Shape | None:
    """None: some of what has these names is to be left out or said otherwise, or has a name that no header can have."""
    lengths = names.count(b"content-length")
    if lengths > 1 or (lengths and status == 204) or not _OF_THE_HOP.isdisjoint(names):
        return None
    if b"" in names or b"".join(names).translate(None, _TOKEN_BYTES):
        return None
    lines = [name + b": %b" for name in (name.replace(b"%", b"%%") for name in names)]
    if not lengths and not bodiless:
        if chunked_allowed:
            lines.append(b"transfer-encoding: chunked")
        else:
            close = True
    if close:
        lines.append(b"connection: close")
    template = b"\r\n".join([_status_line(status), *lines, b"\r\n"])
    return _Shape(template, len(lines), names.index(b"content-length") if lengths else None, close)


def _encode(
    status: int, lines: list[tuple[bytes, bytes]], *, bodiless: bool, chunked_allowed: bool, close: bool
) -> tuple[bytes, int | None, bool]:
    """Likewise, whatever the headers are."""
    lines = list(lines)
    named = dict(lines)
    length: int | None = None
    stated = named.get(b"content-length")
    if not _FRAMING_NAMES.isdisjoint(named):
        if len(named) == len(lines) and stated is not None and stated.isdigit() and _OF_THE_HOP.isdisjoint(named):
            length = int(stated)  # as most answers have it, and it stays where it stands
        else:
            lines, length, close = _without_framing(lines, close)
            if length is not None:
                lines.append((b"content-length", b"%d" % length))
        if status == 204 and length is not None:  # RFC 9110, section 8.6: none beside 204
            lines = [pair for pair in lines if pair[0] != b"content-length"]
    if length is None and not bodiless:
        if chunked_allowed:
            lines.append((b"transfer-encoding", b"chunked"))
        else:
            close = True
    if close:
        lines.append((b"connection", b"close"))
    block = b"\r\n".join([_status_line(status), *map(b": ".join, lines), b"\r\n"])
    # Once for all headers instead of once for each: names of letters, and no CR or LF but ours.
    if b"" in named or b"".join(named).translate(None, _TOKEN_BYTES):
        raise RuntimeError("a header of the answer has a name that no header can have")
    _refuse_line_breaks(block, len(lines))
    return block, length, close


def _refuse_line_breaks(block: bytes, lines: int) -> None:
    if len(block) - len(block.translate(None, b"\r\n\0")) != 2 * lines + 4:
        raise RuntimeError("a header of the answer holds a line break or a NUL")


def _without_framing(
    headers: Iterable[tuple[bytes, bytes]], close: bool
) -> tuple[list[tuple[bytes, bytes]], int | None, bool]:
    """The headers that are not of this hop, and what those that are say: the length, and whether it closes."""
    kept = []
    length: int | None = None
    for name, value in headers:
        if name not in _FRAMING_NAMES:
            kept.append((name, value))
        elif name == b"content-length":
            if not value.isdigit() or (length is not None and length != int(value)):
                raise RuntimeError("the answer's content-length is not one number")
            length = int(value)
        elif name == b"connection":
            close = close or b"close" in value.lower()
    return kept, length, close


def _status_line(status: int) -> bytes:
    line = _STATUS_LINES.get(status)
    if line is None:
        if not 200 <= status <= 999:
            raise RuntimeError(f"{status!r} is not the status of an answer")
        line = b"HTTP/1.1 %d " % status
    return line
