"""Promise: a spend cap is never crossed, whoever races for it, whatever the call names, however it ends."""

import asyncio
import json
from contextlib import aclosing

import pytest

from tests.gateway import JSON, Gateway, error_of, plain_request, priced_to, raw_request, running_gateway
from tests.redis_server import emptied
from tests.scripted_upstream import Received, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
# $1 and $4 for a million tokens. A call with 100 tokens of answer holds at most its body's bytes and
# the 2,048 tokens of frame as input, and 100 as output.
UNPRICED = """
[[models.unpriced.deployments]]
provider = "scripted"
model = "nobody-knows"
"""


def configuration(base_url: str, plan: str, tenant: str = "") -> str:
    return f"{priced_to(base_url)}{UNPRICED}\n[plans.default.tenant]\n{plan}\n[tenants.acme]\n{tenant}\n"


def headers(user: str | None = None, tenant: str = "acme") -> list[tuple[bytes, bytes]]:
    named = [(b"x-tollway-tenant", tenant.encode())]
    return [*JSON, *named, *([(b"x-tollway-user", user.encode())] if user else [])]


def body(**fields) -> bytes:
    return json.dumps({"model": "priced", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def held_nusd(sent: bytes, answer_tokens: int) -> int:
    """The worst case by hand: bytes and frame at $1, the answer at $4, for a million tokens each."""
    return (len(sent) + 2_048) * 1_000 + answer_tokens * 4_000


def completion(input_tokens: int, output_tokens: int) -> bytes:
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return json.dumps({"id": "c", "model": "priced", "choices": [], "usage": usage}).encode()


async def spent(gateway: Gateway, tenant_id: str = "acme") -> tuple[int, int]:
    """What the tenant's total has spent, and what its calls under way hold, once all is settled."""
    await gateway.settled()
    scope = await gateway.app.stores.admission.read(tenant_id, "tenant")
    return scope.periods["t"].spent_nusd, sum(amounts.held_nusd for amounts in scope.periods.values())


@pytest.fixture(params=["sqlite", "redis"])
def state_url(request) -> str | None:
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("redis_url")
    return url


async def until_decided(gateway: Gateway, sent: bytes):
    """A call as the SDKs make it: 503 is no decision, and is tried again."""
    while True:
        got = await plain_request(gateway, "POST", CHAT, sent, headers())
        if got[0] != 503:
            return got
        await asyncio.sleep(0.2)


async def test_500_calls_that_race_for_a_cap_that_fits_10_are_10(state_url):
    await emptied(state_url)
    sent = body(max_tokens=100)
    cap_usd = held_nusd(sent, 100) * 10 / 1e9
    decided = asyncio.Event()

    def once_all_are_decided(_request: Received):
        return [0.0, *answer(completion(5, 100))]

    async with scripted_upstream(once_all_are_decided) as upstream:
        original = upstream.serve

        async def waiting(reader, writer):
            await decided.wait()
            await original(reader, writer)

        upstream.serve = waiting  # type: ignore[method-assign]
        text = configuration(upstream.base_url, f"usd_per_day = {cap_usd:.9f}")
        async with running_gateway(text, state_url=state_url) as gateway:
            calls = [asyncio.ensure_future(until_decided(gateway, sent)) for _ in range(500)]
            await until(lambda: sum(call.done() for call in calls) >= 490, 120.0)
            await asyncio.sleep(0.2)
            assert sum(call.done() for call in calls) == 490  # the others are held up at the provider
            decided.set()
            answers = await asyncio.gather(*calls)
            statuses = [status for status, _, _ in answers]
            assert statuses.count(200) == 10
            assert statuses.count(429) == 490
            refused = next(answer for answer in answers if answer[0] == 429)
            assert error_of(refused[2])["code"] == "insufficient_quota"
            assert refused[1][b"x-should-retry"] == b"false"
            assert await spent(gateway) == (10 * (5 * 1_000 + 100 * 4_000), 0)
            rows = [row for row in await gateway.rows("acme") if row["held_nusd"] == held_nusd(sent, 100)]
            assert len(rows) == 10


EVENTS = [
    b'data: {"id":"c","model":"priced","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
    % word
    for word in (b"", b"one ", b"two ", b"three ", b"four ")
]
LAST = b'data: {"id":"c","model":"priced","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}\n\n'
WHOLE = [*EVENTS, LAST, USAGE, b"data: [DONE]\n\n"]


async def test_hanging_up_after_any_event_is_charged_and_never_beyond_what_was_held():
    sent = body(stream=True, max_tokens=100)

    def slowly(_request: Received):
        steps = stream(*WHOLE)
        return [step for each in steps for step in (each, 0.03)]

    async with scripted_upstream(slowly) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1")) as gateway:
            for events in range(len(WHOLE) - 2):  # the usage and the end are taken out or the end itself
                got = b""
                async with aclosing(raw_request(gateway, "POST", CHAT, sent, headers())) as pieces:
                    async for piece in pieces:
                        got += piece
                        if got.count(b"}\n\n") >= events + 1:
                            break
                await gateway.idle()
            await spent(gateway)
            rows = sorted(await gateway.rows("acme"), key=lambda row: row["run_id"])
            assert len(rows) == len(WHOLE) - 2
            for row in rows:
                assert 0 < row["charged_nusd"] <= row["held_nusd"] == held_nusd(sent, 100)
                assert row["usage_source"] == "estimated"
                assert row["error_source"] == "caller"
            # The more was heard, the more it costs.
            charged = [row["charged_nusd"] for row in rows]
            assert charged == sorted(charged)
            assert charged[-1] > charged[0]
            assert (await spent(gateway)) == (sum(charged), 0)


async def test_hanging_up_before_a_plain_answer_is_charged_at_what_was_held():
    sent = body(max_tokens=100)
    async with scripted_upstream(lambda _request: [30.0]) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1")) as gateway:
            call = asyncio.ensure_future(plain_request(gateway, "POST", CHAT, sent, headers()))
            await until(lambda: bool(upstream.received))
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert await spent(gateway) == (held_nusd(sent, 100), 0)
            (row,) = await gateway.rows("acme")
            assert (row["usage_source"], row["charged_nusd"]) == ("worst_case", held_nusd(sent, 100))


async def test_a_provider_that_refuses_or_fails_costs_the_tenant_nothing():
    async with scripted_upstream(answer(b'{"error":{"message":"no"}}', status=b"500 Oops")) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1")) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, body(max_tokens=10), headers()))[0] == 500
            assert await spent(gateway) == (0, 0)
            (row,) = await gateway.rows("acme")
            assert (row["cost_nusd"], row["charged_nusd"]) == (0, 0)


async def test_the_caller_gets_the_stream_that_nobody_asked_for_usage_and_the_row_is_exact():
    sent = body(stream=True, max_tokens=100)

    def as_openai_does(request: Received):
        asked = json.loads(request.body).get("stream_options", {}).get("include_usage")
        nulls = [event.replace(b"}\n\n", b',"usage":null}\n\n') for event in (*EVENTS, LAST)]
        return stream(*(nulls if asked else (*EVENTS, LAST)), *([USAGE] if asked else []), b"data: [DONE]\n\n")

    async with scripted_upstream(as_openai_does) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1")) as gateway:
            got = await plain_request(gateway, "POST", CHAT, sent, headers())
            assert got[2] == b"".join([*EVENTS, LAST, b"data: [DONE]\n\n"])
            assert json.loads(upstream.received[0].body) == {
                **json.loads(sent),
                "stream_options": {"include_usage": True},
            }
            assert upstream.received[0].header(b"accept-encoding") == b"identity"
            await spent(gateway)
            (row,) = await gateway.rows("acme")
            assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (5, 9, "exact")
            assert row["charged_nusd"] == 5 * 1_000 + 9 * 4_000


async def test_without_a_cap_nothing_is_asked_for():
    async with scripted_upstream(stream(*WHOLE)) as upstream:
        async with running_gateway(configuration(upstream.base_url, "requests_per_minute = 100")) as gateway:
            sent = body(stream=True)
            assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[2] == b"".join(WHOLE)
            assert upstream.received[0].body == sent


# ── calls without a ceiling ──────────────────────────────────────────────────────────────


NO_ROOM_FOR_THE_MAXIMUM = "usd_per_day = 0.05"  # 20,000 tokens at $4 a million are $0.08


async def test_a_call_without_a_ceiling_that_does_not_fit_is_told_the_one_that_would():
    async with scripted_upstream(answer(completion(5, 9))) as upstream:
        async with running_gateway(configuration(upstream.base_url, NO_ROOM_FOR_THE_MAXIMUM)) as gateway:
            sent = body()
            status, _, got = await plain_request(gateway, "POST", CHAT, sent, headers())
            error = error_of(got)
            assert (status, error["code"], error["param"]) == (429, "insufficient_quota", "max_completion_tokens")
            # Naming it makes the body up to 64 bytes longer, which are 64 tokens at $1 a million.
            fits = (50_000_000 - held_nusd(sent, 0) - 64_000) // 4_000
            assert f"at most {fits}, and it fits" in error["message"]
            assert upstream.received == []
            named = body(max_completion_tokens=fits)
            assert (await plain_request(gateway, "POST", CHAT, named, headers()))[0] == 200


async def test_insert_writes_the_ceiling_that_fits_into_the_body_and_says_so():
    async with scripted_upstream(answer(completion(5, 9))) as upstream:
        text = configuration(upstream.base_url, NO_ROOM_FOR_THE_MAXIMUM, 'no_ceiling = "insert"')
        async with running_gateway(text) as gateway:
            sent = body()
            status, head, _ = await plain_request(gateway, "POST", CHAT, sent, headers())
            assert status == 200
            fits = (50_000_000 - held_nusd(sent, 0)) // 4_000
            assert head[b"x-tollway-inserted-ceiling"] == b"%d" % fits
            forwarded = upstream.received[0].body
            assert json.loads(forwarded) == {**json.loads(sent), "max_completion_tokens": fits}
            assert forwarded.endswith(sent[1:])  # every other byte is as it was sent
            assert await spent(gateway) == (5 * 1_000 + 9 * 4_000, 0)


WORDS = [
    b'data: {"id":"c","model":"priced","choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
    % (b"x" * 400)
    for _ in range(60)
]


async def test_a_stream_without_a_ceiling_holds_a_slice_and_extends_it():
    async with scripted_upstream(stream(*WORDS, LAST, b"data: [DONE]\n\n")) as upstream:
        async with running_gateway(
            configuration(upstream.base_url, "usd_per_day = 0.16", 'no_ceiling = "extend"')
        ) as gateway:
            status, _, got = await plain_request(gateway, "POST", CHAT, body(stream=True), headers())
            assert status == 200
            assert got.endswith(b"data: [DONE]\n\n")
            await spent(gateway)
            (row,) = await gateway.rows("acme")
            assert row["held_nusd"] > held_nusd(body(stream=True), 4_096)
            assert 0 < row["charged_nusd"] <= row["held_nusd"]


@pytest.mark.parametrize("plan", ["usd_per_day = 0.03", "usd_per_day = 9\nusd_per_call = 0.03"])
async def test_a_stream_that_no_cap_can_hold_any_longer_ends_with_an_error_event(plan: str):
    async with scripted_upstream(stream(*WORDS, LAST, b"data: [DONE]\n\n")) as upstream:
        text = configuration(upstream.base_url, plan, 'no_ceiling = "auto"')
        async with running_gateway(text) as gateway:
            status, _, got = await plain_request(gateway, "POST", CHAT, body(stream=True), headers())
            assert status == 200
            last = got.rstrip(b"\n").rpartition(b"\n\n")[2]
            assert last.startswith(b"data: ")
            assert json.loads(last[6:])["error"]["code"] == "insufficient_quota"
            assert b"[DONE]" not in got
            total, held = await spent(gateway)
            assert 0 < total <= 30_000_000
            assert held == 0
            (row,) = await gateway.rows("acme")
            assert (row["status"], row["error_source"]) == (200, "policy")
            assert row["held_nusd"] <= 30_000_000


@pytest.mark.parametrize("user_usd", [0.012, 0.03])
async def test_insert_finds_the_ceiling_that_fits_every_cap(user_usd: float):
    async with scripted_upstream(answer(completion(5, 9))) as upstream:
        text = configuration(upstream.base_url, "usd_per_day = 0.06", 'no_ceiling = "insert"')
        text += f"[plans.default.user]\nusd_per_month = {user_usd}\nusd_per_day = {user_usd * 2}\n"
        async with running_gateway(text) as gateway:
            sent = body()
            status, head, got = await plain_request(gateway, "POST", CHAT, sent, headers("zoe"))
            assert status == 200, got
            fits = (round(user_usd * 1e9) - held_nusd(sent, 0)) // 4_000
            assert head[b"x-tollway-inserted-ceiling"] == b"%d" % fits


@pytest.mark.parametrize("mode", ["insert", "auto"])
async def test_of_two_caps_that_refuse_the_tighter_one_is_named(mode: str):
    async with scripted_upstream(answer(completion(5, 9))) as upstream:
        text = configuration(upstream.base_url, "usd_per_day = 0.06", f'no_ceiling = "{mode}"')
        text += "[plans.default.user]\nusd_per_day = 0.001\n"  # less than the frame of any call
        async with running_gateway(text) as gateway:
            status, _, got = await plain_request(gateway, "POST", CHAT, body(stream=True), headers("zoe"))
            assert (status, error_of(got)["code"]) == (429, "insufficient_quota")
            assert "of this user" in error_of(got)["message"]
            assert "at most" not in error_of(got)["message"]
            assert upstream.received == []


# ── whom a cap is for, and what has no price ─────────────────────────────────────────────


async def test_a_user_never_seen_before_has_its_share_of_the_tenants_cap_from_the_first_call():
    async with scripted_upstream(answer(completion(5, 100))) as upstream:
        sent = body(max_tokens=100)
        cap_usd = held_nusd(sent, 100) * 10 / 1e9  # a user's fifth of it is two calls
        async with running_gateway(configuration(upstream.base_url, f"usd_per_month = {cap_usd:.9f}")) as gateway:
            one_cost = 5 * 1_000 + 100 * 4_000
            answers = [await plain_request(gateway, "POST", CHAT, sent, headers("ann")) for _ in range(12)]
            statuses = [status for status, _, _ in answers]
            fits = (2 * held_nusd(sent, 100) - held_nusd(sent, 100)) // one_cost + 1
            assert statuses == [200] * fits + [429] * (12 - fits)
            assert "this user" in error_of(answers[-1][2])["message"]
            assert (await plain_request(gateway, "POST", CHAT, sent, headers("bob")))[0] == 200


async def test_a_model_without_a_price_is_refused_under_a_cap_unless_the_tenant_may_call_it():
    async with scripted_upstream(answer(completion(5, 9))) as upstream:
        sent = body(max_tokens=5).replace(b'"priced"', b'"unpriced"')
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1")) as gateway:
            status, _, got = await plain_request(gateway, "POST", CHAT, sent, headers())
            assert (status, error_of(got)["code"]) == (403, "unpriced_model")
            status, _, got = await plain_request(gateway, "POST", "/v1/brand/new", body(), headers())
            assert status == 403
        async with running_gateway(
            configuration(upstream.base_url, "usd_per_day = 1", "allow_unmetered = true")
        ) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[0] == 200


async def test_a_call_that_could_cost_more_than_one_call_may_is_refused_without_asking_the_store():
    async with scripted_upstream(answer(completion(5, 9))) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_call = 0.01")) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, body(max_tokens=100), headers()))[0] == 200
            status, _, got = await plain_request(gateway, "POST", CHAT, body(max_tokens=5_000), headers())
            assert (status, error_of(got)["code"]) == (429, "insufficient_quota")
            assert "on one call" in error_of(got)["message"]


async def test_the_answer_says_how_full_the_fullest_cap_is_and_once_that_it_is_nearly_so(caplog):
    async with scripted_upstream(answer(completion(5, 100))) as upstream:
        sent = body(max_tokens=100)
        cap_nusd = held_nusd(sent, 100) * 3 // 2
        async with running_gateway(configuration(upstream.base_url, f"usd_per_day = {cap_nusd / 1e9:.9f}")) as gateway:
            seen = []
            for _ in range(4):
                _, head, _ = await plain_request(gateway, "POST", CHAT, sent, headers())
                await spent(gateway)
                seen.append((head[b"x-tollway-cap"], int(head[b"x-tollway-cap-used-pct"])))
            held, one = held_nusd(sent, 100), 5 * 1_000 + 100 * 4_000
            pct = [(held + number * one) * 100 // cap_nusd for number in range(4)]
            assert seen == [(b"soft" if each >= 80 else b"ok", each) for each in pct]
            soft = sum(each >= 80 for each in pct)
            assert soft > 0
            assert gateway.metric('tollway_soft_caps_total{scope="tenant"}') == soft
            assert len([record for record in caplog.records if record.name == "tollway.caps"]) == 1


async def test_an_answer_that_is_whole_at_once_says_what_it_cost_and_no_other_does():
    events = [b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n', b"data: [DONE]\n\n"]
    refused = answer(b'{"error":{"message":"no"}}', status=b"400 Bad Request")
    async with scripted_upstream(answer(completion(1_000, 50))) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 9")) as gateway:

            async def cost_of(**fields) -> bytes | None:
                _, head, _ = await plain_request(gateway, "POST", CHAT, body(max_tokens=100, **fields), headers())
                return head.get(b"x-tollway-cost-usd")

            assert await cost_of() == b"0.0012"  # 1,000 at $1 and 50 at $4, for a million
            upstream.script = lambda _: refused
            assert await cost_of() == b"0.00"
            upstream.script = lambda _: stream(*events)
            assert await cost_of(stream=True) is None
