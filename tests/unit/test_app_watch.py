"""What an application looks at once a second, for as long as it lives."""

import io
from pathlib import Path

from proxy.app import application, create_app
from proxy.settings.load import load
from tests.scripted_upstream import until


async def test_a_look_that_fails_is_not_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(application, "_WATCH_S", 0.01)
    settings = load(f'[state]\nfolder = "{tmp_path}"\n', path="t.toml", environ={}, read_file=Path.read_text)
    app = create_app(settings, access_log_sink=io.BytesIO())
    looks: list[int] = []

    def look(pending):
        looks.append(pending)
        if len(looks) == 1:
            raise ValueError("a fault of ours")

    monkeypatch.setattr(app.metrics, "settlements_pending", look)
    await app.startup()
    await until(lambda: len(looks) > 1)
    await app.shutdown()
