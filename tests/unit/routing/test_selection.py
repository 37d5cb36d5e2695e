"""In which order candidates are asked."""

import pytest

from proxy.core.consent import Consent, Tier
from proxy.core.errors import UnsupportedParameter
from proxy.core.types import Deployment
from proxy.routing.resolve import Candidate, Route
from proxy.routing.selection import Abilities, Needs, Standing, choose

KNOWN = {
    "small": Abilities(frozenset(), 1_000),
    "tooled": Abilities(frozenset({"tools"}), 1_000),
    "seeing": Abilities(frozenset({"tools", "vision"}), 100_000),
    "unknown": Abilities(),
    "rumoured": Abilities(frozenset({"tools"}), 1_000, is_certain=False),
}
TIERS = {"alike": Tier.EQUIVALENT, "lesser": Tier.LOWER}


def candidate(name):
    return Candidate(Deployment("p", name), f"p/{name}", TIERS.get(name, Tier.SAME))


def chosen(names, *, needs=(), input_tokens=0, consent=Consent.LOWER, withheld=(), preferences=None, standings=None):
    candidates = tuple(map(candidate, names))
    return choose(
        Route("m", candidates, is_open=all(each.tier is Tier.SAME for each in candidates)),
        candidates,
        tuple(map(candidate, withheld)),
        consent,
        Needs(frozenset(needs), input_tokens),
        lambda deployment: KNOWN.get(str(deployment.model), Abilities()),
        None if preferences is None else [preferences[name] for name in names],
        lambda each: (standings or {}).get(each.deployment.model, Standing.WELL),
    )


def order(choice):
    return [each.deployment.model for each in choice.asked]


@pytest.mark.parametrize(
    ("names", "needs", "input_tokens", "expected"),
    [
        (("small", "tooled", "seeing"), (), 0, ["small", "tooled", "seeing"]),
        (("small", "tooled", "seeing"), ("tools",), 0, ["tooled", "seeing"]),
        (("small", "tooled", "seeing"), ("vision",), 0, ["seeing"]),
        (("small", "tooled", "seeing"), ("pdf",), 0, ["seeing"]),  # its pages are read as pictures
        (("small", "tooled", "seeing"), ("tools",), 1_001, ["seeing", "tooled"]),
        (("small", "tooled", "seeing"), ("tools",), 1_000, ["tooled", "seeing"]),
        (("tooled", "small"), ("tools",), 5_000, ["tooled"]),  # too short, and still the best there is
        (("rumoured", "seeing"), ("tools",), 0, ["rumoured", "seeing"]),
        (("rumoured", "seeing"), ("vision",), 0, ["seeing", "rumoured"]),
        (("rumoured", "seeing"), ("vision",), 999_999, ["seeing", "rumoured"]),
        (("small", "rumoured"), ("vision",), 0, ["rumoured"]),  # a catalogue may be wrong; the operator is not
        (("small", "unknown", "seeing"), ("vision",), 9_999_999, ["unknown", "seeing"]),  # nothing is held against it
    ],
)
def test_what_the_call_needs(names, needs, input_tokens, expected):
    assert order(chosen(names, needs=needs, input_tokens=input_tokens)) == expected


@pytest.mark.parametrize("names", [("small",), ("small", "tooled")])
def test_none_that_can(names):
    with pytest.raises(UnsupportedParameter) as raised:
        chosen(names, needs=("vision",))
    assert raised.value.param == "messages"
    assert "pictures" in raised.value.message


@pytest.mark.parametrize(
    ("names", "preferences", "standings", "expected", "first", "blocked"),
    [
        # tiers come before the order of the file, and before what a strategy prefers
        (("lesser", "alike", "a"), None, {}, ["a", "alike", "lesser"], "a", 0),
        (("a", "b", "alike"), {"a": 3.0, "b": 2.0, "alike": 1.0}, {}, ["b", "a", "alike"], "b", 0),
        (("a", "b"), {"a": 1.0, "b": 1.0}, {}, ["a", "b"], "a", 0),  # the file decides between equals
        # health moves behind, and does not change whose price holds
        (("a", "b"), None, {"a": Standing.DEGRADED}, ["b", "a"], "a", 0),
        (("a", "alike"), None, {"a": Standing.DEGRADED}, ["alike", "a"], "a", 0),
        (("a", "b", "c"), None, {"a": Standing.BLOCKED, "b": Standing.DEGRADED}, ["c", "b", "a"], "a", 1),
        (("a", "b"), None, {"a": Standing.BLOCKED, "b": Standing.BLOCKED}, ["a", "b"], "a", 2),
        (("a",), None, {"a": Standing.BLOCKED}, ["a"], "a", 1),
        (("a",), None, {"a": Standing.DEGRADED}, ["a"], "a", 0),
    ],
)
def test_tiers_strategy_and_health(names, preferences, standings, expected, first, blocked):
    choice = chosen(names, preferences=preferences, standings=standings)
    assert (order(choice), choice.first.deployment.model, choice.blocked) == (expected, first, blocked)


@pytest.mark.parametrize(
    ("names", "consent", "withheld", "standings", "expected", "blocked", "least"),
    [
        (("a", "b"), Consent.NONE, (), {}, ["a"], 0, Consent.EQUIVALENT),
        (("a",), Consent.NONE, ("alike", "lesser"), {}, ["a"], 0, Consent.EQUIVALENT),
        (("a",), Consent.NONE, ("lesser",), {}, ["a"], 0, Consent.LOWER),
        (("a",), Consent.NONE, (), {}, ["a"], 0, None),
        (("a", "alike"), Consent.EQUIVALENT, ("lesser",), {}, ["a", "alike"], 0, Consent.LOWER),
        # one of the same model may be chosen for the call; none is asked after it
        (("a", "b"), Consent.NONE, (), {"a": Standing.BLOCKED}, ["b"], 0, Consent.EQUIVALENT),
        (("a", "b"), Consent.NONE, (), {"a": Standing.BLOCKED, "b": Standing.BLOCKED}, ["a"], 1, Consent.EQUIVALENT),
    ],
)
def test_consent(names, consent, withheld, standings, expected, blocked, least):
    choice = chosen(names, consent=consent, withheld=withheld, standings=standings)
    assert (order(choice), choice.blocked, choice.withheld) == (expected, blocked, least)
