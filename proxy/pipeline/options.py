"""From a candidate to an attempt that can be made: who pays, in whose API, within what is held.

A fallback is one that the first choice's promises cover: what the tenant pays is bounded by the price that it asked
for, and what is dearer by what the operator bears.
"""

import logging
from typing import Final

from proxy.core import jsonio
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, NoDeploymentAvailable
from proxy.core.types import KeySource
from proxy.pipeline.absorbing import Absorbing
from proxy.pipeline.admittance import Admittance, counts_dollars
from proxy.pipeline.attempt import Attempt, GivenUp
from proxy.pipeline.choosing import Choosing
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.payment import Payment, condition_of
from proxy.pipeline.translating import translate
from proxy.pipeline.worst import worst_case
from proxy.routing.isolation import refuse_shared_objects
from proxy.routing.resolve import Candidate
from proxy.upstream.conditions import Conditions
from proxy.upstream.fallback import Failure, is_maybe_billed

_log = logging.getLogger("tollway.options")

_RETRY_AFTER_MS: Final = 60_000


class Options:
    """Makes attempts of candidates."""

    __slots__ = ("_absorbing", "_admittance", "_choosing", "_clock", "_conditions", "_payment")

    def __init__(
        self,
        choosing: Choosing,
        payment: Payment,
        admittance: Admittance,
        absorbing: Absorbing,
        conditions: Conditions,
        clock: Clock,
    ) -> None:
        self._choosing = choosing
        self._payment = payment
        self._admittance = admittance
        self._absorbing = absorbing
        self._conditions = conditions
        self._clock = clock

    async def prepare(self, exchange: Exchange, candidate: Candidate) -> Attempt:
        """What asking this candidate takes: who pays, and the call in its API.

        Raises:
            InvalidApiKey, ProviderKeyMissing: nobody pays there.
            StatefulPathNotIsolated: the call names what the provider holds for every tenant of the gateway's key.
            GatewayError: see `Payment.find` and `translating.translate`.
        """
        snapshot, operation, deployment = exchange.snapshot, exchange.operation, candidate.deployment
        access = snapshot.providers[deployment.provider]
        payer = self._payment.known(exchange, access.settings)
        if payer is None:
            payer = await self._payment.find(exchange, access.settings)
        if payer.source is KeySource.GATEWAY and not access.settings.allow_shared_state:
            refuse_shared_objects(exchange.request, exchange.call)
        at_ms, choice = exchange.started_at_ms, exchange.choice
        facts = snapshot.prices.facts_of(deployment, operation, at_ms)
        attempt = Attempt(candidate, operation, exchange.call, payer, facts)
        if choice is not None and candidate is not choice.first:
            attempt.promised_facts = snapshot.prices.facts_of(choice.first.deployment, operation, at_ms)
        if access.dialect.shape is not operation.base_shape:
            translate(exchange, attempt, access)
        return attempt

    async def first(self, exchange: Exchange) -> Attempt:
        """The attempt that is made first: at the first choice, or where that is unwell at another, within what the
        operator bears.

        Raises:
            NoDeploymentAvailable: the first choice is unwell, and no other can be asked that the operator bears today.
            GatewayError: see `prepare`.
        """
        choice = exchange.choice
        assert choice is not None
        exchange.options_left = choice.asked
        while exchange.options_left:
            candidate, *left = exchange.options_left
            exchange.options_left = tuple(left)
            if candidate is choice.first:
                return await self.prepare(exchange, candidate)
            try:
                attempt = await self.prepare(exchange, candidate)
                is_bounded = self._absorbing.is_bounded(exchange)
                if not is_bounded or await self._absorbing.hold(exchange, worst_case(exchange, attempt), 0):
                    return attempt
            except GatewayError as error:  # the first choice may serve yet
                _log.info("run %s: not to %s: %s", exchange.run_id, candidate.deployment.label, error.message)
        raise NoDeploymentAvailable(
            f"{choice.first.deployment.label} fails calls just now, and no other may answer today. Try again later.",
            retry_after_ms=_RETRY_AFTER_MS,
        )

    async def next(self, exchange: Exchange, attempt: Attempt, given_up: GivenUp, billed_nusd: int) -> Attempt | None:
        """The next candidate that can be asked where an attempt has failed, of which the operator may have to bear so
        much; None: nobody is left."""
        borne_nusd = exchange.given_up_nusd + billed_nusd
        call = exchange.call
        if call.document is None and call.text is not None:  # it was let go when the call was sent
            exchange.call = call._replace(document=jsonio.parse(call.text))
        exchange.options_left = self._choosing.rank(exchange, exchange.options_left) if exchange.options_left else ()
        while exchange.options_left:
            candidate, *left = exchange.options_left
            exchange.options_left = tuple(left)
            try:
                following = await self._fall_back(exchange, attempt, candidate, given_up, borne_nusd)
            except GatewayError as error:
                _log.info("run %s: no fallback to %s: %s", exchange.run_id, candidate.deployment.label, error.message)
            else:
                if following is not None:
                    return following
        return None

    async def _fall_back(
        self, exchange: Exchange, attempt: Attempt, candidate: Candidate, given_up: GivenUp, borne_nusd: int
    ) -> Attempt | None:
        following = await self.prepare(exchange, candidate)
        if following.key_source is KeySource.GATEWAY and attempt.key_source is not KeySource.GATEWAY:
            return None  # who calls with a key of its own has not asked to be charged by the gateway
        condition = condition_of(self._conditions, exchange, candidate, following.payer)
        if condition.blocked_us(self._clock.monotonic_us()):
            return None
        is_capped = exchange.ticket is not None and exchange.ticket.estimate is not None
        worst = worst_case(exchange, following) if is_capped or self._absorbing.is_bounded(exchange) else None
        if not await self._absorbing.hold(exchange, worst, borne_nusd):
            return None
        estimate = None if worst is None else worst.estimate
        await self._admittance.cover(exchange, following, estimate, (*exchange.given_up, given_up))
        exchange.counts_dollars = counts_dollars(exchange, following)
        return following


def may_be_billed_nusd(exchange: Exchange, attempt: Attempt, failure: Failure) -> int:
    """What the operator may have to bear of an attempt that came to nothing."""
    if not is_maybe_billed(failure) or exchange.ticket is None or attempt.key_source is not KeySource.GATEWAY:
        return 0
    return exchange.ticket.held_nusd
