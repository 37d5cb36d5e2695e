"""Whether a KEK can be used: what a gateway's start does not say, since it asks no KMS."""

from typing import Final

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.dek import PURPOSE, EncryptionContext, StoredDek, context_of
from proxy.keyring.kek import Kek
from proxy.keyring.store import KeyringStore

TENANTS_MAX: Final = 100  # among whose data keys one is looked for
# No tenant can be called so. The purpose is the one that a role's policy names.
_NOBODYS: Final[EncryptionContext] = {"tenant": "@check", "purpose": PURPOSE}


async def probe(kek: Kek, store: KeyringStore) -> None:
    """Unwrap a data key that it wrapped, as a call would, and show nobody; where none is found, make a throw-away
    one and unwrap that. A gateway whose role may only decrypt is thus found right as soon as one tenant is prepared.

    Raises:
        ProviderKeyUnreadable, KeyringUnavailable, StateUnavailable
    """
    stored = await _one_of(kek, store)
    if stored is not None:
        await kek.unwrap(stored.wrapped, context_of(stored.tenant_id))
        return
    dek, wrapped = await kek.generate(_NOBODYS)
    if (await kek.unwrap(wrapped, _NOBODYS)).reveal() != dek.reveal():
        raise ProviderKeyUnreadable(UnreadableReason.KEK_FAULT)


async def _one_of(kek: Kek, store: KeyringStore) -> StoredDek | None:
    for tenant_id in await store.tenants("", TENANTS_MAX):
        _, deks = await store.deks(tenant_id)
        for dek in deks:
            if dek.wrapped.kek_id == kek.kek_id:
                return dek
    return None
