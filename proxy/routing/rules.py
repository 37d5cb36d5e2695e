"""Which rule of a model holds for a call: decided from the call and its caller alone.

Pure. The order is the file's, and the first that holds decides.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from proxy.settings.routing import RuleSettings, When

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


def first_that_holds(rules: Sequence[RuleSettings], may_use: Callable[[str], bool], asked: Asked) -> int | None:
    """The place of the first rule that holds and whose model this caller may use; None: none does."""
    for index, rule in enumerate(rules):
        if holds(rule.when, asked) and may_use(rule.use):
            return index
    return None


def holds(when: When, asked: Asked) -> bool:
    """True where the call is all that the rule wants."""
    return (
        (when.input_tokens_min is None or asked.input_tokens >= when.input_tokens_min)
        and (when.input_tokens_max is None or asked.input_tokens <= when.input_tokens_max)
        and (when.images is None or asked.images is when.images)
        and (when.tools is None or asked.tools is when.tools)
        and (when.feature is None or asked.feature in when.feature)
        and (when.plan is None or asked.plan in when.plan)
        and (when.cap_used_pct_min is None or asked.cap_used_pct >= when.cap_used_pct_min)
        and (when.tier is None or asked.tier in when.tier)
        and (when.code_blocks_min is None or asked.text.count(_FENCE) // 2 >= when.code_blocks_min)
    )
