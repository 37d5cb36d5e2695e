"""Which rule holds for a call: every predicate, and the order."""

import pytest

from proxy.routing.rules import Asked, first_that_holds, holds
from proxy.settings.routing import RuleSettings, When

REPORT, PRO = frozenset({"report", "chat"}), frozenset({"pro"})


@pytest.mark.parametrize(
    ("when", "asked", "expected"),
    [
        (When(), Asked(), True),
        (When(input_tokens_min=10), Asked(input_tokens=10), True),
        (When(input_tokens_min=10), Asked(input_tokens=9), False),
        (When(input_tokens_max=10), Asked(input_tokens=10), True),
        (When(input_tokens_max=10), Asked(input_tokens=11), False),
        (When(code_blocks_min=2), Asked(text=b"```py\n1\n``` and ```\n2\n```"), True),
        (When(code_blocks_min=2), Asked(text=b"```\n1\n``` ```"), False),
        (When(images=True), Asked(images=True), True),
        (When(images=True), Asked(), False),
        (When(images=False), Asked(), True),
        (When(images=False), Asked(images=True), False),
        (When(tools=True), Asked(tools=True), True),
        (When(tools=False), Asked(tools=True), False),
        (When(feature=REPORT), Asked(feature="report"), True),
        (When(feature=REPORT), Asked(feature="other"), False),
        (When(feature=REPORT), Asked(), False),
        (When(plan=PRO), Asked(plan="pro"), True),
        (When(plan=PRO), Asked(plan="free"), False),
        (When(cap_used_pct_min=80), Asked(cap_used_pct=80), True),
        (When(cap_used_pct_min=80), Asked(cap_used_pct=79), False),
        (When(tier=frozenset({"fast"})), Asked(tier="fast"), True),
        (When(tier=frozenset({"fast"})), Asked(), False),
        # all of it, or not
        (When(tools=True, plan=PRO), Asked(tools=True, plan="pro"), True),
        (When(tools=True, plan=PRO), Asked(tools=True, plan="free"), False),
    ],
)
def test_holds(when, asked, expected):
    assert holds(when, asked) is expected


RULES = (RuleSettings("a", When(tools=True)), RuleSettings("b", When(input_tokens_min=5)), RuleSettings("c", When()))


@pytest.mark.parametrize(
    ("asked", "usable", "expected"),
    [
        (Asked(tools=True, input_tokens=9), "abc", 0),
        (Asked(tools=True, input_tokens=9), "bc", 1),
        (Asked(input_tokens=9), "abc", 1),
        (Asked(), "abc", 2),
        (Asked(), "ab", None),
    ],
)
def test_the_first_that_holds_decides(asked, usable, expected):
    assert first_that_holds(RULES, usable.__contains__, asked) == expected
