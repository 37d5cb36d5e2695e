"""Whose provider key pays: a table."""

import pytest

from proxy.core.errors import InvalidApiKey, ProviderKeyMissing
from proxy.core.secret import Secret
from proxy.core.types import Caller, KeySource
from proxy.settings.model import AuthMode, AuthSettings, ProviderSettings
from proxy.upstream.payer import Payer, choose_payer

OURS = Secret("sk-ours")
WITH_TOKEN = Caller("default", provider_token=Secret("sk-theirs"))
WITHOUT = Caller("default")
HAS_KEY = ProviderSettings("openai", "https://o", provider_key=OURS, provider_key_wanted=True)
NO_KEY = ProviderSettings("openai", "https://o", provider_key_wanted=True)
OTHER = ProviderSettings("other", "https://x", provider_key=OURS, provider_key_wanted=True)
OTHER_NO_KEY = ProviderSettings("other", "https://x", provider_key_wanted=True)
WANTS_NONE = ProviderSettings("vllm", "https://v")
STRICT = AuthSettings(mode=AuthMode.PASSTHROUGH, default_provider="openai")
KEYLESS = AuthSettings(mode=AuthMode.PASSTHROUGH, default_provider="openai", allow_keyless=True)
KEYS = AuthSettings(mode=AuthMode.VIRTUAL_KEYS, default_provider="openai")
GATEWAY_PAYS = Payer(KeySource.GATEWAY, OURS)
CALLER_PAYS = Payer(KeySource.CALLER, None)
FREE = Payer(KeySource.GATEWAY, None)


@pytest.mark.parametrize(
    ("auth", "caller", "provider", "expected"),
    [
        (STRICT, WITH_TOKEN, HAS_KEY, CALLER_PAYS),
        (STRICT, WITH_TOKEN, NO_KEY, CALLER_PAYS),
        (STRICT, WITHOUT, HAS_KEY, InvalidApiKey),
        (STRICT, WITH_TOKEN, OTHER, ProviderKeyMissing),
        (STRICT, WITH_TOKEN, WANTS_NONE, ProviderKeyMissing),
        (KEYLESS, WITH_TOKEN, HAS_KEY, CALLER_PAYS),
        (KEYLESS, WITHOUT, HAS_KEY, GATEWAY_PAYS),
        (KEYLESS, WITHOUT, NO_KEY, InvalidApiKey),
        (KEYLESS, WITH_TOKEN, OTHER, GATEWAY_PAYS),
        (KEYLESS, WITHOUT, OTHER_NO_KEY, ProviderKeyMissing),
        (KEYLESS, WITHOUT, WANTS_NONE, FREE),
        (KEYS, WITHOUT, HAS_KEY, GATEWAY_PAYS),
        (KEYS, WITHOUT, NO_KEY, ProviderKeyMissing),
        (KEYS, WITHOUT, WANTS_NONE, FREE),
    ],
)
def test_choose_payer(auth, caller, provider, expected):
    if isinstance(expected, Payer):
        assert choose_payer(auth, caller, provider, gateway_keys=True, stores_keys=False) == expected
        return
    with pytest.raises(expected):
        choose_payer(auth, caller, provider, gateway_keys=True, stores_keys=False)


@pytest.mark.parametrize(
    ("auth", "caller", "provider", "expected"),
    [
        (KEYS, WITHOUT, HAS_KEY, ProviderKeyMissing),
        (KEYS, WITHOUT, WANTS_NONE, FREE),  # there is no key of the gateway's to use
        (KEYLESS, WITHOUT, HAS_KEY, ProviderKeyMissing),
        (STRICT, WITH_TOKEN, HAS_KEY, CALLER_PAYS),
    ],
)
def test_a_plan_may_be_without_the_gateways_keys(auth, caller, provider, expected):
    if isinstance(expected, Payer):
        assert choose_payer(auth, caller, provider, gateway_keys=False, stores_keys=True) == expected
        return
    with pytest.raises(expected, match="own"):
        choose_payer(auth, caller, provider, gateway_keys=False, stores_keys=True)


@pytest.mark.parametrize(("stores_keys", "hint"), [(True, "tollway provider-keys put"), (False, r"\[keyring\]")])
def test_who_lacks_a_key_hears_how_one_is_stored(stores_keys, hint):
    with pytest.raises(ProviderKeyMissing, match=hint):
        choose_payer(KEYS, WITHOUT, HAS_KEY, gateway_keys=False, stores_keys=stores_keys)
