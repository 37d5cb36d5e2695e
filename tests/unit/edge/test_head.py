"""A head is told again by its bytes, and nothing but the digits of its length may differ."""

import gc

import pytest

from proxy.edge.head import Head, KnownHeads

BEFORE = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: "
AFTER = b"\r\nAuthorization: Bearer k\r\n\r\n"


def head_of(raw: bytes, *, awaits_continue: bool = False, http_version: str = "1.1") -> tuple[Head, bool]:
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    head = Head("POST", b"/v1/x", http_version, headers, keep_alive=True, awaits_continue=awaits_continue)
    return head, head.remember(raw)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (BEFORE + b"3" + AFTER + b"abc", (3, len(BEFORE) + 1 + len(AFTER))),
        (BEFORE + b"123456789012345678" + AFTER, (123456789012345678, len(BEFORE) + 18 + len(AFTER))),
        (BEFORE + b"7" + AFTER, (7, len(BEFORE) + 1 + len(AFTER))),  # the body is still to come
        (BEFORE + b"0" + AFTER, None),  # a request without a body is another one
        (BEFORE + b"03" + AFTER + b"abc", None),
        (BEFORE + b"+3" + AFTER + b"abc", None),
        (BEFORE + b" 3" + AFTER + b"abc", None),
        (BEFORE + b"3 " + AFTER + b"abc", None),
        (BEFORE + b"3,3" + AFTER + b"abc", None),
        (BEFORE + b"\xb2" + AFTER + b"abc", None),  # a superscript two, in Latin-1
        (BEFORE + b"" + AFTER, None),
        (BEFORE + b"1234567890123456789" + AFTER, None),
        (BEFORE + b"3", None),  # cut off
        (BEFORE[:-1], None),
        (BEFORE + b"3" + AFTER[:-1], None),
        (BEFORE + b"3" + AFTER.replace(b"k", b"K") + b"abc", None),
        (BEFORE + b"3\r\nContent-Length: 5" + AFTER + b"abc", None),
        (BEFORE + b"3\r\nTransfer-Encoding: chunked" + AFTER, None),
        (BEFORE.replace(b"POST", b"PUT") + b"3" + AFTER + b"abc", None),
        (b"\r\n" + BEFORE + b"3" + AFTER + b"abc", None),
        (b"", None),
    ],
)
def test_told_again(data, expected):
    head, remembered = head_of(BEFORE + b"12" + AFTER + b"x" * 12)
    assert remembered
    assert head.told_again(data) == expected


def test_the_headers_have_the_length_of_this_body_in_its_old_place():
    head, _ = head_of(BEFORE + b"12" + AFTER)
    expected = [(b"host", b"a"), (b"content-length", b"7"), (b"authorization", b"Bearer k")]
    assert head.with_length(7) == expected
    assert head.headers[1] == (b"content-length", b"12")


@pytest.mark.parametrize(
    "raw",
    [
        BEFORE + b"0" + AFTER,
        BEFORE + b"012" + AFTER,
        BEFORE + b"12 " + AFTER,
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\r\n\r\n" + BEFORE + b"12" + AFTER,  # where its head ends is not at the first empty line
        BEFORE + b"12\r\nX: " + b"y" * 5_000 + AFTER,  # a connection at rest would keep it
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\nContent-Length: 12\r\n\r\n",  # that is body
    ],
)
def test_a_head_that_is_not_remembered(raw):
    assert not head_of(raw)[1]


def test_a_head_whose_next_step_is_the_gateways_is_not_remembered():
    raw = BEFORE + b"12" + AFTER
    assert not head_of(raw, awaits_continue=True)[1]
    assert not head_of(raw, http_version="1.0")[1]


def test_equal_heads_of_one_address_are_one_and_differing_ones_are_not():
    known = KnownHeads()
    head, _ = head_of(BEFORE + b"12" + AFTER)
    longer, _ = head_of(BEFORE + b"345" + AFTER)
    others_key, _ = head_of(BEFORE + b"12" + AFTER.replace(b"Bearer k", b"Bearer l"))
    elsewhere, _ = head_of(BEFORE + b"12" + AFTER)
    assert known.same_as(head, "10.0.0.1") is head
    assert known.same_as(longer, "10.0.0.1") is head
    assert known.same_as(others_key, "10.0.0.1") is others_key
    assert known.same_as(elsewhere, "10.0.0.2") is elsewhere


def test_no_head_is_kept_for_longer_than_a_connection_has_it():
    known = KnownHeads()
    head, _ = head_of(BEFORE + b"12" + AFTER)
    known.same_as(head, None)
    assert len(known) == 1
    del head
    gc.collect()
    assert len(known) == 0
