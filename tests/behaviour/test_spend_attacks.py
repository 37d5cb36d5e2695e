"""Promise: neither a caller nor a provider can make a call that is paid for count for less than it was, or make a
hold stay for ever, whatever they write into a body or a report."""

import asyncio
import json
from contextlib import aclosing

import pytest

from tests.behaviour.test_caps import CHAT, body, configuration, headers, held_nusd, spent
from tests.gateway import error_of, plain_request, raw_request, running_gateway
from tests.redis_server import emptied
from tests.scripted_upstream import Do, answer, scripted_upstream, stream

RICH = "usd_per_day = 4_000_000\ntokens_per_minute = 1_000_000_000"
BILLION = 10**9


@pytest.fixture(params=["sqlite", "redis"])
def state_url(request) -> str | None:
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("redis_url")
    return url


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "charged_nusd"),
    [
        # More than any bucket takes of one call, and charged as reported: $1 and $4 for a million.
        (200_000_000, 0, 200_000_000 * 1_000),
        (BILLION, BILLION, BILLION * 1_000 + BILLION * 4_000),
        # No measurement: the worst case.
        (BILLION + 1, 0, None),
        (2**53 - 1, 2**53 - 1, None),
        (2**63, 1, None),
        (-1, 1, None),
    ],
)
async def test_a_report_of_any_size_is_settled_has_its_row_and_frees_its_hold(
    state_url, input_tokens, output_tokens, charged_nusd
):
    await emptied(state_url)
    sent = body(max_tokens=100)
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    async with scripted_upstream(answer(json.dumps({"choices": [], "usage": usage}).encode())) as upstream:
        async with running_gateway(configuration(upstream.base_url, RICH), state_url=state_url) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[0] == 200
            expected_nusd = held_nusd(sent, 100) if charged_nusd is None else charged_nusd
            assert await spent(gateway) == (expected_nusd, 0)
            (row,) = await gateway.rows("acme")
            assert row["charged_nusd"] == expected_nusd


async def test_what_costs_more_than_a_counter_holds_is_charged_at_the_most_that_one_does(state_url):
    await emptied(state_url)
    usage = {"prompt_tokens": BILLION, "completion_tokens": BILLION}
    async with scripted_upstream(answer(json.dumps({"choices": [], "usage": usage}).encode())) as upstream:
        text = configuration(upstream.base_url, RICH).replace(
            "output_usd_per_mtok = 4 ", "output_usd_per_mtok = 10_000 "
        )
        async with running_gateway(text, state_url=state_url) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, body(max_tokens=100), headers()))[0] == 200
            assert await spent(gateway) == (4_000_000 * 10**9, 0)


@pytest.mark.parametrize("count", [10**6, 10**17, 10**19, 1e300, "999999999999999999"])
async def test_any_number_of_answers_is_a_cap_that_cannot_hold_them(state_url, count):
    await emptied(state_url)
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url, RICH), state_url=state_url) as gateway:
            sent = body(max_tokens=20_000, n=count)
            status, _, got = await plain_request(gateway, "POST", CHAT, sent, headers())
            if count == 10**6:  # 20,000 tokens at $4 a million are 8 cents: these fit
                assert status == 200
                return
            assert (status, error_of(got)["code"]) == (429, "insufficient_quota")
            assert upstream.received == []
            assert gateway.app.keeper.open_reservations == 0


# ── leaving just before the report ───────────────────────────────────────────────────────


KNOWN = """
[[models.seeing.deployments]]
provider = "scripted"
model = "seeing"
price = { input_usd_per_mtok = 1, output_usd_per_mtok = 4 }
context_tokens = 100_000
max_output_tokens = 20_000
capabilities = ["vision"]
[[models.searching.deployments]]
provider = "scripted"
model = "gpt-4.1"
"""
WORDS = [
    b'data: {"choices":[{"index":0,"delta":{"content":"abcdef"},"finish_reason":null}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"LAST"},"finish_reason":"stop"}]}\n\n',
]
DELTAS = [b'data: {"type":"response.output_text.delta","delta":"%s"}\n\n' % text for text in (b"abcdef", b"LAST")]
USER = {"role": "user"}
FAR_PICTURE = [{"type": "image_url", "image_url": {"url": "https://pictures.test/1.png"}}]
FAR_FILE = [{"type": "input_file", "file_url": "https://files.test/1.pdf"}]


async def row_of_one_who_leaves(path: str, sent: bytes, events: list[bytes]):
    """The row of a caller that hears all of the answer and leaves before the report, and what is counted then."""
    script = stream(*events, Do.HANG)
    async with scripted_upstream(script) as upstream:
        # gpt-4.1's prices are OpenAI's, of the shipped catalogue.
        text = configuration(upstream.base_url, "usd_per_day = 1_000_000")
        text = text.replace('provider_key = "sk-gateways"', 'provider_key = "sk-gateways"\ncatalog = "openai"')
        async with running_gateway(text + KNOWN) as gateway:
            got = b""
            async with aclosing(raw_request(gateway, "POST", path, sent, headers())) as pieces:
                async for piece in pieces:
                    got += piece
                    if b"LAST" in got:
                        break
            counted = await spent(gateway)
            (row,) = await gateway.rows("acme")
            assert counted == (row["charged_nusd"], 0)
            return row


async def test_who_leaves_before_the_report_pays_for_pictures_and_files_that_nobody_here_saw():
    # Six and four bytes are two and two tokens, at $4 a million; the input is bounded by the context window, at $1.
    whole_context_nusd = 100_000 * 1_000 + 4 * 4_000
    for path, events, fields in (
        (CHAT, WORDS, {"messages": [{**USER, "content": FAR_PICTURE}], "max_tokens": 100}),
        ("/v1/responses", DELTAS, {"input": [{**USER, "content": FAR_FILE}], "max_output_tokens": 100}),
    ):
        sent = json.dumps({"model": "seeing", "stream": True, **fields}).encode()
        row = await row_of_one_who_leaves(path, sent, events)
        assert (row["usage_source"], row["charged_nusd"]) == ("estimated", whole_context_nusd)
        assert row["held_nusd"] == 100_000 * 1_000 + 100 * 4_000


async def test_who_leaves_before_the_report_pays_for_the_searches_that_may_have_run():
    fields = {"input": "hi", "max_output_tokens": 100, "max_tool_calls": 3, "service_tier": "default"}
    tools = {"tools": [{"type": "web_search_preview"}]}
    sent = json.dumps({"model": "searching", "stream": True, **fields, **tools}).encode()
    row = await row_of_one_who_leaves("/v1/responses", sent, DELTAS)
    # Three searches at $0.025, four passes over a context of 1,047,576 tokens at $2 a million, and four tokens at $8.
    assert row["charged_nusd"] == 3 * 25_000_000 + 4 * 1_047_576 * 2_000 + 4 * 8_000


async def test_who_leaves_a_response_in_the_background_pays_all_that_it_may_still_cost():
    fields = {"input": "hi", "max_output_tokens": 10_000, "background": True}
    sent = json.dumps({"model": "seeing", "stream": True, **fields}).encode()
    row = await row_of_one_who_leaves("/v1/responses", sent, DELTAS)
    assert row["usage_source"] == "worst_case"
    assert row["charged_nusd"] == row["held_nusd"] == held_nusd(sent, 10_000)


# ── the operator's own prices ────────────────────────────────────────────────────────────


async def test_an_own_price_for_cache_writes_is_held_and_charged():
    sent = body(max_tokens=100)
    usage = {"prompt_tokens": 1_000, "completion_tokens": 0, "prompt_tokens_details": {"cache_write_tokens": 1_000}}
    async with scripted_upstream(answer(json.dumps({"choices": [], "usage": usage}).encode())) as upstream:
        written = "output_usd_per_mtok = 4, cache_write_usd_per_mtok = 2 "
        text = configuration(upstream.base_url, "usd_per_day = 1").replace("output_usd_per_mtok = 4 ", written)
        async with running_gateway(text) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[0] == 200
            assert await spent(gateway) == (1_000 * 2_000, 0)
            (row,) = await gateway.rows("acme")
            assert row["held_nusd"] == (len(sent) + 2_048) * 2_000 + 100 * 4_000  # any of it may be written


# ── reports that are none ────────────────────────────────────────────────────────────────


def report(input_tokens: int, output_tokens: int) -> bytes:
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"


async def charged_row(script, sent: bytes):
    async with scripted_upstream(script) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1")) as gateway:
            await plain_request(gateway, "POST", CHAT, sent, headers())
            (charged_nusd, still_held_nusd), (row,) = await spent(gateway), await gateway.rows("acme")
            assert (charged_nusd, still_held_nusd) == (row["charged_nusd"], 0)
            return row


async def test_a_stream_whose_report_knows_nothing_of_its_output_is_charged_by_what_was_heard():
    sent = body(stream=True, max_tokens=100)
    input_tokens = -(-len(sent) // 3)
    end = b"data: [DONE]\n\n"
    for script, at_least in (
        (stream(*WORDS, report(0, 0), end), input_tokens),
        (stream(report(5, 0), *WORDS, end), 5),
    ):
        row = await charged_row(script, sent)
        # Six and four bytes are two and two tokens.
        assert (row["usage_source"], row["charged_nusd"]) == ("estimated", at_least * 1_000 + 4 * 4_000)


async def test_a_plain_answer_whose_report_is_all_zeros_costs_what_was_held():
    sent = body(max_tokens=100)
    zeros = json.dumps({"choices": [{}], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}).encode()
    row = await charged_row(answer(zeros), sent)
    assert (row["usage_source"], row["charged_nusd"]) == ("worst_case", held_nusd(sent, 100))


async def test_a_redirect_costs_nothing():
    moved = answer(b"", status=b"308 Permanent Redirect", headers=[(b"location", b"https://elsewhere.test/")])
    assert (await charged_row(moved, body(max_tokens=100)))["charged_nusd"] == 0


# ── a record that cannot be made ─────────────────────────────────────────────────────────


async def test_a_run_that_cannot_be_recorded_is_charged_at_its_worst_case_when_its_lease_runs_out(monkeypatch):
    def broken(*_arguments):
        raise TypeError("nobody thought of this")

    monkeypatch.setattr("proxy.pipeline.settlement.run_row", broken)
    sent = body(max_tokens=100)
    async with scripted_upstream(answer(b'{"usage":{"prompt_tokens":5,"completion_tokens":9}}')) as upstream:
        async with running_gateway(configuration(upstream.base_url, "usd_per_day = 1"), lease_s=2) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[0] == 200
            assert gateway.app.keeper.open_reservations == 0  # nobody keeps its lease alive
            for _ in range(100):
                if (await spent(gateway))[1] == 0:
                    break
                await asyncio.sleep(0.1)
            assert await spent(gateway) == (held_nusd(sent, 100), 0)
            (row,) = await gateway.rows("acme")
            assert (row["usage_source"], row["status"]) == ("worst_case", 0)


async def test_a_moderation_need_not_name_its_model_to_be_known_as_free():
    async with scripted_upstream(answer(b'{"id":"modr-1","results":[]}')) as upstream:
        text = configuration(upstream.base_url, "usd_per_day = 1")
        text = text.replace('provider_key = "sk-gateways"', 'provider_key = "sk-gateways"\ncatalog = "openai"')
        text = text.replace('mode = "trusted-headers"', 'mode = "trusted-headers"\ndefault_provider = "scripted"')
        async with running_gateway(text) as gateway:
            sent = b'{"input":"hello"}'
            assert (await plain_request(gateway, "POST", "/v1/moderations", sent, headers()))[0] == 200
            assert upstream.received[0].body == sent
            await gateway.settled()
            (row,) = await gateway.rows("acme")
            assert row["charged_nusd"] == 0


async def test_a_model_s_cap_holds_under_the_name_that_its_provider_gives_it():
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = configuration(upstream.base_url, "usd_per_day = 100").replace("[[models.priced.", "[[models.nice.")
        text = text.replace('mode = "trusted-headers"', 'mode = "trusted-headers"\ndefault_provider = "scripted"')
        text += "\n[plans.default.models.nice]\nusd_per_day = 0.000_001\n"
        async with running_gateway(text) as gateway:
            for name in (b"nice", b"priced"):
                sent = body(max_tokens=10).replace(b'"priced"', b'"%s"' % name)
                status, _, got = await plain_request(gateway, "POST", CHAT, sent, headers())
                assert (status, error_of(got)["code"]) == (429, "insufficient_quota")
            assert upstream.received == []


async def test_a_provider_that_breaks_off_before_its_answer_may_bill_it_and_one_that_is_not_there_can_not():
    sent = body(max_tokens=100)
    async with scripted_upstream([Do.RESET]) as upstream:
        async with running_gateway(configuration(upstream.base_url, RICH)) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[0] == 502
            assert await spent(gateway) == (0, 0)
            (row,) = await gateway.rows("acme")
            assert (row["charged_nusd"], row["absorbed_nusd"]) == (0, held_nusd(sent, 100))
    async with running_gateway(configuration(upstream.base_url, RICH)) as gateway:
        assert (await plain_request(gateway, "POST", CHAT, sent, headers()))[0] == 502
        await gateway.idle()
        (row,) = await gateway.rows("acme")
        assert (row["charged_nusd"], row["absorbed_nusd"]) == (0, None)
