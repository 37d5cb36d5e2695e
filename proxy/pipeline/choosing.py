"""Whom to ask: routing meets the prices, the tenant's consent, and what this process knows of every deployment."""

import re
from functools import partial
from math import inf
from typing import Final

from proxy.core.clock import Clock
from proxy.core.consent import Consent, narrower
from proxy.core.errors import GatewayError, InvalidHeader, NoDeploymentAvailable, UnsupportedParameter
from proxy.dialects.needs import needed_capabilities
from proxy.dialects.streamed_output import BYTES_PER_TOKEN
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.payment import Payment, condition_of
from proxy.pipeline.preferring import Preferring
from proxy.pipeline.reading import named_model
from proxy.pipeline.soft_cap import SoftCaps
from proxy.routing.offers import Offers
from proxy.routing.resolve import Candidate, Route, Routes
from proxy.routing.rules import Asked
from proxy.routing.selection import Abilities, Choice, Needs, Standing, can, choose
from proxy.routing.switches import SwitchSlot
from proxy.settings.routing import Strategy
from proxy.upstream.conditions import Conditions

FALLBACK_HEADER: Final = b"x-tollway-fallback"
TIER_HEADER: Final = b"x-tollway-tier"

_CONSENTS: Final = {consent.value.encode(): consent for consent in Consent}
_TIER: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}")
_HOUR_MS: Final = 3_600_000
_NO_NEEDS: Final = Needs()
_NOBODY: Final[tuple[Candidate, ...]] = ()


class Choosing:
    """Says where a call may go, and whom of those to ask first."""

    __slots__ = (
        "_clock",
        "_conditions",
        "_offers",
        "_offers_made_for",
        "_payment",
        "_preferring",
        "_soft_caps",
        "_switches",
    )

    def __init__(
        self, payment: Payment, conditions: Conditions, switches: SwitchSlot, soft_caps: SoftCaps, clock: Clock
    ) -> None:
        self._payment = payment
        self._conditions = conditions
        self._switches = switches
        self._soft_caps = soft_caps
        self._clock = clock
        self._preferring = Preferring(conditions)
        self._offers = Offers(frozenset(), lambda _deployment: Abilities())
        self._offers_made_for: tuple[Routes | None, frozenset[str], int] = (None, frozenset(), -1)

    def resolve(self, exchange: Exchange) -> Route:
        """Where the call may go, through switches and rules.

        Raises:
            ModelNotFound, MissingParameter, EndpointNotAllowed, UnknownUrl: see `Routes.resolve`.
            InvalidHeader: `x-tollway-tier` is no tier's name.
        """
        caller, tenant = exchange.caller, exchange.tenant
        assert caller is not None
        assert tenant is not None
        return exchange.snapshot.routes.resolve(
            caller,
            tenant.plan,
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
        try:
            offer = self._offers_to(exchange).find(route, tenant, consent)
        except NoDeploymentAvailable as error:
            exchange.withheld = error.withheld
            raise
        now_us = self._clock.monotonic_us()
        preferences = self._preferring.preferences(exchange, route, offer.leading, now_us)
        if preferences is None:
            choice, lowest = offer.plain[0], inf
            if offer.are_alike and self._conditions.are_calm(now_us):
                return choice  # as for most calls: nothing about this one decides
        else:
            lowest = min(preferences)
            choice = offer.plain[preferences.index(lowest)]
        standing = self._standing(exchange, choice.first, now_us)
        if standing is Standing.WELL:
            if not (offer.are_alike or _can(exchange, choice.first)):
                choice = self._rank(exchange, route, offer.candidates, offer.withheld, consent, now_us)
        elif len(offer.candidates) > 1 or not offer.are_alike:
            choice = self._rank(exchange, route, offer.candidates, offer.withheld, consent, now_us)
        elif standing is Standing.BLOCKED:
            choice = choice._replace(blocked=1)
        if lowest == 0.0 and route.strategy is Strategy.FASTEST:  # nobody knows how fast one of them is
            self._preferring.note_asked(choice.asked[0], now_us, stream=exchange.call.stream)
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

    def _offers_to(self, exchange: Exchange) -> Offers:
        """Those that hold just now: a reload, a switch and the next hour each begin new ones."""
        made_for = (exchange.snapshot.routes, self._switches.current.drained, exchange.started_at_ms // _HOUR_MS)
        if made_for != self._offers_made_for:
            self._offers_made_for = made_for
            abilities_of = partial(exchange.snapshot.prices.abilities, at_ms=exchange.started_at_ms)
            self._offers = Offers(self._switches.current.drained, abilities_of)
        return self._offers

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
            _needs_of(exchange) if route.is_written else _NO_NEEDS,  # the default provider's own are its own to judge
            lambda deployment: prices.abilities(deployment, at_ms),
            self._preferring.preferences(exchange, route, candidates, now_us),
            lambda candidate: self._standing(exchange, candidate, now_us),
        )

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

    def _asked(self, exchange: Exchange) -> Asked:
        caller, tenant = exchange.caller, exchange.tenant
        assert caller is not None
        assert tenant is not None
        capabilities, input_tokens = _needs_of(exchange)
        return Asked(
            input_tokens,
            exchange.call.text or b"",
            "vision" in capabilities,
            "tools" in capabilities,
            caller.feature,
            tenant.plan,
            self._soft_caps.used_pct(tenant.id),
            _tier_of(exchange) if TIER_HEADER in exchange.request.fields else None,
        )


def consent_of(exchange: Exchange) -> Consent:
    """What the tenant, or the key in its place, has agreed to, as far as this call goes along.

    Raises:
        InvalidHeader: `x-tollway-fallback` is no consent.
    """
    caller, tenant = exchange.caller, exchange.tenant
    assert caller is not None
    assert tenant is not None
    agreed = tenant.fallback if caller.fallback is None else caller.fallback
    if FALLBACK_HEADER not in exchange.request.fields:
        return agreed
    narrowed = _CONSENTS.get(exchange.request.fields[FALLBACK_HEADER].strip().lower())
    if narrowed is None:
        raise InvalidHeader("`x-tollway-fallback` is none, equivalent or lower.")
    return narrower(agreed, narrowed)


def _tier_of(exchange: Exchange) -> str:
    value = exchange.request.fields[TIER_HEADER]
    if _TIER.fullmatch(value.strip()) is None:
        raise InvalidHeader("`x-tollway-tier` is a tier's name: 1 to 64 letters, digits, `_`, `.` and `-`.")
    return value.strip().decode("ascii")


def _can(exchange: Exchange, first: Candidate) -> bool:
    """True where it can do all that the call needs."""
    return can(_needs_of(exchange), exchange.snapshot.prices.abilities(first.deployment, exchange.started_at_ms))


def _needs_of(exchange: Exchange) -> Needs:
    """Worked out once: rules ask, and whoever compares deployments."""
    needs = exchange.needs
    if needs is None:
        call = exchange.call
        input_tokens = len(call.text or b"") // BYTES_PER_TOKEN
        needs = exchange.needs = Needs(needed_capabilities(exchange.operation, call.document), input_tokens)
    return needs
