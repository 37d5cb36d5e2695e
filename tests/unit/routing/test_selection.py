"""Which of a route's deployments is asked first."""

import pytest

from proxy.core.errors import UnsupportedParameter
from proxy.core.types import Deployment
from proxy.routing.resolve import Route
from proxy.routing.selection import Abilities, Needs, select

NAMES = ("small", "tooled", "seeing", "unknown", "rumoured")
SMALL, TOOLED, SEEING, UNKNOWN, RUMOURED = (Deployment("p", name) for name in NAMES)
KNOWN = {
    SMALL: Abilities(frozenset(), 1_000),
    TOOLED: Abilities(frozenset({"tools"}), 1_000),
    SEEING: Abilities(frozenset({"tools", "vision"}), 100_000),
    UNKNOWN: Abilities(),
    RUMOURED: Abilities(frozenset({"tools"}), 1_000, is_certain=False),
}


def chosen(*deployments, needs=(), input_tokens=0):
    route = Route("m", deployments)
    return select(route, Needs(frozenset(needs), input_tokens), KNOWN.__getitem__)


@pytest.mark.parametrize(
    ("deployments", "needs", "input_tokens", "expected"),
    [
        ((SMALL, TOOLED, SEEING), (), 0, SMALL),
        ((SMALL, TOOLED, SEEING), ("tools",), 0, TOOLED),
        ((SMALL, TOOLED, SEEING), ("vision",), 0, SEEING),
        ((SMALL, TOOLED, SEEING), ("pdf",), 0, SEEING),  # its pages are read as pictures
        ((SMALL, TOOLED, SEEING), ("tools",), 1_001, SEEING),
        ((SMALL, TOOLED, SEEING), ("tools",), 1_000, TOOLED),
        ((TOOLED, SMALL), ("tools",), 5_000, TOOLED),  # too short, and still the best there is
        ((RUMOURED, SEEING), ("tools",), 0, RUMOURED),
        ((RUMOURED, SEEING), ("vision",), 0, SEEING),
        ((RUMOURED, SEEING), ("vision",), 999_999, SEEING),
        ((SMALL, RUMOURED), ("vision",), 0, RUMOURED),  # a catalogue may be wrong; the operator is not
        ((SMALL, UNKNOWN, SEEING), ("vision",), 9_999_999, UNKNOWN),  # nothing is held against it
    ],
)
def test_select(deployments, needs, input_tokens, expected):
    assert chosen(*deployments, needs=needs, input_tokens=input_tokens) == expected


def test_none_that_can():
    with pytest.raises(UnsupportedParameter) as raised:
        chosen(SMALL, TOOLED, needs=("vision",))
    assert raised.value.param == "messages"
    assert "pictures" in raised.value.message
