"""Content codings of request bodies: read under a bound, so that a bomb stays a bomb.

Pure.
"""

import zlib
from typing import Final

from proxy.core.errors import RequestTooLarge, UnsupportedEncoding

# zlib's window bits: 16 more reads gzip's header (RFC 1952); 15 zlib's own (RFC 1950),
# which is what HTTP calls deflate (RFC 9110, section 8.4.1.2).
_WINDOW_BITS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}


def decompress(body: bytes, coding: bytes, bytes_max: int) -> bytes:
    """The body without its coding.

    Raises:
        UnsupportedEncoding: a coding other than gzip or deflate, or bytes that are not it.
        RequestTooLarge: more than `bytes_max` once decompressed.
    """
    window_bits = _WINDOW_BITS.get(coding.strip().lower())
    if window_bits is None:
        raise UnsupportedEncoding(
            f"The content-encoding `{coding.decode('latin-1')[:40]}` cannot be read. Send gzip, deflate or none."
        )
    decoder = zlib.decompressobj(window_bits)
    try:
        plain = decoder.decompress(body, bytes_max + 1)
    except zlib.error:
        raise UnsupportedEncoding("The body is not what its content-encoding header says.") from None
    if len(plain) > bytes_max:
        raise RequestTooLarge(f"The body is larger than {bytes_max} bytes once decompressed.")
    if not decoder.eof or decoder.unused_data:
        raise UnsupportedEncoding("The compressed body is cut off, or has bytes after its end.")
    return plain
