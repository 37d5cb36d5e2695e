"""How many calls are under way at once: in this process, and at each deployment that takes only so many."""

from typing import Final

from proxy.admission.fair_queue import FairQueue
from proxy.admission.shedding import Shedding
from proxy.core.clock import Clock
from proxy.core.errors import Overloaded
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.exchange import Exchange
from proxy.routing.resolve import Candidate
from proxy.settings.model import ServerSettings
from proxy.telemetry.metrics import Metrics

_RETRY_AFTER_MS: Final = 1_000
_SHARE_PCT: Final = 20


class Gates:
    """The process's, and one for each deployment with a bound of its own."""

    __slots__ = ("_clock", "_metrics", "_of_deployments", "_of_process", "shedding")

    def __init__(self, server: ServerSettings, metrics: Metrics, clock: Clock) -> None:
        self._of_process = FairQueue(server.in_flight_max, server.tenant_in_flight_pct)
        self._of_deployments: dict[str, FairQueue] = {}
        self._metrics = metrics
        self._clock = clock
        self.shedding = Shedding()

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return self._of_process.in_flight

    @property
    def waiting(self) -> int:
        """How many wait to be."""
        return self._of_process.waiting

    def configure(self, server: ServerSettings) -> None:
        """Hold to another configuration."""
        self._of_process.resize(server.in_flight_max, server.tenant_in_flight_pct)

    async def enter(self, exchange: Exchange) -> None:
        """Let a call in, in turn.

        Raises:
            Overloaded: this process has too much to do, and the tenant more than its part of it.
            RateLimited: no place came free in time.
        """
        assert exchange.tenant is not None
        gate, tenant_id = self._of_process, exchange.tenant.id
        if self.shedding.is_on and self.shedding.sheds(gate.held_by(tenant_id), gate.in_flight, gate.tenants):
            raise Overloaded("This gateway has too much to do. Try again shortly.", retry_after_ms=_RETRY_AFTER_MS)
        if not gate.enter(tenant_id):
            await self._wait(exchange, gate)
        exchange.is_in_flight = True

    def leave(self, exchange: Exchange) -> None:
        """It is over."""
        if exchange.attempt is not None:
            self.leave_deployment(exchange, exchange.attempt)
        if exchange.is_in_flight:
            assert exchange.tenant is not None
            exchange.is_in_flight = False
            self._of_process.leave(exchange.tenant.id)

    async def enter_deployment(self, exchange: Exchange, attempt: Attempt) -> None:
        """Let a call to a deployment that takes only so many, in turn.

        Raises:
            RateLimited: no place came free in time.
        """
        gate = self._gate_of(attempt.candidate)
        if gate is None or attempt.is_let_in:
            return
        assert exchange.tenant is not None
        if not gate.enter(exchange.tenant.id):
            await self._wait(exchange, gate)
        attempt.is_let_in = True

    def leave_deployment(self, exchange: Exchange, attempt: Attempt) -> None:
        """The call has ended there."""
        if attempt.is_let_in:
            assert exchange.tenant is not None
            attempt.is_let_in = False
            self._of_deployments[attempt.candidate.name].leave(exchange.tenant.id)

    def _gate_of(self, candidate: Candidate) -> FairQueue | None:
        if candidate.in_flight_max is None:
            return None
        gate = self._of_deployments.get(candidate.name)
        if gate is None:
            gate = self._of_deployments[candidate.name] = FairQueue(candidate.in_flight_max, _SHARE_PCT)
        elif gate.capacity != candidate.in_flight_max:
            gate.resize(candidate.in_flight_max, _SHARE_PCT)
        return gate

    async def _wait(self, exchange: Exchange, gate: FairQueue) -> None:
        assert exchange.tenant is not None
        began_us = self._clock.monotonic_us()
        try:
            await gate.wait(exchange.tenant.id, exchange.plan.queue_weight)
        finally:
            self._metrics.queued((self._clock.monotonic_us() - began_us) / 1e6)
