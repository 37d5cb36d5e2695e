"""What tells calls apart whose bodies are the same: where they go, what reaches the provider, whose an answer is."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from proxy.core.consent import Tier
from proxy.core.types import Call, Caller, Deployment, InboundRequest
from proxy.dialects.openai import classify
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.fingerprinting import context_of
from proxy.pipeline.snapshot import Snapshot
from proxy.routing.resolve import Candidate, Route
from proxy.settings.caching import CachePolicy, CacheShare
from proxy.settings.model import OnUnsupported, ProviderSettings, StreamUsage, TenantSettings

PLACES = (
    Candidate(Deployment("openai", "m-1"), "openai/m-1"),
    Candidate(Deployment("other", "m-2"), "other/m-2", Tier.EQUIVALENT),
)
PROVIDERS: Mapping[str, dict[str, Any]] = {
    "openai": {"base_url": "https://api.openai.com/v1"},
    "other": {"base_url": "https://other.example/v1", "dialect": "openai-compatible"},
}
HEAD: Mapping[str, Any] = {
    "method": "POST",
    "path": "/v1/chat/completions",
    "endpoint_path": "/chat/completions",
    "segments": ("chat", "completions"),
    "query": "",
    "headers": ((b"content-type", b"application/json"), (b"accept-encoding", b"gzip")),
    "peer": None,
}


class Asked(NamedTuple):
    """All that a call is made of, beside its body."""

    head: Mapping[str, Any] = {}
    call: Call = Call("m")
    tenant: TenantSettings = TenantSettings("acme")
    caller: Caller = Caller("acme", user="ada", virtual_key_id="vk_1")
    share: CacheShare = CacheShare.TENANT
    alias: str | None = "m"
    places: tuple[Candidate, ...] = PLACES
    is_written: bool = True
    openai: Mapping[str, Any] = {}


def context(asked: Asked, request: InboundRequest | None = None) -> bytes:
    """What tells it from others; on a connection's one head, where one is given."""
    settings = {name: ProviderSettings(name, **each) for name, each in PROVIDERS.items()}
    settings["openai"] = ProviderSettings("openai", **{**PROVIDERS["openai"], **asked.openai})
    providers = {name: SimpleNamespace(settings=each) for name, each in settings.items()}
    # Another configuration has other routes; those that it does not write are of none.
    written = asked.places if asked.is_written else ()
    snapshot = SimpleNamespace(providers=providers, routes=(written, tuple(map(repr, settings.values()))))
    request = request or InboundRequest(**{**HEAD, **asked.head})
    operation = classify(request.method, request.segments)
    exchange = Exchange("run_1", request, cast(Snapshot, snapshot), operation, 0, 0)
    exchange.call, exchange.tenant, exchange.caller = asked.call, asked.tenant, asked.caller
    exchange.route = Route(asked.alias, asked.places, asked.is_written)
    return context_of(exchange, CachePolicy(share=asked.share))


def headers(*pairs: tuple[bytes, bytes]) -> Asked:
    return Asked(head={"headers": pairs})


TYPE, GZIP = HEAD["headers"]
STATED = Asked()
USERS, KEYS = Asked(share=CacheShare.USER), Asked(share=CacheShare.VIRTUAL_KEY)


def by(share: CacheShare, **changed: Any) -> Asked:
    return Asked(share=share, caller=STATED.caller._replace(**changed))


REQUESTS = {
    "the method": Asked(head={"method": "PUT"}),
    "the path": Asked(head={"endpoint_path": "/completions"}),
    "its spelling": Asked(head={"endpoint_path": "/chat//completions"}),
    "the query": Asked(head={"query": "api=1"}),
    "a header": headers(TYPE, GZIP, (b"openai-beta", b"x")),
    "the content type": headers((b"content-type", b"application/json; charset=utf-8"), GZIP),
    "no coding": headers(TYPE),
    "another coding": headers(TYPE, (b"accept-encoding", b"deflate")),
    "codings in another order": headers(TYPE, (b"accept-encoding", b"deflate, gzip")),
}
CALLS = {
    "the alias": Asked(call=Call("n")),
    "no alias": Asked(call=Call(None)),
    "the form": Asked(call=Call("m", stream=True)),
    "stream_usage": Asked(tenant=TenantSettings("acme", stream_usage=StreamUsage.INJECT)),
    "on_unsupported": Asked(tenant=TenantSettings("acme", on_unsupported=OnUnsupported.DROP)),
    "residency": Asked(tenant=TenantSettings("acme", residency=frozenset({"eu"}))),
    "another residency": Asked(tenant=TenantSettings("acme", residency=frozenset({"eu", "us"}))),
    "no residency at all": Asked(tenant=TenantSettings("acme", residency=frozenset())),
    "shared by user": USERS,
    "another user": by(CacheShare.USER, user="bob"),
    "a user by the name of a virtual key": by(CacheShare.USER, user="vk_1"),
    "nobody": by(CacheShare.USER, user=None),
    "a user without a name": by(CacheShare.USER, user=""),
    "shared by virtual key": KEYS,
    "another virtual key": by(CacheShare.VIRTUAL_KEY, virtual_key_id="vk_2"),
    "no virtual key": by(CacheShare.VIRTUAL_KEY, virtual_key_id=None),
}
RELOADS = {
    "another route": Asked(alias="n"),
    "another deployment": Asked(places=(PLACES[0]._replace(deployment=Deployment("openai", "m-3")), PLACES[1])),
    "another provider": Asked(places=(PLACES[0]._replace(deployment=Deployment("other", "m-1")), PLACES[1])),
    "one deployment less": Asked(places=PLACES[:1]),
    "one more": Asked(places=(*PLACES, PLACES[0]._replace(deployment=Deployment("openai", "m-3")))),
    "another tier": Asked(places=(PLACES[0], PLACES[1]._replace(tier=Tier.SAME))),
    "base_url": Asked(openai={"base_url": "https://eu.api.openai.com/v1"}),
    "dialect": Asked(openai={"dialect": "anthropic"}),
    "api_version": Asked(openai={"api_version": "2024-10-21"}),
}


def on_one_connection() -> Callable[[Asked], bytes]:
    """What tells calls apart that come with one head, as a client sends it again and again."""
    request = InboundRequest(**HEAD)
    return lambda asked: context(asked, request)


def test_what_differs_tells_calls_apart():
    each = {"": STATED, **REQUESTS, **CALLS, **RELOADS}
    found = {name: context(asked) for name, asked in each.items()}
    alike = {
        (one, other) for one, value in found.items() for other, its in found.items() if one < other and value == its
    }
    assert not alike


@pytest.mark.parametrize("is_written", [True, False])
def test_what_was_worked_out_for_another_call_on_the_connection_is_not_taken(is_written):
    told = on_one_connection()
    each = [STATED, *CALLS.values(), *RELOADS.values()]
    for _ in range(2):  # the second time from memory
        for asked in each:
            asked = asked._replace(is_written=is_written)
            assert told(asked) == context(asked), asked


def test_a_route_that_is_not_written_is_told_by_where_it_leads():
    """A name that only the default provider knows: of one alias there are as many as callers make up."""
    told = on_one_connection()
    contexts = [told(Asked(is_written=False, places=(place,))) for place in PLACES]
    assert contexts[0] != contexts[1]


@pytest.mark.parametrize(
    "asked",
    [
        headers(TYPE, (b"accept-encoding", b"gzip, br, zstd")),  # of which only one is asked for
        headers(TYPE, (b"accept-encoding", b"br"), (b"accept-encoding", b"GZIP")),
        headers(TYPE, GZIP, (b"user-agent", b"a"), (b"x-request-id", b"1")),
        headers(TYPE, GZIP, (b"authorization", b"Bearer sk-1"), (b"x-tollway-user", b"bob"), (b"host", b"h")),
        Asked(places=PLACES[::-1]),  # who stands first is no promise of who answers
        Asked(places=(PLACES[0]._replace(weight=9, drained=True), PLACES[1])),
        Asked(caller=Caller("acme", user="bob", feature="report", virtual_key_id="vk_2")),
        Asked(tenant=TenantSettings("acme", plan="other")),
        Asked(openai={"region": "eu"}),
    ],
)
def test_what_changes_no_answer_does_not(asked):
    assert context(asked) == context(STATED)


@pytest.mark.parametrize("accepted", [b"br", b"gzip;q=0", b"identity"])
def test_who_accepts_nothing_that_is_read_here_is_answered_as_who_accepts_nothing(accepted):
    assert context(headers(TYPE, (b"accept-encoding", accepted))) == context(headers(TYPE))
