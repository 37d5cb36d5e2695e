"""The last phase of every exchange: its row, its metrics, its log line. Once, always.

`close` does not wait for anything: a caller that hangs up, or a task that is cancelled,
cannot interrupt it. What was held is settled in the loop's next turn, when the answer's last bytes
have left; all else that is to be said of what ended is said in small groups right after, because the
same work for many at once finds its code in the processor's caches; rows that nothing was held for
are then written in larger groups. Shutdown waits for all of it, and a scrape for the first two.
"""

import asyncio
import logging
from typing import Final

from proxy.admission.ending import Bill
from proxy.admission.keeper import Keeper
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateUnavailable
from proxy.ledger.entry import Entry, SealedRow, encode
from proxy.ledger.store import LedgerStore
from proxy.pipeline.absorbing import Absorbing
from proxy.pipeline.charge import Charge
from proxy.pipeline.charging import charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.record import ANSWERED, failed_outcome, log_line, model_label, refusal_line
from proxy.pipeline.rows import run_row
from proxy.telemetry.access_log import AccessLog
from proxy.telemetry.call_counts import CallFigures, CallKind
from proxy.telemetry.metrics import Metrics

_log = logging.getLogger("tollway.settlement")

_ENDED_S: Final = 0.005
_ENDED_MAX: Final = 32  # some 0.4 ms of work: what another request may have to wait for
_GATHER_S: Final = 0.05  # each group wakes the store's thread, which costs the loop its turn
_GROUP_ROWS_MAX: Final = 1_000
_RETRY_S: Final = 0.5
ROWS_PENDING_MAX: Final = 100_000


class Settlement:
    """Closes exchanges and writes their rows."""

    def __init__(
        self,
        ledger: LedgerStore,
        keeper: Keeper,
        absorbing: Absorbing,
        metrics: Metrics,
        access_log: AccessLog,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._keeper = keeper
        self._absorbing = absorbing
        self._metrics = metrics
        self._access_log = access_log
        self._clock = clock
        self._held: list[Exchange] = []  # what has ended in this turn, and is to be settled
        # What has ended, each with its summary where it is settled.
        self._ended: list[tuple[Exchange, tuple[Entry, Charge] | None]] = []
        self._rows: list[SealedRow] = []
        self._writing: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self.export_failure: str | None = None  # too much waits to be exported; whoever watches the exporter says so
        metrics.before_scrape(self.sum_up)

    @property
    def failure(self) -> str | None:
        """What keeps rows from being written, or None."""
        return self._failure

    def check_room(self) -> None:
        """Refuse new work while the ledger is so far behind that a row could be lost.

        Raises:
            StateUnavailable: the ledger's store has been away for too long.
        """
        if len(self._rows) >= ROWS_PENDING_MAX or self.export_failure is not None:
            raise StateUnavailable(
                "The ledger cannot be written, and no call runs without its row. Try again shortly.",
                retry_after_ms=1_000,
            )

    def close(self, exchange: Exchange) -> None:
        """End an exchange."""
        exchange.ended_at_us = self._clock.monotonic_us()
        if exchange.ticket is None:
            self._note_ended(exchange, None)
            return
        # Before the caller's next call is read, since what this one held and did not use is room for it; and after
        # the loop has sent what it writes at the end of a turn, since its caller waits for that, and for no row.
        if not self._held:
            asyncio.get_running_loop().call_soon(self._settle_held)
        self._held.append(exchange)

    def _settle_held(self) -> None:
        held, self._held = self._held, []
        for exchange in held:
            self._note_ended(exchange, self._settle(exchange))

    def _note_ended(self, exchange: Exchange, summary: tuple[Entry, Charge] | None) -> None:
        if not self._ended:
            asyncio.get_running_loop().call_later(_ENDED_S, self.sum_up)
        self._ended.append((exchange, summary))
        if len(self._ended) >= _ENDED_MAX:
            self.sum_up()

    def note_refusal(self, error: GatewayError, peer: str | None) -> None:
        """Count and log a request that was refused before it could be read: it has no exchange."""
        self._metrics.request_ended(
            "unread", "none", error.status, error.source, latency_us=0, first_byte_us=None, overhead_us=None
        )
        self._access_log.write(refusal_line(self._clock.now_ms(), error, peer))

    def sum_up(self) -> None:
        """Make rows, metrics and log lines of what has ended by now."""
        self._settle_held()
        ended, self._ended = self._ended, []
        for exchange, summary in ended:
            if summary is None and exchange.ticket is None:
                summary = self._settle(exchange)
            if summary is None:
                continue
            try:
                row, charged = summary
                self._observe(exchange, row, charged)
                self._access_log.write(log_line(exchange, row))
            except Exception:  # noqa: BLE001  a fault in one record must not cost the others theirs
                _log.exception("run %s could not be told of", exchange.run_id)
        self._write_soon()
        self._metrics.rows_pending(len(self._rows))

    def _write_soon(self) -> None:
        if self._rows and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_rows())

    def _settle(self, exchange: Exchange) -> tuple[Entry, Charge] | None:
        """Its row and its money. None: a fault of ours, of which the log says more."""
        try:
            attempt = exchange.attempt
            if attempt is not None and attempt.usage_tap is not None:
                attempt.usage_tap.close()
            charged = charge(exchange)
            row = run_row(exchange, charged)
            self._keep_row(exchange, row, charged)
            if exchange.absorption_day is not None:
                self._absorbing.settle(exchange, charged.absorbed_nusd or 0)
        except Exception:  # noqa: BLE001  likewise
            _log.exception("run %s could not be recorded whole", exchange.run_id)
            if exchange.ticket is not None and exchange.ticket.is_in_store:
                self._keeper.give_up(exchange.ticket.demand.run_step)
            return None
        return row, charged

    def _keep_row(self, exchange: Exchange, row: Entry, charged: Charge) -> None:
        """A row of what was sent, in the settlement's own step where something was reserved."""
        ticket = exchange.ticket
        if ticket is None or not ticket.is_in_store:
            if exchange.attempts:
                self._rows.append(encode(row))
            return
        self._metrics.held(-ticket.held_nusd)
        if not exchange.dispatched:
            self._keeper.release(ticket.demand.run_step)
            return
        self._keeper.settle(ticket.demand, Bill(charged.charged_nusd or 0, charged.tokens, encode(row).data))

    async def drain(self, timeout_s: float) -> int:
        """Write what is left; gives the number of rows that could not be written in time."""
        self.sum_up()
        writing = self._writing
        if writing is not None:
            _, unfinished = await asyncio.wait({writing}, timeout=timeout_s)
            if unfinished:
                writing.cancel()
        return len(self._rows)

    async def _write_rows(self) -> None:
        # One task, alive only while there are rows: a short wait makes a group of them.
        try:
            while self._rows:
                await asyncio.sleep(_GATHER_S)
                await self._write_group(self._rows[:_GROUP_ROWS_MAX])
                if self._failure is not None:
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._writing = None

    async def _write_group(self, group: list[SealedRow]) -> None:
        began_us = self._clock.monotonic_us()
        try:
            await self._ledger.append(group)
        except Exception as error:  # noqa: BLE001  whatever it is, the rows are kept and the operator told
            if self._failure is None:
                _log.exception("ledger rows cannot be written, and are kept until they can")
            self._failure = error.message if isinstance(error, GatewayError) else f"{type(error).__name__}: {error}"
        else:
            # Appending is idempotent, so a group of unknown outcome is simply written again.
            del self._rows[: len(group)]
            self._failure = None
        finally:
            self._metrics.state_called("ledger_append", (self._clock.monotonic_us() - began_us) / 1e6)
            self._metrics.rows_pending(len(self._rows))

    def _observe(self, exchange: Exchange, row: Entry, charged: Charge) -> None:
        metrics, attempt, error, usage = self._metrics, exchange.attempt, exchange.error, charged.usage
        if error is not None and exchange.caller is None and error.status in (401, 403):
            metrics.auth_failed(error.code)
        for given_up in exchange.given_up:
            metrics.attempt_ended(given_up.name, given_up.failure)
        sent_to, how_it_ended, source, context_used = None, "", "", None
        if attempt is not None and exchange.attempts:
            facts, sent_to = attempt.facts, attempt.candidate.name
            how_it_ended = ANSWERED if error is None else failed_outcome(error)
            if charged.usage_source is None:
                source = "unknown"
            else:  # how far its figures can be trusted
                source = "unpriced" if facts is None else str(charged.usage_source)
            if usage is not None and facts is not None and facts.context_tokens:
                context_used = usage.input_tokens / facts.context_tokens
        metrics.calls.ended(
            CallKind(
                row["endpoint"],
                model_label(exchange),
                row["status"],
                row["error_source"],
                sent_to,
                how_it_ended,
                source,
            ),
            CallFigures(
                row["latency_ms"],
                row["first_byte_ms"],
                row["overhead_us"],
                usage,
                context_used,
                charged.charged_nusd,
                charged.absorbed_nusd,
            ),
        )
