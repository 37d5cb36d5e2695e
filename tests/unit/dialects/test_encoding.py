"""Compressed request bodies: read under a bound, or refused."""

import gzip
import zlib

import pytest

from proxy.core.errors import RequestTooLarge, UnsupportedEncoding
from proxy.dialects.encoding import decompress

PLAIN = b'{"model":"m"}' * 10


@pytest.mark.parametrize(
    ("coding", "body"),
    [(b"gzip", gzip.compress(PLAIN)), (b" GZIP ", gzip.compress(PLAIN)), (b"deflate", zlib.compress(PLAIN))],
)
def test_reads(coding, body):
    assert decompress(body, coding, 1_000) == PLAIN


def test_exactly_at_the_bound_fits_and_one_more_does_not():
    assert decompress(gzip.compress(PLAIN), b"gzip", len(PLAIN)) == PLAIN
    with pytest.raises(RequestTooLarge):
        decompress(gzip.compress(PLAIN), b"gzip", len(PLAIN) - 1)


def test_a_bomb_is_not_unpacked():
    with pytest.raises(RequestTooLarge):
        decompress(gzip.compress(bytes(50_000_000)), b"gzip", 1_000_000)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"br", PLAIN),
        (b"gzip, gzip", gzip.compress(gzip.compress(PLAIN))),
        (b"gzip", PLAIN),
        (b"gzip", gzip.compress(PLAIN)[:-3]),
        (b"gzip", gzip.compress(PLAIN) + b"x"),
        (b"gzip", b""),
    ],
)
def test_refuses(coding, body):
    with pytest.raises(UnsupportedEncoding):
        decompress(body, coding, 1_000)
