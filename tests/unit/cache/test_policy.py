"""Which calls may be answered from what is kept."""

import orjson
import pytest

from proxy.cache.policy import Bypass, Directives, bypass_of, directives_of, policy_of
from proxy.core.errors import InvalidHeader
from proxy.settings.caching import CacheMode, CachePolicy, CacheSettings

ALL, SURE, OFF = (CachePolicy(mode) for mode in (CacheMode.ALL, CacheMode.DETERMINISTIC, CacheMode.OFF))
MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("tenant", "model", "feature", "endpoint", "expected"),
    [
        (None, None, None, None, CachePolicy()),
        (ALL, None, None, None, ALL),
        (ALL, SURE, None, None, SURE),
        (ALL, None, SURE, None, SURE),
        (ALL, None, None, SURE, SURE),
        (None, OFF, None, ALL, OFF),
        (SURE, OFF, ALL, OFF, ALL),  # a feature is the most specific
        (None, SURE, None, ALL, SURE),
        (OFF, ALL, ALL, ALL, CachePolicy()),  # a tenant's own off is the last word
    ],
)
def test_the_most_specific_that_says_anything(tenant, model, feature, endpoint, expected):
    settings = CacheSettings(
        features={} if feature is None else {"f": feature},
        endpoints={} if endpoint is None else {"embeddings": endpoint},
    )
    assert policy_of(settings, tenant, model, "f", "embeddings") == expected
    if feature is not None:
        assert policy_of(settings, tenant, model, None, "embeddings") == policy_of(
            CacheSettings(endpoints=settings.endpoints), tenant, model, "f", "embeddings"
        )


@pytest.mark.parametrize(
    ("cache_control", "own", "expected"),
    [
        (None, None, Directives()),
        (b"no-cache", None, Directives(looks=False)),
        (b"no-store", None, Directives(looks=False, keeps=False)),
        (b"private, Max-Age=60", None, Directives(max_age_s=60)),
        (b'max-age="0"', None, Directives(max_age_s=0)),
        (b"max-age=-1, max-age=x, stale=1", None, Directives()),
        (b"only-if-cached", None, Directives(keeps=False, only=True)),
        (None, b"off", Directives(looks=False, keeps=False)),
        (None, b" Refresh ", Directives(looks=False)),
        (None, b"only", Directives(keeps=False, only=True)),
        (b"no-store", b"refresh", Directives(looks=False, keeps=False)),  # each may only take away
        (b"no-cache", b"only", Directives(looks=False, keeps=False, only=True)),
        (b"max-age=5", b"only", Directives(keeps=False, only=True, max_age_s=5)),
    ],
)
def test_what_the_caller_asks_for(cache_control, own, expected):
    assert directives_of(cache_control, own) == expected


@pytest.mark.parametrize("own", [b"", b"on", b"hit", b"off,only", b"\xff"])
def test_another_word_is_refused(own):
    with pytest.raises(InvalidHeader, match="x-tollway-cache"):
        directives_of(None, own)


@pytest.mark.parametrize(
    ("mode", "operation", "document", "expected"),
    [
        (SURE, "embeddings", {"model": "m", "input": "x"}, None),
        (SURE, "moderations", {"input": "x"}, None),
        (SURE, "messages_count_tokens", MESSAGES, None),
        (SURE, "chat_completions", MESSAGES, Bypass.NOT_DETERMINISTIC),
        (SURE, "chat_completions", {**MESSAGES, "temperature": 0}, None),
        (SURE, "chat_completions", {**MESSAGES, "temperature": 0.0}, None),
        (SURE, "chat_completions", {**MESSAGES, "temperature": False}, Bypass.NOT_DETERMINISTIC),
        (SURE, "chat_completions", {**MESSAGES, "temperature": "0"}, Bypass.NOT_DETERMINISTIC),
        (SURE, "chat_completions", {**MESSAGES, "temperature": 1e-9}, Bypass.NOT_DETERMINISTIC),
        (SURE, "audio_speech", {"model": "m", "input": "x"}, Bypass.NOT_DETERMINISTIC),
        (ALL, "chat_completions", MESSAGES, None),
        (ALL, "audio_speech", {"model": "m", "input": "x", "voice": "alloy"}, None),
        (ALL, "chat_completions", {**MESSAGES, "store": True}, Bypass.STATEFUL),
        (ALL, "chat_completions", {**MESSAGES, "store": False}, None),
        (ALL, "responses", {"model": "m", "input": "x"}, Bypass.STATEFUL),  # what is not told otherwise is kept
        (ALL, "responses", {"model": "m", "input": "x", "store": None}, Bypass.STATEFUL),
        (ALL, "responses", {"model": "m", "input": "x", "store": False}, None),
        (ALL, "responses", {"input": "x", "store": False, "previous_response_id": "resp_1"}, Bypass.STATEFUL),
        (ALL, "responses", {"input": "x", "store": False, "conversation": "conv_1"}, Bypass.STATEFUL),
        (ALL, "responses", {"input": "x", "store": False, "prompt": {"id": "pmpt_1"}}, Bypass.STATEFUL),
        (ALL, "responses", {"input": "x", "store": False, "background": True}, Bypass.STATEFUL),
        (ALL, "messages", {**MESSAGES, "container": "c_1"}, Bypass.STATEFUL),
        (ALL, "messages", {**MESSAGES, "mcp_servers": [{"url": "https://x"}]}, Bypass.TOOLS),
        (ALL, "messages", {**MESSAGES, "tools": [{"name": "f", "input_schema": {}}]}, None),
        (ALL, "messages", {**MESSAGES, "tools": [{"type": "web_search_20250305"}]}, Bypass.TOOLS),
        (ALL, "chat_completions", {**MESSAGES, "tools": [{"type": "function", "function": {"name": "f"}}]}, None),
        (ALL, "chat_completions", {**MESSAGES, "tools": [{"type": ["function"]}]}, Bypass.TOOLS),
        (ALL, "chat_completions", {**MESSAGES, "tools": {"type": "function"}}, Bypass.TOOLS),
        (ALL, "chat_completions", {**MESSAGES, "tools": []}, None),
        (ALL, "chat_completions", {**MESSAGES, "web_search_options": {"x": 1}}, Bypass.TOOLS),
        (ALL, "chat_completions", {**MESSAGES, "extra_body": {"google": {}}}, Bypass.TOOLS),
        (
            ALL,
            "chat_completions",
            {"messages": [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
            Bypass.STATEFUL,
        ),
        (ALL, "embeddings", {"input": "x", "file_id": "file-1"}, Bypass.STATEFUL),
    ],
)
def test_why_a_call_goes_past(mode, operation, document, expected):
    assert bypass_of(mode.mode, operation, orjson.dumps(document), document) is expected


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        (ALL, b'{"store":true,"store":false}', Bypass.AMBIGUOUS),
        (ALL, b'{"store":true,"st\\u006fre":false}', Bypass.AMBIGUOUS),
        (ALL, b'{"background":true,"background":null}', Bypass.AMBIGUOUS),
        (ALL, b'{"plugins":[1],"plugins":[]}', Bypass.AMBIGUOUS),
        (ALL, b'{"Store":true}', Bypass.AMBIGUOUS),
        (ALL, b'{"\xc5\xbftore":true}', Bypass.AMBIGUOUS),  # a long s, which some take for an s
        (SURE, b'{"temperature":1,"temperature":0}', Bypass.AMBIGUOUS),
        (SURE, b'{"temperature":0,"Temperature":1}', Bypass.AMBIGUOUS),
        (SURE, b'{"temperature":0,"messages":[{"content":"\\"temperature\\": 1"}]}', None),
        (ALL, b'{"store":false,"metadata":{"store":"x"}}', None),
        (ALL, b'{"store":false,"x":"store","y":"\\u00e4"}', None),
        (ALL, b'{"seed":1,"seed":2,"SEED":3}', None),  # decides nothing here
    ],
)
def test_what_a_provider_may_read_otherwise_goes_past(mode, text, expected):
    assert bypass_of(mode.mode, "chat_completions", text, orjson.loads(text)) is expected
