"""What is legal but unwise is said; what is wise is not."""

from pathlib import Path

import pytest

from proxy.settings.load import load

PROVIDER = '[providers.p]\nbase_url = "https://x"\n'
PASSTHROUGH = '[auth]\nmode = "passthrough"\ndefault_provider = "p"\n'
DEPLOYMENTS = 'deployments = [{ provider = "p", model = "x" }]\n'


def warnings_of(text):
    return load(text, path="t.toml", environ={"K": "sk-1"}, read_file=Path.read_text).warnings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROVIDER + 'provider_key = "env?:NONE"\n', "providers.p.provider_key is absent"),
        ('[auth]\nmode = "trusted-headers"\n' + PROVIDER + 'provider_key = "env?:NONE"\n', "provider_key is absent"),
        ("[auth]\nallow_keyless = true\n", "auth.allow_keyless does nothing"),
        ('[auth]\ntrusted_peers = ["10.0.0.0/8"]\n', "auth.trusted_peers does nothing"),
        ('[auth]\nmode = "trusted-headers"\ntrusted_peers = ["0.0.0.0/0"]\n', "everyone who can connect"),
        ('[auth]\nmode = "passthrough"\n', "auth.default_provider is not set"),
        ('[providers.p]\nbase_url = "http://x"\nallow_http = true\n', "plain http to x"),
        (PROVIDER + "allow_shared_state = true\n", "allow_shared_state lets every tenant"),
        (
            PROVIDER + "allow_shared_state = true\n[auth]\nknown_tenants_only = true\n[tenants.a]\n[tenants.b]\n",
            "allow_shared_state lets every tenant",
        ),
        (PROVIDER + "timeouts_s.total = 30\n", "timeouts_s.total (30) ends a call before"),
        (PROVIDER + "[models.m]\ntenants = []\n" + DEPLOYMENTS, "models.m.tenants is empty"),
        (
            PROVIDER + '[auth]\nknown_tenants_only = true\n[models.m]\ntenants = ["a"]\n' + DEPLOYMENTS,
            "models.m.tenants names a",
        ),
        (PROVIDER + 'provider_key = "sk-1"\n', "stands in the file"),
    ],
)
def test_what_is_unwise_is_said_once(text, said):
    (warning,) = warnings_of(text)
    assert said in warning


@pytest.mark.parametrize(
    "text",
    [
        "",
        PROVIDER,  # no key is wanted: a model server next door
        PROVIDER + 'provider_key = "env:K"\n',
        PASSTHROUGH + PROVIDER + 'provider_key = "env?:NONE"\n',
        PASSTHROUGH + "allow_keyless = true\n" + PROVIDER,
        PASSTHROUGH + PROVIDER + "allow_shared_state = true\n",  # one tenant
        PROVIDER + "allow_shared_state = true\n[auth]\nknown_tenants_only = true\n[tenants.a]\n",
        '[providers.p]\nbase_url = "http://127.0.0.1"\n',
        '[providers.p]\ntransport = "simulated"\n',
        PROVIDER + '[models.m]\ntenants = ["a"]\n' + DEPLOYMENTS,
        PROVIDER
        + '[auth]\nknown_tenants_only = true\n[models.m]\ntenants = ["default", "a"]\n'
        + DEPLOYMENTS
        + "[tenants.a]\n",
    ],
)
def test_what_is_wise_is_passed_over(text):
    assert warnings_of(text) == ()
