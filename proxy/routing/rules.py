"""Which rule of a model holds for a call: decided from the call and its caller alone.

Pure. The order is the file's, and the first that holds decides.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from proxy.settings.routing import ModelSettings, When

_FENCE: Final = b"```"  # of a block of code, at its beginning and at its end (CommonMark, section 4.5)


class Asked(NamedTuple):
    """What rules know of a call."""

    input_tokens: int = 0  # a guess
    text: bytes = b""  # the body's: looked through only where a rule asks for what is in it
    images: bool = False
    tools: bool = False
    feature: str | None = None
    plan: str = ""
    cap_used_pct: int = 0  # of the tenant's tightest cap, as of its last call here
    tier: str | None = None  # what the caller's header says


Predicate: TypeAlias = Callable[[Asked], bool]


class PreparedRule(NamedTuple):
    """A rule as calls meet it: only what it wants is looked at."""

    holds: Predicate
    use: str
    step: str  # what rows call it: the model that it is a rule of, and its name or place


def prepared(model: ModelSettings) -> tuple[PreparedRule, ...]:
    """The rules of a model in their order, and behind them its default, which always holds."""
    rules = [
        PreparedRule(predicate_of(rule.when), rule.use, f"{model.alias}.{rule.name or f'rules[{place}]'}")
        for place, rule in enumerate(model.rules)
    ]
    if model.default is not None:
        rules.append(PreparedRule(predicate_of(When()), model.default, f"{model.alias}.default"))
    return tuple(rules)


def first_that_holds(
    rules: Sequence[PreparedRule], may_use: Callable[[str], bool], asked: Asked
) -> PreparedRule | None:
    """The first rule that holds and whose model this caller may use; None: none does."""
    for rule in rules:
        if rule.holds(asked) and may_use(rule.use):
            return rule
    return None


def predicate_of(when: When) -> Predicate:
    """What has to be true of a call: all that the rule wants. What looks through its text comes last."""
    found: list[Predicate] = []
    if (at_least := when.input_tokens_min) is not None:
        found.append(lambda asked: asked.input_tokens >= at_least)
    if (at_most := when.input_tokens_max) is not None:
        found.append(lambda asked: asked.input_tokens <= at_most)
    if (images := when.images) is not None:
        found.append(lambda asked: asked.images is images)
    if (tools := when.tools) is not None:
        found.append(lambda asked: asked.tools is tools)
    if (features := when.feature) is not None:
        found.append(lambda asked: asked.feature in features)
    if (plans := when.plan) is not None:
        found.append(lambda asked: asked.plan in plans)
    if (used_pct := when.cap_used_pct_min) is not None:
        found.append(lambda asked: asked.cap_used_pct >= used_pct)
    if (tiers := when.tier) is not None:
        found.append(lambda asked: asked.tier in tiers)
    if (blocks := when.code_blocks_min) is not None:
        found.append(lambda asked: asked.text.count(_FENCE) // 2 >= blocks)
    if not found:
        return lambda _asked: True
    if len(found) == 1:
        return found[0]  # as most rules are
    return lambda asked: all(is_so(asked) for is_so in found)
