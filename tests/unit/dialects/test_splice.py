"""Editing JSON in place: one value changes, every other byte stays."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.splice import (
    count_members,
    duplicates,
    edit_member,
    may_hide_names,
    member_span,
    object_end,
    replace_string,
    set_member,
)

DECIDING = ("model", "stream", "user")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (rb'{"model":"a"}', rb'{"model":"b"}'),
        (b' {\n\t"model" : \r\n "a" , "n":1}\n', b' {\n\t"model" : \r\n "b" , "n":1}\n'),
        (rb'{"messages":[{"model":"x"}],"model":"a"}', rb'{"messages":[{"model":"x"}],"model":"b"}'),
        (
            rb'{"model":"a","tools":[{"model":"x"},{"model":"y"}]}',
            rb'{"model":"b","tools":[{"model":"x"},{"model":"y"}]}',
        ),
        (rb'{"q":"say \"model\": 1","model":"a"}', rb'{"q":"say \"model\": 1","model":"b"}'),
        (rb'{"say \"model":"x","model":"a"}', rb'{"say \"model":"x","model":"b"}'),
        (rb'{"role":"model","model":"a"}', rb'{"role":"model","model":"b"}'),
        (rb'{"list":["model"],"model":"model"}', rb'{"list":["model"],"model":"b"}'),
        (rb'{"mod\u0065l":"a","x":{"model":"y"}}', rb'{"mod\u0065l":"b","x":{"model":"y"}}'),
        (rb'{"\u006D\u006f\u0064\u0065\u006c":"a"}', rb'{"\u006D\u006f\u0064\u0065\u006c":"b"}'),
        (rb'{"x":{"mod\u0065l":"y"},"model":"a"}', rb'{"x":{"mod\u0065l":"y"},"model":"b"}'),
        (rb'{"back\\":1,"model":"a\"\\"}', rb'{"back\\":1,"model":"b"}'),
        (rb'{"brackets":"}{][","model":"a"}', rb'{"brackets":"}{][","model":"b"}'),
        ('{"ключ":"значение","model":"модель"}'.encode(), '{"ключ":"значение","model":"b"}'.encode()),
        (rb'{"model":"a","mod\u0065l":"c"}', rb'{"model":"b","mod\u0065l":"b"}'),  # no reader may see the old one
    ],
)
def test_replace_string(raw: bytes, expected: bytes) -> None:
    orjson.loads(raw)
    assert replace_string(raw, "model", "b") == expected


def test_the_new_value_is_encoded_as_json() -> None:
    assert orjson.loads(replace_string(b'{"model":"a"}', "model", 'q"\\\n\u00e9')) == {"model": 'q"\\\n\u00e9'}


@pytest.mark.parametrize("raw", [b"{}", b'{"x":{"model":"a"},"y":{"model":"b"}}', b'{"model":5}', b'{"model":["a"]}'])
def test_a_member_that_is_no_string_of_the_top_level_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="member"):
        replace_string(raw, "model", "b")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (rb'{"model":"a","stream":true}', None),
        (rb"{}", None),
        (rb'{"model":"a","model":"b"}', "model"),
        (rb'{"model":"a","mod\u0065l":"b"}', "model"),
        (rb'{"mod\u0065l":"a","m\u006fdel":"b"}', "model"),
        (rb'{"model":"a","x":{"model":"b"}}', None),
        (rb'{"model":"a","x":{"model":"b","model":"c"}}', None),
        (rb'{"model":"a","x":[{"model":"b"}],"model":"c"}', "model"),
        (rb'{"model":"\"model\":1","q":"\\\"model\":"}', None),
        (rb'{"model":"model","user":"user","messages":[{"role":"user"}]}', None),
        (rb'{"user":"u","messages":[{"role":"user","user":1}],"model":"m"}', None),
        (rb'{"stream":true,"model":"a","stream" :false}', "stream"),
        (rb'{"user":"a","model":"b","model":"c","user":"d"}', "model"),  # in the order of the names
        (rb'{"text":"\u0041","model":"a"}', None),
        (rb'{"unknown":1,"unknown":2,"model":"a"}', None),  # decides nothing
    ],
)
def test_duplicates(raw: bytes, expected: str | None) -> None:
    assert duplicates(raw, orjson.loads(raw), DECIDING) == expected


def test_escapes_that_cannot_spell_a_letter_leave_the_cheap_proof() -> None:
    assert not may_hide_names(rb'{"text":"\u4e2d\u00e9\u2026\u003c\u0026"}')
    assert may_hide_names(rb'{"text":"\u004d"}')


@pytest.mark.parametrize(
    ("raw", "start", "expected"),
    [(b'x{"a":[1,"}"]}y', 1, 14), (b"{}", 0, 2), (b'{"a":{', 0, None), (b"", 0, None)],
)
def test_object_end(raw: bytes, start: int, expected: int | None) -> None:
    assert object_end(raw, start) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (rb"{}", 0),
        (rb'{"a":1,"b" : [{"c":{}},{"a":"x:"}]}', 4),
        (rb'{"a":1,"a":2}', 2),
        (rb'{"a":":","b":"\":","c":["\\",":"]}', 3),
        (rb'{"say \":":"\":"}', 1),
    ],
)
def test_count_members(raw: bytes, expected: int) -> None:
    orjson.loads(raw)
    assert count_members(raw) == expected


# ── for every document, however it is formatted ──────────────────────────────────────────


class Pairs(list[tuple[str, Any]]):
    """An object's members in order; a name may stand twice."""


NAMES = st.sampled_from(["model", "stream", "user", 'say "model"', '"model":', "m", "модель"]) | st.text(max_size=6)
TEXTS = st.sampled_from(["model", '"model":', "\\", '\\"', "{[", "user"]) | st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(NAMES, inner), max_size=4).map(Pairs),
    max_leaves=12,
)


def render(draw: st.DrawFn, value: Any) -> str:
    space = draw(st.sampled_from(["", "", " ", "\n\t", " \r\n"]))
    if isinstance(value, Pairs):
        members = [text(draw, name) + space + ":" + space + render(draw, inner) for name, inner in value]
        return "{" + space + ("," + space).join(members) + "}" + space
    if isinstance(value, list):
        return "[" + space + ("," + space).join(render(draw, inner) for inner in value) + "]"
    return text(draw, value) if isinstance(value, str) else json.dumps(value)


def text(draw: st.DrawFn, value: str) -> str:
    style = draw(st.sampled_from(["plain", "ascii", "escaped"]))
    if style == "escaped":
        units = value.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'
    return json.dumps(value, ensure_ascii=style == "ascii")


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str, str, Pairs]:
    """The text before the model's value, that value, the text after it, and the members."""
    before = draw(st.lists(st.tuples(NAMES.filter(lambda name: name != "model"), VALUES), max_size=4))
    after = draw(st.lists(st.tuples(NAMES.filter(lambda name: name != "model"), VALUES), max_size=4))
    head = "{" + "".join(text(draw, name) + ": " + render(draw, value) + "," for name, value in before)
    head += text(draw, "model") + draw(st.sampled_from([":", " :", ":\n ", "\t: "]))
    tail = "".join("," + text(draw, name) + ":" + render(draw, value) for name, value in after) + "}"
    old = draw(TEXTS)
    return head, text(draw, old), tail, Pairs([*before, ("model", old), *after])


@settings(max_examples=300, deadline=None)
@given(documents(), TEXTS)
def test_only_the_value_changes(document: tuple[str, str, str, Pairs], new_value: str) -> None:
    head, old, tail, _ = document
    raw = (head + old + tail).encode()
    before = orjson.loads(raw)
    spliced = replace_string(raw, "model", new_value)
    assert orjson.loads(spliced) == before | {"model": new_value}
    assert spliced.startswith(head.encode())
    assert spliced.endswith(tail.encode())
    assert len(spliced) == len(head.encode()) + len(orjson.dumps(new_value)) + len(tail.encode())


@settings(max_examples=300, deadline=None)
@given(documents())
def test_duplicates_agrees_with_the_members_as_written(document: tuple[str, str, str, Pairs]) -> None:
    head, old, tail, members = document
    raw = (head + old + tail).encode()
    names = [name for name, _ in members]
    expected = next((name for name in DECIDING if names.count(name) > 1), None)
    assert duplicates(raw, orjson.loads(raw), DECIDING) == expected


def members_of(value: Any) -> int:
    if isinstance(value, Pairs):
        return sum(1 + members_of(inner) for _, inner in value)
    return sum(members_of(inner) for inner in value) if isinstance(value, list) else 0


@settings(max_examples=100, deadline=None)
@given(documents())
def test_count_members_agrees_with_the_members_as_written(document: tuple[str, str, str, Pairs]) -> None:
    head, old, tail, members = document
    assert count_members((head + old + tail).encode()) == members_of(members)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"{}", b'{"n":[7]}'),
        (b" { } ", b' {"n":[7] } '),
        (b'{"a":{"n":1}}', b'{"n":[7],"a":{"n":1}}'),
        (b'{"a":1,"n":-1.5e+3}', b'{"a":1,"n":[7]}'),
        (b'{"n": {"n":[{}, "}"]} ,"a":1}', b'{"n": [7] ,"a":1}'),
        (rb'{"n":"x\"}","a":1}', b'{"n":[7],"a":1}'),
        (rb'{"\u006e":[],"a":"n"}', rb'{"\u006e":[7],"a":"n"}'),
        (b'{"n":null\n}', b'{"n":[7]\n}'),
    ],
)
def test_set_member(raw: bytes, expected: bytes) -> None:
    assert set_member(raw, orjson.loads(raw), "n", b"[7]") == expected


def test_a_members_own_bytes_are_edited() -> None:
    raw = b'{"n": {"a" : [1, "}"]} , "b":2}'
    assert edit_member(raw, "n", lambda value: value[:1] + b'"x":0,' + value[1:]) == (
        b'{"n": {"x":0,"a" : [1, "}"]} , "b":2}'
    )


@pytest.mark.parametrize(
    ("raw", "cut"),
    [
        (b'{"a":1,"n":null}', b'{"a":1}'),
        (b'{"a":1, "n": null, "b":2}', b'{"a":1, "b":2}'),
        (b'{"n":null,"b":2}', b'{"b":2}'),
        (b'{ "n" : null , "b":2}', b'{ "b":2}'),
        (b'{"a":1 , "n":null , "b":2}', b'{"a":1 , "b":2}'),
        (b'{"a":1\n,"n":null\n,"b":2}', b'{"a":1\n,"b":2}'),
        (b'{"n":null}', b"{}"),
        (b'{\n  "a": 1,\n  "n": null\n}', b'{\n  "a": 1\n}'),
        (b'{"a":{"n":null},"n":null}', b'{"a":{"n":null}}'),
        (rb'{"a":"\"n\":null","n":null}', rb'{"a":"\"n\":null"}'),
        (b'{"a":",","n":[1,{"n":2}],"b":2}', b'{"a":",","b":2}'),
    ],
)
def test_member_span(raw: bytes, cut: bytes) -> None:
    span = member_span(raw, "n")
    assert span is not None
    assert raw[: span[0]] + raw[span[1] :] == cut


def test_a_member_that_is_not_there_has_no_span() -> None:
    assert member_span(b'{"a":{"n":1},"b":"n"}', "n") is None
