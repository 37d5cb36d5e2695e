"""Promise: whatever happens around a fallback, counters and rows agree, nothing is left behind, and what a caller may
not have it does not get that way."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.gateway import JSON, BrokenOff, Gateway, first_and_second, plain_request, running_gateway
from tests.scripted_upstream import Do, Received, ScriptedUpstream, Step, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
DOWN = answer(
    b'{"error":{"message":"down"}}', status=b"503 Service Unavailable", headers=[(b"x-should-retry", b"false")]
)
GOOD = answer(b'{"id":"good","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}')
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
NOT_NOW = answer(b'{"error":{"message":"not now"}}', status=b"503 Service Unavailable")
RESET: list[Step] = [Do.RESET]
CLOSE: list[Step] = [Do.CLOSE]
HEADERS = [*JSON, (b"x-tollway-tenant", b"acme")]


class Pair:
    """A gateway before a first choice and one that may answer instead."""

    def __init__(self, gateway: Gateway, first: ScriptedUpstream, second: ScriptedUpstream) -> None:
        self.gateway, self.first, self.second = gateway, first, second

    async def nothing_is_left(self) -> None:
        """No place, no probe's lease, no call under way, no connection beyond those at rest; and the books agree."""
        app = self.gateway.app
        await self.gateway.settled()
        assert (app.gates.in_flight, app.gates.waiting) == (0, 0)
        assert [
            status.in_flight for status in app.conditions.statuses(app.clock.monotonic_us()) if status.in_flight
        ] == []
        scope = await app.stores.admission.read("acme", "tenant")
        rows = [row for row in await self.gateway.rows("acme") if row["kind"] != "audit"]
        assert scope.periods["t"].spent_nusd == sum(row["charged_nusd"] or 0 for row in rows)
        assert sum(amounts.held_nusd for amounts in scope.periods.values()) == 0
        assert all((row["charged_nusd"] or 0) <= row["held_nusd"] for row in rows)


def facts(input_usd: float, output_usd: float) -> str:
    return f"""
price = {{ input_usd_per_mtok = {input_usd}, output_usd_per_mtok = {output_usd} }}
context_tokens = 100_000
max_output_tokens = 20_000
"""


@asynccontextmanager
async def pair(consent: str = "equivalent", second_model: str = "m", usd_per_day: float = 100) -> AsyncIterator[Pair]:
    async with scripted_upstream(DOWN) as first, scripted_upstream(GOOD) as second:
        text = first_and_second(first.base_url, second.base_url, facts(1, 4), facts(2, 8), second_model=second_model)
        text += f"""
[plans.default.tenant]
usd_per_day = {usd_per_day}
[tenants.acme]
no_ceiling = "insert"
fallback = "{consent}"
"""
        async with running_gateway(text) as gateway:
            yield Pair(gateway, first, second)


def body(**fields: object) -> bytes:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    return json.dumps({**asked, **fields}).encode()


async def test_a_compressed_body_falls_back_to_another_name_of_the_model() -> None:
    async with pair(second_model="m-two") as both:
        sent = gzip.compress(body())
        headers = [*HEADERS, (b"content-encoding", b"gzip")]
        status, _, _ = await plain_request(both.gateway, "POST", CHAT, sent, headers)
        assert status == 200
        assert both.first.received[0].body == sent
        (got,) = both.second.received
        assert got.header(b"content-encoding") is None
        assert json.loads(got.body) == {**json.loads(body()), "model": "m-two"}
        await both.nothing_is_left()


@pytest.mark.parametrize("where", ["while the first hangs", "while the second hangs", "in the second's stream"])
async def test_a_hang_up_anywhere_leaves_nothing_behind(where: str) -> None:
    async with pair() as both:
        if where == "while the first hangs":
            both.first.script = lambda _request: [Do.HANG]
        elif where == "while the second hangs":
            both.second.script = lambda _request: [Do.HANG]
        else:
            both.second.script = lambda _request: stream(EVENT, Do.HANG)
        asked = [
            asyncio.create_task(plain_request(both.gateway, "POST", CHAT, body(stream=True), HEADERS)) for _ in range(5)
        ]
        last = both.first if where == "while the first hangs" else both.second
        await until(lambda: len(last.received) == 5)
        await asyncio.sleep(0.05)
        for call in asked:
            call.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await until(lambda: last.open_connections == 0)
        await both.nothing_is_left()
        rows = await both.gateway.rows("acme")
        assert [row["error_source"] for row in rows] == ["caller"] * 5
        assert all(row["charged_nusd"] > 0 for row in rows)  # hanging up is no refund


@pytest.mark.parametrize("answers", [0, 45])
async def test_what_is_sent_again_is_a_tenth_of_what_is_answered_and_what_fails_earns_nothing(answers: int) -> None:
    async with pair(consent="none") as both:
        app = both.gateway.app
        began_us = app.clock.monotonic_us()
        budget = app.conditions.budget("first")
        while budget.take(began_us):
            pass
        both.first.script = lambda _request: GOOD
        for _ in range(answers):
            await plain_request(both.gateway, "POST", CHAT, body(), HEADERS)
        # A failure of the call's own, which no breaker counts.
        both.first.script = lambda _request: answer(b"{}", status=b"409 Conflict")
        for _ in range(45):
            status, _, _ = await plain_request(both.gateway, "POST", CHAT, body(), HEADERS)
            assert status == 409
        sent_again = len(both.first.received) - answers - 45
        earned = answers // 10
        assert earned <= sent_again <= earned + 1 + (app.clock.monotonic_us() - began_us) // 1_000_000
        await both.nothing_is_left()


async def test_a_hang_up_while_it_waits_to_send_again_leaves_nothing_behind() -> None:
    async with pair(consent="none") as both:
        both.first.script = lambda _request: answer(b"{}", status=b"503 Unavailable", headers=[(b"retry-after", b"1")])
        asked = [asyncio.create_task(plain_request(both.gateway, "POST", CHAT, body(), HEADERS)) for _ in range(2)]
        await until(lambda: len(both.first.received) == 2)
        await asyncio.sleep(0.1)
        for call in asked:
            call.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await both.nothing_is_left()
        assert len(both.first.received) == 2


def in_turn(*scripts: list[Step]) -> Callable[[Received], list[Step]]:
    """One script for each request, in this order."""
    left = iter(scripts)
    return lambda _request: next(left)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_hang_up_on_what_was_sent_again_is_no_refund(is_stream: bool) -> None:
    async with pair(consent="none") as both:
        both.first.script = in_turn(NOT_NOW, [Do.HANG])
        asked = asyncio.create_task(plain_request(both.gateway, "POST", CHAT, body(stream=is_stream), HEADERS))
        await until(lambda: len(both.first.received) == 2)
        await asyncio.sleep(0.05)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await both.nothing_is_left()
        (row,) = await both.gateway.rows("acme")
        assert (row["error_source"], row["usage_source"], row["attempts"]) == ("caller", "worst_case", 2)
        assert row["charged_nusd"] == row["held_nusd"] > 0


async def test_what_was_sent_again_and_timed_out_is_the_operators() -> None:
    async with pair(consent="none") as both:
        both.first.script = in_turn(NOT_NOW, [Do.HANG])
        status, _, _ = await plain_request(both.gateway, "POST", CHAT, body(stream=True), HEADERS)
        assert status == 504
        await both.nothing_is_left()
        (row,) = await both.gateway.rows("acme")
        assert (row["charged_nusd"], row["absorbed_nusd"]) == (0, row["held_nusd"])


@pytest.mark.parametrize("expected", [(b"200 OK", b'{"id":"good"}'), (b"400 Bad Request", b'{"error":{}}')])
async def test_an_answer_is_none_the_worse_for_the_error_event_before_it(expected: tuple[bytes, bytes]) -> None:
    async with pair(consent="none") as both:
        error_event = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
        status_line, said = expected
        both.first.script = in_turn(stream(error_event), answer(said, status=status_line), DOWN)
        status, _, got = await plain_request(both.gateway, "POST", CHAT, body(stream=True), HEADERS)
        assert (status, got) == (int(status_line[:3]), said)
        assert len(both.first.received) == 2
        await both.nothing_is_left()
        (row,) = await both.gateway.rows("acme")
        assert row["given_up"] == "first/m:error_event"


@pytest.mark.parametrize("content", ["hi", "h" * 70_000])
@pytest.mark.parametrize("fields", [{}, {"model": "another"}])
async def test_what_is_sent_again_to_a_model_of_the_path_is_the_same(content: str, fields: dict[str, str]) -> None:
    sent = json.dumps({"messages": [{"role": "user", "content": content}], **fields}).encode()
    async with pair(consent="none") as both:
        both.first.script = in_turn(NOT_NOW, GOOD)
        target = "/openai/deployments/m/chat/completions"
        status, _, _ = await plain_request(both.gateway, "POST", target, sent, HEADERS)
        assert status == 200
        first, second = both.first.received
        assert first.body == second.body
        assert json.loads(second.body) == {**json.loads(sent), "model": "m"}
        await both.nothing_is_left()


async def test_an_empty_body_that_gets_a_ceiling_and_a_model_is_sent_as_json() -> None:
    async with pair(consent="none", usd_per_day=0.05) as both:
        both.first.script = in_turn(GOOD)
        target = "/openai/deployments/m/chat/completions"
        status, head, _ = await plain_request(both.gateway, "POST", target, b"{}", HEADERS)
        assert status == 200
        (got,) = both.first.received
        assert json.loads(got.body) == {"model": "m", "max_completion_tokens": int(head[b"x-tollway-inserted-ceiling"])}
        await both.nothing_is_left()


async def test_a_fallback_that_breaks_off_has_no_clean_end_and_its_row() -> None:
    async with pair() as both:
        both.second.script = lambda _request: stream(EVENT, Do.CLOSE)
        with pytest.raises(BrokenOff) as broken:
            await plain_request(both.gateway, "POST", CHAT, body(stream=True), HEADERS)
        assert broken.value.body == EVENT
        await both.nothing_is_left()
        (row,) = await both.gateway.rows("acme")
        assert (row["deployment"], row["error_source"], row["usage_source"]) == ("second/m", "upstream", "estimated")


async def test_both_down_gives_the_last_ones_own_answer() -> None:
    async with pair() as both:
        last = answer(
            b'{"error":{"message":"me neither"}}', status=b"529 Overloaded", headers=[(b"x-should-retry", b"false")]
        )
        both.second.script = lambda _request: last
        status, head, got = await plain_request(both.gateway, "POST", CHAT, body(), HEADERS)
        assert (status, json.loads(got)["error"]["message"]) == (529, "me neither")
        assert head[b"x-tollway-model"] == b"second/m"
        both.second.script = lambda _request: [Do.RESET]
        status, _, got = await plain_request(both.gateway, "POST", CHAT, body(), HEADERS)
        assert (status, json.loads(got)["error"]["code"]) == (502, "upstream_unreachable")
        await both.nothing_is_left()


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
async def test_calls_without_a_body_are_sent_again_too(method: str) -> None:
    times = 0

    def script(_request: Received) -> list[Step]:
        nonlocal times
        times += 1
        return [Do.CLOSE] if times == 1 else [b"HTTP/1.1 204 No Content\r\n\r\n"]

    async with scripted_upstream(script) as upstream:
        text = f"""
[auth]
mode = "trusted-headers"
default_provider = "only"
[providers.only]
base_url = "{upstream.base_url}"
allow_shared_state = true
"""
        async with running_gateway(text) as gateway:
            for _ in range(2):
                status, _, got = await plain_request(gateway, method, "/v1/responses/resp_1", b"", HEADERS[1:])
            assert (status, got) == (204, b"")


@pytest.mark.parametrize(
    "wait", [b"99999999999999999999", b"1e308", b"-1", b"nan", b"Fri, 31 Dec 9999 23:59:59 GMT", b"\xff", b"0", b""]
)
async def test_no_wait_that_a_provider_asks_for_breaks_anything(wait: bytes) -> None:
    async with pair(consent="none") as both:
        both.first.script = lambda _request: answer(b"{}", status=b"429 Too Many", headers=[(b"retry-after", wait)])
        status, _, _ = await plain_request(both.gateway, "POST", CHAT, body(), HEADERS)
        assert status == 429
        status, head, _ = await plain_request(both.gateway, "POST", CHAT, body(), HEADERS)
        assert status in (429, 503)
        if status == 503:
            assert 0 < int(head[b"retry-after-ms"]) <= 60_000
        await both.nothing_is_left()


async def test_a_stream_byte_by_byte_is_held_until_its_first_event_and_no_longer() -> None:
    whole = b": ping\r\n\r\n" + EVENT + b"data: [DONE]\n\n"
    async with pair() as both:
        both.first.script = lambda _request: stream(*(whole[at : at + 1] for at in range(len(whole))))
        status, _, got = await plain_request(both.gateway, "POST", CHAT, body(stream=True), HEADERS)
        assert (status, got) == (200, whole)
        assert both.second.received == []
        await both.nothing_is_left()


async def test_many_at_once_while_the_first_fails_by_turns_agree_with_the_books() -> None:
    turn, turns = 0, (DOWN, RESET, GOOD, CLOSE, GOOD)

    def by_turns(_request: Received) -> list[Step]:
        nonlocal turn
        turn += 1
        return turns[turn % len(turns)]

    async with pair() as both:
        both.first.script = by_turns
        calls = [plain_request(both.gateway, "POST", CHAT, body(), HEADERS) for _ in range(60)]
        answered = await asyncio.gather(*calls)
        assert {status for status, _, _ in answered} == {200}
        await both.nothing_is_left()
        rows = await both.gateway.rows("acme")
        assert len(rows) == 60
        assert {row["charged_nusd"] for row in rows} == {27_000}  # the first choice's price, whoever answered
