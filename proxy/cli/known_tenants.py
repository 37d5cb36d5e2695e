"""Which tenants a command may be about: a slip in a name must not look like a good answer."""

from proxy.cli.composition import OpenStores
from proxy.cli.terminal import CommandFailed
from proxy.settings.model import Settings


async def known_tenants(settings: Settings, stores: OpenStores) -> set[str]:
    """Those of the file, those that were put, and those that have or had rows: of calls, or of changes, as an issued
    virtual key is one."""
    put = {record.id for record in await stores.tenants.list()}
    return {*settings.tenants, settings.auth.default_tenant, *put, *await stores.ledger.tenants()}


def unknown_tenant(tenant_id: str) -> CommandFailed:
    """What to say of another."""
    return CommandFailed(f"nobody has heard of a tenant {tenant_id}. `tollway tenants list` shows them.")
