"""The stored form of a kept answer: read back whole, or not at all."""

import random
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.entry import (
    HEAD_BYTES_MAX,
    CacheEntry,
    EntryHead,
    EntryUnreadable,
    head_of,
    pack,
    parse,
    stored_bytes_max,
    unpack,
)

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
        st.integers(0, 253_402_300_799_999),
        st.none() | st.integers(0, 2**53 - 1),
    ),
    st.binary(min_size=32, max_size=32),
    st.dictionaries(
        st.sampled_from([b"content-type", b"content-encoding"]),
        st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20).map(
            lambda text: text.encode("latin-1")
        ),
    ).map(lambda headers: tuple(headers.items())),
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


@pytest.mark.parametrize(
    "changed",
    [
        {"deployment": 1},
        {"deployment": None},
        {"deployment": "x" * 1_025},
        {"provider": {"a": 1}},
        {"served_model": 5},
        {"served_model": "x" * 50_000},
        {"key_source": "nobody"},
        {"key_source": ["gateway"]},
        {"headers": None},
        {"headers": "ab"},
        {"headers": [["content-type", "a", "b"]]},
        {"headers": [["content-type", 5]]},
        {"headers": [["content-type", "application/json\r\nset-cookie: a=b"]]},
        {"headers": [["content-type", "a\u0000b"]]},
        {"headers": [["content-type", "\u0142"]]},
        {"headers": [["content-type", "a"], ["content-type", "b"]]},
        {"headers": [["set-cookie", "a=b"]]},
        {"headers": [["content-length", "3"]]},
        {"headers": [["content-type", "a" * 70_000]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_words_that_no_answer_has_are_unreadable(changed, is_compressed):
    words: dict[str, object] = {
        "headers": [],
        "deployment": "p/m",
        "provider": "p",
        "served_model": None,
        "key_source": "gateway",
    }
    clear, _ = pack(ENTRY._replace(body=b"x"), sealed=False)
    stored = parse(clear)._replace(is_compressed=is_compressed)
    for told in (words, {**words, **changed}):
        text = orjson.dumps(told)
        content = b"c" * 32 + len(text).to_bytes(4, "big") + text + b"body"
        content = zlib.compress(content) if is_compressed else content
        if told is words:
            assert unpack(stored, content, BODY_BYTES_MAX).body == b"body"
            continue
        with pytest.raises(EntryUnreadable):
            unpack(stored, content, BODY_BYTES_MAX)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_body_that_is_too_long_is_unreadable(is_compressed):
    clear, content = pack(ENTRY, sealed=False)
    stored = parse(clear)._replace(is_compressed=is_compressed)
    content = content if is_compressed else zlib.decompress(content)
    assert unpack(stored, content, len(ENTRY.body)).body == ENTRY.body
    with pytest.raises(EntryUnreadable):
        unpack(stored, content if not is_compressed else zlib.compress(bytes(300_000)), len(ENTRY.body) - 1)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (6, b"\x80"),  # asked for in a year that no calendar has
        (6, (253_402_300_800_000).to_bytes(8, "big")),
        (14, b"\x80"),  # a fortune
        (14, (2**53 + 1).to_bytes(8, "big")),
        (22, b"\xff\xff"),
        (24, b"\xff"),  # no text
    ],
)
def test_a_head_that_no_answer_has_is_unreadable(at, value):
    data = bytearray(b"".join(pack(ENTRY, sealed=False)))
    data[at : at + len(value)] = value
    with pytest.raises(EntryUnreadable):
        parse(bytes(data))


def test_no_stored_form_is_longer_than_is_said():
    body = random.Random(1).randbytes(5_000)
    clear, content = pack(ENTRY._replace(body=body, served_model="m" * 1_024), sealed=True)
    assert len(clear + content) < stored_bytes_max(len(body))


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
