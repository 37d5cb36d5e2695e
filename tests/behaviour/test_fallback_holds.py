"""Promise: what is held covers whoever answers in the end, every cap is asked before it grows, and what the operator
bears stays within what was bounded."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.upstream.breaker import FAILURES_IN_A_ROW_MAX
from tests.gateway import JSON, Gateway, error_of, first_and_second, plain_request, running_gateway
from tests.scripted_upstream import Do, ScriptedUpstream, answer, scripted_upstream, stream

CHAT = "/v1/chat/completions"
HEADERS = [*JSON, (b"x-tollway-tenant", b"acme")]
DOWN = answer(
    b'{"error":{"message":"down"}}', status=b"503 Service Unavailable", headers=[(b"x-should-retry", b"false")]
)
# 1,000 tokens in, and 10 out.
GOOD = answer(b'{"id":"c","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":10}}')
EVENTS = stream(
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n',
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":10}}\n\n',
    b"data: [DONE]\n\n",
)
FRAME_TOKENS = 2_048


@dataclass
class Two:
    """A gateway before a first choice and one that may answer instead."""

    gateway: Gateway
    first: ScriptedUpstream
    second: ScriptedUpstream

    async def call(self, **fields: object) -> tuple[int, dict[bytes, bytes], bytes]:
        return await plain_request(self.gateway, "POST", CHAT, body(**fields), HEADERS)

    async def row(self) -> dict[str, Any]:
        await self.gateway.settled()
        (row,) = await self.gateway.rows("acme")
        return row

    def trip_first(self) -> None:
        """Open the first one's breaker."""
        app = self.gateway.app
        now_us = app.clock.monotonic_us()
        for _ in range(FAILURES_IN_A_ROW_MAX):
            app.conditions.find("first/m", "first/m", None).breaker.failed(now_us)
        app.conditions.troubled(now_us)


@asynccontextmanager
async def two(first_facts: str, second_facts: str, more: str) -> AsyncIterator[Two]:
    async with scripted_upstream(DOWN) as first, scripted_upstream(GOOD) as second:
        text = first_and_second(first.base_url, second.base_url, first_facts, second_facts) + more
        async with running_gateway(text) as gateway:
            yield Two(gateway, first, second)


def facts(input_usd: float, output_usd: float, *, longest: int = 1_000, more: str = "") -> str:
    return f"""
price = {{ input_usd_per_mtok = {input_usd}, output_usd_per_mtok = {output_usd} }}
context_tokens = 100_000
max_output_tokens = {longest}
{more}
"""


def tenant(more: str = "") -> str:
    return f'[tenants.acme]\nfallback = "equivalent"\n{more}\n'


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def worst_nusd(sent: bytes, input_usd: int, output_usd: int, answer_tokens: int) -> int:
    """The worst case by hand: bytes and frame, and the answer."""
    return (len(sent) + FRAME_TOKENS) * input_usd * 1_000 + answer_tokens * output_usd * 1_000


async def test_a_fallback_that_may_cost_more_than_one_call_may_is_not_asked():
    cap_usd = worst_nusd(body(), 1, 4, 2_000) / 1e9
    plan = f"[plans.default.tenant]\nusd_per_day = 100\nusd_per_call = {cap_usd:.9f}\n"
    for longest, expected in ((2_000, 200), (2_001, 503)):
        async with two(facts(1, 4), facts(1, 4, longest=longest), plan + tenant()) as place:
            assert (await place.call())[0] == expected
            assert len(place.second.received) == (expected == 200)
            held_nusd = worst_nusd(body(), 1, 4, 2_000 if expected == 200 else 1_000)
            assert (await place.row())["held_nusd"] == held_nusd


async def test_a_fallback_that_thinks_unseen_is_held_whole():
    """Its tokens are billed and not heard, so no slice of them could be extended in time."""
    plan = "[plans.default.tenant]\nusd_per_day = 100\n" + tenant('no_ceiling = "extend"')
    first = facts(1, 4, longest=50_000, more="capabilities = []")
    second = facts(1, 4, longest=50_000, more='capabilities = ["reasoning"]')
    async with two(first, second, plan) as place:
        place.second.script = lambda _request: EVENTS
        sent = body(stream=True)
        assert (await place.call(stream=True))[0] == 200
        assert (await place.row())["held_nusd"] >= worst_nusd(sent, 1, 4, 50_000)


async def test_what_a_stored_key_of_the_tenants_pays_counts_against_no_cap_after_a_fallback_to_it():
    more = '[keyring]\nkek = "file:kek"\n[plans.default.tenant]\nusd_per_day = 100\n' + tenant()
    async with two(facts(1, 4), facts(1, 4, longest=5_000), more) as place:
        keyring = place.gateway.app.keyring
        assert keyring is not None
        origin = origin_of(place.gateway.app.snapshots.current.settings.providers["second"].base_url)
        await keyring.put("acme", "second", None, origin, Secret("sk-of-acme-itself"), 1)
        assert (await place.call())[0] == 200
        row = await place.row()
        assert (row["key_source"], row["cost_nusd"], row["charged_nusd"]) == ("tenant", 1_000_000 + 40_000, 0)
        assert row["held_nusd"] == worst_nusd(body(), 1, 4, 1_000)  # nothing more is held for what is not counted
        state = await place.gateway.app.stores.admission.read("acme", "tenant")
        assert set(state.periods.values()) == {(0, 0)}


async def test_a_deployment_that_cannot_be_asked_in_the_place_of_one_that_is_unwell_is_passed_over():
    more = "[fallback]\nabsorb_usd_per_day = 1\n" + tenant()
    async with two(facts(1, 4), 'capabilities = ["tools"]', more) as place:  # nobody knows what the second costs
        place.trip_first()
        status, _, got = await place.call()
        assert (status, error_of(got)["code"]) == (503, "no_deployment_available")
        assert place.second.received == []


@pytest.mark.parametrize(("absorb_usd", "expected"), [(0.01, 503), (1, 200)])
async def test_what_the_operator_may_bear_is_bounded_whatever_is_used(absorb_usd: float, expected: int):
    """A dear input and a cheap answer after the other way round: the worst cases alone would show no difference."""
    more = f"[fallback]\nabsorb_usd_per_day = {absorb_usd}\n[plans.default.tenant]\nusd_per_day = 100\n" + tenant()
    async with two(facts(1, 20), facts(10, 1), more) as place:
        assert (await place.call())[0] == expected
        row = await place.row()
        if expected == 200:  # 1,000 tokens in at $10 and 10 out at $1; at $1 and $20 they would have cost less
            assert (row["cost_nusd"], row["charged_nusd"]) == (10_010_000, 1_200_000)
            assert row["absorbed_nusd"] == 10_010_000 - 1_200_000
            assert row["absorbed_nusd"] <= absorb_usd * 1e9


async def test_what_an_attempt_may_be_billed_at_is_what_was_held_for_it_and_not_for_the_next():
    more = "[plans.default.tenant]\nusd_per_day = 100\n" + tenant()
    async with two(facts(1, 4), facts(1, 4, longest=50_000), more) as place:
        place.first.script = lambda _request: [Do.RESET]
        assert (await place.call())[0] == 200
        row = await place.row()
        assert row["held_nusd"] == worst_nusd(body(), 1, 4, 50_000)
        assert row["absorbed_nusd"] == worst_nusd(body(), 1, 4, 1_000)
