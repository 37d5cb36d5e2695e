"""`tollway cache stats` and `tollway cache purge`: what is kept, and that it is given to nobody any more."""

from argparse import Namespace
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.cache.book import CacheBook
from proxy.cache.store import CacheStore, Listed
from proxy.cli.cache_store import CacheStoreFailed, own_faults
from proxy.cli.composition import Composition, OpenStores
from proxy.cli.known_tenants import known_tenants, unknown_tenant
from proxy.cli.progress import Progress
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal, counted
from proxy.core.clock import Clock
from proxy.core.instants import instant
from proxy.settings.model import Settings
from proxy.settings.suggest import did_you_mean

_HEADINGS: Final = ("TENANT", "MODEL", "ANSWERS", "BYTES", "OLDEST")


@dataclass(slots=True)
class _Group:
    answers: int = 0
    size_bytes: int = 0
    oldest_at_ms: int | None = None


@dataclass(slots=True)
class _Purge:
    """One that is under way. It holds for the tenants that are `marked`."""

    book: CacheBook
    alias: str | None
    before_ms: int
    marked: set[str] = field(default_factory=set)
    deleted: int = 0

    async def mark(self, tenant: str) -> None:
        if tenant not in self.marked:
            await self.book.purge(tenant, self.alias, self.before_ms)
            self.marked.add(tenant)

    def takes(self, entry: Listed) -> bool:
        return entry.head.asked_at_ms < self.before_ms and self.alias in (None, entry.head.alias)


async def show_cache(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show how much is kept, by tenant and model."""
    groups: defaultdict[tuple[str, str], _Group] = defaultdict(_Group)
    progress = Progress(terminal, clock, "answers seen")
    async with composition.open_stores(settings) as stores:
        store = _store_of(stores)
        try:
            async for page in _pages(store, arguments.tenant, settings):
                for each in page:
                    group = groups[each.tenant_id, each.head.alias]
                    group.answers += 1
                    group.size_bytes += each.size_bytes
                    oldest_at_ms = group.oldest_at_ms or each.head.asked_at_ms
                    group.oldest_at_ms = min(oldest_at_ms, each.head.asked_at_ms)
                progress.add(len(page))
        finally:
            progress.end()
    shown = [
        {
            "tenant": tenant,
            "model": alias or None,
            "answers": group.answers,
            "bytes": group.size_bytes,
            "oldest_at": instant(group.oldest_at_ms or 0),
        }
        for (tenant, alias), group in sorted(groups.items())
    ]
    terminal.answer({"groups": shown})
    if not shown:
        terminal.note("Nothing is kept.")
        return EXIT_OK
    rows = [
        (
            tenant,
            _printable(alias) or "-",
            f"{group.answers:,}",
            f"{group.size_bytes:,}",
            instant(group.oldest_at_ms or 0),
        )
        for (tenant, alias), group in sorted(groups.items())
    ]
    answers, size_bytes = (sum(getattr(each, name) for each in groups.values()) for name in ("answers", "size_bytes"))
    rows.append(("TOTAL", "", f"{answers:,}", f"{size_bytes:,}", ""))
    terminal.table(_HEADINGS, rows, right=range(2, 4))
    return EXIT_OK


async def purge_cache(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Give kept answers to nobody any more."""
    now_ms = clock.now_ms()
    # What is asked for in this very millisecond is older than the purge.
    before_ms = now_ms + 1 if arguments.older_than is None else now_ms - arguments.older_than
    marking, deleting = Progress(terminal, clock, "tenants seen to"), Progress(terminal, clock, "answers seen")
    async with composition.open_stores(settings) as stores:
        purge = _Purge(stores.cache_book, arguments.model, before_ms)
        try:
            await _mark(purge, arguments.tenant, settings, stores, marking)
            if stores.cache is not None:
                await _delete(purge, stores.cache, arguments.tenant, settings, deleting)
        except CacheStoreFailed as error:
            raise CommandFailed(
                f"the purge holds: what was kept {_scope(purge, arguments)} is given to nobody. Deleting it broke off "
                f"after {counted(purge.deleted, 'answer')}, and is all that is left to do: type the command again "
                f"({error.message})"
            ) from None
        finally:
            deleting.end()
    deleted = f", and deleted {counted(purge.deleted, 'answer')}" if stores.cache is not None else ""
    terminal.say(f"Purged what was kept {_scope(purge, arguments)}{deleted}.")
    if purge.alias is not None and purge.alias not in settings.models and not purge.deleted:
        hint = did_you_mean(purge.alias, settings.models) or "`tollway models list` shows them."
        found = ", and no answer of it was found" if stores.cache is not None else ""
        terminal.note(f"Note: the configuration has no model {_printable(purge.alias)}{found}. {hint}")
    terminal.answer(
        {
            "tenants": sorted(purge.marked),
            "model": arguments.model,
            "before": instant(before_ms),
            "deleted": purge.deleted,
        }
    )
    return EXIT_OK


async def _mark(purge: _Purge, tenant: str | None, settings: Settings, stores: OpenStores, progress: Progress) -> None:
    """First, so that nothing is given out that is about to be deleted."""
    if tenant is not None and not await _is_known(tenant, settings, stores):
        raise unknown_tenant(tenant)
    for each in [tenant] if tenant is not None else sorted(await known_tenants(settings, stores)):
        await purge.mark(each)
        progress.add(1)


async def _delete(purge: _Purge, store: CacheStore, tenant: str | None, settings: Settings, progress: Progress) -> None:
    """What the purge takes. For a tenant that this store alone knows, it holds from here on."""
    async for page in _pages(store, tenant, settings):
        names: defaultdict[str, list[str]] = defaultdict(list)
        for each in page:
            await purge.mark(each.tenant_id)
            if purge.takes(each):
                names[each.tenant_id].append(each.name)
        for whose, theirs in names.items():
            with own_faults(settings):
                purge.deleted += await store.drop(whose, theirs)
        progress.add(len(page))


async def _pages(store: CacheStore, tenant: str | None, settings: Settings) -> AsyncIterator[Sequence[Listed]]:
    with own_faults(settings):
        async for page in store.entries(tenant):
            yield page


async def _is_known(tenant: str, settings: Settings, stores: OpenStores) -> bool:
    if tenant in await known_tenants(settings, stores):
        return True
    if stores.cache is None:
        return False
    try:
        with own_faults(settings):
            async for _ in stores.cache.entries(tenant):
                return True
    except CacheStoreFailed:
        return True  # perhaps: then no answer of its may be given out
    return False


def _scope(purge: _Purge, arguments: Namespace) -> str:
    """Whose answers it takes, and which."""
    whose = arguments.tenant or counted(len(purge.marked), "tenant")
    which = "" if purge.alias is None else f" for calls that named {_printable(purge.alias)}"
    return f"of {whose}{which} before {instant(purge.before_ms)}"


def _store_of(stores: OpenStores) -> CacheStore:
    if stores.cache is None:
        raise CommandFailed(
            "answers are kept in each gateway's memory alone: its metrics say how much. [state] cache_url names a "
            "place that all share.",
            exit_code=EXIT_USAGE,
        )
    return stores.cache


def _printable(text: str) -> str:
    """A caller may have named a model anything: nothing of it steers the terminal."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
