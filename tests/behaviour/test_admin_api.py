"""Promise: a product signs up a tenant and hands out its keys while the gateway runs, by an API that lets
nobody in without a token, does nothing that is not described, and leaves a row of every change."""

import asyncio
import json
import logging
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from proxy.adapters.redis import RedisDoor
from proxy.admission.store import RedisAdmissionStore
from proxy.core.clock import Clock
from proxy.edge.admin_api import PREFIX, operations
from proxy.identity.store import RedisVirtualKeyStore
from proxy.identity.tenant_store import RedisTenantStore
from proxy.keyring.store import RedisKeyringStore
from proxy.ledger.audit import audit
from proxy.ledger.exporter import Exporter
from proxy.ledger.reader import LedgerReader
from proxy.ledger.sink_file import FileSink
from proxy.ledger.store import RedisLedgerStore
from proxy.routing.store import RedisSwitchStore
from proxy.settings.load import load
from tests.admission_stores import adjusted
from tests.gateway import Gateway, plain_request, running_gateway
from tests.ledger_crash import Observed
from tests.openapi import faults

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "proxy/edge/admin_openapi.json").read_text())
TOKENS = {name: f"{name}-{secrets.token_hex(32)}" for name in ("all", "read", "operate", "keys")}
ENVIRON = {f"TOKEN_{name.upper()}": token for name, token in TOKENS.items()}
SERVED = """
[auth]
default_provider = "simulated"
known_tenants_only = true
[providers.simulated]
transport = "simulated"
[providers.openai]
base_url = "https://api.openai.com/v1"
[models.m]
deployments = [{ provider = "simulated", model = "simulated" }]
[models.other]
deployments = [{ provider = "simulated", model = "simulated-slow" }]
[plans.pro]
[tenants.in-file]
"""
KEYRING = """
[keyring]
kek = "file:kek"
"""
WITHOUT_KEYRING = (
    SERVED
    + """
[admin]
tokens = [
  { name = "all", token = "env:TOKEN_ALL", roles = ["read", "operate", "keys"] },
  { name = "read", token = "env:TOKEN_READ", roles = ["read"] },
  { name = "operate", token = "env:TOKEN_OPERATE", roles = ["operate"] },
  { name = "keys", token = "env:TOKEN_KEYS", roles = ["keys"] },
]
"""
)
CONFIGURATION = WITHOUT_KEYRING + KEYRING
CHAT = json.dumps({"model": "simulated", "messages": [{"role": "user", "content": "Hello!"}]}).encode()
NOBODY = "vk_0000000000000000000000"
NO_PROVIDER_KEY = "pk_000000000000000000000000"
PROVIDER_KEY = {"provider": "openai", "secret": "sk-of-a-tenant-itself"}


class Api:
    """The admin API of a gateway. Every answer is held to the description; `seen` are those that were given."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.seen: set[tuple[str, str, str, str | None]] = set()  # operation, method, status, code

    async def __call__(self, method: str, path: str, token: str | None = TOKENS["all"], **sent: Any) -> httpx.Response:
        headers = {**({} if token is None else {"authorization": f"Bearer {token}"}), **sent.pop("headers", {})}
        answer = await self._client.request(method, PREFIX + path, headers=headers, **sent)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
        self._check(method, path.partition("?")[0], answer)
        return answer

    def _check(self, method: str, path: str, answer: httpx.Response) -> None:
        code = answer.json()["error"]["code"] if answer.status_code >= 400 else None
        template = next((one for one in DOCUMENT["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", one), path)), None)
        described = DOCUMENT["paths"].get(template, {}).get(method.lower())
        if described is None or code == "unknown_url":  # a path can mean another one
            assert code in ("unknown_url", "method_not_allowed", "invalid_admin_token", "admin_not_configured")
            assert faults(answer.json(), {"$ref": "#/components/schemas/Error"}, DOCUMENT) == []
            return
        status = str(answer.status_code)
        assert status in described["responses"], f"{method} {path} answered {status}, which is not described"
        response = described["responses"][status]
        assert faults(answer.json(), response["content"]["application/json"]["schema"], DOCUMENT) == []
        assert code is None or code in response["x-tollway-codes"]
        assert set(answer.headers) & set(response.get("headers", {})) or status != "401"
        self.seen.add((template or "", method.lower(), status, code))


@asynccontextmanager
async def api_of(gateway: Gateway) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", trust_env=False) as client:
        yield Api(client)


@asynccontextmanager
async def administered(
    text: str = CONFIGURATION, state_url: str | None = None, folder: Path | None = None
) -> AsyncIterator[tuple[Gateway, Api]]:
    async with running_gateway(text, environ=ENVIRON, state_url=state_url, folder=folder) as gateway:
        async with api_of(gateway) as api:
            yield gateway, api


@pytest.fixture(params=["redis", "sqlite"])
def state_url(request):
    return request.getfixturevalue("redis_url") if request.param == "redis" else "sqlite:tollway.db"


@pytest.fixture
def tenant_id() -> str:
    """A new one: the tests share a Redis."""
    return f"t-{secrets.token_hex(8)}"


async def call(gateway: Gateway, virtual_key: str) -> tuple[int, str | None]:
    headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer " + virtual_key.encode())]
    status, _, body = await plain_request(gateway, "POST", "/v1/chat/completions", CHAT, headers)
    return status, json.loads(body)["error"]["code"] if status >= 400 else None


# ── a tenant comes and goes ──────────────────────────────────────────────────────────────


async def test_a_tenant_signs_up_is_served_and_leaves(state_url, tenant_id, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with administered(state_url=state_url) as (gateway, api):
        issued = (await api("POST", "/virtual-keys", json={"tenant": tenant_id, "user": "ada"})).json()
        assert "its calls are refused" in issued["notes"][0]
        virtual_key = issued["token"]
        assert await call(gateway, virtual_key) == (403, "tenant_not_allowed")

        put = await api("PUT", f"/tenants/{tenant_id}", json={"plan": "pro", "timezone": "Asia/Tokyo"})
        assert (put.status_code, put.json()["plan"], put.json()["notes"]) == (201, "pro", [])
        assert await call(gateway, virtual_key) == (200, None)  # at once: this process forgot that there was none
        again = await api("PUT", f"/tenants/{tenant_id}", json={"allow_unmetered": True})
        assert (again.status_code, again.json()["timezone"], again.json()["allow_unmetered"]) == (
            200,
            "Asia/Tokyo",
            True,
        )

        in_use = await api("DELETE", f"/tenants/{tenant_id}")
        assert (in_use.status_code, in_use.json()["error"]["code"]) == (409, "tenant_in_use")
        revoked = await api("POST", f"/virtual-keys/{issued['id']}/revoke")
        assert revoked.json()["state"] == "revoked"
        assert await call(gateway, virtual_key) == (401, "invalid_api_key")  # the next call
        repeated = await api("POST", f"/virtual-keys/{issued['id']}/revoke")
        assert repeated.json() == revoked.json()
        assert "x-tollway-audit-id" not in repeated.headers

        second = (await api("POST", "/virtual-keys", json={"tenant": tenant_id})).json()
        deleted = await api("DELETE", f"/tenants/{tenant_id}?force=true")
        assert deleted.json()["revoked"] == [second["id"]]
        assert await call(gateway, second["token"]) == (401, "invalid_api_key")
        assert (await api("GET", f"/tenants/{tenant_id}")).status_code == 404

        rows = await gateway.rows(tenant_id)
        changes = [row for row in rows if row["kind"] == "audit"]
        assert [(row["action"], row["virtual_key_id"]) for row in changes] == [
            ("virtual_key.issue", issued["id"]),
            ("tenant.put", None),
            ("tenant.put", None),
            ("virtual_key.revoke", issued["id"]),
            ("virtual_key.issue", second["id"]),
            ("virtual_key.revoke", second["id"]),
            ("tenant.delete", None),
        ]
        assert {row["actor"] for row in changes} == {"all"}
        assert changes[-1]["run_id"] == deleted.headers["x-tollway-audit-id"]
        assert [row["kind"] for row in rows].count("run") == 1
        pages = await exported(gateway, tenant_id, tmp_path / "sink", rows=8)
        metrics = gateway.app.metrics.render()[0].decode()
        told = (pages, caplog.text, json.dumps(rows), gateway.log_sink.getvalue().decode(), metrics)
        for secret in (*TOKENS.values(), virtual_key, second["token"]):
            assert not [text for text in told if secret[4:24] in text]
        assert gateway.metric('tollway_admin_requests_total{operation="put_tenant",status="201"}') == 1


async def exported(gateway: Gateway, tenant_id: str, folder: Path, rows: int) -> str:
    """A tenant's pages, once its chain and its sums were found right."""
    stores, sink = gateway.app.stores, FileSink(folder)
    turn = await Exporter(stores.ledger, sink, Observed(), Clock(), "test").run_once()
    assert turn.failures == ()
    finding = await audit(tenant_id, LedgerReader(stores.ledger, sink), stores.spent_total_nusd)
    assert (finding.fault, finding.rows) == (None, rows)
    return "".join(page.read_text() for page in (folder / tenant_id).iterdir())


async def test_what_one_token_may_not_another_may(tenant_id):
    """Every operation with every role, alone."""
    table = {
        ("GET", "/openapi.json"): {"read", "operate", "keys"},
        ("GET", "/tenants"): {"read"},
        ("GET", f"/tenants/{tenant_id}"): {"read"},
        ("PUT", f"/tenants/{tenant_id}"): {"operate"},
        ("DELETE", f"/tenants/{tenant_id}"): {"operate"},
        ("POST", f"/tenants/{tenant_id}/shred"): {"operate"},
        ("GET", f"/tenants/{tenant_id}/provider-keys"): {"read"},
        ("POST", f"/tenants/{tenant_id}/provider-keys"): {"keys"},
        ("GET", f"/tenants/{tenant_id}/provider-keys/{NO_PROVIDER_KEY}"): {"read"},
        ("DELETE", f"/tenants/{tenant_id}/provider-keys/{NO_PROVIDER_KEY}"): {"keys"},
        ("POST", f"/tenants/{tenant_id}/provider-keys/{NO_PROVIDER_KEY}/rotate"): {"keys"},
        ("GET", "/deployments"): {"read"},
        ("PUT", "/deployments"): {"operate"},
        ("GET", "/models"): {"read"},
        ("PUT", "/models"): {"operate"},
        ("GET", "/keyring"): {"read"},
        ("GET", "/virtual-keys"): {"read"},
        ("POST", "/virtual-keys"): {"keys"},
        ("GET", f"/virtual-keys/{NOBODY}"): {"read"},
        ("POST", f"/virtual-keys/{NOBODY}/revoke"): {"keys"},
    }
    assert len(table) == sum(len(at_path) for at_path in operations({}).values())
    async with administered() as (gateway, api):
        for (method, path), roles in table.items():
            for role in ("read", "operate", "keys"):
                answer = await api(method, path, TOKENS[role])
                code = answer.json()["error"]["code"] if answer.status_code >= 400 else None
                assert (code == "admin_role_missing") is (role not in roles), (method, path, role)
                if role not in roles:
                    assert answer.status_code == 403
                    assert all(f"`{needed}`" in answer.json()["error"]["message"] for needed in roles)
        failures = sum(3 - len(roles) for roles in table.values())
        assert gateway.metric('tollway_admin_auth_failures_total{code="admin_role_missing"}') == failures


# ── nobody comes in ──────────────────────────────────────────────────────────────────────


async def test_without_a_token_in_the_configuration_nobody_is_let_in():
    async with administered(SERVED) as (gateway, api):
        for path in ("/tenants", "/openapi.json", "/virtual-keys", "/nothing", ""):
            answer = await api("GET", path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_not_configured")
            assert "[admin]" in answer.json()["error"]["message"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}", trust_env=False) as client:
            assert [(await client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
            assert (await client.get("/admin")).status_code == 404
        assert (await plain_request(gateway, "GET", "/admin/v1/tenants", b""))[0] == 404  # never on the data port


async def test_a_wrong_token_is_told_counted_and_logged_without_it(caplog):
    almost = TOKENS["all"][:-1] + ("0" if TOKENS["all"][-1] != "0" else "1")
    presented = [None, f"Bearer {almost}", f"Basic {TOKENS['all']}", TOKENS["all"], "Bearer"]
    presented += [f"Bearer {TOKENS['all']} {TOKENS['all']}", f"Bearer {TOKENS['all'].upper()}", "Bearer \u00e9"]
    async with administered() as (gateway, api):

        async def refused(credentials: str | None, path: str) -> None:
            headers = {} if credentials is None else {"authorization": credentials.encode("latin-1")}
            answer = await api("GET", path, None, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_admin_token"), credentials
            assert answer.headers["www-authenticate"] == 'Bearer realm="tollway-admin"'
            assert answer.headers["x-should-retry"] == "false"
            assert almost not in answer.text

        paths = ("/tenants", "/nothing")  # what there is and what not is not told apart
        await asyncio.gather(*(refused(credentials, path) for credentials in presented for path in paths))
        count = gateway.metric('tollway_admin_auth_failures_total{code="invalid_admin_token"}')
        assert count == len(presented) * len(paths)
        assert caplog.text.count("turned 127.0.0.1 away: invalid_admin_token") == count
        assert almost[4:24] not in caplog.text
        assert (await api("GET", "/tenants", TOKENS["all"])).status_code == 200
        assert (await api("GET", "/tenants", None, headers={"authorization": f"bearer  {TOKENS['all']}"})).is_success


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://10.0.0.1"])
async def test_a_page_of_another_machine_is_refused_even_with_a_token(origin):
    async with administered() as (_, api):
        answer = await api("PUT", "/tenants/acme", json={}, headers={"origin": origin})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await api("GET", "/tenants/acme")).status_code == 404
        assert (await api("GET", "/tenants", headers={"origin": "http://localhost:3000"})).status_code == 200


async def test_a_reload_changes_who_may(tmp_path):
    async with administered(folder=tmp_path) as (gateway, api):
        assert (await api("GET", "/tenants", TOKENS["read"])).status_code == 200
        text = SERVED + '[admin]\ntokens = [{ name = "new", token = "env:NEW", roles = ["read"] }]\n'
        text += f'[state]\nfolder = "{tmp_path}"\n'
        new = secrets.token_urlsafe(32)
        gateway.app.reload(load(text, path="t.toml", environ={"NEW": new}, read_file=Path.read_text))
        answers = await asyncio.gather(*(api("GET", "/tenants", token) for token in TOKENS.values()))
        assert {answer.status_code for answer in answers} == {401}
        assert (await api("GET", "/tenants", new)).status_code == 200


@pytest.mark.parametrize("host", ["admin", "evil/admin/v1/openapi.json?", "@evil", "a b", "[::1"])
async def test_mounted_it_is_the_same_whatever_the_host(host):
    async with running_gateway(CONFIGURATION, environ=ENVIRON) as gateway:
        inside = Starlette(routes=[Mount("/internal", app=gateway.app.admin_app)])
        transport = httpx.ASGITransport(inside)
        async with httpx.AsyncClient(transport=transport, base_url="http://admin/internal") as client:
            headers = {"authorization": f"Bearer {TOKENS['all']}", "host": host}
            put = await client.put("/admin/v1/tenants/acme", json={}, headers=headers)
            assert put.status_code == 201
            for path, status in (("/tenants", 200), ("/tenants/", 404), ("/tenants/acme/more", 404), ("", 404)):
                answer = await client.get("/admin/v1" + path, headers=headers)
                assert answer.status_code == status
                assert "evil" not in str(answer.headers)
            bare = await client.get("/admin/v1/tenants", headers={"host": host})
            assert bare.status_code == 401


async def test_which_of_its_answers_are_kept(state_url, tenant_id):
    one = f"/tenants/{tenant_id}"
    kept = {"mode": "deterministic", "ttl_s": 600, "share": "user", "events_per_s": 50}
    default = {"mode": "all", "ttl_s": 3_600, "share": "tenant", "events_per_s": None}
    async with administered(state_url=state_url) as (_, api):
        for sent, expected in (
            ({}, None),
            ({"cache": kept}, kept),
            ({"plan": "pro"}, kept),  # what is not sent stays as it is
            ({"cache": {"mode": "all"}}, default),  # but a cache is sent whole
            ({"cache": default}, default),  # as it came
            ({"cache": None}, None),
        ):
            put = await api("PUT", one, json=sent)
            assert put.status_code in (200, 201)
            assert put.json()["cache"] == expected
            assert (await api("GET", one)).json()["cache"] == expected
        noted = await api("PUT", one, json={"zero_retention": True, "cache": kept})
        assert "zero_retention" in noted.json()["notes"][0]


# ── what is not understood is refused ────────────────────────────────────────────────────

LIST, ONE = "/virtual-keys", "/tenants/acme"
STORED, SHRED = f"{ONE}/provider-keys", f"{ONE}/shred"
ROTATE = f"{STORED}/{NO_PROVIDER_KEY}/rotate"
TYPED_AS_TEXT = {"content": b"{}", "headers": {"content-type": "text/plain"}}
TEXT, GZIPPED = {"content-type": "text/plain"}, {"content-encoding": "gzip"}
DRAIN: dict[str, Any] = {"deployment": "simulated/simulated", "drained": True}
SWITCH: dict[str, Any] = {"model": "m", "switched_to": "other"}

BAD_INPUT: list[tuple[str, str, dict[str, Any], int, str, Any]] = [
    # method, path, what is sent, status, code, param
    ("PUT", ONE, {"content": b"{"}, 400, "invalid_json", None),
    ("PUT", ONE, {"content": b"[]"}, 400, "invalid_json", None),
    ("PUT", ONE, {"content": b'{"plan": NaN}'}, 400, "invalid_json", None),
    ("PUT", ONE, {"content": b"\xff{}"}, 400, "invalid_json", None),
    ("PUT", ONE, {"content": b"[" * 30_000}, 400, "invalid_json", None),
    ("PUT", ONE, {"content": b'{"plan":' + b"9" * 5_000 + b"}"}, 400, "invalid_json", None),
    ("PUT", ONE, {"content": b'{"plan":"pro","plan":"pro"}'}, 400, "duplicate_parameter", "plan"),
    ("PUT", ONE, {"json": {"plam": "pro"}}, 400, "unknown_parameter", "plam"),
    ("PUT", ONE, {"json": {"x" * 9_000: 1}}, 400, "unknown_parameter", "x" * 64),
    ("PUT", ONE, {"json": {"plan": "prp"}}, 400, "invalid_parameter", "plan"),
    ("PUT", ONE, {"json": {"plan": None}}, 400, "invalid_parameter", "plan"),
    ("PUT", ONE, {"json": {"plan": 1}}, 400, "invalid_parameter", "plan"),
    ("PUT", ONE, {"json": {"timezone": "Mars/Base"}}, 400, "invalid_parameter", "timezone"),
    ("PUT", ONE, {"json": {"no_ceiling": "never"}}, 400, "invalid_parameter", "no_ceiling"),
    ("PUT", ONE, {"json": {"stream_usage": "resore"}}, 400, "invalid_parameter", "stream_usage"),
    ("PUT", ONE, {"json": {"allow_unmetered": "yes"}}, 400, "invalid_parameter", "allow_unmetered"),
    ("PUT", ONE, {"json": {"fallback": "all"}}, 400, "invalid_parameter", "fallback"),
    ("PUT", ONE, {"json": {"fallback": None}}, 400, "invalid_parameter", "fallback"),
    ("PUT", ONE, {"json": {"residency": []}}, 400, "invalid_parameter", "residency"),
    ("PUT", ONE, {"json": {"residency": "eu"}}, 400, "invalid_parameter", "residency"),
    ("PUT", ONE, {"json": {"residency": ["eu", "EU"]}}, 400, "invalid_parameter", "residency[1]"),
    ("PUT", ONE, {"json": {"zero_retention": "yes"}}, 400, "invalid_parameter", "zero_retention"),
    ("PUT", ONE, {"json": {"count_own_key": 1}}, 400, "invalid_parameter", "count_own_key"),
    ("PUT", ONE, {"json": {"cache": "all"}}, 400, "invalid_parameter", "cache"),
    ("PUT", ONE, {"json": {"cache": []}}, 400, "invalid_parameter", "cache"),
    ("PUT", ONE, {"json": {"cache": {}}}, 400, "missing_required_parameter", "cache.mode"),
    ("PUT", ONE, {"json": {"cache": {"ttl_s": 60}}}, 400, "missing_required_parameter", "cache.mode"),
    *(
        (
            "PUT",
            ONE,
            {"json": {"cache": {"mode": "all", **sent}}},
            400,
            "invalid_parameter",
            f"cache.{next(iter(sent))}",
        )
        for sent in (
            *({"mode": "some"}, {"mode": None}, {"mode": True}),
            *({"ttl_s": 0}, {"ttl_s": 2_592_001}, {"ttl_s": 1.5}, {"ttl_s": True}, {"ttl_s": None}),
            *({"share": "planet"}, {"share": None}),
            *({"events_per_s": 0}, {"events_per_s": 10_001}, {"events_per_s": "50"}, {"events_per_s": False}),
        )
    ),
    ("PUT", ONE, {"json": {"cache": {"mode": "all", "tll_s": 60}}}, 400, "unknown_parameter", "cache.tll_s"),
    ("PUT", "/tenants/a%20b", {"json": {}}, 400, "invalid_parameter", "tenant_id"),
    ("PUT", "/tenants/" + "a" * 65, {"json": {}}, 400, "invalid_parameter", "tenant_id"),
    ("PUT", "/tenants/in-file", {"json": {}}, 409, "tenant_in_file", "tenant_id"),
    ("PUT", ONE + "?plan=pro", {"json": {}}, 400, "unknown_parameter", "plan"),
    ("PUT", ONE, {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "unsupported_content_type", None),
    ("PUT", ONE, {"content": b"{}", "headers": {"content-type": ""}}, 415, "unsupported_content_type", None),
    (
        *("PUT", ONE, {"content": b"{}", "headers": {"content-type": "application/json; charset=latin-1"}}),
        *(415, "unsupported_content_type", None),
    ),
    (
        *("PUT", ONE, {"content": b"{}", "headers": {"content-encoding": "gzip"}}),
        *(415, "unsupported_content_encoding", None),
    ),
    ("PUT", ONE, {"content": b" " * 65_537}, 413, "request_too_large", None),
    ("DELETE", ONE, {}, 404, "tenant_not_found", "tenant_id"),
    ("DELETE", "/tenants/a%20b", {}, 404, "tenant_not_found", "tenant_id"),
    ("DELETE", "/tenants/in-file", {}, 409, "tenant_in_file", "tenant_id"),
    ("DELETE", ONE + "?force=yes", {}, 400, "invalid_parameter", "force"),
    ("DELETE", ONE + "?force=true&force=true", {}, 400, "duplicate_parameter", None),
    ("DELETE", ONE + "?forse=true", {}, 400, "unknown_parameter", "forse"),
    ("GET", ONE, {}, 404, "tenant_not_found", "tenant_id"),
    ("GET", "/tenants/..", {}, 404, "unknown_url", None),
    ("GET", "/tenants/a%2Fb", {}, 404, "unknown_url", None),
    ("GET", ONE + "?limit=1", {}, 400, "unknown_parameter", "limit"),
    ("GET", ONE + "?a=1&a=2", {}, 400, "duplicate_parameter", None),
    *(
        ("GET", f"/tenants?limit={limit}", {}, 400, "invalid_parameter", "limit")
        for limit in ("0", "1001", "x", "٣", "")
    ),
    ("GET", "/tenants?after=nobody", {}, 400, "invalid_parameter", "after"),
    ("GET", "/tenants?page=2", {}, 400, "unknown_parameter", "page"),
    ("GET", "/tenants?after=a&after=b", {}, 400, "duplicate_parameter", None),
    ("GET", LIST + "?tenant=a+b", {}, 400, "invalid_parameter", "tenant"),
    ("GET", LIST + "?after=nobody", {}, 400, "invalid_parameter", "after"),
    ("GET", LIST + "?tennant=a", {}, 400, "unknown_parameter", "tennant"),
    ("GET", LIST + "?tenant=a&tenant=b", {}, 400, "duplicate_parameter", None),
    ("POST", LIST, {"json": {}}, 400, "missing_required_parameter", "tenant"),
    ("POST", LIST, {}, 400, "missing_required_parameter", "tenant"),
    ("POST", LIST, {"content": b"nothing"}, 400, "invalid_json", None),
    ("POST", LIST, {"json": {"tenant": "a b"}}, 400, "invalid_parameter", "tenant"),
    ("POST", LIST, {"json": {"tenant": "acme", "user": ""}}, 400, "invalid_parameter", "user"),
    ("POST", LIST, {"json": {"tenant": "acme", "feature": "a\nb"}}, 400, "invalid_parameter", "feature"),
    ("POST", LIST, {"json": {"tenant": "acme", "models": []}}, 400, "invalid_parameter", "models"),
    ("POST", LIST, {"json": {"tenant": "acme", "models": "gpt-5"}}, 400, "invalid_parameter", "models"),
    ("POST", LIST, {"json": {"tenant": "acme", "models": ["m", 1]}}, 400, "invalid_parameter", "models[1]"),
    ("POST", LIST, {"json": {"tenant": "acme", "models": ["a b"]}}, 400, "invalid_parameter", "models[0]"),
    ("POST", LIST, {"json": {"tenant": "acme", "expires_in_s": 0}}, 400, "invalid_parameter", "expires_in_s"),
    ("POST", LIST, {"json": {"tenant": "acme", "expires_in_s": True}}, 400, "invalid_parameter", "expires_in_s"),
    ("POST", LIST, {"json": {"tenant": "acme", "expires_in_s": 1.5}}, 400, "invalid_parameter", "expires_in_s"),
    ("POST", LIST, {"json": {"tenant": "acme", "expires_in_s": 10**18}}, 400, "invalid_parameter", "expires_in_s"),
    ("POST", LIST, {"json": {"tenant": "acme", "fallback": "all"}}, 400, "invalid_parameter", "fallback"),
    ("POST", LIST, {"json": {"tenant": "acme", "limits": 3}}, 400, "invalid_parameter", "limits"),
    (
        *("POST", LIST, {"json": {"tenant": "acme", "limits": {"usd_per_dya": 1}}}),
        *(400, "unknown_parameter", "limits.usd_per_dya"),
    ),
    *(
        ("POST", LIST, {"json": {"tenant": "acme", "limits": {"usd_per_day": usd}}}, 400, "invalid_parameter", usd)
        for usd in (-1, "", "1,5", "1e-10", "NaN", "1e999999999", True, None, 4_000_001)
    ),
    (
        *("POST", LIST, {"json": {"tenant": "acme", "limits": {"burst": 0}}}),
        *(400, "invalid_parameter", "limits.burst"),
    ),
    ("POST", LIST, {"content": b'{"tenant":"a","tenant":"b"}'}, 400, "duplicate_parameter", "tenant"),
    ("POST", LIST, {"content": b"x" * 70_000}, 413, "request_too_large", None),
    (
        "POST",
        LIST,
        {"content": b"a=b", "headers": {"content-type": "text/plain"}},
        415,
        "unsupported_content_type",
        None,
    ),
    *(
        (method, path, sent, status, code, param)
        for path, whole, name in (("/deployments", DRAIN, "deployment"), ("/models", SWITCH, "model"))
        for method, sent, status, code, param in (
            ("PUT", {"content": b"["}, 400, "invalid_json", None),
            ("PUT", {"json": {}}, 400, "missing_required_parameter", name),
            ("PUT", {"json": {**whole, name: 5}}, 400, "invalid_parameter", name),
            ("PUT", {"json": {**whole, name: "nobody"}}, 400, "invalid_parameter", name),
            ("PUT", {"json": {**whole, "forever": True}}, 400, "unknown_parameter", "forever"),
            ("PUT", {"content": b'{"a":1,"a":2}'}, 400, "duplicate_parameter", "a"),
            ("PUT", {"content": b" " * 65_537}, 413, "request_too_large", None),
            (
                "PUT",
                {"content": b"{}", "headers": {"content-type": "text/plain"}},
                415,
                "unsupported_content_type",
                None,
            ),
            (
                "PUT",
                {"content": b"{}", "headers": {"content-encoding": "gzip"}},
                415,
                "unsupported_content_encoding",
                None,
            ),
        )
    ),
    *(
        ("GET", f"{path}?{query}", {}, 400, code, param)
        for path in ("/deployments", "/models")
        for query, code, param in (
            ("limit=0", "invalid_parameter", "limit"),
            ("after=nobody", "invalid_parameter", "after"),
            ("page=2", "unknown_parameter", "page"),
            ("limit=1&limit=2", "duplicate_parameter", None),
        )
    ),
    ("GET", f"{LIST}/{NOBODY}", {}, 404, "virtual_key_not_found", "virtual_key_id"),
    ("GET", f"{LIST}/%C3%A9", {}, 404, "virtual_key_not_found", "virtual_key_id"),
    ("GET", f"{LIST}/{NOBODY}?a=1", {}, 400, "unknown_parameter", "a"),
    ("POST", f"{LIST}/{NOBODY}/revoke", {}, 404, "virtual_key_not_found", "virtual_key_id"),
    ("POST", f"{LIST}/{'k' * 65}/revoke", {}, 404, "virtual_key_not_found", "virtual_key_id"),
    ("POST", f"{LIST}/{NOBODY}/revoke", {"json": {"at": 1}}, 400, "unknown_parameter", "at"),
    ("POST", f"{LIST}/{NOBODY}/revoke", {"content": b"x" * 70_000}, 413, "request_too_large", None),
    (
        *("POST", f"{LIST}/{NOBODY}/revoke", {"content": b"{}", "headers": {"content-type": "text/xml"}}),
        *(415, "unsupported_content_type", None),
    ),
    ("POST", STORED, {}, 400, "missing_required_parameter", "provider"),
    ("POST", STORED, {"json": {"provider": "openai"}}, 400, "missing_required_parameter", "secret"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "provider": "opemai"}}, 400, "invalid_parameter", "provider"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "provider": "simulated"}}, 400, "invalid_parameter", "provider"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "secret": "short"}}, 400, "invalid_parameter", "secret"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "secret": "two words of it"}}, 400, "invalid_parameter", "secret"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "secret": "twk_anything"}}, 400, "invalid_parameter", "secret"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "secret": 7}}, 400, "invalid_parameter", "secret"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "user": "u" * 129}}, 400, "invalid_parameter", "user"),
    ("POST", STORED, {"json": {**PROVIDER_KEY, "key": "x"}}, 400, "unknown_parameter", "key"),
    ("POST", "/tenants/a%20b/provider-keys", {"json": PROVIDER_KEY}, 400, "invalid_parameter", "tenant_id"),
    ("POST", STORED, {"content": b"x" * 70_000}, 413, "request_too_large", None),
    ("POST", STORED, TYPED_AS_TEXT, 415, "unsupported_content_type", None),
    ("GET", f"{STORED}?limit=0", {}, 400, "invalid_parameter", "limit"),
    ("GET", "/tenants/a%20b/provider-keys", {}, 404, "tenant_not_found", "tenant_id"),
    ("GET", f"{STORED}/{NO_PROVIDER_KEY}", {}, 404, "provider_key_not_found", "provider_key_id"),
    ("GET", f"{STORED}/{NO_PROVIDER_KEY}?a=1", {}, 400, "unknown_parameter", "a"),
    ("DELETE", f"{STORED}/{NO_PROVIDER_KEY}", {}, 404, "provider_key_not_found", "provider_key_id"),
    ("DELETE", f"{STORED}/{NO_PROVIDER_KEY}?a=1", {}, 400, "unknown_parameter", "a"),
    ("POST", ROTATE, {}, 400, "missing_required_parameter", "secret"),
    ("POST", ROTATE, {"json": {"secret": "sk-of-a-tenant-itself"}}, 404, "provider_key_not_found", "provider_key_id"),
    ("POST", ROTATE, {"content": b"x" * 70_000}, 413, "request_too_large", None),
    ("POST", ROTATE, TYPED_AS_TEXT, 415, "unsupported_content_type", None),
    ("POST", SHRED, {}, 400, "missing_required_parameter", "id"),
    ("POST", SHRED, {"json": {"id": "acmf"}}, 400, "invalid_parameter", "id"),
    ("POST", SHRED, {"json": {"id": "acme"}}, 404, "tenant_not_found", "tenant_id"),
    ("POST", SHRED, {"content": b"x" * 70_000}, 413, "request_too_large", None),
    ("POST", SHRED, TYPED_AS_TEXT, 415, "unsupported_content_type", None),
    ("GET", "/keyring?a=1", {}, 400, "unknown_parameter", "a"),
    ("GET", "/openapi.json?v=2", {}, 400, "unknown_parameter", "v"),
    ("GET", "/provider-keys", {}, 404, "unknown_url", None),
    ("POST", "/tenants", {"json": {}}, 405, "method_not_allowed", None),
    ("PATCH", ONE, {"json": {}}, 405, "method_not_allowed", None),
    ("DELETE", f"{LIST}/{NOBODY}", {}, 405, "method_not_allowed", None),
]


async def test_what_is_not_understood_is_refused_and_every_described_answer_is_given(tenant_id):
    async with administered() as (gateway, api):
        for method, path, sent, status, code, param in BAD_INPUT:
            if "content" in sent and "content-type" not in sent.get("headers", {}):
                sent = {**sent, "headers": {"content-type": "application/json", **sent.get("headers", {})}}
            answer = await api(method, path, **sent)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (status, code), (method, path, sent, error)
            if isinstance(param, str) and "usd_per_day" not in str(sent):
                assert error["param"] == param, (method, path, sent, error)
            assert len(error["message"]) > 20
            if status == 405:
                assert answer.headers["allow"] in ("GET", "DELETE, GET, PUT")
        # Nothing of all this changed anything, or has a row.
        assert [one["id"] for one in (await api("GET", "/tenants")).json()["data"]] == ["in-file"]
        assert (await api("GET", "/virtual-keys")).json()["data"] == []
        assert await gateway.app.stores.ledger.tenants() == []

        suggestion = (await api("PUT", ONE, json={"plam": "pro"})).json()["error"]["message"]
        assert 'Did you mean "plan"?' in suggestion
        # What is well: every answer that is none of an error.
        assert (await api("GET", "/openapi.json")).json() == DOCUMENT
        for _ in range(2):
            await api("PUT", f"/tenants/{tenant_id}")  # no body is an empty one
        issued = (await api("POST", "/virtual-keys", json={"tenant": tenant_id})).json()
        assert (await api("GET", f"/virtual-keys/{issued['id']}")).json()["state"] == "active"
        await api("GET", f"/tenants/{tenant_id}")
        await api("DELETE", f"/tenants/{tenant_id}")
        await api("POST", f"/virtual-keys/{issued['id']}/revoke", json={})
        await api("DELETE", f"/tenants/{tenant_id}")
        for path, there, back in (
            ("/deployments", DRAIN, {**DRAIN, "drained": False}),
            ("/models", SWITCH, {**SWITCH, "switched_to": None}),
        ):
            for document in (there, back):
                assert (await api("PUT", path, json=document)).status_code == 200
            assert (await api("GET", path)).status_code == 200
        await every_answer_of_provider_keys(gateway, api, tenant_id)
        await asyncio.gather(*(api(method, path, None) for method, path in every_operation()))
        for method, path in every_operation():
            await api(method, path, headers={"origin": "https://evil.example"})
        async with store_away(gateway):
            for method, path in every_operation():
                body = BODIES.get((method, path))
                answer = await api(method, path, json=body)
                expected = 200 if path == "/openapi.json" else 503
                assert answer.status_code == expected, (method, path, answer.text)
    described = {
        (path, method, status)
        for path, at_path in DOCUMENT["paths"].items()
        for method, operation in at_path.items()
        if method != "parameters"
        for status in operation["responses"]
        if status != "500"  # a fault of ours has no request that causes it
    }
    assert {one[:3] for one in api.seen} == described


BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", LIST): {"tenant": "acme"},
    ("POST", STORED): PROVIDER_KEY,
    ("POST", ROTATE): {"secret": "sk-of-a-tenant-itself"},
    ("POST", SHRED): {"id": "acme"},
    ("PUT", "/deployments"): DRAIN,
    ("PUT", "/models"): SWITCH,
}


async def every_answer_of_provider_keys(gateway: Gateway, api: Api, tenant_id: str) -> None:
    """From the first put to the id that is used up; and without a KEK."""
    stored = f"/tenants/{tenant_id}/provider-keys"
    keyring, gateway.app.keyring = gateway.app.keyring, None
    rotate = f"{stored}/{NO_PROVIDER_KEY}/rotate"
    found = [await api("POST", stored, json=PROVIDER_KEY), await api("GET", "/keyring")]
    gateway.app.keyring = keyring
    first = (await api("POST", stored, json=PROVIDER_KEY)).json()
    one = f"{stored}/{first['id']}"
    gateway.app.keyring = None
    found.append(await api("POST", f"{one}/rotate", json={"secret": PROVIDER_KEY["secret"]}))
    gateway.app.keyring = keyring
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in found] == [
        (409, "keyring_not_configured")
    ] * 3
    await api("POST", stored, json=PROVIDER_KEY)
    await api("POST", f"{one}/rotate", json={"secret": "sk-another-of-its-own"})
    for path in (stored, one, "/keyring"):
        assert (await api("GET", path)).status_code == 200
    await api("DELETE", one)
    assert (await api("DELETE", one)).status_code == 404
    assert (await api("POST", rotate, json={"secret": PROVIDER_KEY["secret"]})).status_code == 404
    assert (await api("POST", f"/tenants/{tenant_id}/shred", json={"id": tenant_id})).status_code == 200
    for method, path, sent in (
        ("PUT", f"/tenants/{tenant_id}", {}),
        ("POST", "/virtual-keys", {"tenant": tenant_id}),
        ("POST", stored, PROVIDER_KEY),
    ):
        answer = await api(method, path, json=sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "tenant_shredded")


@asynccontextmanager
async def store_away(gateway: Gateway) -> AsyncIterator[None]:
    """What is administered is asked of a Redis that nobody serves."""
    stores = gateway.app.stores
    async with RedisDoor("redis://127.0.0.1:1/0") as door:
        gateway.app.stores = replace(
            stores,
            virtual_keys=RedisVirtualKeyStore(door),
            tenants=RedisTenantStore(door),
            admission=RedisAdmissionStore(door, adjusted),
            ledger=RedisLedgerStore(door),
            keyring=RedisKeyringStore(door),
            switches=RedisSwitchStore(door),
        )
        yield
        gateway.app.stores = stores


def every_operation() -> list[tuple[str, str]]:
    """A request for each."""
    ids = {"{tenant_id}": "acme", "{virtual_key_id}": NOBODY, "{provider_key_id}": NO_PROVIDER_KEY}
    return [
        (method, re.sub(r"{\w+}", lambda name: ids[name.group()], path))
        for path, at_path in operations({}).items()
        for method in at_path
    ]


def test_the_description_has_every_operation_and_no_other():
    described = {
        (path, method.upper()): (one["operationId"], one["x-tollway-role"])
        for path, at_path in DOCUMENT["paths"].items()
        for method, one in at_path.items()
        if method != "parameters"
    }
    real = {
        (path, method): (operation.name, operation.role)
        for path, at_path in operations({}).items()
        for method, operation in at_path.items()
    }
    assert described == real


# ── listings, limits, faults ─────────────────────────────────────────────────────────────


async def test_listings_come_in_pages_and_by_tenant(state_url, tenant_id):
    async with administered(state_url=state_url) as (_, api):
        other = f"{tenant_id}-other"
        ids = [(await api("POST", "/virtual-keys", json={"tenant": tenant_id})).json()["id"] for _ in range(5)]
        await api("POST", "/virtual-keys", json={"tenant": other})
        found, after = [], ""
        for _ in range(3):
            page = (await api("GET", f"/virtual-keys?tenant={tenant_id}&limit=2{after}")).json()
            found += [one["id"] for one in page["data"]]
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
            after = f"&after={page['last_id']}"
        assert sorted(found) == sorted(ids)
        assert not page["has_more"]
        beyond = (await api("GET", f"/virtual-keys?tenant={tenant_id}{after}")).json()
        assert beyond == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}

        for name in (tenant_id, other):
            await api("PUT", f"/tenants/{name}", json={})
        page = (await api("GET", f"/tenants?after={tenant_id}&limit=1")).json()
        assert [one["id"] for one in page["data"]] == [other]
        listed = {one["id"]: one["from"] for one in (await api("GET", "/tenants?limit=1000")).json()["data"]}
        assert (listed["in-file"], listed[tenant_id]) == ("file", "store")


async def test_a_shredded_tenant_is_shown_as_one(state_url, tenant_id):
    async with administered(state_url=state_url) as (_, api):
        other = f"{tenant_id}-other"
        for name in (tenant_id, other):
            assert (await api("PUT", f"/tenants/{name}", json={})).json()["shredded_at"] is None
        done = (await api("POST", f"/tenants/{tenant_id}/shred", json={"id": tenant_id})).json()
        listed = {one["id"]: one["shredded_at"] for one in (await api("GET", "/tenants?limit=1000")).json()["data"]}
        assert (listed[tenant_id], listed[other]) == (done["shredded_at"], None)
        (one,) = (await api("GET", f"/tenants?after={tenant_id}&limit=1")).json()["data"]
        assert (one["id"], one["shredded_at"]) == (other, None)
        assert (await api("GET", f"/tenants/{tenant_id}")).json()["shredded_at"] == done["shredded_at"]


async def test_a_keys_limits_arrive_exactly():
    limits = {"requests_per_minute": 60, "usd_per_day": "0.000000001", "usd_per_month": 12.5, "usd_total": 3}
    async with administered() as (gateway, api):
        sent = {"tenant": "acme", "limits": limits, "models": ["gpt-5"], "expires_in_s": 3_600, "feature": "report"}
        issued = (await api("POST", "/virtual-keys", json=sent)).json()
        assert issued["limits"] == {
            "requests_per_minute": 60,
            "burst": 60,
            "usd_per_day": "0.000000001",
            "usd_per_month": "12.50",
            "usd_total": "3.00",
        }
        assert (issued["models"], issued["feature"], issued["user"]) == (["gpt-5"], "report", None)
        (row,) = await gateway.rows("acme")
        assert row["details"]["limits"] == issued["limits"]
        assert row["details"]["expires_at"] == issued["expires_at"]


async def test_a_change_that_broke_off_is_503_and_names_its_row():
    async with administered() as (gateway, api):
        stores = gateway.app.stores
        async with RedisDoor("redis://127.0.0.1:1/0") as door:
            gateway.app.stores = replace(stores, virtual_keys=RedisVirtualKeyStore(door))
            answer = await api("POST", "/virtual-keys", json={"tenant": "in-file"})
            gateway.app.stores = stores
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "state_unavailable")
        (row,) = await gateway.rows("in-file")
        assert answer.headers["x-tollway-audit-id"] == row["run_id"]
        assert (await api("GET", "/virtual-keys")).json()["data"] == []


async def test_a_fault_of_ours_is_500_says_nothing_and_is_logged(tmp_path, caplog):
    async with administered(folder=tmp_path) as (_, api):
        (tmp_path / "pepper").write_text("no pepper at all")
        answer = await api("POST", "/virtual-keys", json={"tenant": "acme"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert "pepper" not in answer.text
        assert "A pepper is base64" in caplog.text
        assert (await api("GET", "/virtual-keys")).json()["data"] == []
