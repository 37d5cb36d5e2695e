"""What a run is charged, however it ended: exact where it was reported, else by what was heard, else what was held."""

from typing import cast

import pytest

from proxy.admission.estimate import FREE, Estimate
from proxy.admission.terms import Demand
from proxy.core.errors import (
    CallerGone,
    GatewayError,
    GatewayStopped,
    UpstreamBrokeOff,
    UpstreamNotConnected,
    UpstreamTimedOut,
    UpstreamUnreachable,
)
from proxy.core.types import Call, Deployment, InboundRequest, KeySource, Usage, UsageSource
from proxy.dialects.openai import classify
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.dialects.usage import UsageTap
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.charge import Charge
from proxy.pipeline.charging import charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.snapshot import Snapshot
from proxy.pipeline.ticket import Ticket
from proxy.pricing.facts import ModelFacts, own_facts
from proxy.routing.resolve import Candidate
from proxy.upstream.payer import Payer

HELD_NUSD = 900
ESTIMATE = Estimate(HELD_NUSD, 0, 50, 200)
CHAT = classify("POST", ("chat", "completions"))
FACTS = own_facts(1_000_000, 4_000_000)  # a nano-dollar for each token in, four for each out
DEARER, CHEAPER = own_facts(2_000_000, 8_000_000), own_facts(1_000_000, 1_000_000)
REPORT = b'{"usage":{"prompt_tokens":7,"completion_tokens":5}}'
REPORTED = Usage(7, output_tokens=5)
EXACT = Charge(REPORTED, UsageSource.EXACT, 27, 27)  # 7 × 1 + 5 × 4
WORST = Charge(None, UsageSource.WORST_CASE, HELD_NUSD, HELD_NUSD)
NOTHING_SPENT = Charge(cost_nusd=0, charged_nusd=0)
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"123456789"}}]}\n\n'  # nine bytes: three tokens


def run(
    *,
    status: int | None = 200,
    body: bytes = b"",
    error: GatewayError | None = None,
    estimate: Estimate | None = ESTIMATE,
    is_limited: bool = True,
    is_priced: bool = True,
    counts_dollars: bool = True,
    key_source: KeySource = KeySource.GATEWAY,
    may_hide_reasoning: bool = False,
    promised: ModelFacts | None = None,
    given_up_nusd: int = 0,
) -> Exchange:
    """A call of 30 bytes, which are ten tokens where nobody reports them, that was sent."""
    exchange = Exchange("run_1", cast(InboundRequest, None), cast(Snapshot, None), CHAT, 0, 0)
    exchange.attempts = 1
    call = Call(text=b"x" * 30)
    candidate = Candidate(Deployment("p", "m"), "p/m")
    attempt = exchange.attempt = Attempt(candidate, CHAT, call, Payer(key_source, None), FACTS if is_priced else None)
    attempt.promised_facts = promised
    attempt.upstream_status = status
    exchange.error = error
    exchange.counts_dollars = counts_dollars
    exchange.given_up_nusd = given_up_nusd
    attempt.may_hide_reasoning = may_hide_reasoning
    if is_limited:
        exchange.ticket = Ticket(cast(Demand, None), 0 if estimate is None else estimate.held_nusd, estimate)
    if status is not None:
        is_stream = body.startswith(b"data:")
        attempt.output_counter = StreamedOutputCounter(CHAT) if is_stream and estimate is not None else None
        content_type = b"text/event-stream" if is_stream else b"application/json"
        tap = attempt.usage_tap = UsageTap(CHAT, content_type, None, attempt.output_counter)
        tap.feed(body)
        tap.close()
    return exchange


def heard(cost_nusd: int) -> Charge:
    return Charge(Usage(10, output_tokens=3), UsageSource.ESTIMATED, cost_nusd, cost_nusd)


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        # reported
        (run(body=REPORT), EXACT),
        (run(body=REPORT, is_limited=False), EXACT),
        (run(body=REPORT, counts_dollars=False), EXACT._replace(charged_nusd=0)),
        (run(body=REPORT, is_priced=False), Charge(REPORTED, UsageSource.EXACT)),
        (run(body=REPORT, status=500), EXACT),  # whoever reports usage will bill it
        (run(body=REPORT, estimate=FREE), EXACT),  # beyond what was held: exact all the same
        # refused, failed
        (run(status=400), NOTHING_SPENT),
        (run(status=500), NOTHING_SPENT),
        (run(status=500, is_priced=False), Charge()),
        (run(status=None, error=UpstreamUnreachable("")), NOTHING_SPENT),
        (run(status=None, error=UpstreamNotConnected("")), NOTHING_SPENT),
        # it may be billed, and is the operator's to bear, if its key is
        (run(status=None, error=UpstreamTimedOut("")), NOTHING_SPENT._replace(absorbed_nusd=HELD_NUSD)),
        (run(status=None, error=UpstreamBrokeOff("")), NOTHING_SPENT._replace(absorbed_nusd=HELD_NUSD)),
        (run(status=None, error=UpstreamTimedOut(""), key_source=KeySource.CALLER), NOTHING_SPENT),
        (run(status=None, error=UpstreamTimedOut(""), is_limited=False), NOTHING_SPENT),
        # hanging up is no refund
        (run(status=None, error=CallerGone("")), WORST),
        (run(status=None, error=GatewayStopped("")), WORST),
        (run(status=None, error=CallerGone(""), counts_dollars=False), WORST._replace(charged_nusd=0)),
        (run(status=None, error=CallerGone(""), is_limited=False), Charge()),
        (run(body=b"{", error=CallerGone("")), WORST),  # a plain answer of which the report is missing
        (run(body=DELTA, error=CallerGone("")), heard(22)),  # 10 × 1 + 3 × 4
        (run(body=b'{"usage":{"prompt_tokens":7},"choices":[]}'), WORST),  # half a report of a plain answer
        # another model answered than the one that was asked for: the lower price, and the rest is the operator's
        (run(body=REPORT, promised=CHEAPER), Charge(REPORTED, UsageSource.EXACT, 27, 12, 15)),  # 7 × 1 + 5 × 1
        (run(body=REPORT, promised=DEARER), EXACT),
        (run(body=REPORT, promised=CHEAPER, counts_dollars=False), Charge(REPORTED, UsageSource.EXACT, 27, 0, 15)),
        (run(body=REPORT, promised=CHEAPER, key_source=KeySource.TENANT), Charge(REPORTED, UsageSource.EXACT, 27, 12)),
        (run(body=DELTA, promised=CHEAPER), heard(22)._replace(charged_nusd=13, absorbed_nusd=9)),
        # what earlier attempts may cost
        (run(body=REPORT, given_up_nusd=100), EXACT._replace(absorbed_nusd=100)),
        (run(body=REPORT, promised=CHEAPER, given_up_nusd=100), Charge(REPORTED, UsageSource.EXACT, 27, 12, 115)),
        (run(status=500, given_up_nusd=100), NOTHING_SPENT._replace(absorbed_nusd=100)),
        # not reported
        (run(body=DELTA), heard(22)),
        (run(body=DELTA, may_hide_reasoning=True), WORST),
        (run(body=DELTA, estimate=Estimate(20, 0, 50, 200)), heard(20)),  # a guess never exceeds what was held
        (run(body=DELTA, estimate=None), Charge()),
        (
            run(estimate=Estimate(HELD_NUSD, 0, 0, 0, unreported=Usage(3))),
            Charge(Usage(3), UsageSource.ESTIMATED, 3, 3),
        ),
    ],
)
def test_what_a_run_is_charged(exchange: Exchange, expected: Charge) -> None:
    assert charge(exchange) == expected


def test_what_was_never_sent_costs_nothing() -> None:
    exchange = run(body=REPORT)
    exchange.attempts = 0
    assert charge(exchange) == Charge()


@pytest.mark.parametrize(("usage", "tokens"), [(REPORTED, 12), (None, None)])
def test_token_buckets_hear_of_what_is_known(usage: Usage | None, tokens: int | None) -> None:
    assert Charge(usage).tokens == tokens
