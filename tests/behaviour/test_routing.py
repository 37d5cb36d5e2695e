"""Promise: a call goes where the file, the tenant's promises and its consent say; the answer and the row tell why."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.administration.virtual_keys import Wanted
from proxy.core.consent import Consent
from tests.gateway import JSON, BrokenOff, Gateway, error_of, plain_request, running_gateway
from tests.scripted_upstream import Do, Received, Script, ScriptedUpstream, Step, answer, scripted_upstream, stream

CHAT = "/v1/chat/completions"
DOWN = answer(
    b'{"error":{"message":"down"}}', status=b"503 Service Unavailable", headers=[(b"x-should-retry", b"false")]
)
PRICE = """price = { input_usd_per_mtok = 1, output_usd_per_mtok = 4 }
context_tokens = 100_000
max_output_tokens = 20_000
"""
CONSENTS = """
[tenants.acme]
fallback = "equivalent"
"""
CAPPED = """
[plans.default.tenant]
usd_per_day = 10
"""
DEARER = PRICE.replace("= 1,", "= 100,").replace("= 4 }", "= 400 }")
USAGE = {"prompt_tokens": 7, "completion_tokens": 5}


def completion(name: str) -> bytes:
    return json.dumps({"id": name, "choices": [], "usage": USAGE}).encode()


def body(model: str = "m", **fields: Any) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    return json.dumps({**asked, **fields}).encode()


class Two:
    """Two providers behind one gateway; `down` are those that fail."""

    def __init__(self, gateway: Gateway, servers: dict[str, ScriptedUpstream], down: set[str]) -> None:
        self.gateway, self.servers, self.down = gateway, servers, down

    async def ask(
        self, sent: bytes | None = None, tenant: str = "acme", **headers: str
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        also = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        named = [*JSON, (b"x-tollway-tenant", tenant.encode()), *also]
        status, head, answered = await plain_request(self.gateway, "POST", CHAT, sent or body(), named)
        return status, dict(head), answered

    async def ask_and_see(self, sent: bytes) -> tuple[bytes, bool]:
        """What came of the answer's body, and whether it had a clean end."""
        try:
            return (await self.ask(sent))[2], True
        except BrokenOff as broken:
            return broken.body, False

    async def row(self, tenant: str = "acme") -> dict[str, Any]:
        await self.gateway.settled()
        row: dict[str, Any] = (await self.gateway.rows(tenant))[-1]
        return row

    def counts(self) -> tuple[int, int]:
        return len(self.servers["one"].received), len(self.servers["two"].received)


@asynccontextmanager
async def two(
    text: str, *, one: str = "", other: str = "", auth: str = "", down: tuple[str, ...] = ()
) -> AsyncIterator[Two]:
    failing = set(down)

    def script_of(name: str) -> Script:
        def script(_request: Received) -> list[Step]:
            return DOWN if name in failing else answer(completion(name))

        return script

    async with scripted_upstream(script_of("one")) as first, scripted_upstream(script_of("two")) as second:
        providers = f"""
[auth]
{auth if "mode" in auth else f'mode = "trusted-headers"{chr(10)}{auth}'}
[providers.one]
base_url = "{first.base_url}"
provider_key = "sk-ones"
{one}
[providers.two]
base_url = "{second.base_url}"
provider_key = "sk-twos"
{other}
"""
        async with running_gateway(providers + text) as gateway:
            yield Two(gateway, {"one": first, "two": second}, failing)


def model(alias: str = "m", *, tier: str = "same", price: str = DEARER, more: str = "", second: str = "") -> str:
    return f"""
[models.{alias}]
{more}
[[models.{alias}.deployments]]
provider = "one"
model = "{alias}"
{PRICE}
[[models.{alias}.deployments]]
provider = "two"
model = "{alias}"
tier = "{tier}"
{price}
{second}
"""


# ── promises ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tenant", "asked"),
    [
        ('residency = ["eu"]', "two"),
        ('residency = ["us", "eu"]', "one"),
        ("zero_retention = true", "two"),
        ("", "one"),
    ],
)
async def test_a_tenant_is_served_where_it_was_promised(tenant: str, asked: str) -> None:
    text, keeps_nothing = model() + f"[tenants.acme]\n{tenant}\n", 'region = "eu"\nretention = "zero"'
    async with two(text, one='region = "us"', other=keeps_nothing) as behind:
        status, head, answered = await behind.ask()
        assert (status, json.loads(answered)["id"]) == (200, asked)
        assert head[b"x-tollway-model"] == f"{asked}/m".encode()


@pytest.mark.parametrize("what", ['residency = ["ap"]', "zero_retention = true"])
async def test_where_nobody_may_serve_it_nobody_does(what: str) -> None:
    text = model() + f'[tenants.acme]\n{what}\nfallback = "lower"\n'
    async with two(text, one='region = "us"', other='region = "us"') as behind:
        for sent in (body(), body("one-of-the-default-provider")):
            status, _, answered = await behind.ask(sent)
            assert (status, error_of(answered)["code"]) in ((403, "no_deployment_allowed"), (404, "model_not_found"))
        assert behind.counts() == (0, 0)


async def test_the_default_provider_is_no_way_around_a_promise() -> None:
    text = '[tenants.acme]\nresidency = ["eu"]\n'
    async with two(text, one='region = "us"', auth='default_provider = "one"') as behind:
        status, _, answered = await behind.ask(body("its-own-name"))
        assert (status, error_of(answered)["code"]) == (403, "no_deployment_allowed")
        assert (await behind.ask(body("its-own-name"), tenant="another"))[0] == 200
        assert behind.counts() == (1, 0)


async def test_a_fallback_keeps_the_promise() -> None:
    text = model() + '[tenants.acme]\nresidency = ["us"]\nfallback = "lower"\n'
    async with two(text, one='region = "us"', other='region = "eu"', down=("one",)) as behind:
        status, head, _ = await behind.ask()
        assert status == 503
        assert behind.counts() == (1, 0)
        assert b"x-tollway-fallback-available" not in head  # no consent would have helped


@pytest.mark.usefixtures("asked_once")
async def test_what_a_key_was_issued_with_stands_in_the_tenants_place() -> None:
    """The consent of the key, narrowed by the call; put and issued while the gateway runs."""
    text = model(tier="equivalent")
    async with two(text, auth='mode = "virtual-keys"', down=("one",)) as behind:
        desk = behind.gateway.app._open_desk("ci")
        await desk.tenants.put("acme", {"fallback": Consent.EQUIVALENT, "residency": None})
        keys = {
            consent: (await desk.virtual_keys.issue(Wanted("acme", fallback=consent))).token.reveal()
            for consent in (None, Consent.NONE, Consent.LOWER)
        }
        for consent, asked, expected in (
            (None, "lower", 200),  # the tenant's
            (Consent.NONE, "lower", 503),  # a call narrows, and never widens
            (Consent.LOWER, "lower", 200),
            (Consent.LOWER, "none", 503),
        ):
            bearer = f"Bearer {keys[consent]}"
            status, _, _ = await behind.ask(authorization=bearer, x_tollway_fallback=asked)
            assert status == expected, (consent, asked)


# ── strategies ───────────────────────────────────────────────────────────────────────────


async def test_weighted_calls_stay_with_their_user_and_the_row_says_who_was_drawn() -> None:
    async with two(model(price=PRICE, more='strategy = "weighted"', second="weight = 3")) as behind:
        served: dict[str, set[str]] = {}
        for _ in range(3):
            for number in range(40):
                _, head, _ = await behind.ask(x_tollway_user=f"u{number}")
                served.setdefault(f"u{number}", set()).add(head[b"x-tollway-model"].decode())
        assert all(len(models) == 1 for models in served.values())
        counted = Counter(next(iter(models)) for models in served.values())
        assert counted["two/m"] > counted["one/m"] > 0
        row = await behind.row()
        assert row["split"] == row["deployment"]


async def test_the_cheapest_is_asked_first() -> None:
    async with two(model(more='strategy = "cheapest"', price=PRICE.replace("= 1,", "= 0.5,"))) as behind:
        assert (await behind.ask())[1][b"x-tollway-model"] == b"two/m"


async def test_the_fastest_is_asked_once_both_are_measured() -> None:
    async with two(model(more='strategy = "fastest"', price=PRICE)) as behind:
        behind.servers["one"].script = lambda _request: [0.4, *answer(completion("one"))]
        models = [(await behind.ask())[1][b"x-tollway-model"] for _ in range(8)]
        assert set(models[:2]) == {b"one/m", b"two/m"}
        assert models[2:] == [b"two/m"] * 6


async def test_who_is_unwell_comes_last_and_the_tenant_pays_what_it_asked_for() -> None:
    async with two(model() + CONSENTS + CAPPED) as behind:
        behind.down.add("one")
        for _ in range(3):
            assert (await behind.ask())[0] == 200
        sent_to_one = behind.counts()[0]
        status, head, _ = await behind.ask()
        assert (status, head[b"x-tollway-attempts"]) == (200, b"1")
        assert behind.counts()[0] == sent_to_one  # it was not asked
        row = await behind.row()
        assert (row["fallback_reason"], row["given_up"], row["attempts"]) == ("unwell", None, 1)
        # 7 tokens in and 5 out: $1 and $4 for a million of them, and a hundred times that
        assert (row["cost_nusd"], row["charged_nusd"], row["absorbed_nusd"]) == (2_700_000, 27_000, 2_673_000)


# ── what a fallback may cost ─────────────────────────────────────────────────────────────


async def test_the_operator_bears_no_more_than_its_bound_for_the_day() -> None:
    # The dearer answer may come to 100 tokens at $396 a million more, and 2,200 tokens in at $99 more: some $0.26.
    text = model() + CONSENTS + CAPPED
    async with two(text + "[fallback]\nabsorb_usd_per_day = 0.30\n", down=("one",)) as behind:
        statuses = [(await behind.ask())[0] for _ in range(2)]
        assert statuses == [200, 200]  # each held its worst case, and bore $0.0027
        await behind.gateway.idle()
        await behind.gateway.app.settlement.drain(5)
        day = (await behind.row())["started_at"][:10]
        store = behind.gateway.app.stores.absorption
        for _ in range(100):
            if (await store.figures(day)).held_nusd == 0:
                break
            await asyncio.sleep(0.02)
        assert await store.figures(day) == (0, 2 * 2_673_000)
        assert await store.hold("run_of_another", day, 200_000_000, 300_000_000)
        status, _, _ = await behind.ask()
        assert status == 503  # the first choice's own answer: the day has no room for another's


async def test_the_bound_holds_where_the_first_choice_is_passed_over_too() -> None:
    text = model() + CONSENTS + CAPPED + "[fallback]\nabsorb_usd_per_day = 0.30\n"
    async with two(text, down=("one",)) as behind:
        for _ in range(3):
            assert (await behind.ask())[0] == 200
        sent = behind.counts()
        assert sent[0] == 3  # its breaker is open by now
        day = (await behind.row())["started_at"][:10]
        assert await behind.gateway.app.stores.absorption.hold("run_of_another", day, 290_000_000, 300_000_000)
        status, _, answered = await behind.ask()
        assert (status, error_of(answered)["code"]) == (503, "no_deployment_available")
        assert behind.counts() == sent


async def test_without_a_known_price_nothing_is_absorbed_under_a_bound() -> None:
    text = model(price="") + '[tenants.acme]\nfallback = "equivalent"\n[fallback]\nabsorb_usd_per_day = 1\n'
    async with two(text, down=("one",)) as behind:
        assert (await behind.ask())[0] == 503
        assert behind.counts() == (1, 0)


async def test_a_cap_that_cannot_hold_the_fallback_leaves_the_first_ones_answer() -> None:
    longer = PRICE.replace("max_output_tokens = 20_000", "max_output_tokens = 90_000")
    text = model(price=longer) + CONSENTS + CAPPED
    sent = body()[:-1].replace(b', "max_tokens": 100', b"") + b"}"
    # Without a ceiling: 20,000 tokens at $4 a million are $0.08, 90,000 of them $0.36.
    async with two(text.replace("day = 10", "day = 0.2"), down=("one",)) as behind:
        assert (await behind.ask(sent))[0] == 503
        assert behind.counts() == (1, 0)
    async with two(text.replace("day = 10", "day = 0.5"), down=("one",)) as behind:
        assert (await behind.ask(sent))[0] == 200
        row = await behind.row()
        assert row["held_nusd"] > 360_000_000
        assert row["charged_nusd"] == 27_000


# ── the body, and other APIs ─────────────────────────────────────────────────────────────


async def test_a_fallback_sends_the_same_bytes_but_for_the_models_name() -> None:
    text = model().replace('model = "m"\ntier', 'model = "m-two"\ntier') + CONSENTS
    async with two(text, down=("one",)) as behind:
        sent = body(unknown={"a": [1.0, 2e3]}, metadata={"x": "é" * 40_000})  # large: it is parsed twice
        assert (await behind.ask(sent))[0] == 200
        assert behind.servers["one"].received[0].body == sent
        assert behind.servers["two"].received[0].body == sent.replace(b'"m"', b'"m-two"', 1)
        assert behind.servers["two"].received[0].header(b"authorization") == b"Bearer sk-twos"


async def test_a_fallback_crosses_to_another_api() -> None:
    said = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 7, "output_tokens": 5},
    }
    text = model(price="").replace('"m"\ntier', '"claude-haiku-4-5"\ntier') + CONSENTS
    async with two(text, other='dialect = "anthropic"', down=("one",)) as behind:
        behind.servers["two"].script = lambda _request: answer(json.dumps(said).encode())
        status, head, answered = await behind.ask()
        assert status == 200
        assert json.loads(answered)["choices"][0]["message"]["content"] == "hello"
        assert head[b"x-tollway-translated"] == b"chat_completions>messages"
        assert behind.servers["two"].received[0].target == "/v1/messages"
        assert behind.servers["one"].received[0].body == body()
        # And where that one fails too, the error is the last one's, in the caller's API.
        behind.servers["two"].script = lambda _request: DOWN
        status, head, answered = await behind.ask()
        assert status == 503
        assert "error" in json.loads(answered)


async def test_a_call_that_the_fallback_cannot_say_is_not_asked_there() -> None:
    text = model(price="").replace('"m"\ntier', '"claude-haiku-4-5"\ntier') + CONSENTS
    async with two(text, other='dialect = "anthropic"', down=("one",)) as behind:
        status, _, answered = await behind.ask(body(logit_bias={"1": 5}))
        assert (status, json.loads(answered)) == (503, {"error": {"message": "down"}})
        assert behind.counts() == (1, 0)


async def test_an_upload_that_has_gone_is_not_sent_again() -> None:
    text = model() + CONSENTS
    async with two(text, down=("one",)) as behind:
        form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n'
        form += b'content-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 100_000 + b"\r\n--b--\r\n"
        headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"x-tollway-tenant", b"acme")]
        status, _, _ = await plain_request(behind.gateway, "POST", "/v1/audio/transcriptions", form, headers)
        assert status == 503
        assert behind.counts() == (1, 0)


# ── rules ────────────────────────────────────────────────────────────────────────────────

RULED = (
    model("small")
    + model("big")
    + """
[models.auto]
default = "small"
rules = [
  { name = "forced", use = "big", when = { tier = "strong" } },
  { name = "long", use = "big", when = { input_tokens_min = 1_000 } },
  { name = "coded", use = "big", when = { code_blocks_min = 1 } },
  { name = "seen", use = "big", when = { images = true } },
  { name = "report", use = "big", when = { feature = "report" } },
  { name = "full", use = "big", when = { cap_used_pct_min = 90 } },
]
[plans.default.tenant]
usd_per_day = 1
[plans.default.models.big]
requests_per_minute = 100
"""
)


@pytest.mark.parametrize(
    ("fields", "headers", "rule", "served"),
    [
        ({}, {}, b"auto.default", b"one/small"),
        ({}, {"x_tollway_tier": "strong"}, b"auto.forced", b"one/big"),
        ({"messages": [{"role": "user", "content": "x" * 5_000}]}, {}, b"auto.long", b"one/big"),
        ({"messages": [{"role": "user", "content": "```\ncode\n```"}]}, {}, b"auto.coded", b"one/big"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            {},
            b"auto.seen",
            b"one/big",
        ),
        ({}, {"x_tollway_feature": "report"}, b"auto.report", b"one/big"),
    ],
)
async def test_rules_lead_to_a_model_and_its_limits(fields, headers, rule, served) -> None:
    async with two(RULED) as behind:
        status, head, _ = await behind.ask(body("auto", **fields), **headers)
        assert (status, head[b"x-tollway-rule"], head[b"x-tollway-model"]) == (200, rule, served)
        assert (b"x-tollway-limit-remaining-requests" in head) is (served == b"one/big")
        row = await behind.row()
        assert (row["requested_model"], row["rule"], row["served_model"]) == (
            "auto",
            rule.decode(),
            served[4:].decode(),
        )
        assert json.loads(behind.servers["one"].received[0].body)["model"] == served[4:].decode()


async def test_a_soft_cap_acts_from_the_next_call_on() -> None:
    async with two(RULED) as behind:
        assert (await behind.ask(body("auto", max_tokens=20_000, n=12)))[1][b"x-tollway-rule"] == b"auto.default"
        assert (await behind.ask(body("auto")))[1][b"x-tollway-rule"] == b"auto.full"
        assert (await behind.ask(body("auto"), tenant="another"))[1][b"x-tollway-rule"] == b"auto.default"


@pytest.mark.parametrize(
    ("header", "value"), [("x_tollway_tier", "a b"), ("x_tollway_fallback", "all"), ("x_tollway_fallback", "")]
)
async def test_headers_that_say_nothing_are_refused(header: str, value: str) -> None:
    async with two(RULED) as behind:
        status, _, answered = await behind.ask(body("auto"), **{header: value})
        assert (status, error_of(answered)["code"]) == (400, "invalid_header")
        assert behind.counts() == (0, 0)


# ── draining and switching, by the file ──────────────────────────────────────────────────


async def test_a_drained_deployment_gets_no_new_call_and_a_switched_model_is_served_by_another() -> None:
    text = model("m", price=PRICE).replace(PRICE, PRICE + "drained = true\n", 1) + model(
        "old", more='switched_to = "m"'
    )
    async with two(text) as behind:
        assert (await behind.ask())[1][b"x-tollway-model"] == b"two/m"
        _, head, _ = await behind.ask(body("old"))
        assert (head[b"x-tollway-model"], head[b"x-tollway-rule"]) == (b"two/m", b"old.switched")


# ── cut anywhere ─────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("asked_once")
async def test_cut_at_every_byte_nobody_gets_parts_of_two_answers_nor_a_clean_end() -> None:
    """A stream of one is cut after each of its bytes: what the caller has is either all of the other's answer, or the
    beginning of the first one's without an end."""
    events = [b'data: {"id":"one","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % turn for turn in range(2)]
    of_one = b"".join(events) + b"data: [DONE]\n\n"
    of_two = b'data: {"id":"two","choices":[{"index":0,"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'
    text = model() + CONSENTS
    async with two(text) as behind:
        cut_at = 0
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

        def cut(_request: Received) -> list[Step]:
            piece = of_one[:cut_at]
            return [head + (b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""), Do.CLOSE]

        behind.servers["one"].script = cut
        behind.servers["two"].script = lambda _request: stream(of_two)
        for cut_at in range(len(of_one) + 1):
            answered, is_whole = await behind.ask_and_see(body(stream=True))
            if cut_at < len(events[0]):
                assert (answered, is_whole) == (of_two, True)
            else:
                assert not is_whole
                assert of_one.startswith(answered)
                assert len(answered) >= len(events[0])
