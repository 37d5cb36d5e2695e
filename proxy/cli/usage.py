"""`tollway usage`: what was used and spent, from the sink's pages and what waits in the store."""

import csv
import io
from argparse import Namespace

from proxy.cli.composition import Composition
from proxy.cli.instants import since_instant
from proxy.cli.ledger import sink_of
from proxy.cli.progress import Progress
from proxy.cli.terminal import EXIT_OK, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.errors import InvalidJson
from proxy.ledger.page import PageBroken
from proxy.ledger.reader import LedgerReader
from proxy.ledger.usage import Group, Summary, Totals, dollars
from proxy.settings.model import Settings

_HEADINGS = ("RUNS", "HITS", "INPUT", "CACHED INPUT", "OUTPUT", "COST USD", "CHARGED USD", "ABSORBED USD", "SAVED USD")


async def show_usage(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Sum up, and show."""
    now_ms = clock.now_ms()
    summary = Summary(arguments.by, since_instant(arguments.since, now_ms), since_instant(arguments.until, now_ms))
    progress = Progress(terminal, clock, "rows read")
    async with composition.open_stores(settings) as stores:
        sink = sink_of(stores)
        reader = LedgerReader(stores.ledger, sink)
        for tenant_id in [arguments.tenant] if arguments.tenant else await reader.tenants():
            numbers = await sink.numbers(tenant_id)
            first = numbers[0] if numbers else 1
            if first > 1:
                terminal.note(f"Pages 1 to {first - 1} of {tenant_id} are not in the sink: they are not counted.")
            try:
                async for batch in reader.batches(tenant_id, first=first):
                    summary.add(batch)
                    progress.add(len(batch))
            except (PageBroken, InvalidJson, TypeError) as error:
                raise CommandFailed(
                    f"the ledger of {tenant_id} cannot be read: {error}. `tollway ledger verify` says more."
                ) from None
    progress.end()
    _show(summary, arguments, terminal)
    return EXIT_OK


def _show(summary: Summary, arguments: Namespace, terminal: Terminal) -> None:
    groups = summary.groups()
    if "day" not in summary.by:
        groups.sort(key=lambda one: -one[1].charged_nusd)  # who spends most
    if arguments.as_csv:
        terminal.say(_csv(summary.by, groups))
        return
    total = summary.total()
    terminal.answer(
        {
            "by": list(summary.by),
            "groups": [{**dict(zip(summary.by, group, strict=True)), **totals._asdict()} for group, totals in groups],
            "total": total._asdict(),
        }
    )
    if not groups:
        terminal.note("No runs.")
        return
    named = len(summary.by)
    rows = [(*map(_shown, group), *_cells(totals)) for group, totals in groups]
    rows.append(("TOTAL", *[""] * (named - 1), *_cells(total)))
    headings = (*(name.upper() for name in summary.by), *_HEADINGS)
    terminal.table(headings, rows, right=range(named, named + len(_HEADINGS)))


def _cells(totals: Totals) -> tuple[str, ...]:
    return (
        f"{totals.runs:,}",
        f"{totals.hits:,}",
        f"{totals.input_tokens:,}",
        f"{totals.cached_input_tokens:,}",
        f"{totals.output_tokens:,}",
        dollars(totals.cost_nusd),
        dollars(totals.charged_nusd),
        dollars(totals.absorbed_nusd),
        dollars(totals.saved_nusd),
    )


def _shown(value: str | None) -> str:
    """A caller may have named a model anything: nothing of it steers the terminal."""
    return "-" if value is None else "".join(each if each.isprintable() else "\ufffd" for each in value)


def _csv(by: tuple[str, ...], groups: list[tuple[Group, Totals]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*by, *Totals._fields))
    writer.writerows((*("" if value is None else value for value in group), *totals) for group, totals in groups)
    return text.getvalue().removesuffix("\n")
