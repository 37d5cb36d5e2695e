"""Promise: a reload changes what it can change, and what only a start can change stays as it was: the
port that is bound, the store that is open, and the pepper that virtual keys were issued under."""

import logging
from pathlib import Path

import pytest

from proxy.core.secret import Secret
from proxy.identity.pepper import pepper_bytes
from proxy.identity.virtual_key import digest, issue, mint, mint_id
from proxy.settings.load import load
from tests.gateway import JSON, plain_request, running_gateway

SIMULATED = """
[providers.simulated]
transport = "simulated"
[models.simulated]
deployments = [{ provider = "simulated", model = "simulated" }]
"""
CHAT = "/v1/chat/completions"
BODY = b'{"model":"simulated","messages":[{"role":"user","content":"Hello!"}]}'
EVERYWHERE = '[server]\nbind = "0.0.0.0:0"\n'
LENDING = '[auth]\nmode = "passthrough"\nallow_keyless = true\n'


def settings_of(text):
    return load(text, path="test.toml", environ={}, read_file=Path.read_text)


async def test_another_state_folder_makes_no_virtual_key_unknown(tmp_path, caplog):
    async with running_gateway(SIMULATED, folder=tmp_path / "first") as gateway:
        token = mint(b"k" * 32)
        pepper = (tmp_path / "first" / "pepper").read_text().strip()
        virtual_key = issue(tenant_id="acme", token=token, virtual_key_id=mint_id(b"i" * 16), now_ms=1)
        token_digest = digest(token.reveal(), pepper_bytes(Secret(pepper)))
        await gateway.app.stores.virtual_keys.put(virtual_key, token_digest)
        with caplog.at_level(logging.WARNING):
            gateway.app.reload(settings_of(f'[state]\nfolder = "{tmp_path / "second"}"\n' + SIMULATED))
        assert "take effect at the next start" in caplog.text
        headers = [*JSON, (b"authorization", b"Bearer " + token.reveal().encode())]
        assert (await plain_request(gateway, "POST", CHAT, BODY, headers))[0] == 200
    assert not (tmp_path / "second").exists()


async def test_keys_are_not_lent_on_a_port_that_is_still_open_to_all():
    async with running_gateway(EVERYWHERE + SIMULATED) as gateway:
        before = gateway.app.snapshots.current
        gateway.app.reload(settings_of(SIMULATED))  # the file says loopback from now on; the port does not
        between = gateway.app.snapshots.current
        assert between is not before
        with pytest.raises(ValueError, match=r"listens on 0\.0\.0\.0:0.*Restart"):
            gateway.app.reload(settings_of(LENDING + SIMULATED))
        assert gateway.app.snapshots.current is between
        assert (await plain_request(gateway, "POST", CHAT, BODY))[0] == 401


async def test_the_bounds_of_a_body_hold_at_once():
    async with running_gateway(LENDING + SIMULATED) as gateway:
        assert (await plain_request(gateway, "POST", CHAT, BODY))[0] == 200
        gateway.app.reload(settings_of("[server]\nbody_bytes_max = 16\n" + LENDING + SIMULATED))
        assert (await plain_request(gateway, "POST", CHAT, BODY))[0] == 413
