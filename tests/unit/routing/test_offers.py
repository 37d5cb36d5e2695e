"""What a route offers: worked out once for all who are alike, and never for one who is not."""

import pytest

from proxy.core.consent import Consent, Tier
from proxy.core.errors import NoDeploymentAvailable
from proxy.core.types import Deployment
from proxy.routing.offers import Offers
from proxy.routing.resolve import NAMED_MAX, Candidate, Route
from proxy.routing.selection import Abilities, Needs, Standing, choose
from proxy.settings.model import TenantSettings

TOOLED = Abilities(frozenset({"tools"}), 1_000)
ACME, OTHER = TenantSettings("acme"), TenantSettings("other")


def candidate(name, **said):
    return Candidate(Deployment("p", name), f"p/{name}", **said)


A, B = candidate("a"), candidate("b")
ALIKE, LESSER = candidate("alike", tier=Tier.EQUIVALENT), candidate("lesser", tier=Tier.LOWER)


class Known:
    """Counts how often it is asked."""

    def __init__(self, **abilities):
        self.abilities = abilities
        self.asked = 0

    def __call__(self, deployment):
        self.asked += 1
        return self.abilities.get(deployment.model, TOOLED)


def names(candidates):
    return [each.deployment.model for each in candidates]


def test_it_is_worked_out_once():
    known = Known()
    offers = Offers(frozenset(), known)
    route = Route("m", (A, B))
    first = offers.find(route, ACME, Consent.LOWER)
    assert offers.find(route, OTHER, Consent.LOWER) is first
    assert known.asked == 2


@pytest.mark.parametrize(
    ("other", "consent"),
    [
        (ACME, Consent.NONE),
        (TenantSettings("acme", residency=frozenset({"eu"})), Consent.LOWER),
        (TenantSettings("acme", zero_retention=True), Consent.LOWER),
    ],
)
def test_who_is_not_alike_is_offered_its_own(other, consent):
    route = Route("m", (candidate("a", region="us"), candidate("b", region="eu", keeps_nothing=True)))
    offers = Offers(frozenset(), Known())
    assert names(offers.find(route, ACME, Consent.LOWER).candidates) == ["a", "b"]
    theirs = offers.find(route, other, consent)
    assert names(theirs.plain[0].asked) == (["a"] if consent is Consent.NONE else ["b"])
    assert names(offers.find(route, ACME, Consent.LOWER).candidates) == ["a", "b"]


def test_what_is_kept_for_one_tenant_is_offered_to_it_alone():
    kept = candidate("kept", tenants=frozenset({"acme"}))
    route = Route("m", (A, kept), is_open=False, is_for_all=False)
    offers = Offers(frozenset(), Known())
    for _ in range(2):
        assert names(offers.find(route, ACME, Consent.NONE).candidates) == ["a", "kept"]
        assert names(offers.find(route, OTHER, Consent.NONE).candidates) == ["a"]


def test_a_plan_decides_too():
    paid = candidate("paid", plans=frozenset({"pro"}))
    route = Route("m", (A, paid), is_open=False, is_for_all=False)
    offers = Offers(frozenset(), Known())
    for _ in range(2):
        assert names(offers.find(route, TenantSettings("acme", plan="pro"), Consent.NONE).candidates) == ["a", "paid"]
        assert names(offers.find(route, ACME, Consent.NONE).candidates) == ["a"]


def test_two_names_that_callers_make_are_not_mixed_up():
    offers = Offers(frozenset(), Known())
    for _ in range(2):
        for each in (A, B):
            route = Route(None, (each,), is_written=False)
            assert offers.find(route, ACME, Consent.NONE).candidates == (each,)


def test_whoever_makes_names_up_puts_out_nothing_of_the_configuration():
    known = Known()
    offers = Offers(frozenset(), known)
    written = offers.find(Route("m", (A, B)), ACME, Consent.NONE)
    for number in range(2 * NAMED_MAX):
        made_up = Route(f"made-up-{number}", (candidate(f"made-up-{number}"),), is_written=False)
        assert names(offers.find(made_up, ACME, Consent.NONE).candidates) == [f"made-up-{number}"]
    assert len(offers._named) <= NAMED_MAX
    assert offers.find(Route("m", (A, B)), ACME, Consent.NONE) is written


def test_a_refusal_is_not_remembered_as_an_offer():
    offers = Offers(frozenset({"p/a"}), Known())
    for _ in range(2):
        with pytest.raises(NoDeploymentAvailable):
            offers.find(Route("m", (A,)), ACME, Consent.NONE)


@pytest.mark.parametrize(
    ("abilities", "are_alike"),
    [
        ({}, False),  # the operator has said what they can do: it may not be all
        ({"a": Abilities(), "b": Abilities()}, True),
        ({"a": Abilities(frozenset(), 1_000, is_certain=False)}, False),
        (
            {
                "a": Abilities(frozenset(), 1_000, is_certain=False),
                "b": Abilities(frozenset(), 1_000, is_certain=False),
            },
            True,
        ),
    ],
)
def test_when_what_the_call_needs_decides_nothing(abilities, are_alike):
    offer = Offers(frozenset(), Known(**abilities)).find(Route("m", (A, B)), ACME, Consent.LOWER)
    assert offer.are_alike is are_alike


@pytest.mark.parametrize("consent", list(Consent))
def test_a_plain_choice_is_what_choosing_comes_to_where_all_are_well(consent):
    candidates = (LESSER, A, ALIKE, B)
    route = Route("m", candidates, is_open=False)
    offer = Offers(frozenset(), lambda _deployment: Abilities()).find(route, ACME, consent)
    assert names(offer.leading) == ["a", "b"]
    for place, first in enumerate(offer.leading):
        expected = choose(
            route,
            offer.candidates,
            offer.withheld,
            consent,
            Needs(),
            lambda _deployment: Abilities(),
            [0.0 if each is first else 1.0 for each in offer.candidates],
            lambda _candidate: Standing.WELL,
        )
        assert (offer.plain[place].first, offer.plain[place].asked) == (expected.first, expected.asked)
        assert offer.plain[place].withheld == expected.withheld
