"""Promise: where rates are limited and no money is, a call is counted as far as its rates go, and loses no row."""

import asyncio
import json

from proxy.admission.keeper import Keeper
from proxy.core.errors import StateUnavailable
from tests.forms import form, form_headers
from tests.gateway import JSON, error_of, plain_request, running_gateway
from tests.scripted_upstream import answer, scripted_upstream

CHAT = "/v1/chat/completions"
CALL = b'{"model":"priced","messages":[{"role":"user","content":"hi"}]}'
COMPLETION = b'{"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}'
HEADERS = [*JSON, (b"x-tollway-tenant", b"acme")]


def configuration(base_url: str, plan: str = "") -> str:
    return f"""
[auth]
mode = "trusted-headers"
default_provider = "scripted"
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateways"
[[models.priced.deployments]]
provider = "scripted"
model = "priced"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 4 }}
[plans.default]
{plan}
[plans.default.tenant]
requests_per_minute = 100
"""


async def test_a_run_that_had_nothing_to_hold_is_no_overage():
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, CALL, HEADERS))[0] == 200
            await gateway.settled()
            (row,) = await gateway.rows("acme")
            assert (row["held_nusd"], row["charged_nusd"]) == (0, 5 * 1_000 + 9 * 4_000)
            assert gateway.metric("tollway_overages_total") == 0


async def test_a_call_that_was_let_through_without_the_store_has_its_row_by_itself(monkeypatch):
    async def away(*_):
        raise StateUnavailable("away", retry_after_ms=1_000)

    monkeypatch.setattr(Keeper, "admit", away)
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, CALL, HEADERS))[0] == 200
            rows: list[tuple[int, bytes]] = []
            for _ in range(100):  # nobody scrapes, stops or calls again
                await asyncio.sleep(0.05)
                if rows := list(await gateway.app.stores.ledger.read("acme", 0)):
                    break
            assert [json.loads(data)["held_nusd"] for _, data in rows] == [None]


async def test_a_plans_longest_input_holds_for_bodies_that_are_streamed_too():
    streamed = [(b"content-type", b"application/octet-stream"), (b"x-tollway-tenant", b"acme")]
    formed = [*form_headers(), (b"x-tollway-tenant", b"acme")]
    empty_bytes = len(form([(b"file", b"f", b"")]))
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url, "input_bytes_max = 1_000")) as gateway:
            path = "/v1/audio/transcriptions"
            for length, status in ((1_001, 413), (1_000, 200)):
                held = form([(b"file", b"f", b"x" * (length - empty_bytes))])
                for body, fields in ((b"x" * length, streamed), (held, formed)):
                    got = await plain_request(gateway, "POST", path, body, fields)
                    assert got[0] == status
                    assert status == 200 or error_of(got[2])["code"] == "request_too_large"
