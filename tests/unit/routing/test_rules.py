"""Which rule holds for a call: every predicate, and the order."""

import pytest

from proxy.routing.rules import Asked, first_that_holds, predicate_of, prepared
from proxy.settings.routing import ModelSettings, RuleSettings, When

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
    assert predicate_of(when)(asked) is expected


RULES = (
    RuleSettings("a", When(tools=True)),
    RuleSettings("b", When(input_tokens_min=5), name="long"),
    RuleSettings("c", When()),
)


@pytest.mark.parametrize(
    ("asked", "usable", "default", "expected"),
    [
        (Asked(tools=True, input_tokens=9), "abc", None, ("a", "auto.rules[0]")),
        (Asked(tools=True, input_tokens=9), "bc", None, ("b", "auto.long")),
        (Asked(input_tokens=9), "abc", "d", ("b", "auto.long")),
        (Asked(), "abc", None, ("c", "auto.rules[2]")),
        (Asked(), "ab", None, None),
        (Asked(), "abd", "d", ("d", "auto.default")),
        (Asked(), "ab", "d", None),
    ],
)
def test_the_first_that_holds_decides(asked, usable, default, expected):
    rules = prepared(ModelSettings("auto", (), rules=RULES, default=default))
    rule = first_that_holds(rules, usable.__contains__, asked)
    assert (None if rule is None else (rule.use, rule.step)) == expected
