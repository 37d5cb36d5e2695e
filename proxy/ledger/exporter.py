"""Drains the rows to the sink, page by page, beside the requests.

For each tenant: claim, read a batch, seal it, write the page, move the store's cursor (which lets
the rows go), and on. A crash between any two of these is made good by the next exporter,
because a sink never replaces a page and the cursor moves last: a page that is there and not
noted yet is compared with the rows, and taken over as it is (`takeover`). So a row is in a page
once, and leaves the store only after that.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from proxy.core.clock import Clock
from proxy.core.errors import GatewayError
from proxy.ledger.cursor import Backlog, Claim
from proxy.ledger.page import PageBroken, seal
from proxy.ledger.sink import LedgerSink
from proxy.ledger.store import LedgerStore
from proxy.ledger.takeover import check_last_page, take_over

_log = logging.getLogger("tollway.ledger")

READ_ROWS_MAX: Final = 250  # a call: some 0.3 ms of the event loop
PAGE_BYTES_MAX: Final = 8_388_608
PAGES_PER_TURN_MAX: Final = 16  # of one tenant: then the others have their turn
BACK_OFF_MAX_S: Final = 60.0
_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ExportPace:
    """How fast, and in pages of what size."""

    every_s: float = 5.0
    partial_every_s: float = 60.0  # rows that fill no page wait so long for others, or there would be many tiny ones
    seal_rows_max: int = 1_000  # some 0.7 MB; on SQLite more would hold other calls up while they are deleted
    lease_ms: int = 30_000  # how long a vanished exporter's tenants wait for another one


class ExportObserver(Protocol):
    """Whom the exporter tells what it did: the metrics."""

    def ledger_unexported(self, unexported_bytes: int, /) -> None:
        """Roughly what waits in the store."""
        ...

    def ledger_exported(self, rows: int, seconds: float, /) -> None:
        """One page is in the sink, and the cursor beyond it."""
        ...

    def ledger_export_failed(self) -> None:
        """A turn, or a tenant's part of it, failed."""
        ...


class Turn(NamedTuple):
    """What one turn came to."""

    rows: int = 0
    pages: int = 0
    left: bool = False  # there is more that could be exported at once
    elsewhere: tuple[str, ...] = ()  # tenants whom another exporter has in hand
    failures: tuple[str, ...] = ()
    is_away: bool = False  # the store or the sink failed, not one tenant's ledger


class _Step(NamedTuple):
    """The claim after a page, and how many rows were written; 0 where a page was there already."""

    claim: Claim
    rows: int


class Exporter:
    """Exports every tenant's rows. `start` and `stop` for a gateway, `run_once` for a command."""

    def __init__(
        self,
        store: LedgerStore,
        sink: LedgerSink,
        observer: ExportObserver,
        clock: Clock,
        holder: str,
        pace: ExportPace | None = None,
        *,
        accept_missing: bool = False,
    ) -> None:
        """
        Args:
            holder: this process's name among those that may export: its own each time that it starts.
            accept_missing: go on where the last page is not in this sink; its chain then begins in the middle.
        """
        self._store = store
        self._sink = sink
        self._observer = observer
        self._clock = clock
        self._holder = holder
        self._pace = pace or ExportPace()
        self._accept_missing = accept_missing
        self._known_here: set[str] = set()  # tenants whose last page was seen in this sink
        self._failure: str | None = None
        self._unexported_bytes = 0
        self._read_rows = READ_ROWS_MAX  # a call; fewer after one that the store did not answer in time
        self._running: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def failure(self) -> str | None:
        """What keeps rows from being exported, or None."""
        return self._failure

    @property
    def unexported_bytes(self) -> int:
        """Roughly what waited in the store when it was last looked at."""
        return self._unexported_bytes

    def start(self) -> None:
        """Export from now on, in the background."""
        assert self._running is None
        self._stopping.clear()
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End after the page in hand, within 10 s. Safe to repeat; what waits stays in the store."""
        self._stopping.set()
        running, self._running = self._running, None
        if running is not None:
            _, unfinished = await asyncio.wait({running}, timeout=_STOP_S)
            if unfinished:
                running.cancel()

    async def run_once(self, *, partial: bool = True, on_page: Callable[[int], None] | None = None) -> Turn:
        """One turn over all tenants, up to 16 pages each. Failures are in its answer, and in `failure`.

        Args:
            partial: seal also what fills no page.
            on_page: called after each page with its number of rows.
        """
        turn = Turn()
        try:
            backlog = await self._store.backlog()
            self._note_bytes(backlog)
            for one in backlog:
                if self._stopping.is_set():
                    break
                if partial or one.rows >= self._pace.seal_rows_max:
                    turn = await self._try_tenant(one.tenant_id, partial, turn, on_page)
            self._read_rows = min(self._read_rows * 2, READ_ROWS_MAX)
        except GatewayError as error:
            self._read_rows = max(self._read_rows // 4, 1)
            turn = self._failed(turn, error.for_operators)._replace(is_away=True)
        except OSError as error:
            turn = self._failed(turn, f"The ledger's sink cannot be used: {error}")._replace(is_away=True)
        except Exception as error:  # noqa: BLE001  whatever it is, the next turn may do, and the operator is told
            _log.exception("the export of the ledger failed")
            turn = self._failed(turn, f"The ledger: {type(error).__name__}: {error}.")._replace(is_away=True)
        self._note_failure(turn.failures[0] if turn.failures else None)
        return turn

    async def _run(self) -> None:
        """Turns, until `stop`."""
        pause_s, partial_at_us = self._pace.every_s, 0
        while not self._stopping.is_set():
            now_us = self._clock.monotonic_us()
            partial = now_us >= partial_at_us
            turn = await self.run_once(partial=partial)
            if turn.is_away:
                pause_s = min(pause_s * 2, max(BACK_OFF_MAX_S, self._pace.every_s))
            else:
                pause_s = self._pace.every_s
                if partial and not turn.left:
                    partial_at_us = now_us + int(self._pace.partial_every_s * 1e6)
            if turn.is_away or not turn.left:
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _try_tenant(
        self, tenant_id: str, partial: bool, turn: Turn, on_page: Callable[[int], None] | None
    ) -> Turn:
        """Export one tenant's rows. What is wrong with them alone must not keep the others'."""
        try:
            return await self._export_tenant(tenant_id, partial, turn, on_page or (lambda _: None))
        except (GatewayError, OSError):
            raise
        except PageBroken as broken:  # somebody has to look
            return self._failed(turn, f"The ledger of {tenant_id} cannot be exported: {broken}")
        except Exception as error:  # noqa: BLE001  whatever it is, the rows stay where they are and the operator is told
            _log.exception("the export of the ledger of %s failed", tenant_id)
            return self._failed(turn, f"The ledger of {tenant_id}: {type(error).__name__}: {error}.")

    async def _export_tenant(self, tenant_id: str, partial: bool, turn: Turn, on_page: Callable[[int], None]) -> Turn:
        claim = await self._store.claim(tenant_id, self._holder, self._pace.lease_ms)
        if claim is None:
            return turn._replace(elsewhere=(*turn.elsewhere, tenant_id))
        try:
            if tenant_id not in self._known_here and not self._accept_missing:
                await check_last_page(claim, self._sink)
            self._known_here.add(tenant_id)
            for _ in range(PAGES_PER_TURN_MAX):
                rows = await self._next_rows(claim)
                if not rows or not (partial or len(rows) >= self._pace.seal_rows_max) or self._stopping.is_set():
                    return turn
                began_us = self._clock.monotonic_us()
                step = await self._export_page(claim, rows)
                if step is None:  # another exporter took over while this one slept
                    return turn._replace(elsewhere=(*turn.elsewhere, tenant_id))
                claim = step.claim
                if step.rows:
                    turn = turn._replace(rows=turn.rows + step.rows, pages=turn.pages + 1)
                    self._observer.ledger_exported(step.rows, (self._clock.monotonic_us() - began_us) / 1e6)
                    on_page(step.rows)
            return turn._replace(left=True)
        finally:
            await self._store.let_go(claim)

    async def _next_rows(self, claim: Claim) -> Sequence[tuple[int, bytes]]:
        """The rows of the next page, as far as there are any."""
        rows: list[tuple[int, bytes]] = []
        after, size_bytes = claim.cursor.position, 0
        while len(rows) < self._pace.seal_rows_max:
            limit = min(self._read_rows, self._pace.seal_rows_max - len(rows))
            some = await self._store.read(claim.tenant_id, after=after, limit=limit)
            for position, data in some:
                size_bytes += len(data) + 1
                if size_bytes > PAGE_BYTES_MAX and rows:
                    return rows
                rows.append((position, data))
            if len(some) < limit:
                break
            after = rows[-1][0]
        return rows

    async def _export_page(self, claim: Claim, rows: Sequence[tuple[int, bytes]]) -> _Step | None:
        """Seal the rows, write the page, move the cursor. None where the claim has passed to another, or
        the store fell back meanwhile: the next turn looks anew."""
        page = await asyncio.to_thread(seal, claim.tenant_id, claim.cursor, rows)
        # Asked again, so that a slow sink does not find the claim run out half-way.
        renewed = await self._store.claim(claim.tenant_id, self._holder, self._pace.lease_ms)
        if renewed is None or renewed.cursor != claim.cursor:
            return None
        claim = renewed
        cursor = page.header.cursor
        last_row: bytes | None = rows[-1][1]
        is_new = await self._sink.write(claim.tenant_id, cursor.pages, page.data)
        if not is_new:
            cursor, last_row = await take_over(claim, self._store, self._sink)
        if not await self._store.advance(claim, cursor, last_row, self._pace.lease_ms):
            return None
        return _Step(claim._replace(cursor=cursor), len(rows) if is_new else 0)

    def _note_bytes(self, backlog: Sequence[Backlog]) -> None:
        self._unexported_bytes = sum(one.unexported_bytes for one in backlog)
        self._observer.ledger_unexported(self._unexported_bytes)

    def _failed(self, turn: Turn, message: str) -> Turn:
        self._observer.ledger_export_failed()
        return turn._replace(failures=(*turn.failures, message))

    def _note_failure(self, failure: str | None) -> None:
        if failure != self._failure:
            if failure is None:
                _log.info("the ledger is exported again")
            else:
                _log.error("%s. Rows stay in the store meanwhile.", failure.removesuffix("."))
        self._failure = failure
