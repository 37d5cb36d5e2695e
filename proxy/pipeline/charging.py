"""What a run used and cost, when it is over, however it ended.

Pure. A report is exact. Where there is none, or only the beginning of one, what was heard is
counted; where even that says nothing, the reservation is what it cost. Hanging up is no refund.
"""

from typing import Final

from proxy.admission.estimate import Estimate, worst_nusd
from proxy.core.errors import (
    CallerGone,
    GatewayError,
    GatewayStopped,
    UpstreamBrokeOff,
    UpstreamMalformed,
    UpstreamNotConnected,
    UpstreamTimedOut,
    UpstreamTruncated,
)
from proxy.core.limits import CAP_NUSD_MAX
from proxy.core.types import KeySource, Usage, UsageSource
from proxy.dialects.opening import Opening
from proxy.dialects.streamed_output import BYTES_PER_TOKEN, may_hide_reasoning
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.charge import NOTHING, Charge
from proxy.pipeline.exchange import Exchange
from proxy.pricing.cost import price

_BROKE_OFF: Final = (CallerGone, GatewayStopped)
# The provider may have worked, and bill for it; the tenant got nothing.
_MAYBE_BILLED: Final = (UpstreamTimedOut, UpstreamMalformed, UpstreamBrokeOff, UpstreamTruncated)


def charge(exchange: Exchange) -> Charge:
    """Say what a run used and cost."""
    if exchange.charge is not None and exchange.error is None:
        return exchange.charge
    if not exchange.attempts:
        return NOTHING
    attempt = exchange.attempt
    assert attempt is not None, "what was dispatched was sent to somebody"
    charged = _of_last(exchange, attempt)
    if not exchange.given_up_nusd:
        return charged
    # What providers may bill for attempts that came to nothing is the operator's.
    return charged._replace(absorbed_nusd=(charged.absorbed_nusd or 0) + exchange.given_up_nusd)


def _of_last(exchange: Exchange, attempt: Attempt) -> Charge:
    status, tap = attempt.upstream_status, attempt.usage_tap
    if status is None or tap is None:  # no head, or no byte of a body: the caller was told so
        return _without_answer(exchange, attempt)
    usage, error = tap.usage, exchange.error
    broke_off = tap.saw_end is False or (error is not None and isinstance(error, _BROKE_OFF))
    if usage is not None and not broke_off and not (status < 300 and _says_too_little(exchange, attempt, usage)):
        return _priced(exchange, attempt, usage, UsageSource.EXACT)
    is_error = status >= 300 or attempt.opening in (Opening.ERROR, Opening.REFUSAL)
    if is_error and usage is None:  # an error, or the way to somewhere else: nothing was made
        return Charge(cost_nusd=0, charged_nusd=0) if attempt.facts is not None else NOTHING
    return _priced_estimate(exchange, attempt, usage)


def _says_too_little(exchange: Exchange, attempt: Attempt, usage: Usage) -> bool:
    """True where a report is none: of a text that cost nothing, or of no output in a stream that had some
    (some servers report zeros, or before they begin); or of nothing that the model is sold by, as of minutes
    where tokens have a price."""
    if attempt.operation.stream_end is None:
        ticket, facts = exchange.ticket, attempt.facts
        return ticket is not None and ticket.held_nusd > 0 and facts is not None and not price(usage, facts)
    if usage.output_tokens:
        return False
    counter = attempt.output_counter
    return not usage.input_tokens or (counter is not None and counter.output_bytes > 0)


def _without_answer(exchange: Exchange, attempt: Attempt) -> Charge:
    if isinstance(exchange.error, _BROKE_OFF):
        return _worst_case(exchange)  # it was asked for, and nobody was told that it is no longer wanted in time
    is_ours = attempt.key_source is KeySource.GATEWAY  # the operator bears no bill of somebody else's
    if _may_be_billed(exchange.error) and exchange.ticket is not None and is_ours:
        return Charge(cost_nusd=0, charged_nusd=0, absorbed_nusd=exchange.ticket.held_nusd)
    return Charge(cost_nusd=0, charged_nusd=0) if attempt.facts is not None else NOTHING


def _may_be_billed(error: GatewayError | None) -> bool:
    return isinstance(error, _MAYBE_BILLED) and not isinstance(error, UpstreamNotConnected)


def _priced_estimate(exchange: Exchange, attempt: Attempt, reported: Usage | None) -> Charge:
    ticket, counter = exchange.ticket, attempt.output_counter
    worst = ticket.estimate if ticket is not None else None
    if worst is not None and worst.unreported is not None and reported is None:
        return _priced(exchange, attempt, worst.unreported, UsageSource.ESTIMATED)
    if counter is not None and counter.is_complete and not attempt.may_hide_reasoning:
        has_input = reported is not None and reported.input_tokens > 0
        if worst is not None and (worst.runs_tools or not (has_input or worst.is_in_sight)):
            # Leaving just before the report must not make a film, or ten searches, cost what their names do.
            return _bounded(exchange, worst, counter.expected_tokens)
        # What was reported until then counts too: of Anthropic's streams, all of the input.
        base = reported if reported is not None and has_input else Usage(_expected_input(exchange, attempt))
        output_tokens = max(base.output_tokens, counter.expected_tokens)
        return _priced(exchange, attempt, base._replace(output_tokens=output_tokens), UsageSource.ESTIMATED)
    if worst is not None:
        return _worst_case(exchange)
    return _priced(exchange, attempt, reported, UsageSource.ESTIMATED) if reported is not None else NOTHING


def _bounded(exchange: Exchange, worst: Estimate, output_tokens: int) -> Charge:
    """What was heard of the answer, and the bound of all that was not seen."""
    assert exchange.ticket is not None
    cost_nusd = min(worst_nusd(worst, output_tokens), exchange.ticket.held_nusd)
    usage = Usage(worst.input_tokens_max, output_tokens=output_tokens)
    return Charge(usage, UsageSource.ESTIMATED, cost_nusd, cost_nusd if exchange.counts_dollars else 0)


def _priced(exchange: Exchange, attempt: Attempt, usage: Usage, source: UsageSource) -> Charge:
    if attempt.facts is None:
        return Charge(usage, source)
    # A provider may report anything; what no counter holds could never be settled.
    cost_nusd = due_nusd = min(price(usage, attempt.facts), CAP_NUSD_MAX)
    if attempt.promised_facts is not None:  # another model answered than the one that was asked for
        due_nusd = min(cost_nusd, price(usage, attempt.promised_facts))
    ticket = exchange.ticket
    if source is UsageSource.ESTIMATED and ticket is not None and ticket.estimate is not None:
        due_nusd = min(due_nusd, ticket.held_nusd)  # a guess is no reason to charge beyond what was held
        if attempt.promised_facts is None:
            cost_nusd = due_nusd
    is_borne = cost_nusd > due_nusd and attempt.key_source is KeySource.GATEWAY
    charged_nusd = due_nusd if exchange.counts_dollars else 0
    return Charge(usage, source, cost_nusd, charged_nusd, cost_nusd - due_nusd if is_borne else None)


def _worst_case(exchange: Exchange) -> Charge:
    ticket = exchange.ticket
    if ticket is None or ticket.estimate is None:
        return NOTHING
    held_nusd = ticket.held_nusd
    return Charge(None, UsageSource.WORST_CASE, held_nusd, held_nusd if exchange.counts_dollars else 0)


def _expected_input(exchange: Exchange, attempt: Attempt) -> int:
    ticket = exchange.ticket
    text_bytes = attempt.text_bytes if attempt.text_bytes is not None else len(attempt.call.text or b"")
    expected = -(-text_bytes // BYTES_PER_TOKEN)
    worst = ticket.estimate if ticket is not None else None
    return expected if worst is None else min(expected, worst.input_tokens_max)


def hides_reasoning(attempt: Attempt) -> bool:
    """True where tokens may be billed that the stream does not show. Asked while the body is still here."""
    document = attempt.call.document
    if document is not None and document.get("background"):
        return True  # it goes on when nobody listens any more (the Responses API's background mode)
    model_reasons = attempt.facts is None or "reasoning" in attempt.facts.capabilities
    model = attempt.deployment.model or attempt.call.model_alias
    return may_hide_reasoning(attempt.operation, document, model_reasons=model_reasons, model=model)
