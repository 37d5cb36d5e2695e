"""Reads a copy of a compressed answer as it arrives, under bounds that no bomb passes.

Pure. RFC 1952 (gzip), RFC 1950 and 1951 (what HTTP calls deflate is the former, and some
servers send the latter).
"""

import zlib
from collections.abc import Iterator
from typing import Final

_GZIP_WINDOW_BITS: Final = 31
_ZLIB_WINDOW_BITS: Final = 15
_RAW_WINDOW_BITS: Final = -15
_ZLIB_HEADER_BYTES: Final = 2

_PIECE_BYTES_MAX: Final = 65_536
_PLAIN_BYTES_MAX: Final = 67_108_864
_RATIO_MAX: Final = 200  # plain bytes a compressed one, beyond those that are free
_FREE_PLAIN_BYTES: Final = 1_048_576


class InflateRefused(Exception):
    """The bytes are not what their coding says, or are more than anyone listens to."""


class Inflater:
    """Decompresses `gzip` or `deflate`, piece by piece."""

    __slots__ = ("_between_members", "_coded_bytes", "_decoder", "_ended", "_header", "_is_gzip", "_plain_bytes")

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._decoder = zlib.decompressobj(_GZIP_WINDOW_BITS) if is_gzip else None
        self._header = b""  # of a deflate stream, until it tells which of the two it is
        self._ended = False
        self._between_members = False
        self._coded_bytes = 0
        self._plain_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The plain bytes that this chunk gives, in pieces of at most 64 KiB.

        Raises:
            InflateRefused: a broken stream; more than 64 MiB; or more than 200 times what
                came in, the first MiB left aside.
        """
        self._coded_bytes += len(chunk)
        if self._decoder is None:
            chunk = self._header + chunk
            if len(chunk) < _ZLIB_HEADER_BYTES:
                self._header = chunk
                return
            self._decoder = zlib.decompressobj(_ZLIB_WINDOW_BITS if _is_zlib(chunk) else _RAW_WINDOW_BITS)
        full = False
        # A full piece may leave some of its text inside the decoder, when all input is taken.
        while (chunk or full) and not self._ended:
            try:
                piece = self._decoder.decompress(chunk, _PIECE_BYTES_MAX)
            except zlib.error as error:
                if self._between_members:
                    self._ended = True  # what follows the last member is padding
                    return
                raise InflateRefused(str(error)) from None
            self._count(len(piece))
            full = len(piece) == _PIECE_BYTES_MAX
            if piece:
                self._between_members = False
                yield piece
            chunk = self._rest(self._decoder)

    def _rest(self, decoder: "zlib._Decompress") -> bytes:
        if not decoder.eof:
            return decoder.unconsumed_tail
        # Several gzip members in a row are one text (RFC 1952, section 2.2).
        if self._is_gzip:
            self._decoder = zlib.decompressobj(_GZIP_WINDOW_BITS)
            self._between_members = True
        else:
            self._ended = True
        return decoder.unused_data

    def _count(self, plain_bytes: int) -> None:
        self._plain_bytes += plain_bytes
        if self._plain_bytes > _PLAIN_BYTES_MAX:
            raise InflateRefused("more plain bytes than anyone listens to")
        if self._plain_bytes > _FREE_PLAIN_BYTES + _RATIO_MAX * self._coded_bytes:
            raise InflateRefused("a ratio that no honest text has")


def _is_zlib(header: bytes) -> bool:
    """RFC 1950, section 2.2: the method is 8, and the first 16 bits are a multiple of 31."""
    return header[0] & 0x0F == 8 and int.from_bytes(header[:_ZLIB_HEADER_BYTES]) % 31 == 0
