"""The stored form of a kept answer: read back whole, or not at all."""

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.entry import HEAD_BYTES_MAX, CacheEntry, EntryHead, EntryUnreadable, head_of, pack, parse, unpack

ENTRY = CacheEntry(
    EntryHead("gpt-5", 1_790_000_000_000, 27_000),
    b"c" * 32,
    ((b"content-type", b"application/json"),),
    b'{"choices":[]}' * 40,
    "openai/gpt-5",
    "openai",
    "gpt-5-2026",
    "gateway",
)
BODY_BYTES_MAX = 1 << 20

entries = st.builds(
    CacheEntry,
    st.builds(
        EntryHead,
        st.text(max_size=256).filter(lambda text: text.encode(errors="replace").decode() == text),
        st.integers(0, 2**53),
        st.none() | st.integers(0, 2**53),
    ),
    st.binary(min_size=32, max_size=32),
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3).map(tuple),
    st.binary(max_size=2_000),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.just("openai"),
    st.none() | st.just("gpt"),
    st.just("tenant"),
)


@given(entries, st.booleans())
def test_there_and_back(entry, sealed):
    clear, content = pack(entry, sealed=sealed)
    stored = parse(clear + content)
    assert stored.is_sealed is sealed
    assert (stored.clear, stored.content) == (clear, content)
    assert unpack(stored, stored.content, BODY_BYTES_MAX) == entry


def test_byte_by_byte():
    clear, content = pack(ENTRY, sealed=True)
    assert (
        clear == b"TWCA\x01\x03" + (1_790_000_000_000).to_bytes(8, "big") + (27_001).to_bytes(8, "big") + b"\0\5gpt-5"
    )
    plain = zlib.decompress(content)
    assert plain.startswith(b"c" * 32)
    assert plain.endswith(ENTRY.body)


def test_the_head_is_read_of_the_first_bytes():
    clear, _ = pack(ENTRY._replace(head=EntryHead("\U0001f600" * 256, 1, None)), sealed=False)
    assert len(clear) <= HEAD_BYTES_MAX
    assert head_of(clear) == EntryHead("\U0001f600" * 256, 1, None)


@pytest.mark.parametrize("cut", [0, 3, 4, 23, 28])
def test_what_is_cut_off_in_the_head_is_unreadable(cut):
    clear, _ = pack(ENTRY, sealed=False)
    with pytest.raises(EntryUnreadable):
        parse(clear[:cut])


@given(st.binary(max_size=200))
def test_what_is_no_entry_is_unreadable_and_nothing_else(data):
    for prefix in (b"", b"TWCA\x01\x00" + bytes(18), b"TWCA\x01\x01" + bytes(18)):
        try:
            stored = parse(prefix + data)
            unpack(stored, stored.content, BODY_BYTES_MAX)
        except EntryUnreadable:
            pass


@pytest.mark.parametrize(("at", "value"), [(0, b"X"), (4, b"\2"), (5, b"\4")])
def test_another_format_is_unreadable(at, value):
    clear, content = pack(ENTRY, sealed=False)
    data = bytearray(clear + content)
    data[at : at + 1] = value
    with pytest.raises(EntryUnreadable):
        parse(bytes(data))


def test_a_bomb_is_not_inflated():
    clear, _ = pack(ENTRY, sealed=False)
    stored = parse(clear + zlib.compress(bytes(50_000_000), 9))
    with pytest.raises(EntryUnreadable):
        unpack(stored, stored.content, BODY_BYTES_MAX)


@pytest.mark.parametrize("cut", [1, 4, 20, 60])
def test_what_is_cut_off_in_its_content_is_unreadable(cut):
    clear, content = pack(ENTRY, sealed=False)
    stored = parse(clear + content[:-cut])
    assert stored.is_compressed
    with pytest.raises(EntryUnreadable):
        unpack(stored, stored.content, BODY_BYTES_MAX)


@pytest.mark.parametrize(
    ("body", "is_compressed"),
    [
        (b"{}", False),  # too short to be worth it
        (b"{}" * 200, True),
        (random.Random(1).randbytes(2_000), False),  # it would only grow
    ],
)
def test_it_is_compressed_where_that_is_worth_it(body, is_compressed):
    stored = parse(b"".join(pack(ENTRY._replace(body=body), sealed=False)))
    assert stored.is_compressed is is_compressed
    assert unpack(stored, stored.content, BODY_BYTES_MAX).body == body


def test_the_bound_is_that_of_the_body():
    """What an entry may have beside it takes nothing from it."""
    entry = ENTRY._replace(body=b"x" * 100_000, headers=((b"content-type", b"y" * 10_000),))
    stored = parse(b"".join(pack(entry, sealed=False)))
    assert unpack(stored, stored.content, 100_000) == entry
    with pytest.raises(EntryUnreadable):
        unpack(stored, stored.content, 40_000)
