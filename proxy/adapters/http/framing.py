"""HTTP/1.1 framing of the upstream hop: one request head out, one response in (RFC 9112).

Pure: bytes in, values and refusals out. Invariant: where two readers could disagree on where
an answer ends, it is refused, or its connection is not used again.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import httptools
import httpx

HEAD_BYTES_MAX: Final = 65_536
HEADERS_MAX: Final = 128
_INTERIM_RESPONSES_MAX: Final = 16
# RFC 9110, section 5.6.2: what a method or a field's name may be made of.
_TOKEN_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_NAMES_BYTES: Final = _TOKEN_BYTES + b"\n"
_EMPTY_BODY_SAID: Final = frozenset({"POST", "PUT", "PATCH"})
_LENGTH_DIGITS_MAX: Final = 18  # below 2**63
_VERSIONS: Final = {"1.1": b"HTTP/1.1", "1.0": b"HTTP/1.0"}
_H: Final = ord("H")
_LINE_ENDS: Final = b"\r\n"
_ESCAPES: Final = b"\r\n\0"


class ResponseHead(NamedTuple):
    """The status line and header fields of a final response, names in lower case."""

    status: int
    reason: bytes
    http_version: bytes
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]  # the first value of each


class Target(NamedTuple):
    """A URL taken apart, to be kept: `httpx.URL` puts its parts together at every look."""

    origin: tuple[bytes, bytes, int | None]  # scheme, host and, unless it is the scheme's own, port
    netloc: bytes
    path: bytes  # with the query

    @staticmethod
    def of(url: httpx.URL) -> "Target":
        """Take a URL apart."""
        return Target((url.raw_scheme, url.raw_host, url.port), url.netloc, url.raw_path)

    def __repr__(self) -> str:  # the path of a webhook is a secret
        return f"Target({self.netloc!r})"


class Ask(NamedTuple):
    """What a request's head is made of: `httpx.Request` without what it costs to make one."""

    method: str
    target: Target
    headers: list[tuple[bytes, bytes]]

    def __repr__(self) -> str:  # the headers hold a provider key
        return f"Ask({self.method!r}, {self.target!r})"


class FramedHead(NamedTuple):
    """A request's head, checked and serialised, less what its body decides. It may be used again."""

    method: str
    target: Target
    lines: bytes  # each with its line end
    told_length: bytes | None  # of a content-length among the headers that were given
    coding: bytes | None  # likewise, a transfer-encoding

    def __repr__(self) -> str:  # the lines hold a provider key
        return f"FramedHead({self.method!r}, {self.target!r})"

    def before(self, content: bytes | None) -> tuple[bytes, int | None]:
        """The head of a request with this body, and the body's length in bytes. Without `content`
        it is streamed; it goes in chunks where the length is None.

        Raises:
            httpx.LocalProtocolError: the length was told wrongly or twice.
        """
        if content and self.told_length is None and self.coding is None:
            return b"%bContent-Length: %d\r\n\r\n" % (self.lines, len(content)), len(content)
        length = _body_length(self.method, content, self.told_length, self.coding)
        if self.told_length is not None or self.coding is not None:
            return self.lines + b"\r\n", length
        if length is None:
            return self.lines + b"Transfer-Encoding: chunked\r\n\r\n", None
        if self.method in _EMPTY_BODY_SAID:
            return self.lines + b"Content-Length: 0\r\n\r\n", 0
        return self.lines + b"\r\n", length


def frame_head(ask: Ask) -> FramedHead:
    """Check and serialise what does not depend on the body.

    Raises:
        httpx.LocalProtocolError: a name, value or target that would break out of its place, or a
            framing field that stands twice.
    """
    raw = ask.headers
    names = b"\n".join([pair[0] for pair in raw])
    lower_names = names.lower()
    told_length = _only_value(b"content-length", lower_names, raw)
    coding = _only_value(b"transfer-encoding", lower_names, raw)
    target = ask.target.path
    lines = [b"%b %b HTTP/1.1" % (ask.method.encode("ascii", "replace"), target)]
    if _only_value(b"host", lower_names, raw) is None:
        lines.append(b"Host: " + ask.target.netloc)
    lines += [b": ".join(pair) for pair in raw]
    head = b"\r\n".join(lines) + b"\r\n"
    _refuse_escapes(head, len(lines), names, len(raw), target)
    if ask.method not in _METHODS and (not ask.method or _not_token(ask.method.encode("ascii", "replace"))):
        raise httpx.LocalProtocolError("the method is not a token")
    return FramedHead(ask.method, ask.target, head, told_length, coding)


def frame_chunk(piece: bytes) -> bytes:
    """One chunk of a streamed body. A piece must not be empty: that would end the body."""
    assert piece
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST_CHUNK: Final = b"0\r\n\r\n"


def _only_value(lower_name: bytes, lower_names: bytes, raw: list[tuple[bytes, bytes]]) -> bytes | None:
    # Most names are not even a part of any that was given, and one search says so.
    if lower_name not in lower_names:
        return None
    values = [value for name, value in raw if name.lower() == lower_name]
    if len(values) > 1:
        raise httpx.LocalProtocolError(f"the request has two {lower_name.decode()} fields")
    return values[0] if values else None


def _body_length(method: str, content: bytes | None, told_length: bytes | None, coding: bytes | None) -> int | None:
    if told_length is None:
        if coding is None:
            return None if content is None else len(content)
        if content is not None or coding.lower() != b"chunked":
            raise httpx.LocalProtocolError("only a streamed body has a transfer-encoding, and only chunked")
        return None
    if coding is not None:
        raise httpx.LocalProtocolError("the request has both content-length and transfer-encoding")
    if not told_length.isdigit() or len(told_length) > _LENGTH_DIGITS_MAX:
        raise httpx.LocalProtocolError("the request's content-length is not a number")
    length = int(told_length)
    if content is not None and length != len(content):
        raise httpx.LocalProtocolError(f"the {method} request says {length} bytes of body, and has {len(content)}")
    return length


def _refuse_escapes(head: bytes, lines: int, names: bytes, names_count: int, target: bytes) -> None:
    # One pass: each line has its CR and LF, and anything more has come in with a value or a name.
    if len(head) - len(head.translate(None, _ESCAPES)) != 2 * lines:
        raise httpx.LocalProtocolError("a header or the target holds CR, LF or NUL")
    # `names` are parted by line feeds; around one that is empty, two stand together or one at an end.
    parted = b"\n%b\n" % names
    if names_count and (
        names.translate(None, _NAMES_BYTES) or b"\n\n" in parted or parted.count(b"\n") > names_count + 1
    ):
        raise httpx.LocalProtocolError("a header's name is not a token")
    if b" " in target or not target:
        raise httpx.LocalProtocolError("the target is empty or holds a space")


def _not_token(text: bytes) -> bool:
    return bool(text.translate(None, _TOKEN_BYTES))


class ResponseReader:
    """Reads the responses of one connection, one after the other.

    For each: `expect`, then `feed` until `is_complete`, or `finish` at the end of the stream.
    The owner takes `head` when it is there, and empties `pieces` after every feed.
    """

    __slots__ = (
        "_barren_bytes",
        "_bodiless",
        "_headers",
        "_interims",
        "_is_chunked",
        "_parser",
        "_reason",
        "_until_end",
        "head",
        "is_complete",
        "is_reusable",
        "on_body",
        "pieces",
    )

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        # What httptools calls with the bytes of the body, without their framing.
        self.on_body: Callable[[bytes], None] = self.pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._bodiless = self._is_chunked = self._until_end = False
        self.expect(bodiless=False)

    def expect(self, *, bodiless: bool) -> None:
        """Prepare for the next response; `bodiless` if it answers HEAD."""
        assert not self.pieces
        if bodiless or self._bodiless:
            # After HEAD the parser still waits for a body that will not come.
            self._bodiless = bodiless
            self.on_body = _refuse_body if bodiless else self.pieces.append
            self._parser = httptools.HttpResponseParser(self)
        self.head: ResponseHead | None = None
        self.is_complete = False
        self.is_reusable = False  # holds once complete: the next request may use the connection
        self._interims = 0
        self._barren_bytes = -1  # nothing came yet
        self._headers.clear()
        self._reason = b""

    def feed(self, received: memoryview) -> None:
        """Take what was received, which is read at once and not kept.

        Raises:
            httpx.RemoteProtocolError: what came is no HTTP/1.1 response. What preceded it is
                in `head` and `pieces`.
        """
        if self._barren_bytes < 0:
            self._barren_bytes = 0
            # llhttp would skip empty lines, and read RTSP and ICE as well.
            if received[0] != _H:
                raise httpx.RemoteProtocolError("the answer does not begin with an HTTP status line")
        self._barren_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except httptools.HttpParserError as error:
            if self.is_complete:  # whatever follows is not part of this answer
                self.is_reusable = False
                return
            if isinstance(error.__context__, httpx.RemoteProtocolError):
                raise error.__context__ from None
            raise httpx.RemoteProtocolError(f"the answer is malformed: {error}") from None
        if self.is_complete:
            # A second message would have been noticed; stray line ends after the first are not.
            if self._bodiless or received[-1] in _LINE_ENDS:
                self.is_reusable = self.is_reusable and self._ends_cleanly(received)
        elif self.pieces:
            self._barren_bytes = 0
        elif self._barren_bytes > HEAD_BYTES_MAX:
            # Heads, trailers and chunk extensions, which are held or waded through, not given out.
            raise httpx.RemoteProtocolError(f"more than {HEAD_BYTES_MAX} bytes of head or trailers")

    def finish(self) -> bool:
        """Take note of the stream's end; True if that is where the response properly ends."""
        if self.head is not None and self._until_end and not self.is_complete:
            self.is_complete = True
            self.is_reusable = False
        return self.is_complete

    def _ends_cleanly(self, received: memoryview) -> bool:
        if self._bodiless:
            head_end = bytes(received).find(b"\r\n\r\n")
            return head_end + 4 == len(received)
        if self.pieces and not self._is_chunked:
            piece = self.pieces[-1]
            return received[-len(piece) :] == piece
        tail = bytes(received[-6:])
        return tail.endswith(b"\r\n\r\n") and not tail.startswith(b"\r\n\r\n\r")

    # What httptools calls. An exception here stops the parser and comes out of feed_data.

    def on_message_begin(self) -> None:
        """A status line begins; after an interim response, the next one."""
        if self.is_complete:
            raise httpx.RemoteProtocolError("more bytes follow the answer")

    def on_status(self, reason: bytes) -> None:
        """The reason phrase, or a part of it."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head, or of the trailers after a chunked body (which nobody looks at)."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The empty line after the head."""
        if self.head is not None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._skip_interim(status)
            return
        headers = self._headers
        if len(headers) > HEADERS_MAX or self._barren_bytes > HEAD_BYTES_MAX:
            self._measure_head()
        fields = dict(reversed(headers))
        coding = fields.get(b"transfer-encoding")
        is_chunked = coding is not None
        if is_chunked and (coding != b"chunked" or len(fields) != len(headers)) and not _is_chunked_alone(headers):
            raise httpx.RemoteProtocolError("the answer's transfer-encoding is not exactly chunked")
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise httpx.RemoteProtocolError(f"the answer is in HTTP/{version}")
            if is_chunked:
                raise httpx.RemoteProtocolError("an answer in HTTP/1.0 has no transfer-encoding")
        self.head = ResponseHead(status, self._reason, _VERSIONS[version], headers, fields)
        self._headers = []  # for trailers, which are no part of the head
        self.is_reusable = parser.should_keep_alive()
        self.is_complete = self._bodiless
        self._is_chunked = is_chunked
        # llhttp itself refuses a second content-length, or a transfer-encoding beside it.
        self._until_end = not (is_chunked or b"content-length" in fields or status == 204 or status == 304)

    def on_message_complete(self) -> None:
        """The body's last byte, by its framing."""
        if self.head is not None:  # else it was an interim response
            self.is_complete = True

    def _skip_interim(self, status: int) -> None:
        if status < 100 or status == 101:
            raise httpx.RemoteProtocolError(f"the answer's status {status} was not asked for")
        self._interims += 1
        if self._interims > _INTERIM_RESPONSES_MAX:
            raise httpx.RemoteProtocolError(f"more than {_INTERIM_RESPONSES_MAX} interim responses")
        if len(self._headers) > HEADERS_MAX:
            self._measure_head()
        self._headers = []
        self._reason = b""

    def _measure_head(self) -> None:
        # What was fed may hold the start of a body as well: only the fields themselves count.
        head_bytes = sum([len(name) + len(value) for name, value in self._headers])
        if head_bytes > HEAD_BYTES_MAX or len(self._headers) > HEADERS_MAX:
            raise httpx.RemoteProtocolError(f"the head is larger than {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} fields")


def _is_chunked_alone(headers: list[tuple[bytes, bytes]]) -> bool:
    """True where there is one transfer-encoding, and it is `chunked`."""
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    return codings == [b"chunked"]


def _refuse_body(_: bytes) -> None:
    raise httpx.RemoteProtocolError("more bytes follow the answer")
