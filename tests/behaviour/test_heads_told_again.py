"""Promise: on a connection that sends one head after the other, what is remembered of the last
one never decides for another: not who calls, not whose key pays, not what a reload changed."""

import gc
import json
import random
from pathlib import Path

import httpx
import pytest

from proxy.edge.connection import Connection
from proxy.edge.relay import AsgiDownstream
from proxy.pipeline.exchange import Exchange
from proxy.settings.load import load
from tests.gateway import passthrough_to, running_gateway
from tests.scripted_upstream import answer, scripted_upstream

FIRST_KEY, SECOND_KEY = "sk-gateway-first", "sk-gateway-second"


def one_connection(gateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, limits=httpx.Limits(max_connections=1), trust_env=False)


def keyed(base_url: str, provider_key: str) -> str:
    return f"""
[auth]
mode = "trusted-headers"
default_provider = "scripted"
[providers.scripted]
base_url = "{base_url}"
provider_key = "{provider_key}"
"""


async def test_every_call_is_its_own_tenants_whatever_came_before_it_on_the_connection():
    order = random.Random(7).choices(["acme", "other", "third"], k=60)
    async with (
        scripted_upstream(answer(b"{}")) as upstream,
        running_gateway(keyed(upstream.base_url, FIRST_KEY)) as gateway,
    ):
        async with one_connection(gateway) as client:
            for number, tenant in enumerate(order):
                headers = {"x-tollway-tenant": tenant, "x-tollway-user": f"{tenant}-user"}
                document = {"model": "m", "note": "x" * (number % 7), "n": number}
                sent = await client.post("/v1/chat/completions", json=document, headers=headers)
                assert sent.status_code == 200
        assert len(gateway.state.connections) <= 1
        for tenant in set(order):
            rows = await gateway.rows(tenant)
            assert [row["user"] for row in rows] == [f"{tenant}-user"] * order.count(tenant)
        assert [json.loads(request.body)["n"] for request in upstream.received] == list(range(60))
        assert {request.header(b"authorization") for request in upstream.received} == {f"Bearer {FIRST_KEY}".encode()}


async def test_a_callers_key_stays_with_its_provider_when_the_model_changes_under_the_same_head():
    async with scripted_upstream(answer(b"{}")) as first, scripted_upstream(answer(b"{}")) as second:
        text = passthrough_to(
            first.base_url,
            f"""
[providers.other]
base_url = "{second.base_url}"
provider_key = "{SECOND_KEY}"
[models.elsewhere]
deployments = [{{ provider = "other", model = "o-1" }}]
""",
        ).replace('mode = "passthrough"', 'mode = "passthrough"\nallow_keyless = true')
        async with running_gateway(text) as gateway, one_connection(gateway) as client:
            for model in ("alias", "elsewhere", "elsewhere", "alias", "alias", "elsewhere"):
                headers = {"authorization": "Bearer sk-callers"}
                sent = await client.post("/v1/chat/completions", json={"model": model}, headers=headers)
                assert sent.status_code == 200
        assert [request.header(b"authorization") for request in first.received] == [b"Bearer sk-callers"] * 3
        assert [request.header(b"authorization") for request in second.received] == [
            f"Bearer {SECOND_KEY}".encode()
        ] * 3


async def test_a_reload_holds_for_the_next_call_of_a_connection_that_is_open():
    async with (
        scripted_upstream(answer(b"{}")) as upstream,
        running_gateway(keyed(upstream.base_url, FIRST_KEY)) as gateway,
    ):
        async with one_connection(gateway) as client:
            for provider_key in (FIRST_KEY, SECOND_KEY, SECOND_KEY, FIRST_KEY):
                text = keyed(upstream.base_url, provider_key)
                gateway.app.reload(load(text, path="test.toml", environ={}, read_file=Path.read_text))
                sent = await client.post(
                    "/v1/chat/completions", json={"model": "m"}, headers={"x-tollway-tenant": "acme"}
                )
                assert sent.status_code == 200
        sent_keys = [request.header(b"authorization") for request in upstream.received]
        assert sent_keys == [f"Bearer {key}".encode() for key in (FIRST_KEY, SECOND_KEY, SECOND_KEY, FIRST_KEY)]


def of_calls() -> list[object]:
    """All that is alive of any call, here and now."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Exchange | AsgiDownstream | Connection)]


@pytest.mark.parametrize(
    ("path", "content_type", "status"),
    [
        ("/v1/files/%252e%252e", "application/json", 400),
        ("/nowhere", "application/json", 404),
        ("/v1/chat/completions", "application/json; charset=utf-16", 415),
    ],
)
async def test_a_refused_head_that_comes_again_keeps_nothing_of_the_calls_before(path, content_type, status):
    others = of_calls()  # of tests before this one, and held, so that none of these is taken for a new one
    held = {id(each) for each in others}
    async with (
        scripted_upstream(answer(b"{}")) as upstream,
        running_gateway(keyed(upstream.base_url, FIRST_KEY)) as gateway,
        one_connection(gateway) as client,
    ):
        for _ in range(20):
            sent = await client.post(path, content=b"x" * 1_000, headers={"content-type": content_type})
            assert sent.status_code == status
        await gateway.idle()
        gateway.app.settlement.sum_up()
        assert len(gateway.state.connections) == 1  # it is at rest, and its head remembered
        kept = [type(each) for each in of_calls() if id(each) not in held]
        assert len(kept) == kept.count(Connection) <= 1
