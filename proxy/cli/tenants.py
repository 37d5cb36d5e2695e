"""`tollway tenants put`, `list` and `delete`: tenants, beside a running gateway."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from proxy.administration.descriptions import described_tenant
from proxy.administration.desk import Desk
from proxy.administration.refusals import (
    CallsUnderWay,
    PlanUnknown,
    ProviderKeysStored,
    TenantInFile,
    TenantUnknown,
    VirtualKeysWork,
)
from proxy.administration.tenants import KnownTenant
from proxy.cli.argument_types import ANY_REGION
from proxy.cli.composition import Composition
from proxy.cli.desk import open_command_desk
from proxy.cli.tenant_cache_arguments import UNSET, is_cache_typed, typed_cache
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.consent import Consent
from proxy.core.instants import instant
from proxy.settings.caching import CachePolicy
from proxy.settings.model import NoCeiling, OnUnsupported, Settings, StreamUsage

_HEADINGS = (
    *("ID", "PLAN", "TIME ZONE", "NO CEILING", "STREAM USAGE", "FALLBACK", "RESIDENCY"),
    *("UNMETERED", "OWN KEYS", "CACHE", "FROM", "CHANGED"),
)
_TYPED: Mapping[str, Callable[[Any], Any]] = {
    "plan": str,
    "timezone": str,
    "no_ceiling": NoCeiling,
    "stream_usage": StreamUsage,
    "on_unsupported": OnUnsupported,
    "fallback": Consent,
    "residency": lambda regions: None if regions == ANY_REGION else regions,
    "zero_retention": bool,
    "allow_unmetered": bool,
    "count_own_key": bool,
}


async def put_tenant(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Add a tenant, or change one: what is not typed stays as it is."""
    typed = {name: parse(value) for name, parse in _TYPED.items() if (value := getattr(arguments, name)) is not None}
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            if is_cache_typed(arguments):
                typed["cache"] = typed_cache(arguments, await _cache_of(desk, arguments.id))
            put = await desk.tenants.put(arguments.id, typed)
    except TenantInFile as refused:
        where = f"[tenants.{refused.tenant_id}]"
        message = f"{refused.tenant_id} stands in the file, under {where}, which wins. Change it there."
        raise CommandFailed(message) from None
    except PlanUnknown as refused:
        message = f"there is no plan {refused.plan!r}. {refused.suggestion or 'Write it under [plans] first.'}"
        raise CommandFailed(message, exit_code=EXIT_USAGE) from None
    tenant = put.known.tenant
    terminal.say(f"{'Added' if put.is_new else 'Changed'} {tenant.id}: plan {tenant.plan}, {tenant.timezone}.")
    terminal.answer({"is_new": put.is_new, **described_tenant(put.known)})
    for note in put.notes:
        terminal.note(f"Note: {note}")
    return EXIT_OK


async def list_tenants(
    _arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show the tenants that the file and the store name."""
    async with open_command_desk(settings, composition, clock) as desk:
        known = await desk.tenants.with_ends(await desk.tenants.list())
    terminal.answer({"tenants": [described_tenant(one) | {"in_force": one.is_in_force} for one in known]})
    if known:
        terminal.table(_HEADINGS, [_row(one) for one in known])
    else:
        terminal.note("No tenants. `tollway tenants put ID` adds one.")
    return EXIT_OK


async def delete_tenant(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Forget a tenant's record; with --force, revoke its virtual keys first."""
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            deleted = await desk.tenants.delete(arguments.id, force=arguments.force)
    except (TenantUnknown, CallsUnderWay, VirtualKeysWork, ProviderKeysStored) as refused:
        raise CommandFailed(_why_not_deleted(refused)) from None
    keys = f", revoked {len(deleted.revoked)} of its virtual keys" if deleted.revoked else ""
    stored = f", wiped {len(deleted.wiped)} of its provider keys" if deleted.wiped else ""
    terminal.say(f"Deleted {deleted.tenant_id}{keys}{stored}.")
    terminal.answer({"id": deleted.tenant_id, "revoked": list(deleted.revoked), "wiped": list(deleted.wiped)})
    if deleted.is_in_file:
        terminal.note(f"Note: the file still names {deleted.tenant_id}, and what it says holds.")
    return EXIT_OK


async def _cache_of(desk: Desk, tenant_id: str) -> CachePolicy | None:
    """What is said of its cache now. One that nobody knows yet has nothing."""
    try:
        return (await desk.tenants.find(tenant_id)).tenant.cache
    except TenantUnknown:
        return None


def _why_not_deleted(refused: TenantUnknown | CallsUnderWay | VirtualKeysWork | ProviderKeysStored) -> str:
    tenant_id = refused.tenant_id
    if isinstance(refused, TenantUnknown):
        where = "It stands in the file: take it out there." if refused.is_in_file else ""
        return f"no tenant {tenant_id} was put. {where or '`tollway tenants list` shows them.'}"
    if isinstance(refused, CallsUnderWay):
        calls = "1 call" if refused.calls == 1 else f"{refused.calls} calls"
        return f"{calls} of {tenant_id} are under way. Wait until they end, or say --force."
    if isinstance(refused, ProviderKeysStored):
        return (
            f"{tenant_id} has provider keys that are stored: {refused.provider_keys}. Delete them "
            f"(`tollway provider-keys list --tenant {tenant_id}` shows them), or add --force to do both."
        )
    return (
        f"{tenant_id} has virtual keys that still work: {refused.virtual_keys}. Revoke them "
        f"(`tollway keys list --tenant {tenant_id}` shows them), or add --force to do both."
    )


def _row(known: KnownTenant) -> tuple[str, ...]:
    tenant, record = known.tenant, known.record
    origin = "file" if record is None else "store" if known.is_in_force else "store (not in force)"
    if known.shredded_at_ms is not None:
        origin += f", shredded {instant(known.shredded_at_ms)}"
    return (
        tenant.id,
        tenant.plan,
        tenant.timezone,
        str(tenant.no_ceiling),
        str(tenant.stream_usage),
        str(tenant.fallback),
        "any" if tenant.residency is None else ",".join(sorted(tenant.residency)),
        "passes" if tenant.allow_unmetered else "refused",
        "counted" if tenant.count_own_key else "not counted",
        UNSET if tenant.cache is None else str(tenant.cache.mode),
        origin,
        "" if record is None else instant(record.updated_at_ms),
    )
