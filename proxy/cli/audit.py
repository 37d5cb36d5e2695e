"""`tollway audit list`: who changed what, from the sink's pages and what waits in the store."""

from argparse import Namespace
from typing import Any

from proxy.cli.composition import Composition
from proxy.cli.instants import since_instant
from proxy.cli.ledger import sink_of
from proxy.cli.progress import Progress
from proxy.cli.terminal import EXIT_OK, CommandFailed, Terminal
from proxy.core import jsonio
from proxy.core.clock import Clock
from proxy.core.errors import InvalidJson
from proxy.ledger.change import is_change
from proxy.ledger.entry import decode
from proxy.ledger.page import PageBroken
from proxy.ledger.reader import LedgerReader
from proxy.settings.model import Settings

_HEADINGS = ("WHEN", "WHO", "WHAT", "TENANT", "VIRTUAL KEY", "DETAILS")


async def list_changes(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show the rows of changes, the oldest first."""
    since = since_instant(arguments.since, clock.now_ms()) or ""
    progress = Progress(terminal, clock, "rows read")
    changes: list[dict[str, Any]] = []
    async with composition.open_stores(settings) as stores:
        reader = LedgerReader(stores.ledger, sink_of(stores))
        for tenant_id in [arguments.tenant] if arguments.tenant else await reader.tenants():
            numbers = await sink_of(stores).numbers(tenant_id)
            first = numbers[0] if numbers else 1
            if first > 1:
                terminal.note(
                    f"Pages 1 to {first - 1} of {tenant_id} are not in the sink: what they hold is not shown."
                )
            try:
                async for batch in reader.batches(tenant_id, first=first):
                    # Few rows are changes: the others are not decoded.
                    rows = (decode(data) for data in batch if is_change(data))
                    changes += [row for row in rows if row["started_at"] >= since]
                    progress.add(len(batch))
            except (PageBroken, InvalidJson) as error:
                raise CommandFailed(
                    f"the ledger of {tenant_id} cannot be read: {error}. `tollway ledger verify` says more."
                ) from None
    progress.end()
    changes.sort(key=lambda row: (row["started_at"], row["run_id"]))
    terminal.answer({"changes": changes})
    if changes:
        terminal.table(_HEADINGS, [_row(change) for change in changes])
    else:
        terminal.note("No changes.")
    return EXIT_OK


def _row(change: dict[str, Any]) -> tuple[str, ...]:
    # JSON escapes control characters: no user's name can steer the terminal.
    details = jsonio.encode(change["details"]).decode() if change["details"] else ""
    shown = "".join(each if each.isprintable() else "\ufffd" for each in details)
    named = (change[name] for name in ("started_at", "actor", "action", "tenant"))
    return (*named, change["virtual_key_id"] or "", shown)
