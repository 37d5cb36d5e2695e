"""Compressed copies are read under bounds."""

import gzip
import random
import zlib

import pytest

from proxy.dialects.inflate import Inflater, InflateRefused

TEXT = b"".join(b'data: {"n":%d}\n\n' % n for n in range(5_000))
RAW_DEFLATE = zlib.compressobj(9, zlib.DEFLATED, -15)
CODED = {
    "gzip": (True, gzip.compress(TEXT)),
    "two gzip members": (True, gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:])),
    "padded gzip": (True, gzip.compress(TEXT) + b"\0" * 8),
    "zlib": (False, zlib.compress(TEXT)),
    "raw deflate": (False, RAW_DEFLATE.compress(TEXT) + RAW_DEFLATE.flush()),
}


@pytest.mark.parametrize("chunk_bytes", [1, 2, 700, 1_000_000])
@pytest.mark.parametrize("coding", CODED)
def test_the_text_comes_out_whole(coding: str, chunk_bytes: int) -> None:
    is_gzip, coded = CODED[coding]
    inflater = Inflater(is_gzip=is_gzip)
    plain = b""
    for start in range(0, len(coded), chunk_bytes):
        for piece in inflater.feed(coded[start : start + chunk_bytes]):
            assert 0 < len(piece) <= 65_536
            plain += piece
    assert plain == TEXT


def test_a_flushed_stream_gives_each_chunk_at_once() -> None:
    coder = zlib.compressobj(6, zlib.DEFLATED, 31)
    inflater = Inflater(is_gzip=True)
    for event in (b"data: a\n\n", b"data: b\n\n"):
        coded = coder.compress(event) + coder.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(inflater.feed(coded)) == event


@pytest.mark.parametrize("is_gzip", [True, False])
def test_bytes_that_are_no_such_stream_are_refused(is_gzip: bool) -> None:
    with pytest.raises(InflateRefused):
        list(Inflater(is_gzip=is_gzip).feed(b"\xff" * 64))


def test_a_bomb_is_refused_at_the_ratio() -> None:
    bomb = gzip.compress(b"\0" * 32_000_000)
    assert len(bomb) * 200 + 1_048_576 < 32_000_000
    plain_bytes = 0
    inflater = Inflater(is_gzip=True)
    with pytest.raises(InflateRefused):
        for piece in inflater.feed(bomb):
            plain_bytes += len(piece)
    assert plain_bytes <= 1_048_576 + 200 * len(bomb)


def test_a_small_text_may_have_any_ratio() -> None:
    assert len(b"".join(Inflater(is_gzip=True).feed(gzip.compress(b"\0" * 1_000_000)))) == 1_000_000


def test_more_than_64_mib_are_refused() -> None:
    block = random.Random(7).randbytes(20_000) + b"\0" * 1_000_000  # a ratio of about 50
    inflater = Inflater(is_gzip=True)
    coder = zlib.compressobj(1, zlib.DEFLATED, 31)
    plain_bytes = 0
    with pytest.raises(InflateRefused):
        for _ in range(70):
            for piece in inflater.feed(coder.compress(block) + coder.flush(zlib.Z_SYNC_FLUSH)):
                plain_bytes += len(piece)
    assert 66_000_000 < plain_bytes <= 67_108_864
