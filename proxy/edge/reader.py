"""Reads the requests of one connection, one after the other: bytes in, a head and pieces of body out.

httptools parses. A head that is the last one's but for its length is told again by its bytes
(`edge.head`), and then the parser sees neither it nor its body, which ends with its length.
"""

from typing import Final, Protocol

import httptools

from proxy.core.errors import GatewayError, MalformedRequest
from proxy.edge.framing import ProtocolLimits, check_head, check_sizes, header_bytes
from proxy.edge.head import Head

_REQUEST_LINE_BYTES_MAX: Final = 64  # a request line without its target: method, version, spaces


class Owner(Protocol):
    """Who is told what was read."""

    def request_begun(self, head: Head, headers: list[tuple[bytes, bytes]], announced_bytes: int | None) -> None:
        """A head is here; `announced_bytes` is its content-length, None where it has none."""
        ...

    def body_came(self, body: bytes) -> None:
        """A piece of the body is here."""
        ...

    def request_ended(self) -> None:
        """The body's last byte is here."""
        ...


class _Pipelined(Exception):
    """Stops the parser at a second request."""


class RequestReader:
    """One request at a time: `feed` until its owner heard of the end, `begin_next` once it is answered."""

    __slots__ = (
        "_body_left",
        "_head_bytes",
        "_headers",
        "_known_head",
        "_limits",
        "_new_head",
        "_owner",
        "_parser",
        "_refusal",
        "_target",
        "begun",
    )

    def __init__(self, owner: Owner, limits: ProtocolLimits) -> None:
        self.begun = False  # a first byte of the request is here
        self._owner = owner
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._new_head: Head | None = None  # what the parser has just read
        self._known_head: Head | None = None  # the last one, if it can be told again
        self._body_left = 0  # of a request whose head was told again
        self._refusal: GatewayError | None = None

    def begin_next(self) -> None:
        """The request is answered; what comes now is another one."""
        self.begun = False
        self._head_bytes = 0

    def feed_head(self, data: bytes) -> bool:
        """Take bytes, of which the first belong to a head. True where they are the head's first ones.

        Raises:
            GatewayError: not a request that is served here.
        """
        known, is_first = self._known_head, self._head_bytes == 0
        if is_first and known is not None and self._tell_again(known, data):
            return True
        self._head_bytes += len(data)
        self._parse(data)
        head = self._new_head
        if head is not None:
            self._new_head = None
            self._known_head = head if is_first and head.remember(data) else None
        elif self.begun:
            seen_bytes = self._head_bytes - len(self._target) - _REQUEST_LINE_BYTES_MAX
            check_sizes(self._limits, self._target, self._headers, seen_bytes)
        else:  # an empty line between requests
            self._head_bytes = 0
            return False
        return is_first

    def feed_body(self, data: bytes) -> None:
        """Take bytes of a body.

        Raises:
            GatewayError: not a body that is served here, or a second request behind it.
        """
        if not self._body_left:
            self._parse(data)
            return
        left = self._body_left - len(data)
        self._body_left = max(left, 0)
        self._owner.body_came(data if left >= 0 else data[:left])
        if left <= 0:
            self._owner.request_ended()
        # Line ends behind a body are an old client's habit; a second request is not served before the first.
        if left < 0 and data[left:].strip(b"\r\n"):
            raise MalformedRequest("A second request came before the first one's answer.")

    def close(self) -> None:
        """Nothing more will come. Takes apart what the parser and this hold of each other."""
        self._parser = None

    def _tell_again(self, head: Head, data: bytes) -> bool:
        told = head.told_again(data)
        if told is None:
            return False
        self.begun = True
        self._body_left, body_at = told
        self._owner.request_begun(head, head.with_length(self._body_left), self._body_left)
        if body_at < len(data):
            self.feed_body(data[body_at:])
        return True

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        assert parser is not None, "nothing is fed after the end"
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise self._refusal or MalformedRequest(f"The request is not valid HTTP/1.1: {error}.") from None

    # What httptools calls. An exception here stops the parser and comes out of feed_data.

    def on_message_begin(self) -> None:
        if self.begun:
            raise _Pipelined
        self.begun = True
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, target, headers = self._parser, self._target, self._headers
        assert parser is not None
        method = parser.get_method().decode("ascii")
        version = parser.get_http_version()
        try:
            large = self._head_bytes > self._limits.head_bytes_max
            check_sizes(self._limits, target, headers, header_bytes(headers) if large else 0)
            awaits_continue = check_head(version, method, target, headers)
        except GatewayError as refusal:
            self._refusal = refusal
            raise
        keep_alive = version != "1.0" and parser.should_keep_alive()
        head = Head(method, target, version, headers, keep_alive=keep_alive, awaits_continue=awaits_continue)
        self._new_head = head
        # The application's list must not grow under its hands: trailers go into one of their own.
        self._headers = []
        length = dict(headers).get(b"content-length")
        self._owner.request_begun(head, headers, None if length is None else int(length))

    def on_body(self, body: bytes) -> None:
        self._owner.body_came(body)

    def on_message_complete(self) -> None:
        if self._headers:
            self._refusal = MalformedRequest("Trailers after the body are not served here. Send them as headers.")
            raise self._refusal
        self._owner.request_ended()
