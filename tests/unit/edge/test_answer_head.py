"""How an answer's head is written, as tables. What a request's head may be: `test_protocol.py`, on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.answer_head import _encode, encode_head


def encode(status=200, headers=(), *, bodiless=False, chunked_allowed=True, close=False):
    return encode_head(status, headers, bodiless=bodiless, chunked_allowed=chunked_allowed, close=close)


def test_headers_keep_their_order_and_their_bytes():
    block, length, close = encode(headers=[(b"b", b"2"), (b"a", b"\xe9 x"), (b"b", b"3"), (b"content-length", b"7")])
    assert block == b"HTTP/1.1 200 OK\r\nb: 2\r\na: \xe9 x\r\nb: 3\r\ncontent-length: 7\r\n\r\n"
    assert (length, close) == (7, False)


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, b"HTTP/1.1 200 OK"), (429, b"HTTP/1.1 429 Too Many Requests"), (529, b"HTTP/1.1 529 ")],
)
def test_the_status_line(status, line):
    assert encode(status)[0].split(b"\r\n")[0] == line


@pytest.mark.parametrize(
    ("bodiless", "chunked_allowed", "close", "framing", "closes"),
    [
        (False, True, False, b"transfer-encoding: chunked\r\n", False),
        (False, True, True, b"transfer-encoding: chunked\r\nconnection: close\r\n", True),
        (False, False, False, b"connection: close\r\n", True),  # HTTP/1.0: the end of the connection is the end
        (True, True, False, b"", False),
        (True, False, False, b"", False),
    ],
)
def test_an_answer_of_unknown_length(bodiless, chunked_allowed, close, framing, closes):
    block, length, close = encode(bodiless=bodiless, chunked_allowed=chunked_allowed, close=close)
    assert block == b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n"
    assert (length, close) == (None, closes)


def test_the_hops_own_headers_are_ours_to_write():
    headers = [(b"transfer-encoding", b"gzip, chunked"), (b"keep-alive", b"timeout=5"), (b"connection", b"keep-alive")]
    assert encode(headers=headers)[0] == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def test_the_application_may_close_the_connection():
    block, _, close = encode(headers=[(b"connection", b"Close"), (b"content-length", b"0")])
    assert block.count(b"connection: close\r\n") == 1
    assert close


def test_204_has_no_length_on_the_wire():
    block, length, _ = encode(204, [(b"content-length", b"0")], bodiless=True)
    assert b"content-length" not in block
    assert length == 0


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"-1")],
        [(b"content-length", b"1 ")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"Content-Length", b"1")],  # ASGI's names are in lower case; this one would be read by the client alone
        [(b"a", b"1\r")],
        [(b"a\r\nb", b"1")],
    ],
)
def test_what_would_be_read_in_two_ways_is_never_written(headers):
    with pytest.raises(RuntimeError):
        encode(headers=headers)


@pytest.mark.parametrize("status", [100, 199, 1000])
def test_what_is_no_answers_status(status):
    with pytest.raises(RuntimeError):
        encode(status)


_NAMES = st.sampled_from(
    [b"a", b"set-cookie", b"content-type", b"content-length", b"connection", b"keep-alive", b"transfer-encoding"]
)
_VALUES = st.sampled_from([b"", b"0", b"7", b"12", b"close", b"a, Close", b"keep-alive", b"chunked", b"a: b"])


@given(
    st.lists(st.tuples(_NAMES, _VALUES), max_size=6),
    st.sampled_from([200, 204, 304]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_said_of_the_framing_one_reading_of_it_leaves(headers, status, bodiless, chunked_allowed, close):
    lengths = {value for name, value in headers if name == b"content-length"}
    if len({int(each) for each in lengths if each.isdigit()}) > 1 or any(not each.isdigit() for each in lengths):
        with pytest.raises(RuntimeError):
            encode(status, headers, bodiless=bodiless, chunked_allowed=chunked_allowed, close=close)
        return
    block, length, closes = encode(status, headers, bodiless=bodiless, chunked_allowed=chunked_allowed, close=close)
    _, *lines, empty, end = block.split(b"\r\n")
    written = [tuple(line.split(b": ", 1)) for line in lines]
    framing = {b"content-length", b"connection", b"keep-alive", b"transfer-encoding"}
    assert (empty, end) == (b"", b"")
    assert [pair for pair in written if pair[0] not in framing] == [pair for pair in headers if pair[0] not in framing]
    asked_to_close = any(name == b"connection" and b"close" in value.lower() for name, value in headers)
    assert length == (int(lengths.pop()) if lengths else None)
    is_chunked = length is None and not bodiless and chunked_allowed
    assert closes == (close or asked_to_close or (length is None and not bodiless and not chunked_allowed))
    expected = [] if length is None or status == 204 else [(b"content-length", b"%d" % length)]
    expected += [(b"transfer-encoding", b"chunked")] if is_chunked else []
    expected += [(b"connection", b"close")] if closes else []
    assert [pair for pair in written if pair[0] in framing] == expected


NAMES = st.sampled_from([b"a", b"x-b", b"content-length", b"connection", b"keep-alive", b"x%b", b"", b"A", b"c d"])
VALUES = st.sampled_from([b"", b"7", b"1", b"%b %d", b"close", b"\xe9", b"a\r\nb: c", b"\0"])


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=5), st.sampled_from([200, 204, 529]), st.tuples(*[st.booleans()] * 3)
)
def test_what_is_known_of_the_names_changes_nothing(headers, status, flags):
    bodiless, chunked_allowed, close = flags
    framing = {"bodiless": bodiless, "chunked_allowed": chunked_allowed, "close": close}

    def outcome(encoder):
        try:
            block, length, closes = encoder(status, list(headers), **framing)
        except RuntimeError as error:
            return str(error)
        return sorted(block.split(b"\r\n")), length, closes

    assert outcome(encode_head) == outcome(_encode)
