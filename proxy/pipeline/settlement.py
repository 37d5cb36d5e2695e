"""The last phase of every exchange: its row, its metrics, its log line. Once, always.

`close` does not wait for anything: a caller that hangs up, or a task that is cancelled,
cannot interrupt it. Rows are written in groups right after; shutdown waits for the last one.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateUnavailable
from proxy.core.types import Usage, UsageSource
from proxy.ledger.entry import Entry, SealedRow, encode
from proxy.ledger.store import LedgerStore
from proxy.pipeline.exchange import Exchange
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.metrics import Metrics

_log = logging.getLogger("tollway.settlement")

_GATHER_S: Final = 0.01
_GROUP_ROWS_MAX: Final = 1_000
_RETRY_S: Final = 0.5
ROWS_PENDING_MAX: Final = 100_000


class Settlement:
    """Closes exchanges and writes their rows."""

    def __init__(self, ledger: LedgerStore, metrics: Metrics, access_log: AccessLog, clock: Clock) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._access_log = access_log
        self._clock = clock
        self._rows: list[SealedRow] = []
        self._writing: asyncio.Task[None] | None = None
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """What keeps rows from being written, or None."""
        return self._failure

    def check_room(self) -> None:
        """Refuse new work while the ledger is so far behind that a row could be lost.

        Raises:
            StateUnavailable: the ledger's store has been away for too long.
        """
        if len(self._rows) >= ROWS_PENDING_MAX:
            raise StateUnavailable(
                "The ledger cannot be written, and no call runs without its row. Try again shortly.",
                retry_after_ms=1_000,
            )

    def close(self, exchange: Exchange) -> None:
        """End an exchange."""
        ended_us = self._clock.monotonic_us()
        usage = self._usage(exchange)
        if exchange.dispatched:
            self._rows.append(encode(_entry(exchange, usage, ended_us)))
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write_rows())
        self._observe(exchange, usage, ended_us)
        self._access_log.write(_line(exchange, usage, ended_us))

    async def drain(self, timeout_s: float) -> int:
        """Write what is left; gives the number of rows that could not be written in time."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=timeout_s)
            if not self._writing.done():
                self._writing.cancel()
        return len(self._rows)

    async def _write_rows(self) -> None:
        # One task, alive only while there are rows: a short wait makes a group of them.
        try:
            while self._rows:
                await asyncio.sleep(_GATHER_S)
                await self._write_group(self._rows[:_GROUP_ROWS_MAX])
        finally:
            self._writing = None

    async def _write_group(self, group: list[SealedRow]) -> None:
        began_us = self._clock.monotonic_us()
        try:
            await self._ledger.append(group)
        except GatewayError as error:
            if self._failure is None:
                _log.error("ledger rows cannot be written, and are kept until they can: %s", error.message)
            self._failure = error.message
            await asyncio.sleep(_RETRY_S)
        else:
            # Appending is idempotent, so a group of unknown outcome is simply written again.
            del self._rows[: len(group)]
            self._failure = None
            self._metrics.state_called("ledger_append", (self._clock.monotonic_us() - began_us) / 1e6)
        self._metrics.rows_pending(len(self._rows))

    def _usage(self, exchange: Exchange) -> Usage | None:
        tap = exchange.usage_tap
        if tap is None:
            return None
        tap.close()
        return tap.usage

    def _observe(self, exchange: Exchange, usage: Usage | None, ended_us: int) -> None:
        metrics = self._metrics
        error = exchange.error
        metrics.request_ended(
            exchange.operation.name,
            _model_label(exchange),
            _status(exchange),
            _error_source(exchange),
            latency_us=ended_us - exchange.accepted_us,
            first_byte_us=_since_accept(exchange, exchange.first_byte_us),
            overhead_us=_since_accept(exchange, exchange.sent_us),
        )
        if exchange.caller is None and error is not None and error.status in (401, 403):
            metrics.auth_failed(error.code)
        if exchange.deployment is not None and exchange.dispatched:
            metrics.attempt_ended(_deployment_label(exchange), _outcome(exchange))
            metrics.usage_source(UsageSource.EXACT if usage is not None else "unknown")
        if usage is not None:
            metrics.usage_known(usage)


def _outcome(exchange: Exchange) -> str:
    if exchange.error is None:
        return "answered"
    return "abandoned" if exchange.error.code == "caller_gone" else "failed"


def _status(exchange: Exchange) -> int:
    if exchange.status:
        return exchange.status
    return exchange.error.status if exchange.error is not None else 500


def _error_source(exchange: Exchange) -> str | None:
    if exchange.error is not None:
        return exchange.error.source
    return "upstream" if exchange.status >= 400 else None


def _model_label(exchange: Exchange) -> str:
    alias = exchange.call.model_alias
    if alias is None:
        return "none"
    return alias if exchange.snapshot.routes.is_routed(alias) else "other"


def _deployment_label(exchange: Exchange) -> str:
    # A model that no route names is the caller's own text: it must not become a label value.
    assert exchange.deployment is not None
    return exchange.deployment.label if _model_label(exchange) not in ("other", "none") else exchange.deployment.provider


def _since_accept(exchange: Exchange, instant_us: int | None) -> int | None:
    return None if instant_us is None else instant_us - exchange.accepted_us


def rfc3339(at_ms: int) -> str:
    """Milliseconds since the Unix epoch as text, UTC (RFC 3339)."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _entry(exchange: Exchange, usage: Usage | None, ended_us: int) -> Entry:
    caller, deployment, tap = exchange.caller, exchange.deployment, exchange.usage_tap
    assert caller is not None and deployment is not None, "what was dispatched has a caller and a deployment"
    prompt_id, prompt_version = exchange.prompt or (None, None)
    first_byte_us = _since_accept(exchange, exchange.first_byte_us)
    return Entry(
        run_id=exchange.run_id,
        started_at=rfc3339(exchange.started_at_ms),
        tenant=caller.tenant_id,
        user=caller.user,
        feature=caller.feature,
        virtual_key_id=caller.virtual_key_id,
        prompt_id=prompt_id,
        prompt_version=prompt_version,
        config_version=exchange.snapshot.version,
        endpoint=exchange.operation.name,
        requested_model=exchange.call.model_alias,
        served_model=(tap.served_model if tap is not None else None) or deployment.model,
        provider=deployment.provider,
        deployment=deployment.label,
        attempts=exchange.attempts,
        stream=exchange.call.stream,
        status=_status(exchange),
        error_source=_error_source(exchange),
        input_tokens=usage.input_tokens if usage else None,
        cached_input_tokens=usage.cached_input_tokens if usage else None,
        cache_write_tokens=usage.cache_write_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        usage_source=UsageSource.EXACT if usage else None,
        key_source=exchange.key_source,
        latency_ms=(ended_us - exchange.accepted_us) / 1_000,
        first_byte_ms=None if first_byte_us is None else first_byte_us / 1_000,
        overhead_us=_since_accept(exchange, exchange.sent_us),
    )


def _line(exchange: Exchange, usage: Usage | None, ended_us: int) -> dict[str, object]:
    request, caller, error = exchange.request, exchange.caller, exchange.error
    return {
        "at": rfc3339(exchange.started_at_ms),
        "run_id": exchange.run_id,
        "peer": request.peer,
        "method": request.method,
        "path": request.path,
        "endpoint": exchange.operation.name,
        "tenant": caller.tenant_id if caller else None,
        "virtual_key_id": caller.virtual_key_id if caller else None,
        "model": exchange.call.model_alias,
        "deployment": exchange.deployment.label if exchange.deployment else None,
        "stream": exchange.call.stream,
        "status": _status(exchange),
        "error": error.code if error else None,
        "error_source": _error_source(exchange),
        "body_bytes": exchange.body_bytes,
        "output_tokens": usage.output_tokens if usage else None,
        "latency_ms": (ended_us - exchange.accepted_us) / 1_000,
        "overhead_us": _since_accept(exchange, exchange.sent_us),
        "config": exchange.snapshot.version,
    }
