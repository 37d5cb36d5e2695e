"""Shredding a tenant: what it stored is unreadable from now on, and its id is used up for ever."""

from dataclasses import dataclass

from proxy.administration.changes import Changes
from proxy.administration.keyring_at_hand import KeyringAtHand
from proxy.administration.refusals import TenantUnknown
from proxy.administration.virtual_key_ends import end_virtual_key, working_virtual_keys
from proxy.core.clock import Clock
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenant_store import TenantStore
from proxy.ledger.change import Action
from proxy.settings.model import Settings


@dataclass(frozen=True, slots=True)
class ShreddedTenant:
    """What `shred` did. `notes`: what is left for its operator to do."""

    tenant_id: str
    shredded_at_ms: int  # when that was done first
    revoked: tuple[str, ...]  # ids of virtual keys
    notes: tuple[str, ...]


class TenantShredding:
    """Shreds tenants."""

    __slots__ = ("_changes", "_clock", "_keyring", "_settings", "_tenants", "_virtual_keys")

    def __init__(
        self,
        settings: Settings,
        keyring: KeyringAtHand,
        tenants: TenantStore,
        virtual_keys: VirtualKeyStore,
        changes: Changes,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._tenants = tenants
        self._virtual_keys = virtual_keys
        self._changes = changes
        self._clock = clock

    async def shred(self, tenant_id: str) -> ShreddedTenant:
        """Wipe all that the tenant stored, use its id up, and revoke its virtual keys. It waits for no call. To do it
        again completes what was broken off.

        Raises:
            TenantUnknown: nobody has ever heard of the id. A mistyped one must not be used up.
            StateUnavailable: perhaps it was done. Do it again.
        """
        working = await working_virtual_keys(tenant_id, self._virtual_keys, self._clock)
        if await self._keyring.store.shredded_at_ms(tenant_id) is None:
            if not (working or await self._is_known(tenant_id)):
                raise TenantUnknown(tenant_id, is_in_file=False)
            await self._changes.announce(tenant_id, Action.TENANT_SHRED, {})
        # The keys first: nothing that comes after may keep them readable. Also where it was shredded already.
        shredded_at_ms = await self._keyring.shred(tenant_id, self._clock.now_ms())
        self._changes.made(tenant_id)
        for virtual_key_id in working:
            await end_virtual_key(tenant_id, virtual_key_id, self._virtual_keys, self._changes, self._clock)
        return ShreddedTenant(tenant_id, shredded_at_ms, tuple(working), tuple(self._notes(tenant_id)))

    async def _is_known(self, tenant_id: str) -> bool:
        auth = self._settings.auth
        if tenant_id in self._settings.tenants or tenant_id == auth.default_tenant:
            return True
        if await self._tenants.find(tenant_id) is not None or await self._virtual_keys.list(tenant_id):
            return True
        return await self._keyring.store.epoch(tenant_id) > 0

    def _notes(self, tenant_id: str) -> list[str]:
        notes = []
        if tenant_id in self._settings.tenants:
            notes.append(f"the file still names {tenant_id}: its calls are refused all the same. Take it out there.")
        if not self._settings.keyring.kek:
            notes.append(
                "[keyring] names no KEK, so gateways with this configuration look for no tombstone: calls that are not "
                "made with a virtual key go on with the gateway's own provider keys."
            )
        return notes
