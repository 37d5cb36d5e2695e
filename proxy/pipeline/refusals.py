"""What a caller is told when a limit or a cap refuses: which one, its numbers, and what to do.

Pure. The numbers are the store's own, of the moment at which it decided. Names of users and
features are left out: whoever asks knows its own, and need not be shown another's.
"""

from datetime import UTC, datetime
from typing import Final

from proxy.admission.answers import Admission, CapRefused, Known, LimitKind, LimitRefused, Revoked
from proxy.admission.terms import WindowKind
from proxy.core.errors import CapExceeded, GatewayError, InvalidApiKey, RateLimited, StateUnavailable, UnpricedModel
from proxy.core.money import usd_text

_SCOPES: Final = {
    "tenant": "the tenant",
    "user": "this user",
    "virtual_key": "this virtual key",
    "feature": "this feature",
    "model": "this model",
}
_WINDOWS: Final = {
    WindowKind.CALL: "one call",
    WindowKind.HOUR: "an hour",
    WindowKind.ROLLING_24H: "24 hours",
    WindowKind.DAY: "a day",
    WindowKind.MONTH: "a month",
    WindowKind.TOTAL: "all time",
}
_LIMITS: Final = {
    LimitKind.CONCURRENCY: "as many calls are under way as it may have at once",
    LimitKind.REQUESTS: "its requests of this minute are used up",
    LimitKind.TOKENS: "its tokens of this minute are used up",
}


def scope_kind(scope: str) -> str:
    """The kind of a scope, from its name in the store: a label of metrics."""
    return scope.partition(":")[0]


def refusal(answer: Admission) -> GatewayError:
    """The error that says why the store did not admit a call."""
    if isinstance(answer, LimitRefused):
        return RateLimited(
            f"A rate limit of {_scope(answer.scope)} holds: {_LIMITS[answer.limit]} ({answer.limit}). "
            f"Try again in {answer.retry_after_ms / 1_000:g} s.",
            retry_after_ms=answer.retry_after_ms,
        )
    if isinstance(answer, CapRefused):
        return cap_refusal(answer)
    if isinstance(answer, Revoked):
        return InvalidApiKey("The API key is revoked. Send a valid virtual key as `Authorization: Bearer twk_…`.")
    if isinstance(answer, Known):
        return StateUnavailable(
            f"This call's reservation was {answer.state} before it could begin. Send it again.", retry_after_ms=0
        )
    return StateUnavailable(
        "The gateway's state store is being set right after a loss; no money is spent until it is. Try again shortly.",
        retry_after_ms=1_000,
    )


def cap_refusal(refused: CapRefused, *, ceiling: int | None = None, ceiling_name: str | None = None) -> CapExceeded:
    """The error for a spend cap.

    `ceiling` is the one that would fit, of a call that has none; `ceiling_name` the field for it.
    """
    whose, window = _scope(refused.scope), _WINDOWS[refused.kind]
    parts = [f"The spend cap of {whose} cannot hold this call: it may cost ${usd_text(refused.needed_nusd)}, and of "]
    if refused.kind is WindowKind.CALL:
        parts = [f"This call may cost ${usd_text(refused.needed_nusd)}; {whose} may spend "]
        parts.append(f"${usd_text(refused.cap_nusd)} on one call.")
    else:
        parts.append(f"${usd_text(refused.cap_nusd)} for {window}, ${usd_text(refused.spent_nusd)} is spent and ")
        parts.append(f"${usd_text(refused.held_nusd)} is held for calls under way.")
    if ceiling is not None and ceiling_name is not None:
        parts.append(f" Set `{ceiling_name}` to at most {ceiling}, and it fits this cap.")
    elif refused.kind is WindowKind.CALL:
        parts.append(" Ask for a shorter answer, or send less.")
    elif refused.needed_nusd > refused.cap_nusd:  # waiting is no help
        parts.append(" That is more than the whole cap: ask for a shorter answer, send less, or have the cap raised.")
    elif refused.resets_at_ms is not None:
        parts.append(f" There is room again at {_instant(refused.resets_at_ms)}.")
    else:
        parts.append(" Only whoever runs this gateway can raise it.")
    return CapExceeded("".join(parts), param=ceiling_name if ceiling is not None else None)


def _scope(scope: str) -> str:
    return _SCOPES[scope_kind(scope)]


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def unpriced(*, names_a_model: bool) -> UnpricedModel:
    """A cap holds, and no price is known that could be held."""
    if names_a_model:
        why = "nobody here knows what this model costs. Use another one, or have the operator write its `price`."
    else:
        why = "this call names no model, so that nobody knows what it costs. Name one in `model`."
    return UnpricedModel(f"A spend cap holds for you, and {why}", param="model")
