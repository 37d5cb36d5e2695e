"""Whom a strategy prefers, over what this process has measured."""

from collections import Counter
from types import SimpleNamespace

import pytest

from proxy.core.types import Caller, Deployment
from proxy.pipeline.preferring import Preferring
from proxy.pricing.facts import own_facts
from proxy.routing.resolve import Candidate, Route
from proxy.settings.routing import Sticky, Strategy
from proxy.upstream.conditions import Conditions

NOW_US = 1_000_000_000
PRICES = {"dear": own_facts(2, 8).price, "cheap": own_facts(1, 4).price, "unpriced": None}


def candidate(name, weight=1):
    return Candidate(Deployment("p", name), f"p/{name}", weight=weight)


def exchange(routes=None, user="ada", document=None, *, stream=False):
    prices = SimpleNamespace(likely_price=lambda deployment, _at_ms: PRICES[deployment.model])
    return SimpleNamespace(
        caller=Caller("acme", user=user),
        call=SimpleNamespace(document=document, text=b"{}", stream=stream),
        snapshot=SimpleNamespace(routes=routes, prices=prices),
        started_at_ms=0,
        split=None,
    )


def first(preferring, call, route, candidates=None):
    candidates = candidates or route.candidates
    preferences = preferring.preferences(call, route, candidates, NOW_US)
    return candidates[0 if preferences is None else preferences.index(min(preferences))].deployment.model


def test_priority_prefers_nobody():
    route = Route("m", (candidate("a"), candidate("b")))
    assert Preferring(Conditions()).preferences(exchange(), route, route.candidates, NOW_US) is None


def test_the_cheapest_and_last_of_all_who_has_no_price():
    route = Route("m", (candidate("unpriced"), candidate("dear"), candidate("cheap")), strategy=Strategy.CHEAPEST)
    preferring = Preferring(Conditions())
    assert first(preferring, exchange(), route) == "cheap"
    assert first(preferring, exchange(), route, (candidate("unpriced"), candidate("dear"))) == "dear"


@pytest.mark.parametrize("stream", [False, True])
def test_the_fastest_by_what_was_measured_of_such_calls(stream):
    conditions = Conditions()
    for name, first_byte_us in (("a", 300_000), ("b", 100_000)):
        conditions.vitals(f"p/{name}").answered(NOW_US, first_byte_us, stream=stream)
        conditions.vitals(f"p/{name}").answered(NOW_US, 400_000 - first_byte_us, stream=not stream)
    route = Route("m", (candidate("a"), candidate("b")), strategy=Strategy.FASTEST)
    assert first(Preferring(conditions), exchange(stream=stream), route) == "b"


def test_between_those_as_fast_lots_decide_and_are_dealt_once():
    conditions = Conditions()
    for name in "ab":
        conditions.vitals(f"p/{name}").answered(NOW_US, 100_000, stream=False)
    route = Route("m", (candidate("a"), candidate("b")), strategy=Strategy.FASTEST, sticky=Sticky.USER)
    preferring = Preferring(conditions)
    drawn = {user: first(preferring, exchange(user=user), route) for user in map(str, range(50))}
    assert set(drawn.values()) == {"a", "b"}
    assert all(first(preferring, exchange(user=user), route) == name for user, name in drawn.items())


def test_lots_for_each_call_fall_as_the_weights_are():
    route = Route("m", (candidate("a", 3), candidate("b", 1), candidate("c", 0)), strategy=Strategy.WEIGHTED)
    preferring = Preferring(Conditions())
    counted = Counter(first(preferring, exchange(), route) for _ in range(4_000))
    # 4,000 draws of 0.25: the standard deviation is 27, and six of them are 164.
    assert abs(counted["b"] - 1_000) < 164
    assert counted["c"] == 0


@pytest.mark.parametrize(
    ("sticky", "document"),
    [
        (Sticky.TENANT, None),
        (Sticky.USER, None),
        (Sticky.CONVERSATION, {"messages": [{"role": "user", "content": "Hi"}]}),
    ],
)
def test_who_is_served_alike_draws_alike_in_every_process_and_whoever_is_left(sticky, document):
    route = Route("m", tuple(map(candidate, "abcd")), strategy=Strategy.WEIGHTED, sticky=sticky)
    call = exchange(document=document)
    drawn = first(Preferring(Conditions()), call, route)
    assert call.split == f"p/{drawn}"
    assert first(Preferring(Conditions()), exchange(document=document), route) == drawn
    left = tuple(each for each in route.candidates if each.deployment.model in {drawn, "a", "b"})
    assert first(Preferring(Conditions()), exchange(document=document), route, left) == drawn


def test_a_reload_deals_anew():
    preferring = Preferring(Conditions())
    before, after = (
        Route("m", (candidate("a", weight), candidate("b", 1 - weight)), strategy=Strategy.WEIGHTED, sticky=Sticky.USER)
        for weight in (1, 0)
    )
    assert first(preferring, exchange(routes=object()), before) == "a"
    assert first(preferring, exchange(routes=object()), after) == "b"
