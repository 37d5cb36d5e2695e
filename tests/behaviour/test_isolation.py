"""Promise: what one tenant does to the gateway, the others do not feel: a flood waits for its own turn, a deployment
that takes only so many gets no more, and what is too much is said at once."""

import asyncio
import json
from collections import Counter
from dataclasses import replace

from tests.gateway import JSON, Gateway, error_of, plain_request, priced_to, running_gateway
from tests.scripted_upstream import answer, scripted_upstream, until

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "priced", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}).encode()
GOOD = answer(b'{"id":"good"}')


async def ask(gateway: Gateway, tenant: str, body: bytes = BODY) -> tuple[int, dict[bytes, bytes], bytes]:
    status, head, answered = await plain_request(
        gateway, "POST", CHAT, body, [*JSON, (b"x-tollway-tenant", tenant.encode())]
    )
    return status, dict(head), answered


async def test_a_flood_waits_and_the_others_do_not() -> None:
    async with scripted_upstream(lambda _request: [0.05, *GOOD]) as upstream:
        async with running_gateway(priced_to(upstream.base_url) + "[server]\nin_flight_max = 5\n") as gateway:
            flood = [asyncio.create_task(ask(gateway, "flood")) for _ in range(300)]
            await until(lambda: gateway.app.gates.in_flight == 5)
            for turn in range(5):
                status, _, _ = await ask(gateway, f"calm-{turn % 2}")
                assert status == 200
            statuses = Counter(status for status, _, _ in await asyncio.gather(*flood))
            # Of the flood, those that no place came free for in time are told so; the others were served.
            assert statuses.keys() == {200, 429}
            assert statuses[429] >= 300 - 5 - 50 - 5 * 40
            assert gateway.app.gates.in_flight == 0
            assert gateway.app.gates.waiting == 0
            assert gateway.metric("tollway_queue_seconds_count") > 0


async def test_who_has_to_wait_too_long_is_told_when_to_come_again() -> None:
    async with scripted_upstream(lambda _request: [1.5, *GOOD]) as upstream:
        async with running_gateway(priced_to(upstream.base_url) + "[server]\nin_flight_max = 1\n") as gateway:
            first = asyncio.create_task(ask(gateway, "one"))
            await until(lambda: gateway.app.gates.in_flight == 1)
            status, head, answered = await ask(gateway, "other")
            assert (status, error_of(answered)["code"]) == (429, "rate_limit_exceeded")
            assert head[b"retry-after-ms"] == b"1000"
            assert (await first)[0] == 200
            assert len(upstream.received) == 1


async def test_a_deployment_gets_no_more_than_it_takes() -> None:
    async with scripted_upstream(lambda _request: [0.2, *GOOD]) as upstream:
        text = priced_to(upstream.base_url).replace('model = "priced"\n', 'model = "priced"\nin_flight_max = 2\n')
        async with running_gateway(text) as gateway:
            calls = [asyncio.create_task(ask(gateway, f"t{number % 2}")) for number in range(6)]
            await asyncio.gather(*calls)
            assert {call.result()[0] for call in calls} == {200}
            assert upstream.connections_made == 2  # as many as were asked at once


async def test_what_a_full_deployment_has_no_place_for_falls_back() -> None:
    async with scripted_upstream(lambda _request: [1.5, *GOOD]) as one, scripted_upstream(GOOD) as other:
        text = priced_to(one.base_url).replace('model = "priced"\n', 'model = "priced"\nin_flight_max = 1\n')
        text += f"""
[[models.priced.deployments]]
provider = "other"
model = "priced"
tier = "equivalent"
[providers.other]
base_url = "{other.base_url}"
[tenants.acme]
fallback = "equivalent"
"""
        async with running_gateway(text) as gateway:
            calls = [asyncio.create_task(ask(gateway, "acme")) for _ in range(3)]
            served = Counter(head[b"x-tollway-model"] for _, head, _ in await asyncio.gather(*calls))
            assert served == {b"scripted/priced": 1, b"other/priced": 2}


async def test_a_hang_up_while_it_waits_leaves_nothing_behind() -> None:
    async with scripted_upstream(lambda _request: [0.6, *GOOD]) as upstream:
        async with running_gateway(priced_to(upstream.base_url) + "[server]\nin_flight_max = 1\n") as gateway:
            first = asyncio.create_task(ask(gateway, "one"))
            await until(lambda: gateway.app.gates.in_flight == 1)
            waiting = [asyncio.create_task(ask(gateway, "other")) for _ in range(10)]
            await until(lambda: gateway.app.gates.waiting == 10)
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert (await first)[0] == 200
            await gateway.idle()
            assert (gateway.app.gates.in_flight, gateway.app.gates.waiting) == (0, 0)
            assert (await ask(gateway, "one"))[0] == 200
            assert len(upstream.received) == 2


async def test_a_process_that_is_late_sheds_the_busiest_first() -> None:
    async with scripted_upstream(lambda _request: [0.6, *GOOD]) as upstream:
        async with running_gateway(priced_to(upstream.base_url)) as gateway:
            busy = [asyncio.create_task(ask(gateway, "busy")) for _ in range(8)]
            calm = [asyncio.create_task(ask(gateway, "calm"))]
            await until(lambda: gateway.app.gates.in_flight == 9)
            gateway.app._pressure.stop()  # the machine's own lateness is not what is looked at
            gateway.app.gates.shedding.measured(3_000, 2_000, None, None)
            status, head, answered = await ask(gateway, "busy")
            assert (status, error_of(answered)["code"]) == (503, "overloaded")
            assert head[b"x-tollway-error-source"] == b"gateway"
            assert {status for status, _, _ in await asyncio.gather(*busy, *calm)} == {200}


async def test_a_reload_changes_how_many_there_are() -> None:
    async with scripted_upstream(lambda _request: [0.6, *GOOD]) as upstream:
        text = priced_to(upstream.base_url)
        async with running_gateway(text + "[server]\nin_flight_max = 1\n") as gateway:
            calls = [asyncio.create_task(ask(gateway, "one")) for _ in range(4)]
            await until(lambda: (gateway.app.gates.in_flight, gateway.app.gates.waiting) == (1, 3))
            settings = gateway.app.snapshots.current.settings
            gateway.app.reload(replace(settings, server=replace(settings.server, in_flight_max=4)))
            await until(lambda: (gateway.app.gates.in_flight, gateway.app.gates.waiting) == (4, 0))
            assert {status for status, _, _ in await asyncio.gather(*calls)} == {200}
