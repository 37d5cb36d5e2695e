"""Virtual keys: issued, listed and ended."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.administration.changes import Changes
from proxy.administration.descriptions import limits_in_words
from proxy.administration.provider_keys import ProviderKeyAdministration, is_known_tenant
from proxy.administration.refusals import VirtualKeyUnknown
from proxy.core.clock import Clock
from proxy.core.consent import Consent
from proxy.core.instants import instant
from proxy.core.limits import ScopeLimits
from proxy.core.secret import Secret
from proxy.identity.store import VirtualKeyStore
from proxy.identity.tenant_store import TenantStore
from proxy.identity.virtual_key import (
    ID_RANDOM_BYTES,
    TOKEN_RANDOM_BYTES,
    VirtualKey,
    VirtualKeyState,
    digest,
    issue,
    mint,
    mint_id,
    pepper_fingerprint,
)
from proxy.ledger.change import Action
from proxy.settings.model import AuthMode, Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new virtual key is to stand for."""

    tenant_id: str
    user: str | None = None
    feature: str | None = None
    allowed_models: frozenset[str] | None = None  # None: every model
    expires_in_ms: int | None = None
    limits: ScopeLimits | None = None
    fallback: Consent | None = None


@dataclass(frozen=True, slots=True)
class IssuedVirtualKey:
    """A new virtual key, and its token, which nobody can show again. `notes`: why it may not do what was hoped for."""

    virtual_key: VirtualKey
    token: Secret
    notes: tuple[str, ...]


class VirtualKeyAdministration:
    """Issues, lists and revokes virtual keys. Every method raises StateUnavailable where the store
    does not answer in time."""

    __slots__ = ("_changes", "_clock", "_newest_pepper", "_provider_keys", "_settings", "_tenants", "_virtual_keys")

    def __init__(
        self,
        settings: Settings,
        virtual_keys: VirtualKeyStore,
        tenants: TenantStore,
        newest_pepper: Callable[[], bytes],
        provider_keys: ProviderKeyAdministration,
        changes: Changes,
        clock: Clock,
    ) -> None:
        """`newest_pepper` may read a file, or make it at first use."""
        self._settings = settings
        self._virtual_keys = virtual_keys
        self._tenants = tenants
        self._newest_pepper = newest_pepper
        self._provider_keys = provider_keys
        self._changes = changes
        self._clock = clock

    async def issue(self, wanted: Wanted) -> IssuedVirtualKey:
        """Make a virtual key and keep its digest. It works once this returns.

        Raises:
            InvalidParameter: a name that could never match a request, or another impossible value.
            TenantShredded: the tenant's id is used up.
            OSError, ValueError: the pepper's file cannot be made, or not read.
        """
        token = mint(secrets.token_bytes(TOKEN_RANDOM_BYTES))
        now_ms = self._clock.now_ms()
        virtual_key = issue(
            tenant_id=wanted.tenant_id,
            token=token,
            virtual_key_id=mint_id(secrets.token_bytes(ID_RANDOM_BYTES)),
            now_ms=now_ms,
            user=wanted.user,
            feature=wanted.feature,
            allowed_models=wanted.allowed_models,
            expires_at_ms=None if wanted.expires_in_ms is None else now_ms + wanted.expires_in_ms,
            limits=wanted.limits,
            fallback=wanted.fallback,
        )
        pepper = await asyncio.to_thread(self._newest_pepper)
        token_digest = digest(token.reveal(), pepper)
        await self._provider_keys.refuse_shredded(virtual_key.tenant_id)
        is_tenant_known = await is_known_tenant(virtual_key.tenant_id, self._settings, self._tenants)
        tenant_id = virtual_key.tenant_id
        await self._changes.announce(tenant_id, Action.VIRTUAL_KEY_ISSUE, _details(virtual_key), virtual_key.id)
        # Nobody can have asked for it before.
        await self._virtual_keys.put(virtual_key, token_digest, pepper_fingerprint(pepper))
        return IssuedVirtualKey(virtual_key, token, tuple(_notes(virtual_key, self._settings, is_tenant_known)))

    async def list(self, tenant_id: str | None) -> Sequence[VirtualKey]:
        """A tenant's virtual keys, or all tenants', by age and then by id."""
        return await self._virtual_keys.list(tenant_id)

    async def find(self, virtual_key_id: str) -> VirtualKey:
        """One virtual key. Raises VirtualKeyUnknown."""
        virtual_key = await self._virtual_keys.find_by_id(virtual_key_id)
        if virtual_key is None:
            raise VirtualKeyUnknown(virtual_key_id)
        return virtual_key

    async def revoke(self, virtual_key_id: str) -> VirtualKey:
        """End a virtual key; to end one again is no change. Raises VirtualKeyUnknown."""
        now_ms = self._clock.now_ms()
        before = await self.find(virtual_key_id)
        if before.state(now_ms) is not VirtualKeyState.REVOKED:
            await self._changes.announce(before.tenant_id, Action.VIRTUAL_KEY_REVOKE, {}, virtual_key_id)
        # Also where it is revoked already: that completes what a crash may have left half done.
        virtual_key = await self._virtual_keys.revoke(virtual_key_id, now_ms)
        self._changes.made(before.tenant_id, virtual_key_id)
        if virtual_key is None:
            raise VirtualKeyUnknown(virtual_key_id)
        return virtual_key


def _details(virtual_key: VirtualKey) -> dict[str, object]:
    """What the ledger says of a new one: what was asked for, less what was not."""
    models, expires_at_ms = virtual_key.allowed_models, virtual_key.expires_at_ms
    details: dict[str, object | None] = {
        "user": virtual_key.user,
        "feature": virtual_key.feature,
        "models": None if models is None else sorted(models),
        "limits": limits_in_words(virtual_key.limits),
        "fallback": None if virtual_key.fallback is None else str(virtual_key.fallback),
        "expires_at": None if expires_at_ms is None else instant(expires_at_ms),
    }
    return {name: value for name, value in details.items() if value is not None}


def _notes(virtual_key: VirtualKey, settings: Settings, is_tenant_known: bool) -> list[str]:
    """Why this key, though it is valid, may not do what was hoped for."""
    notes = []
    auth, tenant_id = settings.auth, virtual_key.tenant_id
    if auth.mode is not AuthMode.VIRTUAL_KEYS:
        notes.append(f'auth.mode is "{auth.mode}": this gateway does not ask for virtual keys.')
    if not is_tenant_known:
        notes.append(
            f"{tenant_id} is not under [tenants], nor was it put with `tollway tenants put`, and "
            "auth.known_tenants_only is true: its calls are refused."
        )
    for alias in sorted(virtual_key.allowed_models or ()):
        model = settings.models.get(alias)
        if model is None and auth.default_provider is None:
            notes.append(f"no model is called {alias!r}.")
        elif model is not None and model.tenants is not None and tenant_id not in model.tenants:
            notes.append(f"the model {alias!r} is not for {tenant_id}.")
    return notes
