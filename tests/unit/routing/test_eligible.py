"""Who may serve a caller at all: promises first, then what is in service, then consent."""

import pytest

from proxy.core.consent import Consent, Tier
from proxy.core.errors import NoDeploymentAllowed, NoDeploymentAvailable
from proxy.core.types import Deployment
from proxy.routing.eligible import Seeker, eligible
from proxy.routing.resolve import Candidate, Route


def candidate(name, **said):
    return Candidate(Deployment("p", name), f"p/{name}", **said)


HOME = candidate("home", region="eu", keeps_nothing=True)
AWAY = candidate("away", region="us")
ALIKE = candidate("alike", region="eu", tier=Tier.EQUIVALENT)
LESSER = candidate("lesser", region="eu", tier=Tier.LOWER)
KEPT = candidate("kept", tenants=frozenset({"acme"}))
PAID = candidate("paid", plans=frozenset({"pro"}))
DRAINED = candidate("drained", drained=True)
EU = frozenset({"eu"})


def names(candidates):
    return [each.deployment.model for each in candidates]


@pytest.mark.parametrize(
    ("candidates", "seeker", "drained", "agreed", "withheld"),
    [
        ((HOME, AWAY), {}, (), ["home", "away"], []),
        ((HOME, AWAY), {"residency": EU}, (), ["home"], []),
        ((HOME, AWAY), {"zero_retention": True}, (), ["home"], []),
        ((HOME, KEPT), {}, (), ["home"], []),
        ((HOME, KEPT), {"tenant_id": "acme"}, (), ["home", "kept"], []),
        ((HOME, PAID), {"plan": "pro"}, (), ["home", "paid"], []),
        ((HOME, PAID), {}, (), ["home"], []),
        ((HOME, DRAINED), {}, (), ["home"], []),
        ((HOME, AWAY), {}, ("p/home",), ["away"], []),
        ((HOME, ALIKE, LESSER), {}, (), ["home"], ["alike", "lesser"]),
        ((HOME, ALIKE, LESSER), {"consent": Consent.EQUIVALENT}, (), ["home", "alike"], ["lesser"]),
        ((HOME, ALIKE, LESSER), {"consent": Consent.LOWER}, (), ["home", "alike", "lesser"], []),
        ((AWAY, LESSER), {"consent": Consent.LOWER, "residency": EU}, (), ["lesser"], []),
    ],
)
def test_eligible(candidates, seeker, drained, agreed, withheld):
    is_open = all(each.tier is Tier.SAME and each not in (KEPT, PAID, DRAINED) for each in candidates)
    route = Route("m", candidates, is_open=is_open)
    found, besides = eligible(route, Seeker(**{"tenant_id": "other", "plan": "default", **seeker}), frozenset(drained))
    assert (names(found), names(besides)) == (agreed, withheld)


@pytest.mark.parametrize(
    ("candidates", "seeker", "drained", "error", "said"),
    [
        ((AWAY,), {"residency": EU}, (), NoDeploymentAllowed, "served in eu"),
        ((AWAY,), {"zero_retention": True}, (), NoDeploymentAllowed, "keep nothing"),
        ((KEPT,), {}, (), NoDeploymentAllowed, "kept for others"),
        ((DRAINED,), {}, (), NoDeploymentAvailable, "out of service"),
        ((HOME,), {}, ("p/home",), NoDeploymentAvailable, "out of service"),
        ((DRAINED, LESSER), {}, (), NoDeploymentAvailable, "out of service"),  # the other is not agreed to
    ],
)
def test_nobody_may(candidates, seeker, drained, error, said):
    with pytest.raises(error) as raised:
        eligible(
            Route("m", candidates, is_open=False),
            Seeker(**{"tenant_id": "other", "plan": "default", **seeker}),
            frozenset(drained),
        )
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("candidates", "seeker", "drained", "withheld"),
    [
        ((HOME,), {}, ("p/home",), None),
        ((DRAINED, ALIKE), {}, (), Consent.EQUIVALENT),
        ((HOME, ALIKE, LESSER), {}, ("p/home",), Consent.EQUIVALENT),
        ((HOME, LESSER, ALIKE), {}, ("p/home",), Consent.EQUIVALENT),  # the least, wherever it stands
        ((HOME, ALIKE, LESSER), {"consent": Consent.EQUIVALENT}, ("p/home", "p/alike"), Consent.LOWER),
        ((HOME, ALIKE, LESSER), {"consent": Consent.LOWER}, ("p/home", "p/alike", "p/lesser"), None),
        ((HOME, candidate("us", region="us", tier=Tier.LOWER)), {"residency": EU}, ("p/home",), None),
    ],
)
def test_where_consent_is_all_that_stands_in_the_way_it_is_named(candidates, seeker, drained, withheld):
    route, seeker = Route("m", candidates, is_open=False), Seeker(**{"tenant_id": "t", "plan": "default", **seeker})
    with pytest.raises(NoDeploymentAvailable) as raised:
        eligible(route, seeker, frozenset(drained))
    assert raised.value.withheld is withheld
