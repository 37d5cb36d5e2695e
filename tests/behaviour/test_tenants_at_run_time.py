"""A tenant can sign up while the gateway runs, and leave; the file's word comes first."""

import json
from pathlib import Path

import pytest

from proxy.core.clock import Clock
from proxy.identity.tenant import TenantRecord
from proxy.settings.load import load
from tests.gateway import error_of, plain_request, running_gateway

CONFIGURATION = """
[auth]
mode = "trusted-headers"
known_tenants_only = true
default_provider = "simulated"
[providers.simulated]
transport = "simulated"
[tenants.acme]
"""
BODY = json.dumps({"model": "simulated", "messages": [{"role": "user", "content": "Hello!"}]}).encode()


class SteppedClock(Clock):
    """A clock that a test moves on by hand."""

    __slots__ = ("ahead_us",)

    def __init__(self) -> None:
        self.ahead_us = 0

    def monotonic_us(self) -> int:
        return super().monotonic_us() + self.ahead_us


@pytest.fixture(params=["redis", "sqlite"])
def state_url(request):
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return "sqlite:tollway.db"


async def ask(gateway, tenant_id):
    headers = [(b"content-type", b"application/json"), (b"x-tollway-tenant", tenant_id.encode())]
    status, _, body = await plain_request(gateway, "POST", "/v1/chat/completions", BODY, headers)
    return status, body


async def test_a_tenant_comes_and_goes_while_the_gateway_runs(state_url):
    clock = SteppedClock()
    async with running_gateway(CONFIGURATION, state_url=state_url, clock=clock) as gateway:
        tenants = gateway.app.stores.tenants
        await tenants.delete("late")
        assert (await ask(gateway, "acme"))[0] == 200
        status, body = await ask(gateway, "late")
        assert status == 403
        assert error_of(body)["code"] == "tenant_not_allowed"
        assert "tollway tenants put" in error_of(body)["message"]

        await tenants.put(TenantRecord("late", 1, 1))
        clock.ahead_us += 5_100_000
        assert (await ask(gateway, "late"))[0] == 200
        assert gateway.metric('tollway_state_seconds_count{operation="tenant_find"}') == 2  # acme is the file's

        await tenants.delete("late")
        clock.ahead_us += 5_100_000
        assert (await ask(gateway, "late"))[0] == 403


async def test_a_reload_that_takes_a_plan_away_refuses_its_tenants_and_keeps_the_others(tmp_path):
    with_plan = CONFIGURATION + "[plans.pro]\n"
    async with running_gateway(with_plan, folder=tmp_path) as gateway:
        await gateway.app.stores.tenants.put(TenantRecord("late", 1, 1, plan="pro"))
        assert (await ask(gateway, "late"))[0] == 200
        state = f'[state]\nfolder = "{tmp_path}"\n'
        gateway.app.reload(load(CONFIGURATION + state, path="t.toml", environ={}, read_file=Path.read_text))
        status, body = await ask(gateway, "late")
        assert status == 403
        assert "has a plan" in error_of(body)["message"]
        assert (await ask(gateway, "acme"))[0] == 200
