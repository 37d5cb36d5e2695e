"""Promise: however the first choice fails, a call is answered by whom its tenant has agreed to, and by nobody else; it
pays no more than what it asked for costs, and the row says what happened. Never parts of two answers in one.

Each case has a model of its own, so that what is remembered of a deployment is that case's alone."""

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from proxy.pipeline import attempts
from proxy.upstream.retry_budget import RetryBudget
from tests.gateway import JSON, Gateway, plain_request, running_gateway
from tests.scripted_upstream import Do, Received, ScriptedUpstream, Step, answer, scripted_upstream, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
JSON_100 = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
FIRST_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
SECOND_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"two"},"finish_reason":"stop"}]}\n\n'
WITH_NO_USAGE = SECOND_EVENT.replace(b"}]}\n", b'}],"usage":null}\n')  # as a provider sends it that is to report
USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR_EVENT = b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'
CALLERS_ERROR_EVENT = b'data: {"error":{"message":"no such tool","type":"invalid_request_error"}}\n\n'
PING = b": ping\n\n"
DRIP: list[bytes | float] = [PING, 0.05] * 40
SAID_BY_SECOND = b'{"id":"second","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}'
STREAMED_BY_SECOND = WITH_NO_USAGE + USAGE + DONE
NOT_NOW = b'{"error":{"message":"not now"}}'
# $1 and $4 for a million tokens at the first, $2 and $8 at the second: 7 tokens in and 5 out.
FIRSTS_PRICE_NUSD, SECONDS_PRICE_NUSD = 27_000, 54_000


def refusal(status: bytes, *headers: tuple[bytes, bytes]) -> list[Step]:
    return answer(NOT_NOW, status=status, headers=headers)


@dataclass(frozen=True)
class Fault:
    """What the first choice does; how often it is asked; what is left of it
    where nobody else may answer; and whether its provider may bill it."""

    plain: list[Step]
    stream: list[Step]
    sends: int  # its retries included
    status: int
    code: str | None  # the gateway's own words; None: the provider's bytes pass
    reason: str
    may_be_billed: bool = False
    takes_all_the_time: str = ""  # of this kind of call: nobody else can be asked


def both(steps: list[Step], *said: Any, **more: Any) -> Fault:
    return Fault(steps, steps, *said, **more)


FAULTS: dict[str, Fault] = {
    # `refused` has a provider of its own, on a port where nobody listens
    "refused": both([], 3, 502, "upstream_unreachable", "not_sent"),
    "reset-before-head": both([Do.RESET], 1, 502, "upstream_unreachable", "broke_off", may_be_billed=True),
    "reset-after-head": Fault(
        [JSON_100, 0.02, Do.RESET], [CHUNKED, 0.02, Do.RESET], 1, 502, "upstream_truncated", "broke_off", True
    ),
    "hang": both([Do.HANG], 1, 504, "upstream_timeout", "timed_out", True, takes_all_the_time="plain"),
    "slow-drip": Fault(  # pings are no byte of an answer; of a plain one, every byte is
        [Do.HANG],
        stream(*DRIP, Do.HANG),
        1,
        504,
        "upstream_timeout",
        "timed_out",
        True,
        takes_all_the_time="plain",
    ),
    "429-that-says-when": both(refusal(b"429 Too Many Requests", (b"retry-after", b"30")), 1, 429, None, "status:429"),
    # Where it does not say when, it is left alone for a second: longer than these calls may take.
    "429": both(refusal(b"429 Too Many Requests"), 1, 429, None, "status:429"),
    "429-that-says-soon": both(
        refusal(b"429 Too Many Requests", (b"retry-after-ms", b"20")), 3, 429, None, "status:429"
    ),
    "408": both(refusal(b"408 Request Timeout"), 3, 408, None, "status:408"),
    "500": both(refusal(b"500 Internal Server Error"), 3, 500, None, "status:500"),
    "503": both(refusal(b"503 Service Unavailable"), 3, 503, None, "status:503"),
    "529": both(refusal(b"529 Overloaded"), 3, 529, None, "status:529"),
    "malformed": both([b"SSH-2.0-OpenSSH_9.9\r\n", Do.HANG], 1, 502, "upstream_malformed", "malformed", True),
    "error-first": Fault(refusal(b"503 Service Unavailable"), stream(PING, ERROR_EVENT), 3, 503, None, "error_event"),
    "gateways-key-refused": both(
        answer(b'{"error":{"code":"invalid_api_key","message":"sk-..."}}', status=b"401 Unauthorized"),
        1,
        502,
        "provider_auth_failed",
        "credentials",
    ),
}
# What is an answer, and no failure of the deployment: nobody else is asked.
ANSWERS: dict[str, tuple[list[Step], list[Step]]] = {
    "400": (refusal(b"400 Bad Request"), refusal(b"400 Bad Request")),
    "404": (refusal(b"404 Not Found"), refusal(b"404 Not Found")),
    "422": (refusal(b"422 Unprocessable Content"), refusal(b"422 Unprocessable Content")),
    "callers-error-first": (refusal(b"400 Bad Request"), stream(CALLERS_ERROR_EVENT, DONE)),
}
TENANTS = ("none", "equivalent", "lower")
KINDS = ("plain", "stream")
MODELS = [
    *(
        f"{fault}.{kind}.{tenant}"
        for fault in (*FAULTS, *ANSWERS)
        for kind in KINDS
        for tenant in (*TENANTS, "narrowed")
    ),
    *("503.again.small", "503.again.large"),
]


@dataclass
class Place:
    """A gateway before two providers, and what they were asked for, by model."""

    gateway: Gateway
    first: ScriptedUpstream
    second: ScriptedUpstream

    def asked(self, model: str) -> tuple[int, int]:
        return self._count(self.first, model), self._count(self.second, f"{model}.second")

    def _count(self, upstream: ScriptedUpstream, model: str) -> int:
        return sum(json.loads(request.body)["model"] == model for request in upstream.received)


def first_says(request: Received) -> list[Step]:
    body = json.loads(request.body)
    fault = body["model"].split(".")[0]
    if fault in ANSWERS:
        return ANSWERS[fault][1 if body.get("stream") else 0]
    return FAULTS[fault].stream if body.get("stream") else FAULTS[fault].plain


def second_says(request: Received) -> list[Step]:
    return stream(STREAMED_BY_SECOND) if json.loads(request.body).get("stream") else answer(SAID_BY_SECOND)


def configuration(first: str, second: str, closed_port: int) -> str:
    models = ""
    for model in MODELS:
        provider = "closed" if model.startswith("refused.") else "first"
        models += f"""
[[models."{model}".deployments]]
provider = "{provider}"
model = "{model}"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 4 }}
context_tokens = 100_000
max_output_tokens = 20_000
[[models."{model}".deployments]]
provider = "second"
model = "{model}.second"
tier = "{"lower" if model.endswith(".lower") else "equivalent"}"
price = {{ input_usd_per_mtok = 2, output_usd_per_mtok = 8 }}
context_tokens = 100_000
max_output_tokens = 20_000
"""
    providers = "".join(
        f"""
[providers.{name}]
base_url = "{url}"
provider_key = "sk-{name}s"
timeouts_s = {{ connect = 0.5, first_byte = 0.4, idle = 0.4, total = {total_s} }}
"""
        for name, url, total_s in (
            ("first", first, 1.0),
            ("second", second, 5.0),
            ("closed", f"http://127.0.0.1:{closed_port}/v1", 1.0),
        )
    )
    tenants = "".join(f'[tenants.{tenant}]\nfallback = "{tenant}"\n' for tenant in TENANTS)
    return f"""
[auth]
mode = "trusted-headers"
{providers}{models}
[plans.default.tenant]
usd_per_day = 100
{tenants}
[tenants.narrowed]
fallback = "lower"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens: connections are refused
        port = closed.getsockname()[1]
        async with scripted_upstream(first_says) as first, scripted_upstream(second_says) as second:
            async with running_gateway(configuration(first.base_url, second.base_url, port)) as gateway:
                yield Place(gateway, first, second)


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    """The jitter before a retry is a random part of 100 and 200 ms; here it is none, and the budget has no end."""
    monkeypatch.setattr(attempts, "random", lambda: 0.0)
    monkeypatch.setattr(RetryBudget, "take", lambda _budget, _now_us: True)


def body_of(model: str, kind: str) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
    return json.dumps({**asked, "stream": True} if kind == "stream" else asked).encode()


async def call(place: Place, model: str, kind: str, tenant: str) -> tuple[int, dict[bytes, bytes], bytes]:
    headers = [*JSON, (b"x-tollway-tenant", tenant.encode())]
    if tenant == "narrowed":
        headers.append((b"x-tollway-fallback", b"none"))
    status, head, body = await plain_request(place.gateway, "POST", CHAT, body_of(model, kind), headers)
    return status, dict(head), body


async def row_of(place: Place, tenant: str, model: str) -> dict[str, Any]:
    await place.gateway.settled()
    rows = [row for row in await place.gateway.rows(tenant) if row["requested_model"] == model]
    assert len(rows) == 1, rows
    return rows[0]


def is_consented(tenant: str) -> bool:
    return tenant in ("equivalent", "lower")


@pytest.mark.parametrize("tenant", [*TENANTS, "narrowed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_the_fault_matrix(place: Place, fault: str, kind: str, tenant: str) -> None:
    expected, model = FAULTS[fault], f"{fault}.{kind}.{tenant}"
    reason = "status:503" if (fault, kind) == ("error-first", "plain") else expected.reason
    status, headers, body = await call(place, model, kind, tenant)
    row = await row_of(place, tenant, model)
    has_time = expected.takes_all_the_time != kind
    falls_back = is_consented(tenant) and has_time
    sends = expected.sends
    firsts_sends = 0 if fault == "refused" else sends
    if falls_back:
        # the answer: the second's, byte by byte, and nothing of the first
        assert status == 200
        # (the report of usage was asked for by the gateway, and is taken out again)
        assert body == (SECOND_EVENT + DONE if kind == "stream" else SAID_BY_SECOND)
        assert headers[b"x-tollway-model"] == f"second/{model}.second".encode()
        assert headers[b"x-tollway-attempts"] == b"%d" % (sends + 1)
        assert b"x-tollway-fallback-available" not in headers
        assert place.asked(model) == (firsts_sends, 1)
        # the charge: what was used, at the lower price; the rest is the operator's
        assert (row["cost_nusd"], row["charged_nusd"]) == (SECONDS_PRICE_NUSD, FIRSTS_PRICE_NUSD)
        borne_nusd = row["absorbed_nusd"] - (SECONDS_PRICE_NUSD - FIRSTS_PRICE_NUSD)
        assert (borne_nusd > 0) is expected.may_be_billed
        assert (row["deployment"], row["fallback_reason"]) == (f"second/{model}.second", reason)
        assert row["given_up"].count(",") == sends - 1
        assert (row["status"], row["attempts"], row["error_source"]) == (200, sends + 1, None)
    else:
        # the answer: the first's own error, and a word on what consent would have done
        available = b"equivalent" if has_time and not is_consented(tenant) else None
        assert headers.get(b"x-tollway-fallback-available") == available
        assert place.asked(model) == (firsts_sends, 0)
        if expected.code is not None:
            assert (status, json.loads(body)["error"]["code"]) == (expected.status, expected.code)
        elif kind == "stream" and fault == "error-first":
            assert (status, body) == (200, PING + ERROR_EVENT)
        else:
            assert (status, body) == (expected.status, NOT_NOW)
        assert row["charged_nusd"] in (0, None)
        assert (row["absorbed_nusd"] or 0) > 0 if expected.may_be_billed else not row["absorbed_nusd"]
        assert (row["fallback_reason"], row["attempts"]) == (None, sends)
        assert row["held_nusd"] > 0


@pytest.mark.parametrize("tenant", ["none", "lower"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", ANSWERS)
async def test_an_answer_is_no_failure(place: Place, kept: str, kind: str, tenant: str) -> None:
    model = f"{kept}.{kind}.{tenant}"
    status, headers, body = await call(place, model, kind, tenant)
    assert place.asked(model) == (1, 0), (status, body)
    assert b"x-tollway-fallback-available" not in headers
    if (kept, kind) == ("callers-error-first", "stream"):
        assert (status, body) == (200, CALLERS_ERROR_EVENT + DONE)
    else:
        assert (status, body) == (int(kept) if kept.isdigit() else 400, NOT_NOW)


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_stream_whose_usage_is_asked_for_is_sent_again_as_it_was(place: Place, size: str) -> None:
    text, model = "x" * (10 if size == "small" else 200_000), f"503.again.{size}"
    body = {"model": model, "stream": True, "max_tokens": 10, "messages": [{"role": "user", "content": text}]}
    headers = [*JSON, (b"x-tollway-tenant", b"none")]
    status, _, _ = await plain_request(place.gateway, "POST", CHAT, json.dumps(body).encode(), headers)
    assert status == 503
    sent = [request.body for request in place.first.received if model.encode() in request.body]
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert json.loads(sent[0])["stream_options"] == {"include_usage": True}
