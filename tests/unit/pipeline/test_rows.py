"""Rows have in common what their calls have in common, and nothing else."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.cache.entry import CacheEntry, EntryHead
from proxy.core.errors import CallerGone, InvalidJson
from proxy.core.secret import Secret
from proxy.core.types import Call, Caller, Deployment, InboundRequest, KeySource, Usage, UsageSource
from proxy.dialects.openai import classify
from proxy.identity.caller import Prompt
from proxy.ledger.entry import adjustment, encode
from proxy.pipeline.attempt import Attempt, GivenUp
from proxy.pipeline.charge import Charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.record import log_line
from proxy.pipeline.rows import hit_row, pending_row, run_row
from proxy.pipeline.snapshot import Snapshot
from proxy.pipeline.translation import Translation
from proxy.pricing.facts import own_facts
from proxy.routing.resolve import Candidate, Route
from proxy.routing.selection import Choice
from proxy.upstream.fallback import Failure
from proxy.upstream.payer import Payer

CHAT = classify("POST", ("chat", "completions"))
MESSAGES = classify("POST", ("messages",))
CHARGE = Charge(Usage(7, 1, 2, 5, 3), UsageSource.EXACT, 27, 20, 7)


def ended(run_id: str = "run_1", *, version: str = "c1", prices: str = "p1", **changed: Any) -> Exchange:
    """One that was sent once; `changed` are fields of its caller, its call, its attempt, or of itself."""
    snapshot = cast(Snapshot, SimpleNamespace(version=version, prices=SimpleNamespace(version=prices)))
    request = InboundRequest("POST", "/v1/x", "/x", ("x",), "", (), "127.0.0.1")
    exchange = Exchange(run_id, request, snapshot, changed.pop("operation", CHAT), 1_700_000_000_000, 0)
    exchange.caller = Caller("acme")._replace(**{f: changed.pop(f) for f in Caller._fields if f in changed})
    exchange.call = Call("m")._replace(**{field: changed.pop(field) for field in Call._fields if field in changed})
    exchange.route = Route("m", (), rule=changed.pop("rule", None))
    candidate = Candidate(changed.pop("deployment", Deployment("p", "m")), "p/m")
    payer = Payer(changed.pop("source", KeySource.GATEWAY), None)
    exchange.attempt = Attempt(candidate, CHAT, exchange.call, payer, changed.pop("facts", own_facts(1, 1)))
    exchange.attempt.translation = changed.pop("translation", None)
    exchange.attempts = exchange.status = 1
    for name, value in changed.items():
        setattr(exchange, name, value)
    return exchange


@pytest.mark.parametrize(
    ("changed", "members"),
    [
        ({"tenant_id": "umbrella"}, {"tenant": "umbrella"}),
        ({"user": "zoe"}, {"user": "zoe"}),
        ({"feature": "f"}, {"feature": "f"}),
        ({"virtual_key_id": "vk_1"}, {"virtual_key_id": "vk_1"}),
        ({"prompt": Prompt("name", "2")}, {"prompt_id": "name", "prompt_version": "2"}),
        ({"version": "c2"}, {"config_version": "c2"}),
        ({"operation": MESSAGES}, {"endpoint": "messages"}),
        ({"model_alias": "n"}, {"requested_model": "n"}),
        ({"rule": "auto.long"}, {"rule": "auto.long"}),
        ({"split": "p/m"}, {"split": "p/m"}),
        ({"deployment": Deployment("q", "n")}, {"served_model": "n", "provider": "q", "deployment": "q/n"}),
        (
            {"translation": Translation("a>b", "/x", cast(Any, None), "top_k")},
            {"translated": "a>b", "dropped_fields": "top_k"},
        ),
        ({"stream": True}, {"stream": True}),
        ({"prices": "p2"}, {"price_version": "p2"}),
        ({"facts": None}, {"price_version": None}),
        ({"source": KeySource.TENANT}, {"key_source": "tenant"}),
        ({"attempts": 2}, {"attempts": 2}),
        ({"given_up": [GivenUp("p/m", "p/m", Failure.STATUS, 503)]}, {"given_up": "p/m:503"}),
        ({"status": 404}, {"status": 404, "error_source": "upstream"}),
        ({"ended_at_us": 1_500}, {"latency_ms": 1.5}),
    ],
)
def test_what_tells_calls_apart_tells_their_rows_apart(changed: dict[str, Any], members: dict[str, Any]) -> None:
    plain = run_row(ended(), Charge())
    other = run_row(ended("run_2", **changed), CHARGE)
    used = {"input_tokens": 7, "cached_input_tokens": 1, "cache_write_tokens": 2, "output_tokens": 5}
    cost = {"usage_source": "exact", "cost_nusd": 27, "charged_nusd": 20, "absorbed_nusd": 7, "reasoning_tokens": 3}
    assert other == {**plain, "run_id": "run_2", **used, **cost, **members}
    assert run_row(ended(), Charge()) == plain, "what one has of its own is in no other"
    line = log_line(ended("run_2", **changed), other)
    renamed = {"requested_model": "model", "config_version": "config"}
    for name, value in members.items():
        assert line.get(renamed.get(name, name), value) == value


def test_the_rows_of_one_call_agree() -> None:
    exchange = ended(user="zoe")
    pending = json.loads(pending_row(exchange, 900))
    row = run_row(exchange, CHARGE)
    adjusting = json.loads(adjustment(encode(row).data, 0))
    held = {"held_nusd": 900, "cost_nusd": 900, "charged_nusd": 900, "usage_source": "worst_case"}
    assert pending == {**run_row(ended(user="zoe"), Charge()), "status": 0, **held}
    difference = {"cost_nusd": 27, "charged_nusd": 20, "held_nusd": 0, "usage_source": None, "latency_ms": 0.0}
    who = {"run_id": "run_1:adjustment", "kind": "adjustment", "adjusts": "run_1", "absorbed_nusd": None}
    unsaid = dict.fromkeys(("cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "overhead_us"))
    assert adjusting == {**row, **difference, **who, **unsaid}
    assert list(adjusting) == list(pending) == list(row)


def test_the_row_of_what_is_held_for_the_next_attempt_tells_of_it() -> None:
    exchange = ended()
    assert exchange.attempt is not None
    exchange.choice = Choice(exchange.attempt.candidate, ())
    following = Attempt(
        Candidate(Deployment("q", "n"), "q/n"), CHAT, exchange.call, Payer(KeySource.TENANT, None), own_facts(1, 1)
    )
    given_up = (GivenUp("p/m", "p/m", Failure.STATUS, 503),)
    pending = json.loads(pending_row(exchange, 900, following, given_up))
    assert (pending["deployment"], pending["key_source"], pending["held_nusd"]) == ("q/n", "tenant", 900)
    assert pending["fallback_reason"] == "status:503"
    own = json.loads(pending_row(exchange, 800))
    assert (own["deployment"], own["key_source"], own["fallback_reason"]) == ("p/m", "gateway", None)


def test_an_adjustment_takes_what_was_charged_from_what_is_true() -> None:
    row = encode(
        run_row(ended(error=CallerGone("gone"), given_up=[GivenUp("p/m", "p/m", Failure.STATUS, 503)]), CHARGE)
    )
    adjusting = json.loads(adjustment(row.data, 900))
    assert (adjusting["cost_nusd"], adjusting["charged_nusd"], adjusting["held_nusd"]) == (27 - 900, 20 - 900, 0)
    assert (adjusting["input_tokens"], adjusting["output_tokens"]) == (7, 5)
    assert (adjusting["given_up"], adjusting["error_source"], adjusting["attempts"]) == (None, None, 1)
    free = json.loads(adjustment(encode(run_row(ended(), Charge())).data, 900))
    assert (free["cost_nusd"], free["charged_nusd"]) == (-900, -900)


def test_what_is_no_row_has_no_adjustment() -> None:
    for data in (b"", b"row", b"[]", b"null"):
        with pytest.raises(InvalidJson):
            adjustment(data, 1)


def test_the_row_of_a_kept_answer_has_all_that_a_row_has() -> None:
    first, other = ended(user="zoe"), ended("run_2", user='zo"e')
    for exchange in (first, other):
        exchange.attempt, exchange.attempts = None, 0
    kept = CacheEntry(EntryHead("m", 1_699_999_999_000, 27), b"", (), b"{}", "p/m", "p", "m-1", "gateway")
    row = json.loads(hit_row(first, kept, 1_500))
    of_answer = {"served_model": "m-1", "provider": "p", "deployment": "p/m", "key_source": "gateway", "saved_nusd": 27}
    nothing = {"attempts": 0, "cost_nusd": 0, "charged_nusd": 0}
    own = {"status": 200, "error_source": None, "cache": "hit", "latency_ms": 1.5, "overhead_us": 1_500}
    without = run_row(first, Charge())
    assert row == {**without, **of_answer, **nothing, **own}
    assert list(row) == list(without)
    assert json.loads(hit_row(other, kept, 7)) == {
        **row,
        "run_id": "run_2",
        "user": 'zo"e',
        "latency_ms": 0.007,
        "overhead_us": 7,
    }
    dearer = kept._replace(head=EntryHead("m", 1_699_999_999_000, None), served_model=None)
    assert json.loads(hit_row(first, dearer, 1_500)) == {**row, "saved_nusd": None, "served_model": None}


def test_what_was_refused_before_anybody_was_known_is_logged_all_the_same() -> None:
    exchange = ended()
    exchange.caller = exchange.route = exchange.attempt = None
    exchange.attempts = exchange.status = 0
    row = run_row(exchange, Charge())
    assert (row["status"], row["deployment"], row["key_source"]) == (500, None, None)
    line = log_line(exchange, row)
    assert (line["tenant"], line["virtual_key_id"], line["deployment"], line["attempts"]) == (None, None, None, 0)


def test_an_exchange_shows_nothing_of_what_its_caller_sent() -> None:
    headers = ((b"authorization", b"Bearer s3cret"), (b"x-api-key", b"s3cret"))
    request = InboundRequest("POST", "/v1/x", "/x", ("x",), "key=s3cret", headers, None)
    said: dict[str, Any] = {"body": b"s3cret", "text": b"s3cret", "document": {"input": "s3cret"}}
    exchange = ended(request=request, provider_token=Secret("s3cret"), **said)
    assert "s3cret" not in repr(exchange)
    assert "s3cret" not in f"{exchange.attempt}"
