"""`tollway ledger export` and `verify`, beside a running gateway."""

import asyncio
import secrets
from argparse import Namespace
from collections.abc import Sequence

from proxy.cli.composition import Composition, OpenStores
from proxy.cli.known_tenants import known_tenants, unknown_tenant
from proxy.cli.progress import Progress
from proxy.cli.terminal import EXIT_FAILED, EXIT_OK, CommandFailed, Terminal, counted
from proxy.core.clock import Clock
from proxy.core.errors import InvalidJson
from proxy.ledger.audit import Finding, audit
from proxy.ledger.exporter import Exporter, Turn
from proxy.ledger.reader import LedgerReader
from proxy.ledger.sink import LedgerSink
from proxy.ledger.usage import dollars
from proxy.settings.model import Settings

ELSEWHERE_S = 40.0  # beyond the time after which a vanished gateway's tenants are taken over
_LOOK_S = 0.2
_HEADINGS = ("TENANT", "PAGES", "ROWS", "CHARGED USD", "COUNTED USD", "STATE")


class _Unobserved:
    """A command has no metrics."""

    def ledger_unexported(self, _unexported_bytes: int) -> None: ...
    def ledger_exported(self, _rows: int, _seconds: float) -> None: ...
    def ledger_export_failed(self) -> None: ...


def sink_of(stores: OpenStores) -> LedgerSink:
    """Where pages are. Raises CommandFailed where the configuration names no sink."""
    if stores.sink is None:
        raise CommandFailed("the configuration names no sink for the ledger.")
    return stores.sink


async def export_ledger(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Drain every tenant's rows now."""
    progress = Progress(terminal, clock, "rows exported")
    async with composition.open_stores(settings) as stores:
        exporter = Exporter(
            stores.ledger,
            sink_of(stores),
            _Unobserved(),
            clock,
            f"command-{secrets.token_hex(8)}",
            accept_missing=arguments.accept_missing,
        )
        done = await _drain(exporter, progress)
    progress.end()
    terminal.answer({"rows": done.rows, "pages": done.pages, "failures": list(done.failures)})
    if done.failures:
        raise CommandFailed(" ".join(done.failures))
    terminal.say(f"Exported {counted(done.rows, 'row')} in {counted(done.pages, 'page')}.")
    return EXIT_OK


async def verify_ledger(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Check every chain, and that its rows add up to the counters."""
    progress = Progress(terminal, clock, "rows read")
    findings = []
    async with composition.open_stores(settings) as stores:
        reader = LedgerReader(stores.ledger, sink_of(stores))
        tenant_ids = await reader.tenants()
        if arguments.tenant is not None:
            await _require_known(arguments.tenant, tenant_ids, settings, stores)
            tenant_ids = [arguments.tenant]
        for tenant_id in tenant_ids:
            try:
                finding = await audit(
                    tenant_id, reader, stores.spent_total_nusd, first=arguments.from_page, on_rows=progress.add
                )
            except InvalidJson as error:
                raise CommandFailed(f"a row of {tenant_id} is not JSON: {error.message}") from None
            findings.append(finding)
    progress.end()
    is_ok = all(finding.fault is None for finding in findings)
    terminal.answer({"ok": is_ok, "tenants": [_described(finding) for finding in findings]})
    if findings:
        terminal.table(_HEADINGS, [_row(finding, arguments.from_page) for finding in findings], right=(1, 2, 3, 4))
    else:
        terminal.note("The ledger has no rows.")
    return EXIT_OK if is_ok else EXIT_FAILED


async def _require_known(tenant_id: str, with_rows: Sequence[str], settings: Settings, stores: OpenStores) -> None:
    """Somebody who has nothing would be called whole. Whoever was charged is known, though all rows be gone."""
    if tenant_id in with_rows or tenant_id in await known_tenants(settings, stores):
        return
    if stores.spent_total_nusd is None or not await stores.spent_total_nusd(tenant_id):
        raise unknown_tenant(tenant_id)


async def _drain(exporter: Exporter, progress: Progress) -> Turn:
    """Turns until nothing is left; the sum of what they did, and the last one's failures."""
    done = Turn()
    for _ in range(int(ELSEWHERE_S / _LOOK_S)):
        turn = Turn(left=True)
        while turn.left and not turn.failures:
            turn = await exporter.run_once(on_page=progress.add)
            done = turn._replace(rows=done.rows + turn.rows, pages=done.pages + turn.pages)
        if turn.failures or not turn.elsewhere:
            return done
        await asyncio.sleep(_LOOK_S)
    names = ", ".join(done.elsewhere)
    return done._replace(failures=(f"Another process exports {names} all this time.",))


def _described(finding: Finding) -> dict[str, object]:
    return {
        "tenant": finding.tenant_id,
        "ok": finding.fault is None,
        "pages": finding.pages,
        "rows": finding.rows,
        "charged_nusd": finding.charged_nusd,
        "spent_nusd": finding.spent_nusd,
        "positions_begun_anew_at_pages": list(finding.series_begun),
        "breach": finding.breach,
        "fault": finding.fault,
    }


def _row(finding: Finding, first: int) -> tuple[str, ...]:
    if finding.fault is not None:
        state = f"WRONG: {finding.fault}"
    elif finding.series_begun:
        state = f"whole; the store was emptied before page {', '.join(map(str, finding.series_begun))}"
    elif finding.pages == 0 and first > 1:
        state = f"not checked: it has no page {first}"
    else:
        state = "whole"
    return (
        finding.tenant_id,
        f"{finding.pages:,}",
        f"{finding.rows:,}",
        dollars(finding.charged_nusd),
        "-" if finding.spent_nusd is None else dollars(finding.spent_nusd),
        state,
    )
