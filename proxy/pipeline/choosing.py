"""Whom to ask: routing meets the prices, the tenant's consent, and what this process knows of every deployment."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from proxy.admission.estimate import EXPECTED_OUTPUT_TOKENS
from proxy.core.clock import Clock
from proxy.core.consent import Consent, narrower
from proxy.core.errors import GatewayError, InvalidHeader, NoDeploymentAvailable, UnsupportedParameter
from proxy.dialects.conversation import beginning
from proxy.dialects.needs import needed_capabilities
from proxy.dialects.streamed_output import BYTES_PER_TOKEN
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.payment import Payment, condition_of
from proxy.pipeline.reading import named_model
from proxy.pipeline.soft_cap import SoftCaps
from proxy.pricing.cost import FUSD_PER_NUSD, rates_of
from proxy.routing.eligible import Seeker, eligible
from proxy.routing.resolve import Candidate, Route, Routes
from proxy.routing.rules import Asked
from proxy.routing.selection import Choice, Needs, Standing, can, choose
from proxy.routing.strategy import digest, draw, speed
from proxy.routing.switches import SwitchSlot
from proxy.settings.routing import Sticky, Strategy
from proxy.upstream.conditions import Conditions

FALLBACK_HEADER: Final = b"x-tollway-fallback"
TIER_HEADER: Final = b"x-tollway-tier"

_CONSENTS: Final = {consent.value.encode(): consent for consent in Consent}
_TIER: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_FENCE: Final = b"```"
_DEALT_MAX: Final = 10_000
_NO_NEEDS: Final = Needs()
_NOBODY: Final[tuple[Candidate, ...]] = ()
_UNPRICED_FUSD: Final = float("inf")


class Choosing:
    """Says where a call may go, and whom of those to ask first."""

    __slots__ = ("_clock", "_conditions", "_dealt", "_dealt_by", "_payment", "_soft_caps", "_switches")

    def __init__(
        self, payment: Payment, conditions: Conditions, switches: SwitchSlot, soft_caps: SoftCaps, clock: Clock
    ) -> None:
        self._payment = payment
        self._conditions = conditions
        self._switches = switches
        self._soft_caps = soft_caps
        self._clock = clock
        self._dealt: dict[tuple[str | None, int], Mapping[str, float]] = {}  # lots, of one snapshot's routes
        self._dealt_by: Routes | None = None

    def resolve(self, exchange: Exchange) -> Route:
        """Where the call may go, through switches and rules.

        Raises:
            ModelNotFound, MissingParameter, EndpointNotAllowed, UnknownUrl: see `Routes.resolve`.
            InvalidHeader: `x-tollway-tier` is no tier's name.
        """
        assert exchange.caller is not None
        assert exchange.tenant is not None
        return exchange.snapshot.routes.resolve(
            exchange.caller,
            exchange.tenant.plan,
            named_model(exchange),
            model_required=exchange.operation.model_required,
            switched=self._switches.current.switched,
            asked=partial(self._asked, exchange),
        )

    def choose(self, exchange: Exchange) -> Choice:
        """Whom to ask, one after the other.

        Raises:
            NoDeploymentAllowed: what the tenant was promised leaves none.
            NoDeploymentAvailable: all are out of service, or unwell.
            UnsupportedParameter: none can do what the call needs.
            InvalidHeader: `x-tollway-fallback` is no consent.
        """
        route, tenant = exchange.route, exchange.tenant
        assert route is not None, "where a call may go is resolved before one place is chosen"
        assert tenant is not None
        consent = consent_of(exchange)
        drained = self._switches.current.drained
        candidates, withheld = route.candidates, _NOBODY
        if not route.is_open or drained or tenant.residency is not None or tenant.zero_retention:
            seeker = Seeker(tenant.id, tenant.plan, consent, tenant.residency, tenant.zero_retention)
            candidates, withheld = eligible(route, seeker, drained)
        now_us = self._clock.monotonic_us()
        first = candidates[0]
        if len(candidates) > 1 and route.is_open:
            preference_of = self._preference(exchange, route, candidates, now_us)
            if preference_of is not None:
                first = min(candidates, key=preference_of)
        standing = self._standing(exchange, first, now_us)
        if len(candidates) == 1 and not first.says_capabilities:
            # Nothing is to be chosen: it is asked if it can be.
            choice = Choice(first, candidates, int(standing is Standing.BLOCKED), withheld)
        elif standing is Standing.WELL and self._is_plainly_first(exchange, route, first):
            # The others are looked at when they are needed, as they are by then.
            others = tuple(each for each in candidates if each is not first)
            if consent is Consent.NONE:
                choice = Choice(first, (first,), 0, (*others, *withheld))
            else:
                choice = Choice(first, (first, *others), 0, withheld)
        else:
            choice = self._rank(exchange, route, candidates, withheld, consent, now_us)
        if route.strategy is Strategy.FASTEST:
            self._note_measured(choice.asked[0], now_us, stream=exchange.call.stream)
        if choice.blocked == len(choice.asked):
            exchange.withheld = choice.withheld
            raise self._all_blocked(exchange, choice, now_us)
        return choice

    def rank(self, exchange: Exchange, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """Of those that have not been asked yet, whom to ask next, as they are by now; without those that cannot do
        what the call needs."""
        assert exchange.route is not None
        try:
            choice = self._rank(
                exchange, exchange.route, candidates, _NOBODY, Consent.LOWER, self._clock.monotonic_us()
            )
        except UnsupportedParameter:
            return _NOBODY
        return choice.asked

    def _is_plainly_first(self, exchange: Exchange, route: Route, first: Candidate) -> bool:
        """True where it can do all that the call needs, and nothing but the strategy decides: as a rule."""
        return route.is_open and can(
            self._needs(exchange), exchange.snapshot.prices.abilities(first.deployment, exchange.started_at_ms)
        )

    def _needs(self, exchange: Exchange) -> Needs:
        call = exchange.call
        input_tokens = len(call.text or b"") // BYTES_PER_TOKEN
        return Needs(needed_capabilities(exchange.operation, call.document), input_tokens)

    def _rank(
        self,
        exchange: Exchange,
        route: Route,
        candidates: tuple[Candidate, ...],
        withheld: tuple[Candidate, ...],
        consent: Consent,
        now_us: int,
    ) -> Choice:
        prices, at_ms = exchange.snapshot.prices, exchange.started_at_ms
        return choose(
            route,
            candidates,
            withheld,
            consent,
            self._needs(exchange) if route.is_written else _NO_NEEDS,  # the default provider's own are its own to judge
            lambda deployment: prices.abilities(deployment, at_ms),
            self._preference(exchange, route, candidates, now_us) if len(candidates) > 1 else None,
            lambda candidate: self._standing(exchange, candidate, now_us),
        )

    def _note_measured(self, candidate: Candidate, now_us: int, *, stream: bool) -> None:
        """The call that is on its way measures a time that nobody knows."""
        vitals = self._conditions.vitals(candidate.name)
        if not vitals.first_byte_us(now_us, stream=stream):
            vitals.to_be_measured(now_us, stream=stream)

    def _standing(self, exchange: Exchange, candidate: Candidate, now_us: int) -> Standing:
        if self._conditions.are_calm(now_us):
            return Standing.WELL
        provider = exchange.snapshot.providers[candidate.deployment.provider].settings
        if self._payment.is_gateways(exchange, provider):
            condition = self._conditions.find(candidate.name, candidate.deployment.label, None)
        else:
            try:
                payer = self._payment.known(exchange, provider)
            except GatewayError:
                return Standing.DEGRADED  # nobody pays there for this caller; where it comes first, it is told so
            if payer is None:
                return Standing.WELL  # a stored key is still to be opened: what is known of it shows then
            condition = condition_of(self._conditions, exchange, candidate, payer)
        if condition.blocked_us(now_us):
            return Standing.BLOCKED
        return Standing.DEGRADED if condition.vitals.is_degraded(now_us) else Standing.WELL

    def _all_blocked(self, exchange: Exchange, choice: Choice, now_us: int) -> NoDeploymentAvailable:
        waits_us = []
        for candidate in choice.asked:
            provider = exchange.snapshot.providers[candidate.deployment.provider].settings
            payer = self._payment.known(exchange, provider)
            assert payer is not None, "nothing is known to be blocked of a key that is not known"
            condition = condition_of(self._conditions, exchange, candidate, payer)
            waits_us.append(condition.blocked_us(now_us))
        return NoDeploymentAvailable(
            f"{choice.first.deployment.label} fails or throttles calls just now, and nothing else may answer. "
            "Try again shortly.",
            retry_after_ms=max(1, min(waits_us) // 1_000),
        )

    # ── strategies ───────────────────────────────────────────────────────────────────────

    def _preference(
        self, exchange: Exchange, route: Route, candidates: tuple[Candidate, ...], now_us: int
    ) -> Callable[[Candidate], float] | None:
        if route.strategy is Strategy.CHEAPEST:
            return partial(_likely_fusd, exchange)
        if route.strategy is Strategy.PRIORITY:
            return None
        lots = self._lots(exchange, route)
        if route.strategy is Strategy.WEIGHTED:
            if exchange.split is None:
                exchange.split = min((each.name for each in candidates), key=lots.__getitem__)
            return lambda each: lots[each.name]
        stream = exchange.call.stream
        first_byte_us = {
            each.name: self._conditions.vitals(each.name).first_byte_us(now_us, stream=stream) for each in candidates
        }
        fastest_us = min(first_byte_us.values())
        return lambda each: speed(first_byte_us[each.name], fastest_us, lots[each.name])

    def _lots(self, exchange: Exchange, route: Route) -> Mapping[str, float]:
        """Each candidate's lot for whoever is to be served alike. The same ones come again and again."""
        who = digest(_who(exchange, route.sticky))
        if self._dealt_by is not exchange.snapshot.routes or len(self._dealt) >= _DEALT_MAX:
            self._dealt_by, self._dealt = exchange.snapshot.routes, {}
        what = (route.alias, who)
        lots = self._dealt.get(what)
        if lots is None:
            lots = {each.name: draw(each, who, route.alias or "") for each in route.candidates}
            if route.sticky is not Sticky.NONE:
                self._dealt[what] = lots
        return lots

    # ── rules ────────────────────────────────────────────────────────────────────────────

    def _asked(self, exchange: Exchange) -> Asked:
        call, caller, tenant = exchange.call, exchange.caller, exchange.tenant
        assert caller is not None
        assert tenant is not None
        text = call.text or b""
        needs = needed_capabilities(exchange.operation, call.document)
        return Asked(
            input_tokens=len(text) // BYTES_PER_TOKEN,
            code_blocks=text.count(_FENCE) // 2,
            images="vision" in needs,
            tools="tools" in needs,
            feature=caller.feature,
            plan=tenant.plan,
            cap_used_pct=self._soft_caps.used_pct(tenant.id),
            tier=_tier_of(exchange),
        )


def consent_of(exchange: Exchange) -> Consent:
    """What the tenant, or the key in its place, has agreed to, as far as this call goes along.

    Raises:
        InvalidHeader: `x-tollway-fallback` is no consent.
    """
    assert exchange.tenant is not None
    assert exchange.caller is not None
    agreed = exchange.tenant.fallback if exchange.caller.fallback is None else exchange.caller.fallback
    asked = exchange.request.fields.get(FALLBACK_HEADER)
    if asked is None:
        return agreed
    narrowed = _CONSENTS.get(asked.strip().lower())
    if narrowed is None:
        raise InvalidHeader("`x-tollway-fallback` is none, equivalent or lower.")
    return narrower(agreed, narrowed)


def _tier_of(exchange: Exchange) -> str | None:
    value = exchange.request.fields.get(TIER_HEADER)
    if value is None:
        return None
    if _TIER.fullmatch(value.strip()) is None:
        raise InvalidHeader("`x-tollway-tier` is a tier's name: 1 to 64 letters, digits, `_`, `.` and `-`.")
    return value.strip().decode("ascii")


def _who(exchange: Exchange, sticky: Sticky) -> bytes:
    """Whose calls go to the same deployment."""
    caller = exchange.caller
    assert caller is not None
    if sticky is Sticky.TENANT:
        return caller.tenant_id.encode()
    if sticky is Sticky.USER:
        return f"{caller.tenant_id}\0{caller.user or ''}".encode()
    if sticky is Sticky.CONVERSATION and (begins := beginning(exchange.call.document)):
        return caller.tenant_id.encode() + b"\0" + begins
    return exchange.run_id.encode()


def _likely_fusd(exchange: Exchange, candidate: Candidate) -> float:
    """What the call will likely cost there; without a price it is asked last."""
    facts = exchange.snapshot.prices.find(candidate.deployment, exchange.started_at_ms)
    if facts is None:
        return _UNPRICED_FUSD
    input_tokens = len(exchange.call.text or b"") // BYTES_PER_TOKEN
    rates = rates_of(facts.price, None, input_tokens)
    tokens_fusd = input_tokens * rates.input_nusd_per_mtok + EXPECTED_OUTPUT_TOKENS * rates.output_nusd_per_mtok
    return tokens_fusd + facts.price.request_nusd * FUSD_PER_NUSD
