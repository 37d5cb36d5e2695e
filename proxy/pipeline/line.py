"""The straight line of one request. Read it top to bottom: it is the whole product."""

import asyncio
import logging

from proxy.core.clock import Clock
from proxy.core.errors import (
    CallerGone,
    GatewayError,
    GatewayStopped,
    InternalError,
    UpstreamMalformed,
    UpstreamTimedOut,
    UpstreamTruncated,
)
from proxy.core.types import InboundRequest
from proxy.dialects.openai import classify
from proxy.identity.caller import PROMPT_HEADER, parse_prompt, with_body_user
from proxy.pipeline.admittance import Admittance
from proxy.pipeline.attempts import Attempts
from proxy.pipeline.caching import Caching, pace_of
from proxy.pipeline.choosing import Choosing
from proxy.pipeline.downstream import Downstream
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.gates import Gates
from proxy.pipeline.hang_up import HangUp
from proxy.pipeline.options import Options
from proxy.pipeline.own_words import list_models, own_headers, relay_headers, replay_headers
from proxy.pipeline.passage import Passage
from proxy.pipeline.reading import read_call
from proxy.pipeline.run_ids import RunIds
from proxy.pipeline.settlement import Settlement
from proxy.pipeline.snapshot import SnapshotSlot
from proxy.pipeline.translating import is_translated_stream, whole_answer
from proxy.routing.isolation import refuse_admin
from proxy.upstream.client import UpstreamAnswer
from proxy.upstream.headers import response_headers, translated_headers

_log = logging.getLogger("tollway.line")


class Line:
    """Serves requests, one exchange each."""

    __slots__ = (
        "_admittance",
        "_attempts",
        "_caching",
        "_choosing",
        "_clock",
        "_gates",
        "_options",
        "_run_ids",
        "_settlement",
        "_snapshots",
    )

    def __init__(
        self,
        snapshots: SnapshotSlot,
        choosing: Choosing,
        caching: Caching,
        gates: Gates,
        options: Options,
        admittance: Admittance,
        attempts: Attempts,
        settlement: Settlement,
        clock: Clock,
    ) -> None:
        self._snapshots = snapshots
        self._choosing = choosing
        self._caching = caching
        self._gates = gates
        self._options = options
        self._admittance = admittance
        self._attempts = attempts
        self._settlement = settlement
        self._clock = clock
        self._run_ids = RunIds()

    async def serve(self, request: InboundRequest, downstream: Downstream) -> None:
        """Answer one request. Raises nothing for what a caller or a provider did."""
        accepted_at_us = self._clock.monotonic_us()
        operation = classify(request.method, request.segments)
        started_at_ms = self._clock.now_ms()
        run_id = self._run_ids.next(started_at_ms)
        exchange = Exchange(run_id, request, self._snapshots.current, operation, started_at_ms, accepted_at_us)
        hang_up = HangUp(downstream)
        try:
            try:
                answer = await self._ask(exchange, downstream)
                if answer is not None:
                    await self._pass_on(exchange, downstream, answer)
            except GatewayError as error:
                await _refuse(exchange, error, downstream)
            except Exception:  # noqa: BLE001  a fault of ours costs one request, and is logged whole
                _log.exception("run %s failed in the gateway itself", exchange.run_id)
                fault = InternalError(f"The gateway failed. Its log says why, under {exchange.run_id}.")
                await _refuse(exchange, fault, downstream)
        except asyncio.CancelledError:
            if not hang_up.happened:  # the process is going down, and this task with it
                exchange.error = GatewayStopped("The gateway was stopped before the answer ended.")
                raise
            hang_up.absorb()
            exchange.error = CallerGone("The caller hung up before its answer ended.")
        finally:
            self._gates.leave(exchange)
            downstream.close()
            exchange.body_bytes = downstream.body_bytes
            self._settlement.close(exchange)
            self._caching.close(exchange)

    async def _ask(self, exchange: Exchange, downstream: Downstream) -> UpstreamAnswer | None:
        """Who calls, what for, where it may go, what it may cost; and then the provider's answer, which is to be
        closed. None: the caller has its answer."""
        request, snapshot = exchange.request, exchange.snapshot
        if request.fault is not None:
            raise request.fault.afresh()  # the head may come again, and its request with it
        refuse_admin(exchange.operation, request)
        if (prompt := request.fields.get(PROMPT_HEADER)) is not None:
            exchange.prompt = parse_prompt(prompt)
        caller = exchange.caller = await snapshot.authenticator.authenticate(request)
        tenants = snapshot.tenants
        exchange.tenant = tenants.fresh(caller.tenant_id) or await tenants.find(caller.tenant_id)
        call = exchange.call = await read_call(exchange, downstream)
        if call.document is not None:
            exchange.caller = with_body_user(caller, call.document)

        if exchange.operation.gateway_served and (models := list_models(exchange)) is not None:
            exchange.status = models.status
            await downstream.send_answer(models, own_headers(exchange))
            return None

        exchange.route = self._choosing.resolve(exchange)
        kept = await self._caching.find(exchange)
        if kept is not None:
            exchange.status = 200
            headers = replay_headers(exchange, kept, self._clock.monotonic_us())
            await downstream.replay(kept.body, headers, pace_of(exchange, kept))
            return None
        exchange.choice = self._choosing.choose(exchange)
        await self._gates.enter(exchange)
        exchange.attempt = await self._options.first(exchange)
        self._settlement.check_room()
        await self._admittance.admit(exchange)
        return await self._attempts.answer(exchange, downstream)

    async def _pass_on(self, exchange: Exchange, downstream: Downstream, answer: UpstreamAnswer) -> None:
        """The provider's answer, as it comes. It may take long: what only asking needed is gone by now."""
        try:
            passage = await self._begin(exchange, downstream, answer)
            if passage is not None:
                await downstream.relay(answer, passage)
        except (UpstreamTruncated, UpstreamTimedOut, UpstreamMalformed):
            self._attempts.cut(exchange)
            raise
        finally:
            await answer.aclose()

    async def _begin(self, exchange: Exchange, downstream: Downstream, answer: UpstreamAnswer) -> Passage | None:
        """The head, and what the body will pass on its way. None: all of the answer has left."""
        attempt = exchange.attempt
        assert attempt is not None
        exchange.status = answer.status
        headers = response_headers(answer.headers, answer.fields, attempt.key_source, answer.status)
        if attempt.translation is not None:
            headers = translated_headers(headers, exchange.operation.base_shape)
            if not is_translated_stream(answer):
                whole = await whole_answer(exchange, answer)
                self._caching.hear(exchange, whole)
                await downstream.send_answer(whole, headers + relay_headers(exchange, is_whole=True))
                return None
        headers += relay_headers(exchange, is_whole=answer.is_whole)
        passage = self._admittance.passage(exchange, answer)
        passage.copy = self._caching.copy(exchange, headers, is_delimited=answer.is_delimited)
        if passage.rewriter is not None and b"content-length" in answer.fields:  # what leaves is of another length
            headers = [header for header in headers if header[0] != b"content-length"]
        await downstream.begin(answer.status, headers)
        return passage


async def _refuse(exchange: Exchange, error: GatewayError, downstream: Downstream) -> None:
    exchange.error = error
    if not downstream.head_sent:
        exchange.status = error.status
    await downstream.refuse(error, own_headers(exchange))
