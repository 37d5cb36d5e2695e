"""Who asks a stream for its usage, and how the asking is spliced in."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.errors import DuplicateParameter
from proxy.dialects.call import parse_call
from proxy.dialects.openai import classify
from proxy.dialects.splice import replace_string
from proxy.dialects.stream_usage import StreamUsageMode, UsageAsking, choose, inject

CHAT = classify("POST", ("chat", "completions"))
COMPLETIONS = classify("POST", ("completions",))
RESPONSES = classify("POST", ("responses",))
MESSAGES = classify("POST", ("messages",))
LEAVE, INJECT, RESTORE = UsageAsking.LEAVE, UsageAsking.INJECT, UsageAsking.RESTORE

PLAIN: dict[str, Any] = {"model": "m", "stream": True}


def with_options(options: object) -> dict[str, Any]:
    return {**PLAIN, "stream_options": options}


@pytest.mark.parametrize(
    ("mode", "dollar_cap_holds", "expected"),
    [
        ("leave", False, LEAVE),
        ("leave", True, LEAVE),
        ("inject", False, INJECT),
        ("inject", True, INJECT),
        ("restore", False, RESTORE),
        ("restore", True, RESTORE),
        ("auto", False, LEAVE),
        ("auto", True, RESTORE),
    ],
)
@pytest.mark.parametrize("operation", [CHAT, COMPLETIONS])
def test_the_tenants_choice(mode: StreamUsageMode, dollar_cap_holds: bool, expected: UsageAsking, operation) -> None:
    said = choose(mode, operation, PLAIN, dollar_cap_holds=dollar_cap_holds, usage_unasked=False)
    assert said is expected
    # A provider that reports unasked is left alone, whatever the tenant says.
    assert choose(mode, operation, PLAIN, dollar_cap_holds=dollar_cap_holds, usage_unasked=True) is LEAVE


@pytest.mark.parametrize(
    ("operation", "document", "expected"),
    [
        (CHAT, PLAIN, RESTORE),
        (CHAT, with_options(None), RESTORE),
        (CHAT, with_options({}), RESTORE),
        (CHAT, with_options({"include_usage": False}), RESTORE),
        (CHAT, with_options({"include_usage": None}), RESTORE),
        (CHAT, with_options({"include_obfuscation": False}), RESTORE),
        (CHAT, with_options({"continuous_usage_stats": False}), RESTORE),
        (CHAT, with_options({"include_usage": True}), LEAVE),  # the caller asked
        (CHAT, with_options({"include_usage": 0}), LEAVE),  # the provider's to refuse
        (CHAT, with_options({"include_usage": 1}), LEAVE),
        (CHAT, with_options({"include_usage": "true"}), LEAVE),
        (CHAT, with_options([]), LEAVE),
        (CHAT, with_options("usage"), LEAVE),
        (CHAT, with_options(False), LEAVE),
        (CHAT, with_options({"continuous_usage_stats": True}), LEAVE),  # what that adds cannot be told apart
        (CHAT, {"model": "m"}, LEAVE),  # no stream: the body has the usage
        (CHAT, {"model": "m", "stream": False}, LEAVE),
        (CHAT, None, LEAVE),
        (RESPONSES, PLAIN, LEAVE),  # reports unasked, and would refuse the flag
        (MESSAGES, PLAIN, LEAVE),
        (classify("POST", ("rerank",)), PLAIN, LEAVE),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "restore"])
def test_what_is_restored(mode: StreamUsageMode, operation, document, expected: UsageAsking) -> None:
    assert choose(mode, operation, document, dollar_cap_holds=True, usage_unasked=False) is expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model":"m"}', b'{"stream_options":{"include_usage":true},"model":"m"}'),
        (b' {\n "model" : "m"\n}\n', b' {"stream_options":{"include_usage":true},\n "model" : "m"\n}\n'),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options" :\t{ } ,"n":1}', b'{"stream_options" :\t{"include_usage":true} ,"n":1}'),
        (
            b'{"stream_options":{"include_usage":false},"n":1}',
            b'{"stream_options":{"include_usage":true},"n":1}',
        ),
        (
            b'{"n":1,"stream_options": {"include_obfuscation": false, "include_usage" : null } }',
            b'{"n":1,"stream_options": {"include_obfuscation": false, "include_usage" : true } }',
        ),
        (
            b'{"stream_options":{ "include_obfuscation":false}}',
            b'{"stream_options":{"include_usage":true, "include_obfuscation":false}}',
        ),
        (
            rb'{"stream\u005foptions":{"incl\u0075de_usage":false}}',
            rb'{"stream\u005foptions":{"incl\u0075de_usage":true}}',
        ),
        (
            rb'{"tools":[{"stream_options":{"include_usage":false}}],"q":"\"stream_options\":null"}',
            rb'{"stream_options":{"include_usage":true},'
            rb'"tools":[{"stream_options":{"include_usage":false}}],"q":"\"stream_options\":null"}',
        ),
        (
            b'{"stream_options":{"x":{"include_usage":false,"y":"}"}},"tools":[{"stream_options":1}]}',
            b'{"stream_options":{"include_usage":true,"x":{"include_usage":false,"y":"}"}},"tools":[{"stream_options":1}]}',
        ),
        (  # no reader may see the old one
            b'{"stream_options":{"include_usage":false,"include_usage":null}}',
            b'{"stream_options":{"include_usage":true,"include_usage":true}}',
        ),
    ],
)
def test_the_flag_is_spliced_in(raw: bytes, expected: bytes) -> None:
    assert inject(raw, orjson.loads(raw)) == expected
    assert orjson.loads(expected)["stream_options"]["include_usage"] is True


def test_options_that_stand_twice_are_refused_before() -> None:
    for body in (
        b'{"model":"m","stream_options":null,"stream_options":{"include_usage":true}}',
        rb'{"model":"m","stream_options":null,"stream\u005foptions":{"include_usage":true}}',
        b'{"model":"m","Stream_Options":{"include_usage":true}}',
    ):
        with pytest.raises(DuplicateParameter):
            parse_call(CHAT, body, None, 1_000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.none() | st.fixed_dictionaries(
    {}, optional={"include_usage": st.sampled_from([None, False]), "include_obfuscation": st.booleans(), "é": VALUES}
)


@settings(max_examples=200, deadline=None)
@given(
    document=st.dictionaries(st.text(max_size=8).filter(lambda name: name != "stream_options"), VALUES, max_size=4),
    options=st.none() | st.tuples(OPTIONS),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
    model_first=st.booleans(),
)
def test_only_the_flag_changes_and_the_model_composes(
    document: dict[str, Any], options: Any, ascii_only: bool, separators: Any, model_first: bool
) -> None:
    document = {**document, "model": "a"}
    if options is not None:
        document["stream_options"] = options[0]
    raw = json.dumps(document, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")
    parsed = orjson.loads(raw)
    if model_first:
        edited = inject(replace_string(raw, "model", "b"), parsed)
    else:
        edited = replace_string(inject(raw, parsed), "model", "b")
    asked = {**(parsed.get("stream_options") or {}), "include_usage": True}
    assert orjson.loads(edited) == {**parsed, "model": "b", "stream_options": asked}
