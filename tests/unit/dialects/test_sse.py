"""Events come out whole, however the stream is cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.sse import EventSplitter, event_data, event_name


def split(stream: bytes, *cuts: int, event_bytes_max: int = 10_000) -> tuple[list[bytes], bool]:
    splitter = EventSplitter(event_bytes_max)
    events: list[bytes] = []
    for start, end in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        events += splitter.feed(stream[start:end])
    return events, splitter.overflowed


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [b"data: a", b"data: b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a", b"data: b"]),
        (b"data: a\r\rdata: b\r\r", [b"data: a", b"data: b"]),
        (b"data: a\n\r\ndata: b\r\n\ndata: c\r\r\ndata: d\n\rdata: e\n\n", [b"data: %c" % c for c in b"abcde"]),
        (b"event: x\r\ndata: 1\r\ndata: 2\r\n\r\n", [b"event: x\r\ndata: 1\r\ndata: 2"]),
        (b"\n\n\ndata: a\n\n\n\n\r\n\r\ndata: b\n\n", [b"data: a", b"data: b"]),
        (b": ping\n\ndata: a\n\n", [b": ping", b"data: a"]),
        (b"\xef\xbb\xbfdata: a\n\ndata: b\n\n", [b"data: a", b"data: b"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"data: a", b"\xef\xbb\xbfdata: b"]),  # only at the start
        (b"data: a\n\ndata: not ended\n", [b"data: a"]),
        ("data: é€😀\n\n".encode(), ["data: é€😀".encode()]),
        (b"", []),
    ],
)
def test_every_cut_gives_the_same_events(stream: bytes, expected: list[bytes]) -> None:
    assert split(stream) == (expected, False)
    for first in range(len(stream) + 1):
        assert split(stream, first) == (expected, False), first
        for second in range(first, len(stream) + 1, 3):
            assert split(stream, first, second) == (expected, False), (first, second)
    assert split(stream, *range(1, len(stream))) == (expected, False)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_an_event_too_large_stops_the_listening(line_end: bytes) -> None:
    stream = line_end.join(
        [b"data: a", b"", b"data: " + b"x" * 14, b"", b"data: " + b"x" * 15, b"", b"data: b", b"", b""]
    )
    expected = ([b"data: a", b"data: " + b"x" * 14], True)
    for first in range(len(stream) + 1):
        assert split(stream, first, event_bytes_max=20) == expected
    assert split(stream, *range(1, len(stream)), event_bytes_max=20) == expected


def test_what_is_held_is_bounded() -> None:
    splitter = EventSplitter(100)
    assert splitter.feed(b"data: " + b"x" * 94) == []
    assert not splitter.overflowed
    assert splitter.feed(b"x") == []
    assert splitter.overflowed
    assert splitter.feed(b"\n\ndata: a\n\n") == []


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"data: a", b"", b"a"),
        (b"data:a", b"", b"a"),
        (b"data:  a", b"", b" a"),
        (b"data", b"", b""),
        (b"data: a\ndata: b", b"", b"a\nb"),
        (b"data: a\r\ndata\rdata: b", b"", b"a\n\nb"),
        (b"event: error\ndata: {}", b"error", b"{}"),
        (b"data: {}\nevent:ping", b"ping", b"{}"),
        (b"event: a\nevent: b\n: data: x\nid: 1", b"b", b""),
        (b": ping", b"", b""),
        ("data: a\u2028\x85b".encode(), b"", "a\u2028\x85b".encode()),
        (b"database: x\ndata: y", b"", b"y"),
    ],
)
def test_fields(event: bytes, name: bytes, data: bytes) -> None:
    assert event_name(event) == name
    assert event_data(event) == data


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.text(alphabet="ab: é", min_size=1, max_size=8).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.lists(st.lists(LINES, min_size=1, max_size=3), max_size=5))
def test_events_as_written_are_events_as_read(data: st.DataObject, events: list[list[bytes]]) -> None:
    stream, expected = b"", []
    for lines in events:
        ends = [data.draw(LINE_ENDS) for _ in lines]
        empty = data.draw(LINE_ENDS)
        if ends[-1] == b"\r" and empty == b"\n":
            empty = b"\r"  # the two would be one CRLF
        block = b"".join(line + end for line, end in zip(lines, ends, strict=True))
        stream += block + empty
        expected.append(block[: -len(ends[-1])])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    assert split(stream, *cuts) == (expected, False)
