"""Asks until somebody answers: retries, then the next deployment that the tenant consents to.

`upstream.fallback` says what follows a failure; here is the loop around it. An answer is held until it begins, so
that nobody ever gets parts of two.
"""

import asyncio
from dataclasses import dataclass
from math import inf
from random import random
from typing import Final, NamedTuple

from proxy.core.clock import Clock
from proxy.core.errors import (
    GatewayError,
    NoDeploymentAvailable,
    ProviderAuthFailed,
    RateLimited,
    UpstreamBrokeOff,
    UpstreamMalformed,
    UpstreamNotConnected,
    UpstreamTimedOut,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from proxy.core.types import KeySource
from proxy.dialects.opening import Opening
from proxy.pipeline.attempt import Attempt, GivenUp
from proxy.pipeline.dispatch import Dispatch
from proxy.pipeline.downstream import Downstream
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.gates import Gates
from proxy.pipeline.options import Options, may_be_billed_nusd
from proxy.pipeline.payment import Payment, condition_of
from proxy.settings.model import ProviderSettings
from proxy.upstream.client import UpstreamAnswer
from proxy.upstream.conditions import Condition, Conditions
from proxy.upstream.fallback import Failure, Next, Outcome, decide, is_failure
from proxy.upstream.retry_budget import delay_ms
from proxy.upstream.throttle import wait_asked_ms

_TOO_MANY_REQUESTS: Final = 429
_SHOULD_RETRY: Final = b"x-should-retry"
_OF_THE_CALL: Final = frozenset({408, 409})  # sent again, and yet no sign that the deployment is unwell
_LEFT_US_MIN: Final = 1_000
# In this order: the first that fits.
_FAILURES: Final = (
    (UpstreamNotConnected, Failure.NOT_SENT),
    (UpstreamTimedOut, Failure.TIMED_OUT),
    (UpstreamBrokeOff, Failure.BROKE_OFF),
    (UpstreamTruncated, Failure.BROKE_OFF),  # before the first byte of its body
    (UpstreamUnreachable, Failure.NOT_SENT),
    (UpstreamMalformed, Failure.MALFORMED),
    (NoDeploymentAvailable, Failure.NO_ROOM),
)
_ERRORS: Final = tuple(kind for kind, _ in _FAILURES)


class Failed(NamedTuple):
    """A call that was sent once, in vain: there was an error, or an answer that is a failure."""

    failure: Failure
    answer: UpstreamAnswer | None = None
    error: GatewayError | None = None

    @property
    def last_word(self) -> UpstreamAnswer | GatewayError:
        """What the caller gets where nothing follows: the upstream's own error beats one that we invent."""
        if self.answer is not None:
            return self.answer
        assert self.error is not None, "what gave no answer says why"
        return self.error

    async def aclose(self) -> None:
        """Let go of the answer."""
        if self.answer is not None:
            await self.answer.aclose()


@dataclass(slots=True)
class _Course:
    """How far a call has come whose first try has failed."""

    until_us: int  # all attempts together may take so long
    retries: int = 0
    reported: str | None = None  # the deployment that this call's failure was told of


class Attempts:
    """Makes the attempts of an exchange."""

    __slots__ = ("_clock", "_conditions", "_dispatch", "_gates", "_options", "_payment")

    def __init__(
        self,
        payment: Payment,
        gates: Gates,
        options: Options,
        dispatch: Dispatch,
        conditions: Conditions,
        clock: Clock,
    ) -> None:
        self._payment = payment
        self._gates = gates
        self._options = options
        self._dispatch = dispatch
        self._conditions = conditions
        self._clock = clock

    async def answer(self, exchange: Exchange, downstream: Downstream) -> UpstreamAnswer:
        """The answer to relay, begun. From then on the caller of this closes it.

        Raises:
            GatewayError: nobody gave one.
        """
        attempt = exchange.attempt
        assert attempt is not None
        if exchange.ticket is not None:  # an admission has read how the tenant's keys are
            attempt.payer = await self._payment.confirmed(exchange, _provider_of(exchange, attempt), attempt.payer)
        condition = condition_of(self._conditions, exchange, attempt.candidate, attempt.payer)
        began_us = self._clock.monotonic_us()
        # The first one has all of its provider's time.
        came: UpstreamAnswer | Failed | GatewayError = await self._try(
            exchange, attempt, condition, downstream, began_us, None
        )
        if isinstance(came, Failed):
            course = _Course(began_us + int(_provider_of(exchange, attempt).timeouts_s.total * 1e6))
            came = await self._go_on(exchange, condition, came, downstream, course)
        if exchange.call.stream:
            exchange.let_body_go()  # nobody else is asked now
        if isinstance(came, GatewayError):
            raise came
        return came

    def cut(self, exchange: Exchange) -> None:
        """An answer that had begun broke off: that tells of the deployment's health, and its breaker nothing."""
        if exchange.attempt is not None:
            now_us = self._clock.monotonic_us()
            self._conditions.troubled(now_us)
            self._conditions.vitals(exchange.attempt.candidate.name).failed(now_us)

    async def _go_on(
        self, exchange: Exchange, condition: Condition, failed: Failed, downstream: Downstream, course: _Course
    ) -> UpstreamAnswer | GatewayError:
        """What comes in the end of a call whose first try has failed."""
        attempt = exchange.attempt
        assert attempt is not None
        while True:
            try:
                self._report(attempt, condition, failed, course)
                # Before more is held for whoever follows: that is no bill of this one's.
                billed_nusd = may_be_billed_nusd(exchange, attempt, failed.failure)
                following = await self._following(exchange, attempt, condition, failed, course, billed_nusd)
            except BaseException:
                await failed.aclose()
                raise
            if following is None:
                return failed.last_word
            await failed.aclose()
            exchange.given_up += (_given_up(attempt, failed),)
            if following is not attempt:
                self._gates.leave_deployment(exchange, attempt)
                exchange.given_up_nusd += billed_nusd
            attempt = exchange.attempt = following
            condition = condition_of(self._conditions, exchange, attempt.candidate, attempt.payer)
            now_us = self._clock.monotonic_us()
            left_s = max(_LEFT_US_MIN, course.until_us - now_us) / 1e6 if exchange.attempts else None
            came = await self._try(exchange, attempt, condition, downstream, now_us, left_s)
            if not isinstance(came, Failed):
                return came
            failed = came

    async def _try(
        self,
        exchange: Exchange,
        attempt: Attempt,
        condition: Condition,
        downstream: Downstream,
        began_us: int,
        left_s: float | None,
    ) -> UpstreamAnswer | Failed:
        """Send it once; `left_s` is what is left of the time that the call may take, None: all of it."""
        vitals = condition.vitals
        if condition.throttle.until_us > began_us or not condition.breaker.enter(began_us):
            message = f"{attempt.deployment.label} fails or throttles calls just now. Try again shortly."
            return Failed(Failure.BLOCKED, error=NoDeploymentAvailable(message, retry_after_ms=1_000))
        try:
            if attempt.candidate.in_flight_max is not None:
                await self._gates.enter_deployment(exchange, attempt)
            vitals.in_flight += 1
            try:
                answer = await self._dispatch.send(exchange, attempt, downstream, left_s)
            finally:
                vitals.in_flight -= 1
        except _ERRORS as error:
            return Failed(next(kind for known, kind in _FAILURES if isinstance(error, known)), error=error)
        except RateLimited as error:  # by the deployment's own gate
            condition.breaker.left()
            return Failed(Failure.NO_ROOM, error=error)
        except ProviderAuthFailed as error:
            if attempt.key_source is KeySource.GATEWAY:
                return Failed(Failure.CREDENTIALS, error=error)
            condition.breaker.left()
            raise  # it is the tenant's own key, which nobody else can mend
        except BaseException:  # the caller hung up, or a fault of ours: it says nothing of the deployment
            condition.breaker.left()
            raise
        status = answer.status
        if status >= 400 and is_failure(status):
            return Failed(Failure.STATUS, answer)
        if attempt.opening is Opening.ERROR:
            return Failed(Failure.ERROR_EVENT, answer)
        if status >= 400:
            condition.breaker.left()
        else:
            now_us = exchange.first_byte_at_us
            assert now_us is not None, "dispatch notes it"
            condition.breaker.succeeded(now_us)
            condition.throttle.answered()
            vitals.answered(now_us, now_us - began_us, stream=attempt.call.stream)
        self._conditions.budget(attempt.candidate.deployment.provider).answered()
        return answer

    def _report(self, attempt: Attempt, condition: Condition, failed: Failed, course: _Course) -> None:
        """What a failure says of the deployment. One call is one failure, however often it was sent."""
        if failed.failure is Failure.BLOCKED:
            return
        status = 0 if failed.answer is None else failed.answer.status
        now_us = self._clock.monotonic_us()
        if failed.answer is not None and status == _TOO_MANY_REQUESTS:
            condition.throttle.told(wait_asked_ms(failed.answer.fields, self._clock.now_ms()), now_us)
        self._conditions.troubled(now_us)
        is_told = course.reported == attempt.candidate.name
        course.reported = attempt.candidate.name
        if is_told or status == _TOO_MANY_REQUESTS or status in _OF_THE_CALL or failed.failure is Failure.NO_ROOM:
            condition.breaker.left()
            return
        condition.breaker.failed(now_us)
        condition.vitals.failed(now_us)

    async def _following(
        self,
        exchange: Exchange,
        attempt: Attempt,
        condition: Condition,
        failed: Failed,
        course: _Course,
        billed_nusd: int,
    ) -> Attempt | None:
        """The attempt that follows a failure: the same, after a while, or another; None: that was all."""
        if exchange.call.body is None and exchange.request.has_body:
            return None  # it is gone
        now_us = self._clock.monotonic_us()
        if now_us >= course.until_us:
            return None
        asked_ms = self._asked_ms(condition, failed, now_us)
        wait_ms = delay_ms(course.retries + 1, asked_ms, random())
        outcome = Outcome(failed.failure, course.retries, wait_ms, has_fallback=bool(exchange.options_left))
        if decide(outcome) is Next.RETRY and now_us + wait_ms * 1_000 < course.until_us:
            budget = self._conditions.budget(attempt.deployment.provider)
            if condition.breaker.admits(now_us) and budget.take(now_us):
                course.retries += 1
                await asyncio.sleep(wait_ms / 1_000)
                return attempt
        following = await self._options.next(exchange, attempt, _given_up(attempt, failed), billed_nusd)
        if following is None:
            assert exchange.choice is not None
            exchange.withheld = exchange.choice.withheld
        return following

    def _asked_ms(self, condition: Condition, failed: Failed, now_us: int) -> float:
        """How long the provider wants to be left alone; for ever, where it says so as OpenAI's does."""
        fields = {} if failed.answer is None else failed.answer.fields
        if fields.get(_SHOULD_RETRY) == b"false":
            return inf
        return max(wait_asked_ms(fields, self._clock.now_ms()) or 0, condition.throttle.left_us(now_us) / 1_000)


def _provider_of(exchange: Exchange, attempt: Attempt) -> ProviderSettings:
    return exchange.snapshot.providers[attempt.candidate.deployment.provider].settings


def _given_up(attempt: Attempt, failed: Failed) -> GivenUp:
    status = failed.answer.status if failed.answer is not None and failed.failure is Failure.STATUS else None
    return GivenUp(attempt.candidate.name, attempt.deployment.label, failed.failure, status)
