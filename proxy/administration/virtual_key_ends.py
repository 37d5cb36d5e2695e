"""Ending the virtual keys of a tenant that goes."""

from collections.abc import Sequence

from proxy.administration.changes import Changes
from proxy.core.clock import Clock
from proxy.identity.store import VirtualKeyStore
from proxy.identity.virtual_key import VirtualKeyState
from proxy.ledger.change import Action


async def working_virtual_keys(tenant_id: str, virtual_keys: VirtualKeyStore, clock: Clock) -> Sequence[str]:
    """The ids of a tenant's virtual keys that still open the door. Raises StateUnavailable."""
    now_ms = clock.now_ms()
    return [one.id for one in await virtual_keys.list(tenant_id) if one.state(now_ms) is VirtualKeyState.ACTIVE]


async def end_virtual_key(
    tenant_id: str, virtual_key_id: str, virtual_keys: VirtualKeyStore, changes: Changes, clock: Clock
) -> None:
    """Revoke one that works. Raises StateUnavailable."""
    await changes.announce(tenant_id, Action.VIRTUAL_KEY_REVOKE, {}, virtual_key_id)
    await virtual_keys.revoke(virtual_key_id, clock.now_ms())
    changes.made(tenant_id, virtual_key_id)
