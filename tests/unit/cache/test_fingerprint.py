"""What tells one call from another: everything but what shapes no answer."""

import hashlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.fingerprint import canonical, check_of, material, name_of, shaping_headers, without_stream

SECRET, OTHER = b"s" * 32, b"t" * 32


def named(text, *parts, secret=SECRET):
    return name_of(material(canonical(parts), text), secret)


def test_a_name_is_fit_for_a_store_and_the_same_every_time():
    name = named(b'{"model":"m"}', b"a")
    assert name == named(b'{"model":"m"}', b"a")
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")


def test_the_check_is_the_published_keyed_hash():
    whole = material(canonical((b"a", b"b")), b"body")
    assert check_of(whole, SECRET) == hashlib.blake2b(whole, digest_size=32, key=SECRET).digest()


def test_the_secret_decides_both():
    whole = material(canonical((b"a",)), b"body")
    assert name_of(whole, SECRET) != name_of(whole, OTHER)
    assert check_of(whole, SECRET) != check_of(whole, OTHER)


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4), st.binary(max_size=6))
def test_no_two_lists_of_parts_have_the_same_bytes(one, other, text):
    assert (canonical(one) == canonical(other)) == (one == other)
    assert (material(canonical(one), text) == material(canonical(other), text)) == (one == other)


@given(
    st.tuples(st.lists(st.binary(max_size=6), max_size=3), st.binary(max_size=12)),
    st.tuples(st.lists(st.binary(max_size=6), max_size=3), st.binary(max_size=12)),
)
def test_nothing_of_the_body_can_pass_for_a_part(one, other):
    (parts, text), (other_parts, other_text) = one, other
    assert (material(canonical(parts), text) == material(canonical(other_parts), other_text)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (b'{"a":1,"stream":true}', b'{"a":1,"stream":false}', True),
        (b'{"a":1,"stream":true}', b'{"a":1,"stream": null}', False),  # the space is the caller's own
        (b'{"a":1,"stream":true}', b'{"a":1}', False),
        (b'{"stream":true,"a":1}', b'{"a":1,"stream":true}', False),
        (b'{"a":1,"b":2}', b'{"b":2,"a":1}', False),
        (b'{"a":1}', b'{"a": 1}', False),
        (b'{"a":{"stream":true}}', b'{"a":{"stream":false}}', False),  # another's member
        (b'{"a":"\\"stream\\":true","stream":true}', b'{"a":"\\"stream\\":true","stream":false}', True),
        (b'{"a":1,"str\\u0065am":true}', b'{"a":1,"str\\u0065am":false}', True),
    ],
)
def test_of_the_body_only_the_value_of_stream_is_left_out(one, other, alike):
    texts = [without_stream(text, orjson.loads(text)) for text in (one, other)]
    assert (texts[0] == texts[1]) is alike


@pytest.mark.parametrize(
    "noise",
    [
        (b"user-agent", b"OpenAI/Python"),
        (b"x-stainless-retry-count", b"1"),
        (b"traceparent", b"00-1-1-01"),
        (b"idempotency-key", b"1"),
        (b"cache-control", b"max-age=5"),
    ],
)
def test_what_shapes_no_answer_tells_nothing(noise):
    assert shaping_headers([(b"openai-beta", b"x"), noise]) == shaping_headers([(b"openai-beta", b"x")])


def test_the_lines_of_one_header_have_an_order():
    one, other = [(b"a", b"1"), (b"a", b"2")], [(b"a", b"2"), (b"a", b"1")]
    assert shaping_headers(one) != shaping_headers(other)
    assert shaping_headers([*one, (b"b", b"1")]) == shaping_headers([(b"b", b"1"), *one])


def test_any_other_header_tells_and_their_order_does_not():
    assert shaping_headers([(b"a", b"1"), (b"b", b"2")]) == shaping_headers([(b"b", b"2"), (b"a", b"1")])
    for other in ([], [(b"a", b"1")], [(b"a", b"2"), (b"b", b"1")], [(b"a", b"1"), (b"b", b"2"), (b"b", b"2")]):
        assert shaping_headers(other) != shaping_headers([(b"a", b"1"), (b"b", b"2")])
