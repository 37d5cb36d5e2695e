"""Promise: a provider key that a tenant stored pays for that tenant's calls, at its own provider, and nowhere else."""

import itertools
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy.app.keyring import connect_keyring
from proxy.app.stores import connect_stores
from proxy.core.clock import Clock
from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.settings.load import load
from proxy.telemetry.metrics import Metrics
from tests.command import Command
from tests.gateway import JSON, Gateway, error_of, plain_request, priced_to, running_gateway
from tests.redis_server import emptied
from tests.scripted_upstream import Script, ScriptedUpstream, Step, answer, scripted_upstream
from tests.strict_kms import StrictKms

CHAT = "/v1/chat/completions"
KEYRING = '[keyring]\nkek = "file:kek"\n'
BODY = json.dumps({"model": "priced", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}).encode()
USAGE = answer(b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}')


@pytest.fixture(params=["sqlite", "redis"])
def state_url(request) -> str | None:
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("redis_url")
    return url


def headers(tenant: str = "acme", user: str | None = None) -> list[tuple[bytes, bytes]]:
    named = [(b"x-tollway-tenant", tenant.encode())]
    return [*JSON, *named, *([(b"x-tollway-user", user.encode())] if user else [])]


async def put(gateway: Gateway, secret: str, *, tenant: str = "acme", user: str | None = None, provider="scripted"):
    assert gateway.app.keyring is not None
    origin = origin_of(gateway.app.snapshots.current.settings.providers[provider].base_url)
    await gateway.app.keyring.put(tenant, provider, user, origin, Secret(secret), 1)


async def paid_with(gateway: Gateway, upstream: ScriptedUpstream, *named: str) -> str:
    """What the provider was shown for a call of this tenant and user."""
    status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers(*named))
    assert status == 200, body
    return shown_to(upstream)[-1].removeprefix("Bearer ")


def shown_to(upstream: ScriptedUpstream) -> list[str]:
    """The authorization of each request that a provider saw."""
    return [(received.header(b"authorization") or b"").decode() for received in upstream.received]


async def test_the_users_own_pays_before_the_tenants_and_the_tenants_before_the_gateways(state_url):
    await emptied(state_url)
    async with scripted_upstream(USAGE) as upstream:
        async with running_gateway(priced_to(upstream.base_url) + KEYRING, state_url=state_url) as gateway:
            await put(gateway, "sk-of-acme-itself")
            await put(gateway, "sk-of-annas-own-purse", user="anna")
            assert await paid_with(gateway, upstream, "acme") == "sk-of-acme-itself"
            assert await paid_with(gateway, upstream, "acme", "bert") == "sk-of-acme-itself"
            assert await paid_with(gateway, upstream, "acme", "anna") == "sk-of-annas-own-purse"
            assert await paid_with(gateway, upstream, "globex", "anna") == "sk-gateways"
            assert [row["key_source"] for row in await gateway.rows("acme")] == ["tenant"] * 3
            assert [row["key_source"] for row in await gateway.rows("globex")] == ["gateway"]


async def test_a_change_holds_from_the_next_call_on():
    async with scripted_upstream(USAGE) as upstream:
        async with running_gateway(priced_to(upstream.base_url) + KEYRING) as gateway:
            keyring = gateway.app.keyring
            assert keyring is not None
            assert await paid_with(gateway, upstream) == "sk-gateways"
            await put(gateway, "sk-the-first-one-of-all")
            assert await paid_with(gateway, upstream) == "sk-the-first-one-of-all"
            await keyring.rotate("acme", "scripted", None, Secret("sk-the-second-one-of-all"), 2)
            assert await paid_with(gateway, upstream) == "sk-the-second-one-of-all"
            await keyring.delete("acme", "scripted", None, 3)
            assert await paid_with(gateway, upstream) == "sk-gateways"
            await put(gateway, "sk-the-third-one-of-all")
            await keyring.shred("acme", 4)
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            assert (status, error_of(body)["code"]) == (410, "tenant_shredded")


async def test_what_another_process_changed_holds_from_the_next_admission_on(state_url):
    """The epoch that an admission reads tells of it at once; nothing waits for the list of changes."""
    await emptied(state_url)
    async with scripted_upstream(USAGE) as upstream:
        limited = priced_to(upstream.base_url) + KEYRING + "[plans.default.tenant]\nrequests_per_minute = 100_000\n"
        async with running_gateway(limited, state_url=state_url) as gateway, AnotherKeyring(gateway) as other:
            await put(gateway, "sk-the-first-one-of-all")
            assert await paid_with(gateway, upstream) == "sk-the-first-one-of-all"
            for number in range(10):  # sooner than the list of changes is read
                secret = f"sk-number-{number}-of-all-of-them"
                await other.rotate("acme", "scripted", None, Secret(secret), 2)
                assert await paid_with(gateway, upstream) == secret
            await other.delete("acme", "scripted", None, 3)
            status, head, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            if status != 200:  # another pays than the admission was for: said, and safe to repeat
                assert (status, error_of(body)["code"]) == (503, "state_unavailable")
                assert int(head[b"retry-after-ms"]) <= 1_000
            assert await paid_with(gateway, upstream) == "sk-gateways"
            await put(gateway, "sk-the-last-one-of-them-all")
            assert await paid_with(gateway, upstream) == "sk-the-last-one-of-them-all"
            await other.shred("acme", 4)
            seen = len(upstream.received)
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            assert (status, error_of(body)["code"]) == (410, "tenant_shredded")
            assert len(upstream.received) == seen
            await gateway.settled()
            scope = await gateway.app.stores.admission.read("acme", "tenant")
            assert scope.pending == 0  # what was admitted and not sent was let go


class AnotherKeyring:
    """A keyring of another process: over the same store and KEK, with a memory of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._settings = gateway.app.snapshots.current.settings

    async def __aenter__(self):
        self._stores = connect_stores(self._settings, Clock())
        keyring = connect_keyring(self._settings, self._stores.door, Clock(), Metrics())
        assert keyring is not None
        self._keyring = keyring
        return keyring

    async def __aexit__(self, *_error: object) -> None:
        await self._keyring.stop()
        await self._stores.door.close()


@pytest.mark.parametrize("stores_keys", [True, False])
async def test_a_plan_without_the_gateways_keys_is_refused_where_none_is_stored(stores_keys):
    async with scripted_upstream(USAGE) as upstream:
        text = (
            priced_to(upstream.base_url) + "[plans.default]\ngateway_keys = false\n" + (KEYRING if stores_keys else "")
        )
        async with running_gateway(text) as gateway:
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            assert (status, error_of(body)["code"]) == (400, "provider_key_missing")
            assert ("tollway provider-keys put" if stores_keys else "[keyring]") in error_of(body)["message"]
            assert upstream.received == []
            if stores_keys:
                await put(gateway, "sk-of-acme-itself")
                assert await paid_with(gateway, upstream) == "sk-of-acme-itself"


@pytest.mark.parametrize("counts", [True, False])
async def test_caps_count_a_tenants_own_key_only_if_it_says_so_and_the_row_has_the_cost_all_the_same(counts):
    async with scripted_upstream(USAGE) as upstream:
        text = priced_to(upstream.base_url) + KEYRING + "[plans.default.tenant]\nusd_per_day = 0.003\n"
        text += f"requests_per_minute = 3\n[tenants.acme]\ncount_own_key = {str(counts).lower()}\n"
        async with running_gateway(text) as gateway:
            await put(gateway, "sk-of-acme-itself")
            for _ in range(2):
                await paid_with(gateway, upstream)
                await gateway.settled()
            scope = await gateway.app.stores.admission.read("acme", "tenant")
            spent_nusd = sum(amounts.spent_nusd for period, amounts in scope.periods.items() if period == "t")
            one_nusd = 10 * 1_000 + 5 * 4_000
            assert spent_nusd == (2 * one_nusd if counts else 0)
            rows = await gateway.rows("acme")
            assert [row["cost_nusd"] for row in rows] == [one_nusd] * 2
            assert [row["charged_nusd"] for row in rows] == [one_nusd if counts else 0] * 2
            await paid_with(gateway, upstream)
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            assert (status, error_of(body)["code"]) == (429, "rate_limit_exceeded")  # limits always hold


async def test_a_key_does_not_follow_its_provider_to_another_address():
    async with scripted_upstream(USAGE) as first, scripted_upstream(USAGE) as second:
        async with running_gateway(priced_to(first.base_url) + KEYRING) as gateway:
            await put(gateway, "sk-of-acme-itself")
            assert await paid_with(gateway, first) == "sk-of-acme-itself"
            text = priced_to(second.base_url) + KEYRING
            gateway.app.reload(load(text, path="test.toml", environ={}, read_file=Path.read_text))
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            assert (status, error_of(body)["code"]) == (503, "provider_key_misplaced")
            assert second.received == []
            await put(gateway, "sk-of-acme-at-the-new-place")
            assert await paid_with(gateway, second) == "sk-of-acme-at-the-new-place"


async def test_a_provider_that_refuses_the_key_shows_no_piece_of_it():
    words = b'{"error":{"message":"Incorrect API key provided: sk-of-ac*****self.","code":"invalid_api_key"}}'
    async with scripted_upstream(answer(words, status=b"401 Unauthorized")) as upstream:
        async with running_gateway(priced_to(upstream.base_url) + KEYRING) as gateway:
            await put(gateway, "sk-of-acme-itself")
            status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers())
            assert (status, error_of(body)["code"]) == (502, "provider_auth_failed")
            assert "provider-keys rotate" in error_of(body)["message"]
            assert b"sk-of" not in body


async def test_what_a_provider_holds_for_the_tenant_is_the_tenants_with_its_own_key():
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = priced_to(upstream.base_url).replace("[auth]", '[auth]\ndefault_provider = "scripted"') + KEYRING
        async with running_gateway(text) as gateway:
            for tenant, expected in (("globex", 403), ("acme", 200)):
                await put(gateway, "sk-of-acme-itself")
                status, _, _ = await plain_request(gateway, "GET", "/v1/files/file-1", b"", headers(tenant))
                assert status == expected


async def test_in_passthrough_nobody_is_verified_and_nothing_stored_pays():
    async with scripted_upstream(USAGE) as upstream:
        text = f"""
[auth]
mode = "passthrough"
default_provider = "scripted"
allow_keyless = true
[providers.scripted]
base_url = "{upstream.base_url}"
provider_key = "sk-gateways"
"""
        async with running_gateway(text + KEYRING) as gateway:
            await put(gateway, "sk-of-the-default-tenant", tenant="default")
            status, _, _ = await plain_request(
                gateway, "POST", CHAT, BODY, [*JSON, (b"authorization", b"Bearer sk-mine")]
            )
            assert status == 200
            assert upstream.received[-1].header(b"authorization") == b"Bearer sk-mine"


def always(steps: list[Step]) -> Script:
    return lambda _: steps


async def test_no_provider_ever_sees_anothers_key_whatever_it_answers():
    """Every pair of four providers, each of which sends whoever calls it to all the others."""
    names = ["one", "two", "three", "four"]
    async with AsyncExitStack() as stack:
        servers = {name: await stack.enter_async_context(scripted_upstream(USAGE)) for name in names}
        text = '[auth]\nmode = "trusted-headers"\n' + KEYRING
        for name, server in servers.items():
            text += f'[providers.{name}]\nbase_url = "{server.base_url}"\nprovider_key = "sk-gateway-{name}-canary"\n'
            text += f'[[models.{name}.deployments]]\nprovider = "{name}"\nmodel = "m"\n'
        gateway = await stack.enter_async_context(running_gateway(text))
        for name in names:
            await put(gateway, f"sk-tenant-{name}-canary", provider=name)
        for asked, other in itertools.permutations(names, 2):
            for status in (b"302 Found", b"307 Temporary Redirect", b"308 Permanent Redirect"):
                place = [(b"location", f"{servers[other].base_url}/chat/completions".encode())]
                servers[asked].script = always(answer(b"{}", status=status, headers=place))
                for tenant in ("acme", "globex"):
                    sent = json.dumps({"model": asked, "messages": []}).encode()
                    got, _, _ = await plain_request(gateway, "POST", CHAT, sent, headers(tenant))
                    assert got == int(status.split(b" ")[0])
        for name, server in servers.items():
            assert len(server.received) == 3 * 3 * 2
            assert set(shown_to(server)) == {f"Bearer sk-tenant-{name}-canary", f"Bearer sk-gateway-{name}-canary"}
            everything = repr([(received.target, received.headers, received.body) for received in server.received])
            assert not [one for one in names if one != name and f"{one}-canary" in everything]


async def test_while_the_kms_is_away_open_tenants_go_on_and_others_are_told_so_in_time(monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "serving"), ("AWS_SECRET_ACCESS_KEY", "x")):
        monkeypatch.setenv(name, value)
    with StrictKms() as kms:
        arn = kms.add_key()
        async with scripted_upstream(USAGE) as upstream:
            ring = f'[keyring]\nkek = "aws-kms:{arn}"\nkms_endpoint_url = "{kms.url}"\n'
            async with running_gateway(priced_to(upstream.base_url) + ring) as gateway:
                keyring = gateway.app.keyring
                assert keyring is not None
                await put(gateway, "sk-of-acme-itself")
                await put(gateway, "sk-of-globex-itself", tenant="globex")
                keyring.drop("globex")
                assert await paid_with(gateway, upstream) == "sk-of-acme-itself"
                kms.stop()
                assert await paid_with(gateway, upstream) == "sk-of-acme-itself"
                assert await paid_with(gateway, upstream, "initech") == "sk-gateways"  # it has none, and needs no KMS
                begun_s = time.monotonic()
                status, _, body = await plain_request(gateway, "POST", CHAT, BODY, headers("globex"))
                assert time.monotonic() - begun_s < 0.6  # 300 ms, on a busy machine
                assert (status, error_of(body)["code"]) == (503, "keyring_unavailable")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_serving_process_leaves_no_core_file(tmp_path):
    with Command(tmp_path, '[auth]\nmode = "virtual-keys"\n' + KEYRING).serving() as command:
        limits = Path(f"/proc/{command.process.pid}/limits").read_text(encoding="ascii")
        (core,) = (line.split() for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core[4:6] == ["0", "0"]
