"""Promise: mounted in a host's own service, as docs/deployment.md writes it, the gateway is the same:
it starts and ends with the host, answers below the mount's path, and never ends a cut stream cleanly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.ledger.embedded import EmbeddedLedgerStore

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 20.0
CONFIG = """
[auth]
mode = "passthrough"
allow_keyless = true
[providers.simulated]
transport = "simulated"
[models.simulated]
deployments = [{ provider = "simulated", model = "simulated" }]
[models.simulated-reset]
deployments = [{ provider = "simulated", model = "simulated-reset" }]
"""


@pytest.fixture
def host(tmp_path):
    """The documented service under uvicorn, with the documented flags; its URL and process."""
    page = (ROOT / "docs/deployment.md").read_text()
    (service,) = re.findall(r"(?ms)^```python\n# service\.py\n(.*?)^```$", page)
    (flags,) = re.findall(r"(?m)^\$ uvicorn service:app(.*)$", page)
    (tmp_path / "service.py").write_text(service)
    (tmp_path / "tollway.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", "0", *flags.split()]
    log = tmp_path / "host.log"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=sink, stderr=sink)
    try:
        until = time.monotonic() + PATIENCE_S
        while (running := re.search(r"running on (http://\S+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield running[1], process
    finally:
        process.kill()
        process.wait()


def chat(model, **fields):
    return {"model": model, "messages": [{"role": "user", "content": "Hello!"}], **fields}


async def test_the_documented_host_serves_the_gateway_and_ends_it(host, tmp_path):
    url, process = host
    async with httpx.AsyncClient(base_url=f"{url}/llm/v1", timeout=PATIENCE_S, trust_env=False) as client:
        plain = await client.post("/chat/completions", json=chat("simulated"))
        assert plain.status_code == 200
        assert plain.json()["choices"][0]["message"]["content"].endswith('You said: "Hello!"')
        # The provider's own: the host's flags keep the server's away.
        assert plain.headers.get_list("server") == ["simulated"]
        assert len(plain.headers.get_list("date")) == 1

        stream = await client.post("/chat/completions", json=chat("simulated", stream=True))
        assert stream.text.endswith("data: [DONE]\n\n")

        unknown = await client.post("/chat/completions", json=chat("nobody"))
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")

        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/chat/completions", json=chat("simulated-reset", stream=True))

    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)  # uvicorn raises its signal again after a clean end

    door = SqliteDoor(tmp_path / ".tollway/tollway.db")
    try:
        rows = [json.loads(data) for _, data in await EmbeddedLedgerStore(door).read("default")]
    finally:
        await door.close()
    assert [(row["requested_model"], row["status"]) for row in rows] == [
        ("simulated", 200),
        ("simulated", 200),
        ("simulated-reset", 200),
    ]
