"""The admin port's three answers, and that nothing in a request's Host changes them."""

import json

import httpx
import pytest

from proxy.edge.admin import create_admin_app
from proxy.edge.health import Readiness


def readiness(**checks) -> Readiness:
    return Readiness(config_version=lambda: "abc123", checks=checks)


async def ask(app, path, **options) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
        return await client.get(path, **options)


async def metrics():
    return b"a_total 1\n", "text/plain; version=0.0.4"


async def test_alive():
    answer = await ask(create_admin_app(readiness(), metrics), "/livez")
    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.parametrize(
    ("failure", "draining", "status"),
    [(None, False, 200), ("no answer in 250 ms", False, 503), (None, True, 503)],
)
async def test_ready(failure, draining, status):
    state = readiness(state=lambda: failure)
    state.draining = draining
    answer = await ask(create_admin_app(state, metrics), "/readyz")
    report = json.loads(answer.content)
    assert answer.status_code == status
    assert report["ready"] is (status == 200)
    assert report["config"] == "abc123"
    assert report["checks"]["state"] == (failure or "ok")
    assert ("draining" in report["checks"]) is draining


async def test_readiness_is_looked_at_anew_each_time():
    failures = [None, "away", None]
    app = create_admin_app(readiness(state=lambda: failures.pop(0)), metrics)
    assert [(await ask(app, "/readyz")).status_code for _ in range(3)] == [200, 503, 200]


async def test_metrics_are_passed_on():
    answer = await ask(create_admin_app(readiness(), metrics), "/metrics")
    assert answer.content == b"a_total 1\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"


async def test_other_methods_and_paths_do_nothing():
    app = create_admin_app(readiness(), metrics)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
        assert (await client.post("/livez")).status_code == 405
        assert (await client.get("/v1/models")).status_code == 404


@pytest.mark.parametrize("host", ["admin", "evil/livez?", "evil/metrics#", "@evil", "a b", "[::1", "evil:port"])
async def test_a_poisoned_host_changes_nothing(host):
    """The wire refuses such a host; a server in front of us may not (CVE-2026-48710)."""
    app = create_admin_app(readiness(state=lambda: "away"), metrics)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/readyz",
        "raw_path": b"/readyz",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", host.encode())],
        "client": None,
        "server": None,
    }
    for path, status in (("/readyz", 503), ("/livez/", 404), ("/readyz/..", 404)):
        sent = await _call(app, {**scope, "path": path, "raw_path": path.encode()})
        assert sent[0]["status"] == status
        assert b"evil" not in b"".join(value for _, value in sent[0]["headers"])


async def _call(app, scope) -> list:
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent
