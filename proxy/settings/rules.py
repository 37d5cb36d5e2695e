"""`rules` of a model: which other model serves a call, decided from the call and its caller alone."""

from collections.abc import Callable

from proxy.settings.reader import Reader
from proxy.settings.routing import RuleSettings, When
from proxy.settings.values import Mismatch, parse_feature_name, parse_provider_name

TOKENS_MAX = 1_000_000_000
CODE_BLOCKS_MAX = 10_000
RULES_MAX = 100


def read_rules(
    at: Reader, parse_model: Callable[[str], str], parse_plan: Callable[[str], str]
) -> tuple[RuleSettings, ...]:
    """A model's rules, in the order in which they are asked. The parsers take names of what is there."""
    return tuple(_rule(rule, parse_model, parse_plan) for rule in at.tables("rules", required=False))


def _rule(at: Reader, parse_model: Callable[[str], str], parse_plan: Callable[[str], str]) -> RuleSettings:
    rule = RuleSettings(
        use=at.text("use", parse_model, "", required="the model that serves where this rule holds"),
        when=_when(at.table("when"), parse_plan),
        name=at.text("name", parse_rule_name, None),
    )
    at.close()
    return rule


def parse_rule_name(text: str) -> str:
    """1 to 64 letters, digits, `_`, `.` and `-`: a header and the ledger show it."""
    try:
        return parse_provider_name(text)
    except Mismatch:
        raise Mismatch("a rule's name: 1 to 64 letters, digits, `_`, `.` and `-`") from None


def parse_tier_name(text: str) -> str:
    """What the header `x-tollway-tier` may say: 1 to 64 letters, digits, `_`, `.` and `-`."""
    try:
        return parse_provider_name(text)
    except Mismatch:
        raise Mismatch("a tier's name: 1 to 64 letters, digits, `_`, `.` and `-`") from None


def _when(at: Reader, parse_plan: Callable[[str], str]) -> When:
    when = When(
        input_tokens_min=at.integer("input_tokens_min", None, 1, TOKENS_MAX),
        input_tokens_max=at.integer("input_tokens_max", None, 0, TOKENS_MAX),
        code_blocks_min=at.integer("code_blocks_min", None, 1, CODE_BLOCKS_MAX),
        images=at.flag("images", None),
        tools=at.flag("tools", None),
        feature=_names(at, "feature", parse_feature_name),
        plan=_names(at, "plan", parse_plan),
        cap_used_pct_min=at.integer("cap_used_pct_min", None, 1, 100),
        tier=_names(at, "tier", parse_tier_name),
    )
    at.close()
    return when


def _names(at: Reader, name: str, parse: Callable[[str], str]) -> frozenset[str] | None:
    written = at.written(name, parse, None)
    return None if written is None else frozenset(written)
