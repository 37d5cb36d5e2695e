"""Compressed request bodies: read under a bound, or refused."""

import gzip
import zlib
from functools import partial

import pytest

from proxy.core.errors import RequestTooLarge, UnsupportedEncoding
from proxy.dialects.encoding import decompress

packed = partial(gzip.compress, mtime=0)  # bytes are in the names of tests, which must not tell the time
PLAIN = b'{"model":"m"}' * 10


@pytest.mark.parametrize(
    ("coding", "body"),
    [(b"gzip", packed(PLAIN)), (b" GZIP ", packed(PLAIN)), (b"deflate", zlib.compress(PLAIN))],
)
def test_reads(coding, body):
    assert decompress(body, coding, 1_000) == PLAIN


def test_exactly_at_the_bound_fits_and_one_more_does_not():
    assert decompress(packed(PLAIN), b"gzip", len(PLAIN)) == PLAIN
    with pytest.raises(RequestTooLarge):
        decompress(packed(PLAIN), b"gzip", len(PLAIN) - 1)


def test_a_bomb_is_not_unpacked():
    with pytest.raises(RequestTooLarge):
        decompress(packed(bytes(50_000_000)), b"gzip", 1_000_000)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"br", PLAIN),
        (b"gzip, gzip", packed(packed(PLAIN))),
        (b"gzip", PLAIN),
        (b"gzip", packed(PLAIN)[:-3]),
        (b"gzip", packed(PLAIN) + b"x"),
        (b"gzip", b""),
    ],
)
def test_refuses(coding, body):
    with pytest.raises(UnsupportedEncoding):
        decompress(body, coding, 1_000)
