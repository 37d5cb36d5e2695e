"""Promise: a product signs up a tenant, stores its customer's provider key and issues a virtual key while the gateway
runs; the next call is paid with that key, and its text is nowhere but in the provider's hands."""

import json
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.adapters.redis import RedisDoor
from proxy.adapters.redis_wire import Reply
from proxy.core.clock import Clock
from proxy.ledger.audit import audit
from proxy.ledger.exporter import Exporter
from proxy.ledger.reader import LedgerReader
from proxy.ledger.sink_file import FileSink
from tests.command import Command
from tests.gateway import JSON, Gateway, error_of, plain_request, priced_to, running_gateway
from tests.ledger_crash import Observed
from tests.redis_server import emptied
from tests.scripted_upstream import ScriptedUpstream, answer, scripted_upstream

ADMIN_TOKEN = secrets.token_hex(32)
ADMIN = '[admin]\ntokens = [{ name = "signup", token = "env:ADMIN", roles = ["read", "operate", "keys"] }]\n'
BODY = json.dumps({"model": "priced", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}).encode()
USAGE = answer(b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}')


class Api:
    """The admin API, and every byte that it ever answered."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.told = b""

    async def __call__(self, method: str, path: str, status: int, **sent: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"}
        found = await self._client.request(method, "/admin/v1" + path, headers=headers, **sent)
        self.told += str(found.headers).encode() + found.content
        assert found.status_code == status, found.text
        document: dict[str, Any] = found.json()
        return document


@asynccontextmanager
async def administered(
    upstream: ScriptedUpstream, folder: Path, state_url: str | None
) -> AsyncIterator[tuple[Gateway, Api]]:
    text = (
        priced_to(upstream.base_url).replace("trusted-headers", "virtual-keys")
        + '[keyring]\nkek = "file:kek"\n'
        + ADMIN
    )
    environ = {"ADMIN": ADMIN_TOKEN}
    async with running_gateway(text, environ=environ, folder=folder, state_url=state_url) as gateway:
        base_url = f"http://127.0.0.1:{gateway.admin_port}"
        async with httpx.AsyncClient(base_url=base_url, trust_env=False) as client:
            yield gateway, Api(client)


async def called(gateway: Gateway, virtual_key: str) -> tuple[int, str | None]:
    headers = [*JSON, (b"authorization", b"Bearer " + virtual_key.encode())]
    status, _, body = await plain_request(gateway, "POST", "/v1/chat/completions", BODY, headers)
    return status, error_of(body)["code"] if status >= 400 else None


async def everything_in(url: str) -> bytes:
    """Every value of a Redis, as its own commands show it and as it is dumped."""
    found: list[bytes] = []

    def flatten(reply: Reply) -> None:
        if isinstance(reply, list):
            for each in reply:
                flatten(each)
        else:
            found.append(reply if isinstance(reply, bytes) else str(reply).encode())

    reads = {b"string": ("GET",), b"hash": ("HGETALL",), b"list": ("LRANGE", 0, -1), b"set": ("SMEMBERS",)}
    reads |= {b"zset": ("ZRANGE", 0, -1), b"stream": ("XRANGE", "-", "+")}
    async with RedisDoor(url) as door:
        keys = await door.call("KEYS", "*")
        assert isinstance(keys, list)
        for key in keys:
            assert isinstance(key, bytes)
            kind = await door.call("TYPE", key)
            command, *more = reads[kind if isinstance(kind, bytes) else str(kind).encode()]
            flatten(await door.call(str(command), key, *more))
            flatten(await door.call("DUMP", key))
    return b"".join(found)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_a_product_signs_up_a_customer_who_pays_with_a_key_of_its_own(kind, request, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    url = request.getfixturevalue("redis_url") if kind == "redis" else None
    await emptied(url)  # others plant what looks like keys, and rows of theirs would be exported here
    tenant_id, stored = f"t-{secrets.token_hex(8)}", [f"sk-canary-{secrets.token_hex(16)}" for _ in range(3)]
    async with scripted_upstream(USAGE) as upstream, administered(upstream, tmp_path, url) as (gateway, api):

        def paid() -> str:
            return (upstream.received[-1].header(b"authorization") or b"").decode().removeprefix("Bearer ")

        await api("PUT", f"/tenants/{tenant_id}", 201, json={})
        virtual_key = (await api("POST", "/virtual-keys", 201, json={"tenant": tenant_id}))["token"]
        assert (await called(gateway, virtual_key), paid()) == ((200, None), "sk-gateways")

        keys = f"/tenants/{tenant_id}/provider-keys"
        first = await api("POST", keys, 201, json={"provider": "scripted", "secret": stored[0]})
        assert (first["last_four"], first["version"], first["origin"] in upstream.base_url) == (stored[0][-4:], 1, True)
        assert (await called(gateway, virtual_key), paid()) == ((200, None), stored[0])
        await api("POST", f"{keys}/{first['id']}/rotate", 200, json={"secret": stored[1]})
        assert (await called(gateway, virtual_key), paid()) == ((200, None), stored[1])
        # What is refused repeats nothing of it either.
        for sent in ({"secret": stored[2] + " "}, {"secret": stored[2], "user": "u" * 200}, {"secret": [stored[2]]}):
            await api("POST", keys, 400, json={"provider": "scripted", **sent})
        await api("POST", keys, 400, content=json.dumps({"secret": stored[2]}).encode()[:-1])
        await api("POST", keys, 400, json={"provider": stored[2], "secret": stored[2]})
        await api("DELETE", f"{keys}/{first['id']}", 200)
        assert (await called(gateway, virtual_key), paid()) == ((200, None), "sk-gateways")

        await api("POST", keys, 201, json={"provider": "scripted", "secret": stored[2]})
        assert (await called(gateway, virtual_key), paid()) == ((200, None), stored[2])
        assert (await api("GET", keys, 200))["data"][0]["state"] == "deleted"
        assert (await api("DELETE", f"/tenants/{tenant_id}", 409))["error"]["code"] == "tenant_in_use"
        await api("POST", f"/tenants/{tenant_id}/shred", 200, json={"id": tenant_id})
        assert await called(gateway, virtual_key) == (401, "invalid_api_key")
        assert (await api("GET", keys, 200))["data"] == []
        await api("POST", keys, 410, json={"provider": "scripted", "secret": stored[0]})

        rows = await gateway.rows(tenant_id)
        assert [row["action"] for row in rows if row["kind"] == "audit"] == [
            *("tenant.put", "virtual_key.issue", "provider_key.put", "provider_key.rotate", "provider_key.delete"),
            *("provider_key.put", "tenant.shred", "virtual_key.revoke"),
        ]
        assert [row["key_source"] for row in rows if row["kind"] == "run"] == [
            *("gateway", "tenant", "tenant", "gateway", "tenant"),
        ]
        stores, sink = gateway.app.stores, FileSink(tmp_path / "sink")
        await Exporter(stores.ledger, sink, Observed(), Clock(), "test").run_once()
        finding = await audit(tenant_id, LedgerReader(stores.ledger, sink), stores.spent_total_nusd)
        assert (finding.fault, finding.rows) == (None, len(rows))

        told = [api.told, caplog.text.encode(), json.dumps(rows).encode(), gateway.log_sink.getvalue()]
        told.append(gateway.app.metrics.render()[0])
        told += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
        if url is not None:
            told.append(await everything_in(url))
        assert any(first["id"].encode() in text for text in told)  # what is looked through is what was told
        for secret in stored:
            assert not [text for text in told if secret[:30].encode() in text]


def test_commands_and_a_running_gateway_see_each_others_keys(tmp_path):
    """On SQLite: two processes on one file, and /readyz tells of nothing that is overdue."""
    providers = '[providers.openai]\nbase_url = "https://api.openai.com/v1"\n'
    text = providers + '[keyring]\nkek = "file:kek"\n'
    command = Command(tmp_path, text)
    with command.serving():
        assert command.run("keyring", "prepare", "--tenant", "acme")["is_new"]
        assert command.run("keyring", "rotate-dek", "--tenant", "acme")["rotated"] == 1
        ready = httpx.get(f"{command.admin_url}/readyz", trust_env=False).json()
        assert (ready["ready"], ready["warnings"]) == (True, {})
        assert command.metric("tollway_keyring_rotation_overdue") == 0
        assert command.run("tenants", "shred", "acme", "--yes")["id"] == "acme"


async def test_an_overdue_rotation_warns_and_the_gateway_stays_ready(tmp_path):
    async with scripted_upstream(USAGE) as upstream, administered(upstream, tmp_path, None) as (gateway, api):
        assert gateway.app.keyring is not None
        assert gateway.app.rotation_schedule is not None
        await gateway.app.keyring.prepare("acme", Clock().now_ms() - 366 * 86_400_000)
        await gateway.app.rotation_schedule.look()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", trust_env=False) as client:
            found = await client.get("/readyz")
            assert (found.status_code, found.json()["ready"]) == (200, True)
            assert "366 days old" in found.json()["warnings"]["keyring"]
            assert gateway.metric("tollway_keyring_rotation_overdue") == 1
            assert (await api("GET", "/keyring", 200))["due"] == 1
