"""Whose provider key pays for a call.

Pure. Invariants: a caller's own token goes to the default provider and nowhere else; a stored provider key
goes to the one origin that it is bound to.
"""

from typing import NamedTuple

from proxy.core.errors import InvalidApiKey, ProviderKeyMissing
from proxy.core.secret import Secret
from proxy.core.types import Caller, KeySource
from proxy.settings.model import AuthMode, AuthSettings, ProviderSettings


class Payer(NamedTuple):
    """Who pays, and with what. `provider_key` is None where the caller's own headers carry
    the key, and for a provider that wants none. A stored one names its `origin`: it goes nowhere else."""

    source: KeySource
    provider_key: Secret | None
    origin: str | None = None


_CALLER_PAYS = Payer(KeySource.CALLER, None)


def choose_payer(
    auth: AuthSettings, caller: Caller, provider: ProviderSettings, *, gateway_keys: bool, stores_keys: bool
) -> Payer:
    """Say whose key goes to this provider, where none is stored for this caller.

    Args:
        gateway_keys: whether the caller's plan may use the gateway's own key.
        stores_keys: whether one could be stored.

    Raises:
        InvalidApiKey: passthrough, and the caller brought no key for the default provider.
        ProviderKeyMissing: the gateway has no key to serve this call with, or may not use it.
    """
    if auth.mode is AuthMode.PASSTHROUGH:
        if provider.name == auth.default_provider and caller.provider_token is not None:
            return _CALLER_PAYS
        if not auth.allow_keyless:
            raise _not_keyless(auth, provider)
    if provider.provider_key is None:
        if provider.provider_key_wanted:
            raise _no_key(auth, provider, stores_keys)
    elif not gateway_keys:
        raise ProviderKeyMissing(
            f"Your plan calls {provider.name} with a provider key of your own, and none is stored. "
            f"{_how_to_store(stores_keys)}"
        )
    return Payer(KeySource.GATEWAY, provider.provider_key)


def _not_keyless(auth: AuthSettings, provider: ProviderSettings) -> InvalidApiKey | ProviderKeyMissing:
    if provider.name == auth.default_provider:
        return InvalidApiKey(f"No API key. Send your own {provider.name} key as `Authorization: Bearer …`.")
    return ProviderKeyMissing(
        f"This model is served by {provider.name}, and your key is for {auth.default_provider}: it goes nowhere "
        "else. This gateway serves other providers only to callers with a virtual key."
    )


def _no_key(auth: AuthSettings, provider: ProviderSettings, stores_keys: bool) -> InvalidApiKey | ProviderKeyMissing:
    if auth.mode is AuthMode.PASSTHROUGH and provider.name == auth.default_provider:
        return InvalidApiKey(f"No API key. Send your own {provider.name} key as `Authorization: Bearer …`.")
    unset = (
        f"The gateway has no key for the provider {provider.name}: its `provider_key` names a variable that is unset."
    )
    if not stores_keys:
        return ProviderKeyMissing(unset)
    return ProviderKeyMissing(f"{unset} None of your own is stored either. {_how_to_store(stores_keys)}")


def _how_to_store(stores_keys: bool) -> str:
    if stores_keys:
        return "Whoever runs this gateway stores one with `tollway provider-keys put`."
    return "This gateway stores none: whoever runs it has to configure a [keyring]."
