"""What a request's head may look like.

Pure. RFC 9112, less what two parsers in a row are known to read differently. The
parser (llhttp, strict) already refuses obs-fold, bare LF, control characters in values,
content-length beside transfer-encoding and a repeated content-length; what can be said again
here for little is said again, so that no parser option can open a door.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.core.errors import HeadersTooLarge, MalformedRequest, MethodNotAllowed, TargetTooLong

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Who reads the first one and who reads the last one may be two programs: one of each, or none.
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization"})
# RFC 3986, section 3.2: what a registered name, an address and a port are made of.
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]+")
_LENGTH_DIGITS_MAX: Final = 18  # below 2**63


@dataclass(frozen=True, slots=True)
class ProtocolLimits:
    """What one connection may take of us. Sizes: common proxies' (nginx, Envoy), rounded."""

    head_bytes_max: int = 32 * 1024  # names and values of the headers
    headers_max: int = 100
    target_bytes_max: int = 8 * 1024
    head_s: float = 10.0  # from the first byte, or from the connection's start, to the empty line
    body_first_byte_s: float = 30.0  # from the head's end
    # Afterwards, in each window in which we were reading. Long, because a caller that makes
    # its body while it sends it (a recording, a slow disk) is silent for a while now and then.
    body_bytes_per_s_min: int = 1024
    body_window_s: float = 30.0
    body_buffer_bytes_max: int = 64 * 1024  # unread by the application; above it we stop reading
    # On the wire without one byte of body in it: chunk sizes, their extensions, trailers.
    chunk_framing_bytes_max: int = 16 * 1024
    pipelined_bytes_max: int = 64 * 1024
    write_buffer_bytes_max: int = 32 * 1024  # with the chunk in hand: at most 64 KiB for a stalled caller
    write_stall_s: float = 30.0
    linger_s: float = 5.0  # RFC 9112, section 9.6: read on, so that the answer is not lost in a reset
    linger_bytes_max: int = 64 * 1024 * 1024


def check_sizes(limits: ProtocolLimits, target: bytes, headers: Sequence[tuple[bytes, bytes]], head_bytes: int) -> None:
    """Refuse a head that is too large. `head_bytes` is the size at least of what was parsed.

    Raises:
        TargetTooLong, HeadersTooLarge.
    """
    if len(target) > limits.target_bytes_max:
        raise TargetTooLong(
            f"The path and query are longer than {limits.target_bytes_max} bytes. Move what is long into the body."
        )
    if len(headers) > limits.headers_max:
        raise HeadersTooLarge(f"The request has more than {limits.headers_max} headers. Send fewer.")
    if head_bytes > limits.head_bytes_max:
        raise HeadersTooLarge(f"The headers are larger than {limits.head_bytes_max} bytes. Send less in them.")


def header_bytes(headers: Sequence[tuple[bytes, bytes]]) -> int:
    """The size of the headers on the wire, with their separators."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def check_head(http_version: str, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Refuse a head that two readers could understand differently.

    Gives True where the caller waits for `100 Continue` before it sends the body.

    Raises:
        MalformedRequest, MethodNotAllowed.
    """
    if http_version != "1.1" and http_version != "1.0":
        raise MalformedRequest(f"HTTP/{http_version} is not served here. Use HTTP/1.1.")
    if method not in _METHODS:
        raise MethodNotAllowed(f"The method {method} is not served here. The API's reference names the endpoint's own.")
    if not target.startswith(b"/") or b"#" in target:
        raise MalformedRequest("The request's target must be a path. Send `POST /v1/…`, not a whole URL.")
    named = dict(headers)
    if len(named) != len(headers):
        _check_repeated(headers)
    _check_host(named.get(b"host"))
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise MalformedRequest("`transfer-encoding` may only be `chunked` here.")
        if b"content-length" in named or http_version == "1.0":
            raise MalformedRequest(
                "`transfer-encoding` may not stand beside `content-length`, nor in HTTP/1.0. Send one of them."
            )
    # Leading zeros are no fault of the grammar's; thousands of them are one of Python's `int`.
    if len(named.get(b"content-length", b"")) > _LENGTH_DIGITS_MAX:
        raise MalformedRequest(f"`content-length` has more than {_LENGTH_DIGITS_MAX} digits. Send the plain number.")
    if b"upgrade" in named:
        raise MalformedRequest(
            "`upgrade` is not served here. Set the client to HTTP/1.1 (Java: `HttpClient.Version.HTTP_1_1`)."
        )
    if b"_" in b" ".join(named):
        name = next(name for name in named if b"_" in name).decode("latin-1")
        raise MalformedRequest(
            f"The header `{name}` has an underscore, which some servers read as a hyphen. Rename it."
        )
    return http_version == "1.1" and named.get(b"expect", b"").lower() == b"100-continue"


def _check_repeated(headers: Sequence[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in _ONCE:
            if name in seen:
                raise MalformedRequest(f"The header `{name.decode()}` is given more than once. Send one.")
            seen.add(name)


def _check_host(host: bytes | None) -> None:
    if host is None:
        raise MalformedRequest(
            "The header `host` is missing. HTTP/1.1 demands it: look at the client or proxy in between."
        )
    if _HOST.fullmatch(host) is None:
        raise MalformedRequest("The header `host` must be a host name with an optional port, and nothing else.")
