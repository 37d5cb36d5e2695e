"""Promise: a provider that is down is left alone at once, is asked again soon after it is back, and cannot wedge
what watches it; one tenant's bad key takes nothing from the others."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.pipeline.probes import Probes
from tests.gateway import JSON, Gateway, passthrough_to, plain_request, priced_to, running_gateway
from tests.scripted_upstream import Do, Received, ScriptedUpstream, Step, answer, scripted_upstream, until

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "priced", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}).encode()
HEADERS = [*JSON, (b"x-tollway-tenant", b"acme")]
GOOD = answer(b'{"id":"good"}')
DOWN = answer(b'{"error":{"message":"down"}}', status=b"503 Service Unavailable")
TIMEOUTS = "timeouts_s = { connect = 0.5, first_byte = 60, idle = 60, total = 60 }\n"


@asynccontextmanager
async def before(upstream: ScriptedUpstream, extra: str = "") -> AsyncIterator[Gateway]:
    text = priced_to(upstream.base_url).replace('provider_key = "sk-gateways"\n', f'provider_key = "sk-g"\n{TIMEOUTS}')
    async with running_gateway(text + extra) as gateway:
        yield gateway


async def status_of(gateway: Gateway, body: bytes = BODY, headers: list[tuple[bytes, bytes]] = HEADERS) -> int:
    status, _, _ = await plain_request(gateway, "POST", CHAT, body, headers)
    return status


@dataclass
class Flood:
    """Twenty calls a second, whatever becomes of them."""

    gateway: Gateway
    calls: "list[asyncio.Task[int]]"

    async def go_on(self, seconds: float, every_s: float = 0.05) -> int:
        """Make calls for so long; how many."""
        loop = asyncio.get_running_loop()
        began, made = loop.time(), 0
        while (at := began + made * every_s) < began + seconds:
            await asyncio.sleep(max(0.0, at - loop.time()))
            self.calls.append(asyncio.create_task(status_of(self.gateway)))
            made += 1
        return made

    async def until_answered(self, seconds: float) -> float:
        """Go on until a call is answered; how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < began + seconds:
            call = asyncio.create_task(status_of(self.gateway))
            self.calls.append(call)
            await asyncio.sleep(0.05)
            if any(each.done() and each.result() == 200 for each in self.calls):
                return loop.time() - began
        raise AssertionError(f"no call was answered within {seconds} s")

    async def end(self) -> None:
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)


def is_open(gateway: Gateway) -> bool:
    (status,) = gateway.app.conditions.statuses(gateway.app.clock.monotonic_us())
    return status.state != "closed"


@pytest.mark.parametrize("fault", [DOWN, [Do.RESET]], ids=["503", "reset"])
async def test_a_provider_that_is_down_is_left_alone_and_asked_again(fault: list[Step]) -> None:
    is_down = True
    async with scripted_upstream(lambda _request: fault if is_down else GOOD) as upstream:
        async with before(upstream) as gateway:
            flood = Flood(gateway, [])
            await flood.go_on(1.0)
            assert is_open(gateway)  # within a second
            sent_before, made = len(upstream.received), await flood.go_on(5.0)
            assert len(upstream.received) - sent_before <= 1.1 * made
            is_down = False
            assert await flood.until_answered(5.0) < 5.0
            assert not is_open(gateway)
            assert await status_of(gateway) == 200
            await flood.end()


async def test_probes_that_hang_do_not_wedge_it() -> None:
    script: list[Step] = DOWN
    async with scripted_upstream(lambda _request: script) as upstream, before(upstream) as gateway:
        flood = Flood(gateway, [])
        await flood.go_on(0.5)
        assert is_open(gateway)
        script = [Do.HANG]
        await flood.go_on(4.0)  # three probes are let through, and hang
        script = GOOD
        assert await flood.until_answered(5.0) < 5.0
        await flood.end()


@pytest.mark.parametrize("is_back", [True, False])
async def test_probes_of_the_gateways_own_find_out_whether_it_is_back(is_back: bool) -> None:
    def script(request: Received) -> list[Step]:
        if request.method == "GET":
            assert request.target == "/v1/models"
            assert request.header(b"authorization") == b"Bearer sk-g"
            return GOOD if is_back else DOWN
        return DOWN

    async with scripted_upstream(script) as upstream:
        text = priced_to(upstream.base_url).replace('"sk-gateways"', '"sk-g"\nprobe_every_s = 0.1')
        async with running_gateway(text) as gateway:
            for _ in range(3):
                await status_of(gateway)
            assert is_open(gateway)
            posts = len(upstream.received)
            await until(lambda: len(upstream.received) > posts)
            await until(lambda: is_open(gateway) is not is_back)
            assert all(request.method == "GET" for request in upstream.received[posts:])


@pytest.mark.parametrize("step", ["_look", "_status"])
async def test_a_fault_in_a_probe_is_told_and_not_the_end_of_them(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = getattr(Probes, step), [ValueError("a fault of ours")]

    def at_fault(*args: Any) -> Any:
        if faults:
            raise faults.pop()
        return real(*args)

    async with scripted_upstream(DOWN) as upstream:
        text = priced_to(upstream.base_url).replace('"sk-gateways"', '"sk-g"\nprobe_every_s = 0.1')
        async with running_gateway(text) as gateway:
            for _ in range(3):
                await status_of(gateway)
            assert is_open(gateway)
            upstream.script = lambda _request: GOOD
            monkeypatch.setattr(Probes, step, at_fault)
            await until(lambda: not is_open(gateway))
            assert not faults
            assert [record.name for record in caplog.records if record.exc_info] == ["tollway.probes"]


async def test_while_it_is_open_the_caller_is_told_when_to_come_again() -> None:
    async with scripted_upstream(DOWN) as upstream, before(upstream) as gateway:
        for _ in range(3):
            await status_of(gateway)
        sent = len(upstream.received)
        status, head, body = await plain_request(gateway, "POST", CHAT, BODY, HEADERS)
        assert (status, json.loads(body)["error"]["code"]) == (503, "no_deployment_available")
        assert 0 < int(dict(head)[b"retry-after-ms"]) <= 2_000
        assert len(upstream.received) == sent
        assert gateway.metric('tollway_breaker_state{deployment="scripted/priced"}') == 2
        assert gateway.metric('tollway_deployment_health{deployment="scripted/priced"}') < 0.8


async def test_calls_of_their_own_making_open_nothing() -> None:
    refused = answer(b'{"error":{"message":"no"}}', status=b"400 Bad Request")
    async with scripted_upstream(refused) as upstream, before(upstream) as gateway:
        for _ in range(30):
            assert await status_of(gateway) == 400
        assert not is_open(gateway)


async def test_hang_ups_open_nothing() -> None:
    async with scripted_upstream([Do.HANG]) as upstream, before(upstream) as gateway:
        for _ in range(20):
            call = asyncio.create_task(status_of(gateway))
            await asyncio.sleep(0.02)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await gateway.idle()
        assert not is_open(gateway)


async def test_one_callers_bad_key_opens_nothing_for_the_others() -> None:
    def script(request: Received) -> list[Step]:
        return DOWN if request.header(b"authorization") == b"Bearer sk-bad" else GOOD

    bad, good = ([*JSON, (b"authorization", b"Bearer " + key)] for key in (b"sk-bad", b"sk-good"))
    body = BODY.replace(b"priced", b"alias")
    async with scripted_upstream(script) as upstream, running_gateway(passthrough_to(upstream.base_url)) as gateway:
        for _ in range(4):
            assert await status_of(gateway, body, bad) == 503
        sent = len(upstream.received)
        assert await status_of(gateway, body, bad) == 503
        assert len(upstream.received) == sent  # its breaker is open
        assert await status_of(gateway, body, good) == 200


async def test_a_throttled_provider_is_left_alone_for_as_long_as_it_says() -> None:
    slow_down, in_3_s = b'{"error":{"message":"slow down"}}', (b"retry-after", b"3")
    throttled = answer(slow_down, status=b"429 Too Many Requests", headers=[in_3_s])
    script = throttled
    async with scripted_upstream(lambda _request: script) as upstream, before(upstream) as gateway:
        assert await status_of(gateway) == 429
        script = GOOD
        status, head, _ = await plain_request(gateway, "POST", CHAT, BODY, HEADERS)
        assert status == 503
        assert 2_000 < int(dict(head)[b"retry-after-ms"]) <= 3_000
        assert len(upstream.received) == 1
        await asyncio.sleep(3.0)
        assert await status_of(gateway) == 200
