"""How much is held for a call, after it was admitted too: one way, for a stream that goes on and for a fallback.

What one call may cost is no window of the store, so it is asked here, before anything is held.
"""

from collections.abc import Iterable

from proxy.admission.answers import CapRefused, Grown
from proxy.admission.caps import per_call_refusal
from proxy.admission.keeper import Keeper
from proxy.core.errors import StateUnavailable
from proxy.pipeline.allowance import Allowance
from proxy.pipeline.refusals import cap_refusal, scope_kind
from proxy.pipeline.ticket import Ticket
from proxy.telemetry.metrics import Metrics


def call_refusal(call_caps: Iterable[Allowance], held_nusd: int) -> CapRefused | None:
    """The first of these caps on one call that cannot hold so much."""
    for scope, limits in call_caps:
        if (refused := per_call_refusal(scope, limits, held_nusd)) is not None:
            return refused
    return None


async def hold_more(ticket: Ticket, held_nusd: int, row: bytes, keeper: Keeper, metrics: Metrics) -> None:
    """Let the reservation hold so much in all. `row` is what the ledger gets if its lease runs out.

    Raises:
        CapExceeded: a cap cannot hold it.
        StateUnavailable: the store is away, or has given the reservation up.
    """
    answer = call_refusal(ticket.call_caps, held_nusd) or await keeper.grow(ticket.demand, held_nusd, row)
    if isinstance(answer, CapRefused):
        metrics.cap_refused(scope_kind(answer.scope))
        raise cap_refusal(answer)
    if not isinstance(answer, Grown):
        raise StateUnavailable("The state store gave this call's reservation up. Send it again.", retry_after_ms=0)
    metrics.held(answer.held_nusd - ticket.held_nusd)
    ticket.held_nusd = answer.held_nusd
