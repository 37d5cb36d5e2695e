"""May this call run? Every limit and cap of every scope at once, or a refusal that says which.

One round trip, and none where nothing is limited. What is held is the worst case; a call that
names no ceiling holds what its tenant chose (`no_ceiling`).
"""

from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from proxy.admission.answers import Admission, Admitted, CapRefused, LimitRefused, WrongWindow
from proxy.admission.estimate import (
    Estimate,
    ceiling_that_fits,
    ceiling_to_name,
    expect_tokens,
    worst_nusd,
)
from proxy.admission.figures import what_is_left
from proxy.admission.keeper import Keeper
from proxy.admission.terms import TOKENS_MAX, Demand, RunStep
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, RequestTooLarge, StateUnavailable
from proxy.core.types import KeySource
from proxy.dialects.stream_usage import UsageAsking, choose
from proxy.dialects.usage_remover import UsageRemover, is_event_stream
from proxy.pipeline.allowance import Allowed
from proxy.pipeline.attempt import Attempt, GivenUp
from proxy.pipeline.charging import hides_reasoning
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.holding import call_refusal, hold_more
from proxy.pipeline.local_limits import LocalLimits
from proxy.pipeline.meter import Meter
from proxy.pipeline.passage import Passage
from proxy.pipeline.refusals import cap_refusal, refusal, scope_kind
from proxy.pipeline.rows import pending_row
from proxy.pipeline.soft_cap import SoftCaps
from proxy.pipeline.ticket import Ticket
from proxy.pipeline.worst import worst_case
from proxy.settings.model import NoCeiling
from proxy.telemetry.metrics import Metrics
from proxy.upstream.client import UpstreamAnswer

SLICE_TOKENS: Final = 4_096
"""What an answer without a ceiling holds at first, and again each time that it is extended."""

_CEILINGS_MAX: Final = 8  # tried for one call: five scopes have caps, of several windows
_WINDOW_TRIES_MAX: Final = 3  # the store's clock and ours may part over the end of a window, once


class Admittance:
    """Asks the store, and keeps in the exchange what was reserved."""

    __slots__ = ("_clock", "_keeper", "_lease_ms", "_local", "_metrics", "_soft_caps")

    def __init__(
        self,
        keeper: Keeper,
        local: LocalLimits,
        soft_caps: SoftCaps,
        metrics: Metrics,
        clock: Clock,
        lease_s: int,
    ) -> None:
        self._keeper = keeper
        self._local = local
        self._soft_caps = soft_caps
        self._metrics = metrics
        self._clock = clock
        self._lease_ms = lease_s * 1_000

    async def admit(self, exchange: Exchange) -> None:
        """Reserve all that this call may use.

        Raises:
            RateLimited, CapExceeded: a limit or a cap says no.
            UnpricedModel, UnpricedEndpoint: a cap holds, and nobody knows what the call may cost.
            RequestTooLarge: the plan takes no input of this length.
            InvalidApiKey: the virtual key was revoked a moment ago.
            StateUnavailable: the store is away, and money is capped.
        """
        snapshot, caller, tenant, attempt = exchange.snapshot, exchange.caller, exchange.tenant, exchange.attempt
        assert exchange.route is not None
        assert caller is not None
        assert tenant is not None
        assert attempt is not None
        plan = exchange.plan
        text = attempt.call.text
        if plan.input_bytes_max is not None and text is not None and len(text) > plan.input_bytes_max:
            raise RequestTooLarge(f"Your plan takes at most {plan.input_bytes_max} bytes in one call. Send less.")
        exchange.counts_dollars = counts_dollars(exchange, attempt)
        allowed = snapshot.allowances.find(plan, caller, exchange.route.alias, counts_dollars=exchange.counts_dollars)
        if attempt.call.stream:
            _choose_asking(exchange, attempt, is_capped=allowed.is_capped)
        if allowed.scopes:
            worst = worst_case(exchange, attempt).estimate if allowed.is_capped else None
            if worst is not None and (exchange.call.stream or attempt.call.stream):
                attempt.may_hide_reasoning = hides_reasoning(attempt)
            await self._reserve(exchange, attempt, allowed, worst)

    async def cover(
        self, exchange: Exchange, attempt: Attempt, worst: Estimate | None, given_up: tuple[GivenUp, ...]
    ) -> None:
        """Let what is held cover another attempt, which may have a longer answer or a higher price, after those.

        Raises:
            CapExceeded: a cap cannot hold it.
            StateUnavailable: the store is away, or has given the reservation up.
        """
        ticket = exchange.ticket
        is_held = ticket is not None and ticket.estimate is not None
        if attempt.call.stream:
            _choose_asking(exchange, attempt, is_capped=is_held)
        if ticket is None or not is_held or worst is None:
            return
        attempt.may_hide_reasoning = hides_reasoning(attempt)
        # What thinks unseen cannot be held slice by slice: nobody hears how far it has come.
        is_sliced = ticket.inserted_ceiling is not None or not attempt.may_hide_reasoning
        answer_tokens = (ticket.inserted_ceiling or ticket.answer_tokens) if is_sliced else None
        needed_nusd = worst.held_nusd if answer_tokens is None else worst_nusd(worst, answer_tokens)
        if needed_nusd > ticket.held_nusd and counts_dollars(exchange, attempt):
            row = pending_row(exchange, needed_nusd, attempt, given_up)
            await hold_more(ticket, needed_nusd, row, self._keeper, self._metrics)
        ticket.estimate, ticket.answer_tokens = worst, answer_tokens

    def passage(self, exchange: Exchange, answer: UpstreamAnswer) -> Passage:
        """What the answer's chunks pass on their way."""
        attempt, ticket = exchange.attempt, exchange.ticket
        assert attempt is not None
        tap, counter = attempt.usage_tap, attempt.output_counter
        assert tap is not None, "dispatch puts a listener beside every answer"
        passage = Passage(tap, exchange.operation.stream_end)
        if attempt.translation is not None:
            passage.rewriter = attempt.translation.answers.stream()
        elif attempt.asking is UsageAsking.RESTORE and answer.status == 200:
            fields = answer.fields
            if is_event_stream(fields.get(b"content-type"), fields.get(b"content-encoding")):
                passage.rewriter = UsageRemover()
        is_sliced = ticket is not None and ticket.answer_tokens is not None and ticket.inserted_ceiling is None
        if is_sliced and counter is not None:
            passage.meter = Meter(exchange, counter, self._keeper, self._metrics)
        return passage

    async def _reserve(self, exchange: Exchange, attempt: Attempt, allowed: Allowed, worst: Estimate | None) -> None:
        """Hold the worst case; where a call names no ceiling and that does not fit, what its tenant chose."""
        if worst is None or worst.ceiling is not None or not worst.ceiling_names:
            refused = await self._hold(exchange, allowed, worst, 0 if worst is None else worst.held_nusd, step=0)
            if refused is not None:
                raise self._counted(refused, cap_refusal(refused))
            return
        assert exchange.tenant is not None
        mode, can_extend = exchange.tenant.no_ceiling, exchange.call.stream and not attempt.may_hide_reasoning
        if mode is NoCeiling.EXTEND and can_extend:
            refused = await self._hold_tokens(exchange, allowed, worst, SLICE_TOKENS, step=0)
        else:
            refused = await self._hold(exchange, allowed, worst, worst.held_nusd, step=0)
        if refused is None:
            return
        if mode is NoCeiling.INSERT:
            refused = await self._insert(exchange, allowed, worst, refused)
        elif mode is NoCeiling.AUTO and can_extend:
            again = await self._hold_tokens(exchange, allowed, worst, SLICE_TOKENS, step=1)
            refused = again if again is None else min(refused, again, key=_room_nusd)
        if refused is not None:
            named = ceiling_to_name(worst, _room_nusd(refused))
            raise self._counted(refused, cap_refusal(refused, ceiling=named, ceiling_name=worst.ceiling_names[0]))

    async def _insert(
        self, exchange: Exchange, allowed: Allowed, worst: Estimate, refused: CapRefused
    ) -> CapRefused | None:
        """Hold an answer of the length that fits the cap which has refused, and then those that do in its place. Gives
        back the tightest where none is found."""
        for step in range(1, _CEILINGS_MAX + 1):
            fits = ceiling_that_fits(worst, _room_nusd(refused))
            if fits is None:
                break
            tighter = await self._hold_tokens(exchange, allowed, worst, fits, step=step)
            if tighter is None:
                assert exchange.ticket is not None
                exchange.ticket.inserted_ceiling = fits
                return None
            refused = tighter
        return refused

    async def _hold_tokens(
        self, exchange: Exchange, allowed: Allowed, worst: Estimate, answer_tokens: int, *, step: int
    ) -> CapRefused | None:
        """Hold the worst case of answers of so many tokens."""
        refused = await self._hold(exchange, allowed, worst, worst_nusd(worst, answer_tokens), step=step)
        if refused is None and exchange.ticket is not None and answer_tokens < worst.answer_tokens_max:
            exchange.ticket.answer_tokens = answer_tokens
        return refused

    async def _hold(
        self,
        exchange: Exchange,
        allowed: Allowed,
        worst: Estimate | None,
        held_nusd: int,
        *,
        step: int,
    ) -> CapRefused | None:
        """Hold an amount. Gives back a cap that says no; every other refusal is raised."""
        if (over := call_refusal(allowed.call_caps, held_nusd)) is not None:
            return over
        now_ms = self._clock.now_ms()
        for _ in range(_WINDOW_TRIES_MAX):
            demand = self._demand(exchange, allowed, worst, held_nusd, step, now_ms)
            answer = await self._ask(demand)
            if answer is None:
                exchange.ticket = Ticket(demand, held_nusd, worst)
                return None
            if isinstance(answer, Admitted):
                left = what_is_left(demand, answer)
                exchange.ticket = Ticket(
                    demand, held_nusd, worst, answer.keyring_epoch, left, call_caps=allowed.call_caps
                )
                self._note_admitted(exchange, exchange.ticket)
                return None
            if isinstance(answer, CapRefused):
                return answer
            if not isinstance(answer, WrongWindow):
                raise self._counted(answer, refusal(answer))
            now_ms = answer.now_ms
        raise StateUnavailable(
            "The state store's clock is not to be followed. Try again shortly.", retry_after_ms=1_000
        )

    def _note_admitted(self, exchange: Exchange, ticket: Ticket) -> None:
        self._metrics.held(ticket.held_nusd)
        use = ticket.left.cap
        if use is None:
            return
        used_pct = use.used_pct
        self._soft_caps.heard(ticket.demand.tenant_id, used_pct)
        if used_pct >= exchange.plan.soft_cap_pct:
            ticket.is_soft = True
            self._soft_caps.note(exchange, use)

    async def _ask(self, demand: Demand) -> Admission | None:
        """The store's answer; None where it is away, and this process's own limits admit."""
        began_us = self._clock.monotonic_us()
        try:
            answer = await self._keeper.admit(demand)
        except StateUnavailable:
            if demand.outline.is_capped:
                raise
            return self._local.admit(demand, self._clock.monotonic_us())
        finally:
            self._metrics.state_called("admit", (self._clock.monotonic_us() - began_us) / 1e6)
        self._local.store_answered()
        return answer

    def _demand(
        self,
        exchange: Exchange,
        allowed: Allowed,
        worst: Estimate | None,
        held_nusd: int,
        step: int,
        now_ms: int,
    ) -> Demand:
        assert exchange.tenant is not None
        assert exchange.caller is not None
        assert exchange.attempt is not None
        expected = expect_tokens(exchange.attempt.call.text, None) if worst is None else worst.expected_tokens
        expected = min(expected, TOKENS_MAX)  # a call may ask for any number of answers
        return Demand(
            RunStep(exchange.tenant.id, exchange.run_id, step),
            held_nusd,
            expected,
            allowed.outline(now_ms, _zone(exchange.tenant.timezone)),
            self._lease_ms,
            exchange.caller.virtual_key_id,
            pending_row(exchange, held_nusd),
        )

    def _counted(self, answer: Admission, error: GatewayError) -> GatewayError:
        if isinstance(answer, CapRefused):
            self._metrics.cap_refused(scope_kind(answer.scope))
        elif isinstance(answer, LimitRefused):
            self._metrics.limit_refused(scope_kind(answer.scope))
        return error


def counts_dollars(exchange: Exchange, attempt: Attempt) -> bool:
    """Whether what this attempt costs counts against the tenant's caps: what its own key pays does where it says so."""
    assert exchange.tenant is not None
    return attempt.payer.source is KeySource.GATEWAY or exchange.tenant.count_own_key


def _room_nusd(refused: CapRefused) -> int:
    return max(0, refused.cap_nusd - refused.spent_nusd - refused.held_nusd)


@lru_cache(maxsize=1_024)
def _zone(name: str) -> ZoneInfo:
    """Python's own memory of zones keeps eight: the ninth tenant's would be read from its file at each call."""
    return ZoneInfo(name)


def _choose_asking(exchange: Exchange, attempt: Attempt, *, is_capped: bool) -> None:
    """Say how the usage of the attempt's stream will be known."""
    assert exchange.tenant is not None
    attempt.asking = choose(
        exchange.tenant.stream_usage.value,
        attempt.operation,
        attempt.call.document,
        dollar_cap_holds=is_capped,
        usage_unasked=exchange.snapshot.settings.providers[attempt.deployment.provider].usage_unasked,
    )
