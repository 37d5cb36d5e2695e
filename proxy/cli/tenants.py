"""`tollway tenants put`, `list` and `delete`: tenants, beside a running gateway."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from proxy.cli.composition import Composition, OpenStores
from proxy.cli.instants import instant
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.identity.tenant import TenantRecord, settings_of
from proxy.identity.virtual_key import VirtualKeyState
from proxy.settings.model import AuthMode, NoCeiling, Settings, StreamUsage, TenantSettings
from proxy.settings.suggest import did_you_mean

_HEADINGS = ("ID", "PLAN", "TIME ZONE", "NO CEILING", "STREAM USAGE", "UNMETERED", "OWN KEYS", "FROM", "CHANGED")
_TYPED: Mapping[str, Callable[[Any], Any]] = {
    "plan": str,
    "timezone": str,
    "no_ceiling": NoCeiling,
    "stream_usage": StreamUsage,
    "allow_unmetered": bool,
    "count_own_key": bool,
}


async def put_tenant(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Add a tenant, or change one: what is not typed stays as it is."""
    tenant_id = arguments.id
    if tenant_id in settings.tenants:
        raise CommandFailed(
            f"{tenant_id} stands in the file, under [tenants.{tenant_id}], which wins. Change it there."
        )
    if arguments.plan is not None and arguments.plan not in settings.plans:
        known = did_you_mean(arguments.plan, settings.plans)
        message = f"there is no plan {arguments.plan!r}. {known or 'Write it under [plans] first.'}"
        raise CommandFailed(message, exit_code=EXIT_USAGE)
    typed = {name: parse(value) for name, parse in _TYPED.items() if (value := getattr(arguments, name)) is not None}
    now_ms = clock.now_ms()
    async with composition.open_stores(settings) as stores:
        before = await stores.tenants.find(tenant_id)
        record = before or TenantRecord(tenant_id, created_at_ms=now_ms, updated_at_ms=now_ms)
        record = replace(record, updated_at_ms=now_ms, **typed)
        await stores.tenants.put(record)
    terminal.say(f"{'Added' if before is None else 'Changed'} {tenant_id}: plan {record.plan}, {record.timezone}.")
    terminal.answer({"is_new": before is None, **_described(settings_of(record), record)})
    for note in _notes(record, settings):
        terminal.note(f"Note: {note}")
    return EXIT_OK


async def list_tenants(
    _arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, _clock: Clock
) -> int:
    """Show the tenants that the file and the store name."""
    async with composition.open_stores(settings) as stores:
        records = await stores.tenants.list()
    rows: list[tuple[TenantSettings, TenantRecord | None]] = [(tenant, None) for tenant in settings.tenants.values()]
    rows += [(settings_of(record), record) for record in records]
    rows.sort(key=lambda row: (row[0].id, row[1] is not None))
    in_force = [record is None or record.id not in settings.tenants for _, record in rows]
    described = [_described(*row) | {"in_force": holds} for row, holds in zip(rows, in_force, strict=True)]
    terminal.answer({"tenants": described})
    if rows:
        terminal.table(_HEADINGS, [_row(*row, holds) for row, holds in zip(rows, in_force, strict=True)])
    else:
        terminal.note("No tenants. `tollway tenants put ID` adds one.")
    return EXIT_OK


async def delete_tenant(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Forget a tenant's record; with --force, revoke its virtual keys first."""
    tenant_id = arguments.id
    async with composition.open_stores(settings) as stores:
        if await stores.tenants.find(tenant_id) is None:
            where = "It stands in the file: take it out there." if tenant_id in settings.tenants else ""
            raise CommandFailed(f"no tenant {tenant_id} was put. {where or '`tollway tenants list` shows them.'}")
        under_way = await stores.admission.pending(tenant_id)
        if under_way and not arguments.force:
            calls = "1 call" if under_way == 1 else f"{under_way} calls"
            raise CommandFailed(f"{calls} of {tenant_id} are under way. Wait until they end, or say --force.")
        # While the file names it too, it goes on, and so do its virtual keys.
        revoked = [] if tenant_id in settings.tenants else await _end_keys(arguments, stores, clock.now_ms())
        await stores.tenants.delete(tenant_id)
    keys = f" and revoked {len(revoked)} of its virtual keys" if revoked else ""
    terminal.say(f"Deleted {tenant_id}{keys}.")
    terminal.answer({"id": tenant_id, "revoked": revoked})
    if tenant_id in settings.tenants:
        terminal.note(f"Note: the file still names {tenant_id}, and what it says holds.")
    return EXIT_OK


async def _end_keys(arguments: Namespace, stores: OpenStores, now_ms: int) -> list[str]:
    """Revoke what still works, if that was asked for; the ids of what was revoked."""
    virtual_keys = await stores.virtual_keys.list(arguments.id)
    working = [one.id for one in virtual_keys if one.state(now_ms) is VirtualKeyState.ACTIVE]
    if working and not arguments.force:
        raise CommandFailed(
            f"{arguments.id} has virtual keys that still work: {len(working)}. Revoke them "
            f"(`tollway keys list --tenant {arguments.id}` shows them), or add --force to do both."
        )
    for virtual_key_id in working:
        await stores.virtual_keys.revoke(virtual_key_id, now_ms)
    return working


def _notes(record: TenantRecord, settings: Settings) -> list[str]:
    """Why this tenant, though it is there, may not be served as was hoped for."""
    notes = []
    if settings.auth.mode is AuthMode.PASSTHROUGH:
        notes.append(f'auth.mode is "{settings.auth.mode}": this gateway takes its one tenant from the file alone.')
    if record.plan not in settings.plans:
        notes.append(f"the configuration has no plan {record.plan!r}: its calls are refused. Name another with --plan.")
    for provider in settings.providers.values():
        if provider.allow_shared_state:
            notes.append(
                f"providers.{provider.name}.allow_shared_state lets it reach what the other tenants left there."
            )
    return notes


def _described(tenant: TenantSettings, record: TenantRecord | None) -> dict[str, object]:
    return {
        "id": tenant.id,
        "plan": tenant.plan,
        "timezone": tenant.timezone,
        "no_ceiling": str(tenant.no_ceiling),
        "stream_usage": str(tenant.stream_usage),
        "allow_unmetered": tenant.allow_unmetered,
        "count_own_key": tenant.count_own_key,
        "from": "file" if record is None else "store",
        "created_at": None if record is None else instant(record.created_at_ms),
        "updated_at": None if record is None else instant(record.updated_at_ms),
    }


def _row(tenant: TenantSettings, record: TenantRecord | None, in_force: bool) -> tuple[str, ...]:
    return (
        tenant.id,
        tenant.plan,
        tenant.timezone,
        str(tenant.no_ceiling),
        str(tenant.stream_usage),
        "passes" if tenant.allow_unmetered else "refused",
        "counted" if tenant.count_own_key else "not counted",
        "file" if record is None else "store" if in_force else "store (not in force)",
        "" if record is None else instant(record.updated_at_ms),
    )
