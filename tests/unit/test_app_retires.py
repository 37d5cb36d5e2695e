"""What a reload changed or took away lets its connections go, once nobody can be using them."""

import io
from pathlib import Path

import pytest

from proxy.adapters.http.transport import Transport
from proxy.app import create_app, providers
from proxy.settings.load import load
from tests.scripted_upstream import until

BEFORE = """
[auth]
mode = "passthrough"
default_provider = "kept"
[providers.kept]
base_url = "http://127.0.0.1:9/v1"
[providers.changed]
base_url = "http://127.0.0.1:9/v1"
timeouts_s = { total = 0.01 }
[providers.dropped]
base_url = "http://127.0.0.1:9/v1"
timeouts_s = { total = 0.01 }
"""


def settings(text: str, folder: Path):
    return load(f'[state]\nfolder = "{folder}"\n{text}', path="t.toml", environ={}, read_file=Path.read_text)


async def test_old_transports_are_closed_and_kept_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(providers, "_RETIRED_S", 0.01)
    app = create_app(settings(BEFORE, tmp_path), access_log_sink=io.BytesIO())
    await app.startup()
    before = dict(app.providers._transports)
    after = BEFORE.split("[providers.dropped]", maxsplit=1)[0].replace("total = 0.01", "total = 0.02")
    app.reload(settings(after, tmp_path))
    assert set(app.providers._transports) == {"kept", "changed"}
    assert app.providers._transports["kept"] is before["kept"]
    assert app.providers._transports["changed"] is not before["changed"]

    def closed(name: str) -> bool:
        transport = before[name]
        assert isinstance(transport, Transport)
        return transport._is_closed

    await until(lambda: closed("changed") and closed("dropped"))
    assert not closed("kept")
    assert not app.providers._retired
    await app.shutdown()


async def test_a_reload_that_cannot_be_carried_out_leaves_everything_in_force(tmp_path, monkeypatch):
    app = create_app(settings(BEFORE, tmp_path), access_log_sink=io.BytesIO())
    await app.startup()
    transports, snapshot = dict(app.providers._transports), app.snapshots.current

    def unreadable(_provider: object) -> None:
        raise OSError("the certificate authorities cannot be read")

    monkeypatch.setattr(app.providers, "_make_transport", unreadable)
    with pytest.raises(OSError, match="cannot be read"):
        app.reload(settings(BEFORE.replace("total = 0.01", "total = 0.02"), tmp_path))
    assert app.snapshots.current is snapshot
    assert app.providers._transports == transports
    assert not app.providers._retired
    await app.shutdown()
