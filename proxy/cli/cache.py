"""`tollway cache stats` and `tollway cache purge`: what is kept, and that it is given to nobody any more."""

from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.cache.store import CacheStore
from proxy.cli.argument_types import duration_ms, tenant_id
from proxy.cli.composition import Composition, OpenStores
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.instants import instant
from proxy.settings.model import Settings

_HEADINGS: Final = ("TENANT", "MODEL", "ANSWERS", "BYTES", "OLDEST")


@dataclass(slots=True)
class _Group:
    answers: int = 0
    size_bytes: int = 0
    oldest_at_ms: int | None = None


def add_cache_verbs(add_parser: Callable[..., ArgumentParser], shared: ArgumentParser) -> None:
    """What is typed after `tollway cache`."""
    noun = add_parser(
        "cache",
        help="show and purge kept answers",
        description="The cache: answers that are kept, to be given again to whoever asks the same.",
    )
    verbs = noun.add_subparsers(title="commands", metavar="COMMAND", required=True)
    stats = verbs.add_parser(
        "stats",
        parents=[shared],
        help="show how much is kept",
        description="Show how many answers are kept, by tenant and model. What each process has in its memory besides "
        "is in its metrics.",
    )
    stats.add_argument("--tenant", type=tenant_id, metavar="ID", help="only this tenant's (default: all)")
    stats.set_defaults(command="cache stats")
    purge = verbs.add_parser(
        "purge",
        parents=[shared],
        help="give kept answers to nobody any more",
        description="Give kept answers to nobody any more, at every running gateway and at once, and delete them.",
        epilog="Example: tollway cache purge --tenant acme --model gpt-5 --older-than 12h",
    )
    whose = purge.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", type=tenant_id, metavar="ID", help="this tenant's")
    whose.add_argument("--all", dest="is_all", action="store_true", help="every tenant's that is known")
    purge.add_argument("--model", metavar="MODEL", help="only answers to calls that named this model")
    purge.add_argument("--older-than", type=duration_ms, metavar="SPAN", help="only older ones: 30m, 12h, 30d, 4w")
    purge.set_defaults(command="cache purge")


async def show_cache(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, _clock: Clock
) -> int:
    """Show how much is kept, by tenant and model."""
    groups: defaultdict[tuple[str, str], _Group] = defaultdict(_Group)
    async with composition.open_stores(settings) as stores:
        async for page in _store_of(stores).entries(arguments.tenant):
            for each in page:
                group = groups[each.tenant_id, each.head.alias]
                group.answers += 1
                group.size_bytes += each.size_bytes
                oldest_at_ms = group.oldest_at_ms or each.head.asked_at_ms
                group.oldest_at_ms = min(oldest_at_ms, each.head.asked_at_ms)
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
    async with composition.open_stores(settings) as stores:
        tenants = {arguments.tenant} if arguments.tenant is not None else await _known_tenants(settings, stores)
        for tenant in sorted(tenants):  # first, so that nothing is given out that is about to be deleted
            await stores.cache_book.purge(tenant, arguments.model, before_ms)
        deleted = 0
        if stores.cache is not None:
            deleted = await _delete(stores.cache, arguments.tenant, arguments.model, before_ms)
    of_whom = f"of {arguments.tenant}" if arguments.tenant is not None else f"of {len(tenants)} tenants"
    terminal.say(f"Purged what was kept {of_whom} before {instant(before_ms)}; {deleted:,} answers were deleted.")
    terminal.answer({"tenants": sorted(tenants), "before": instant(before_ms), "deleted": deleted})
    return EXIT_OK


async def _delete(store: CacheStore, tenant: str | None, alias: str | None, before_ms: int) -> int:
    deleted = 0
    async for page in store.entries(tenant):
        names: defaultdict[str, list[str]] = defaultdict(list)
        for each in page:
            if each.head.asked_at_ms < before_ms and alias in (None, each.head.alias):
                names[each.tenant_id].append(each.name)
        for whose, theirs in names.items():
            deleted += await store.drop(whose, theirs)
    return deleted


async def _known_tenants(settings: Settings, stores: OpenStores) -> set[str]:
    """Those of the file, those that were put, and those of whom anything is kept."""
    known = {*settings.tenants, settings.auth.default_tenant}
    known |= {record.id for record in await stores.tenants.list()}
    if stores.cache is not None:
        async for page in stores.cache.entries(None):
            known |= {each.tenant_id for each in page}
    return known


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
