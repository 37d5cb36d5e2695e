"""Whose provider key pays for a call: one that the user or the tenant stored, else the gateway's.

What a stored key opens to is known in this process for a while (`keyring`), so a call as a rule waits for nothing
here. Admission tells how often the tenant's keys have changed by then; a key from before that is looked up anew.
"""

from proxy.core.errors import StateUnavailable
from proxy.core.types import KeySource
from proxy.keyring.keyring import Keyring
from proxy.keyring.opened_cache import MISS
from proxy.keyring.record import OpenedProviderKey
from proxy.pipeline.exchange import Exchange
from proxy.routing.resolve import Candidate
from proxy.settings.model import AuthMode, ProviderSettings
from proxy.upstream.conditions import Condition, Conditions
from proxy.upstream.payer import Payer, choose_payer

_CHANGED_RETRY_MS = 100


class Payment:
    """Finds who pays."""

    __slots__ = ("_keyring",)

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring

    def is_gateways(self, exchange: Exchange, provider: ProviderSettings) -> bool:
        """True where the gateway's own key pays for sure: seen at a glance, for a look at every candidate."""
        if self._keyring is not None or exchange.snapshot.settings.auth.mode is AuthMode.PASSTHROUGH:
            return False
        has_key = provider.provider_key is not None
        return exchange.plan.gateway_keys if has_key else not provider.provider_key_wanted

    def known(self, exchange: Exchange, provider: ProviderSettings) -> Payer | None:
        """Who pays, where that can be said at once; None: ask `find`.

        Raises:
            InvalidApiKey, ProviderKeyMissing: nobody does.
        """
        caller = exchange.caller
        assert caller is not None, "who calls is known before who pays"
        # In passthrough nobody has verified who calls: what a tenant stored is not for everybody.
        auth = exchange.snapshot.settings.auth
        if self._keyring is None or auth.mode is AuthMode.PASSTHROUGH:
            return choose_payer(auth, caller, provider, gateway_keys=exchange.plan.gateway_keys, stores_keys=False)
        stored = self._keyring.cached(caller.tenant_id, provider.name, caller.user)
        return None if stored is MISS else self._payer(exchange, provider, stored)

    async def find(self, exchange: Exchange, provider: ProviderSettings, since_epoch: int = 0) -> Payer:
        """Who pays, within 300 ms; as of an epoch of the tenant's keys, or later.

        Raises:
            InvalidApiKey, ProviderKeyMissing: nobody does.
            KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable, TenantShredded: see `Keyring.open`.
        """
        assert self._keyring is not None
        assert exchange.caller is not None
        caller = exchange.caller
        stored = await self._keyring.open(caller.tenant_id, provider.name, caller.user, since_epoch)
        return self._payer(exchange, provider, stored)

    async def confirmed(self, exchange: Exchange, provider: ProviderSettings, payer: Payer) -> Payer:
        """The payer as of the admission, which has just read how often the tenant's keys have changed.

        Raises:
            StateUnavailable: another pays by now, and the admission was for this one.
            GatewayError: as `find`.
        """
        ticket = exchange.ticket
        if self._keyring is None or ticket is None or ticket.keyring_epoch is None:
            return payer
        epoch = ticket.keyring_epoch
        self._keyring.note_epoch(ticket.demand.tenant_id, epoch)
        # Looked up anew, always: what this call was told before may be older than what another call has heard since.
        fresh = self.known(exchange, provider) or await self.find(exchange, provider, epoch)
        if fresh.source is not payer.source:
            raise StateUnavailable(
                f"The provider keys that are stored for {ticket.demand.tenant_id} have just changed. Try again.",
                retry_after_ms=_CHANGED_RETRY_MS,
            )
        return fresh

    def may_be_users_own(self, exchange: Exchange, provider: ProviderSettings) -> bool:
        """True where the stored key that pays is, or may be, this user's own and not its tenant's."""
        caller = exchange.caller
        assert caller is not None
        if self._keyring is None or caller.user is None:
            return False
        theirs = self._keyring.cached(caller.tenant_id, provider.name, None)
        return theirs is MISS or theirs != self._keyring.cached(caller.tenant_id, provider.name, caller.user)

    def _payer(self, exchange: Exchange, provider: ProviderSettings, stored: OpenedProviderKey | None) -> Payer:
        if stored is not None:
            return Payer(KeySource.TENANT, stored.secret, stored.origin)
        assert exchange.caller is not None
        auth, gateway_keys = exchange.snapshot.settings.auth, exchange.plan.gateway_keys
        return choose_payer(auth, exchange.caller, provider, gateway_keys=gateway_keys, stores_keys=True)


def condition_of(conditions: Conditions, exchange: Exchange, candidate: Candidate, payer: Payer) -> Condition:
    """What is known of a candidate for whoever pays. Of the key only a mark is kept, from which nobody gets back."""
    mark = None
    if payer.source is not KeySource.GATEWAY:
        assert exchange.caller is not None
        mark = (exchange.caller.tenant_id, hash(payer.provider_key or exchange.caller.provider_token))
    return conditions.find(candidate.name, candidate.deployment.label, mark)
