"""Reads the requests of one connection, one after the other: bytes in, a head and pieces of body out.

httptools parses. A head that is the last one's but for its length is told again by its bytes
(`edge.head`), and then the parser sees neither it nor its body, which ends with its length: so
a connection whose head is known has none, until another head comes.
"""

from typing import Final, Protocol

import httptools

from proxy.core.errors import GatewayError, MalformedRequest
from proxy.edge.framing import ProtocolLimits, check_head, check_sizes, header_bytes
from proxy.edge.head import Head, KnownHeads

_REQUEST_LINE_BYTES_MAX: Final = 64  # a request line without its target: method, version, spaces


class Owner(Protocol):
    """Who is told what was read."""

    def request_begun(self, head: Head, headers: list[tuple[bytes, bytes]] | None, announced_bytes: int | None) -> None:
        """A head is here, with its headers unless it was told again; `announced_bytes` is its content-length, None
        where it has none."""
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
        "_first_bytes",
        "_has_ended",
        "_has_head",
        "_head_bytes",
        "_headers",
        "_known_head",
        "_known_heads",
        "_limits",
        "_owner",
        "_parser",
        "_peer",
        "_refusal",
        "_target",
        "begun",
    )

    def __init__(self, owner: Owner, limits: ProtocolLimits, known_heads: KnownHeads, peer: str | None) -> None:
        """`peer` is the caller's address, None on a Unix socket."""
        self.begun = False  # a first byte of the request is here
        self._owner = owner
        self._limits = limits
        self._known_heads = known_heads
        self._peer = peer
        self._parser: httptools.HttpRequestParser | None = None  # made when it is needed
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._has_head = self._has_ended = False  # what the parser has read of the request
        self._first_bytes: bytes | None = None  # what it reads just now, if the head begins with that
        self._known_head: Head | None = None  # the last one, if it can be told again
        self._body_left = 0  # of a request whose head was told again
        self._refusal: GatewayError | None = None

    def begin_next(self) -> None:
        """The request is answered; what comes now is another one."""
        self.begun = self._has_head = self._has_ended = False
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
        self._first_bytes = data if is_first else None
        try:
            self._parse(data)
        finally:
            self._first_bytes = None
        if self._has_head:
            if self._has_ended and self._known_head is not None:
                self._parser = None  # not needed for as long as this head comes again
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
        self._owner.request_begun(head, None, self._body_left)
        if body_at < len(data):
            self.feed_body(data[body_at:])
        return True

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
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
        self._has_head = True
        self._known_head = None
        if self._first_bytes is not None and head.remember(self._first_bytes):
            head = self._known_head = self._known_heads.same_as(head, self._peer)
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
        self._has_ended = True
        self._owner.request_ended()
