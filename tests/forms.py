"""Forms as clients write them."""

from collections.abc import Iterable

Part = tuple[bytes, bytes] | tuple[bytes, bytes, bytes]
"""A field's name and value, or a file's name, file name and content."""


def form(parts: Iterable[Part], boundary: bytes = b"x") -> bytes:
    """A `multipart/form-data` body."""
    pieces: list[bytes] = []
    for name, *rest in parts:
        head = b'--%b\r\nContent-Disposition: form-data; name="%b"' % (boundary, name)
        if len(rest) > 1:
            head += b'; filename="%b"\r\nContent-Type: application/octet-stream' % rest[0]
        pieces += [head, b"\r\n\r\n", rest[-1], b"\r\n"]
    return b"".join(pieces) + b"--%b--\r\n" % boundary


def form_headers(boundary: bytes = b"x") -> list[tuple[bytes, bytes]]:
    """What says that a body is one."""
    return [(b"content-type", b"multipart/form-data; boundary=" + boundary)]
