"""A request's head once it is read and checked, and how the same one is told again.

Pure. SDKs send one head with call after call on a connection, but for the length of the body.
Told again by its bytes, it costs neither a parse nor what was worked out from it before.
Invariant: only a head that the parser and `check_head` passed is remembered, and nothing of it
but the digits of its content-length may differ.
"""

import re
from typing import Any, Final
from weakref import WeakValueDictionary

from proxy.core.types import InboundRequest

_REMEMBERED_BYTES_MAX: Final = 4_096  # a connection at rest keeps it
_LENGTH_DIGITS_MAX: Final = 18  # below 2**63
_ZERO: Final = ord("0")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([1-9][0-9]*)\r\n", re.IGNORECASE)


class Head:
    """One head, less the length of the body."""

    __slots__ = (
        "__weakref__",
        "_length_index",
        "after",
        "awaits_continue",
        "before",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "request",
        "scope",
        "target",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        http_version: str,
        headers: list[tuple[bytes, bytes]],
        *,
        keep_alive: bool,
        awaits_continue: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.http_version = http_version
        self.headers = tuple(headers)  # the application may do to its list as it likes
        self.keep_alive = keep_alive
        self.awaits_continue = awaits_continue  # the caller holds the body back for `100 Continue`
        # Made of it when it came first, and kept here for the next time:
        self.scope: dict[str, Any] = {}  # ASGI's, less what one connection or one request alone has
        self.request: InboundRequest | None = None  # the application's
        self.before = b""  # its bytes up to the digits of the length; empty: not remembered
        self.after = b""  # and from behind them to the empty line

    def remember(self, data: bytes) -> bool:
        """Remember the head that `data` begins with, to tell it again. False where it cannot be."""
        end = data.find(b"\r\n\r\n", 0, _REMEMBERED_BYTES_MAX) + 2
        length = _LENGTH.search(data, 0, end)
        if length is None or self.awaits_continue or self.http_version != "1.1":
            return False
        names = [name for name, _ in self.headers]
        self.before, self.after = data[: length.start(1)], data[length.end(1) : end + 2]
        self._length_index = names.index(b"content-length")
        return True

    def told_again(self, data: bytes) -> tuple[int, int] | None:
        """The length of the body, and where in `data` it begins, if `data` begins with this head."""
        before, after = self.before, self.after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _LENGTH_DIGITS_MAX + 1)
        digits = data[start:end]
        if not digits.isdigit() or digits[0] == _ZERO or not data.startswith(after, end):
            return None
        return int(digits), end + len(after)

    def with_length(self, body_bytes: int) -> list[tuple[bytes, bytes]]:
        """The headers of a head that was told again."""
        headers = list(self.headers)
        headers[self._length_index] = (b"content-length", b"%d" % body_bytes)
        return headers


class KnownHeads:
    """The remembered heads of all connections of a process, so that equal ones are one: ten thousand connections of
    one application send the same. It keeps none alive, so nothing is remembered for longer than its connections."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: WeakValueDictionary[tuple[str | None, bytes, bytes], Head] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._known)

    def same_as(self, head: Head, peer: str | None) -> Head:
        """The one that is known with these bytes, of a caller at this address, or else this one. Pure but for that."""
        return self._known.setdefault((peer, head.before, head.after), head)
