"""Promise: while Redis is away money waits and says so at once, rates go on for a while, streams end,
and what Redis lost is counted again before anything more is spent."""

import asyncio
import json
import time

import pytest

from proxy.pipeline import local_limits
from tests.gateway import JSON, Gateway, error_of, plain_request, priced_to, running_gateway
from tests.redis_server import RedisServer
from tests.scripted_upstream import ScriptedUpstream, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "priced", "max_tokens": 100, "messages": []}).encode()
USAGE = b'{"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}'
COST_NUSD = 5 * 1_000 + 9 * 4_000
REFUSED_WITHIN_S = 0.3 + 0.5  # and what a busy machine adds


def configuration(upstream: ScriptedUpstream) -> str:
    return f"""
{priced_to(upstream.base_url)}
[plans.capped.tenant]
usd_per_day = 1
[plans.rated.tenant]
requests_per_minute = 3
[tenants.capped]
plan = "capped"
[tenants.rated]
plan = "rated"
"""


async def call(gateway: Gateway, tenant: str, body: bytes = BODY) -> tuple[int, bytes]:
    status, _, got = await plain_request(gateway, "POST", CHAT, body, [*JSON, (b"x-tollway-tenant", tenant.encode())])
    return status, got


async def served_again(gateway: Gateway, tenant: str) -> None:
    until_s = time.monotonic() + 20.0
    while (await call(gateway, tenant))[0] != 200:
        assert time.monotonic() < until_s, "it did not come back"
        await asyncio.sleep(0.1)


async def spent_nusd(gateway: Gateway) -> int:
    await gateway.idle()
    await until(lambda: gateway.app.keeper.pending == 0, 20.0)
    return (await gateway.app.stores.admission.read("capped", "tenant")).periods["t"].spent_nusd


async def test_a_redis_that_stands_still():

    def slow(request):
        streamed = json.loads(request.body).get("stream")
        return stream(b"data: {}\n\n", 3.0, b"data: [DONE]\n\n") if streamed else answer(USAGE)

    async with scripted_upstream(slow) as upstream:
        with RedisServer() as redis:
            async with running_gateway(configuration(upstream), state_url=redis.url) as gateway:
                assert (await call(gateway, "capped"))[0] == 200
                assert (await call(gateway, "rated"))[0] == 200
                streaming = asyncio.ensure_future(call(gateway, "capped", BODY[:-1] + b',"stream":true}'))
                await until(lambda: len(upstream.received) == 3)
                redis.stop()
                began_s = time.monotonic()
                status, got = await call(gateway, "capped")
                assert (status, error_of(got)["code"]) == (503, "state_unavailable")
                assert time.monotonic() - began_s < REFUSED_WITHIN_S
                # A rate is this process's own to keep now: three a minute, from a full bucket.
                assert [(await call(gateway, "rated"))[0] for _ in range(4)] == [200, 200, 200, 429]
                assert (await streaming)[0] == 200  # it was admitted before, and ends
                redis.resume()
                await served_again(gateway, "capped")
                total = await spent_nusd(gateway)
                rows = await gateway.rows("capped")
                assert total == sum(row["charged_nusd"] for row in rows)
                assert len(rows) == 3


async def test_rates_are_not_kept_without_the_store_for_longer_than_a_minute(monkeypatch):
    monkeypatch.setattr(local_limits, "AWAY_US_MAX", 300_000)
    async with scripted_upstream(answer(USAGE)) as upstream:
        with RedisServer() as redis:
            async with running_gateway(configuration(upstream), state_url=redis.url) as gateway:
                assert (await call(gateway, "rated"))[0] == 200
                redis.kill()
                assert (await call(gateway, "rated"))[0] == 200
                await asyncio.sleep(0.4)
                assert (await call(gateway, "rated"))[0] == 503
                redis.restart()  # so that the end waits for no row


@pytest.mark.parametrize("how", ["killed and restarted empty", "emptied"])
async def test_what_redis_lost_is_counted_again_before_more_is_spent(how):
    async with scripted_upstream(answer(USAGE)) as upstream:
        with RedisServer() as redis:
            async with running_gateway(configuration(upstream), state_url=redis.url) as gateway:
                for _ in range(5):
                    assert (await call(gateway, "capped"))[0] == 200
                assert await spent_nusd(gateway) == 5 * COST_NUSD
                if how == "emptied":
                    redis.ask("FLUSHALL")
                else:
                    redis.restart()
                await served_again(gateway, "capped")
                assert await spent_nusd(gateway) == 6 * COST_NUSD


async def test_scripts_that_redis_forgot_are_loaded_again():
    async with scripted_upstream(answer(USAGE)) as upstream:
        with RedisServer() as redis:
            async with running_gateway(configuration(upstream), state_url=redis.url) as gateway:
                for _ in range(3):
                    assert (await call(gateway, "capped"))[0] == 200
                    redis.ask("SCRIPT", "FLUSH")
                assert await spent_nusd(gateway) == 3 * COST_NUSD
