"""What the ledger keeps of an exchange: its row, the row that stands in for it until then, and the
row that corrects that one.

Pure. None can hold a prompt, a completion or a key.
"""

from functools import lru_cache
from typing import Any, Final

from proxy.cache.entry import CacheEntry
from proxy.core import jsonio
from proxy.core.types import Caller, Deployment, UsageSource
from proxy.ledger.entry import Entry
from proxy.pipeline.attempt import Attempt, GivenUp
from proxy.pipeline.charge import Charge
from proxy.pipeline.exchange import Exchange, reason_of
from proxy.pipeline.record import rfc3339

_ALIKE_MAX: Final = 256
_NOBODY: Final = Caller("")  # who asked, of what is refused before that is known
_NONE_OF_BOTH: Final[tuple[str | None, str | None]] = (None, None)
_WORST_CASE: Final = str(UsageSource.WORST_CASE)
_HIT: Final = b'{"run_id":"%b","started_at":"%b",%b,"latency_ms":%.3f,"first_byte_ms":null,"overhead_us":%d}'
_NO_TOKENS: Final = (None,) * 5  # of the five kinds that a row has, with which `Usage` begins
_ERROR_STATUS_MIN: Final = 400
_FAULT_STATUS: Final = 500  # nobody was told anything, and no error says why
_UNKNOWN_STATUS: Final = 0  # the gateway vanished: nobody knows what the caller was told


def run_row(exchange: Exchange, charge: Charge) -> Entry:
    """The row of an exchange that is over. One that was sent nowhere is kept in no ledger; its log line and its
    metrics are drawn from this as well."""
    attempt, error, accepted_at_us = exchange.attempt, exchange.error, exchange.accepted_at_us
    first_byte_at_us, sent_at_us = exchange.first_byte_at_us, exchange.sent_at_us
    usage, usage_source, cost_nusd, charged_nusd, absorbed_nusd = charge
    input_tokens, cached_tokens, written_tokens, output_tokens, reasoning_tokens = usage[:5] if usage else _NO_TOKENS
    status = exchange.status or (_FAULT_STATUS if error is None else error.status)
    entry: Entry = {  # of more than 15 members beside others, each would be put in by itself
        **_begun(exchange, attempt),
        "run_id": exchange.run_id,
        "started_at": rfc3339(exchange.started_at_ms),
        "attempts": exchange.attempts,
        "status": status,
        "input_tokens": input_tokens,
        "cached_input_tokens": cached_tokens,
        "cache_write_tokens": written_tokens,
        "output_tokens": output_tokens,
        "reasoning_tokens": reasoning_tokens,
        "usage_source": None if usage_source is None else str(usage_source),
        "cost_nusd": cost_nusd,
        "charged_nusd": charged_nusd,
        "latency_ms": (exchange.ended_at_us - accepted_at_us) / 1_000,
        "first_byte_ms": None if first_byte_at_us is None else (first_byte_at_us - accepted_at_us) / 1_000,
        "overhead_us": None if sent_at_us is None else sent_at_us - accepted_at_us,
    }
    if error is not None or status >= _ERROR_STATUS_MIN:
        entry["error_source"] = "upstream" if error is None else error.source
    if attempt is not None:
        entry["key_source"] = str(attempt.payer.source)
        choice, tap = exchange.choice, attempt.usage_tap
        if choice is not None and attempt.candidate is not choice.first:
            entry["fallback_reason"] = exchange.fallback_reason
        if tap is not None and tap.served_model is not None:
            entry["served_model"] = tap.served_model
    if exchange.given_up:
        entry["given_up"] = ", ".join(str(each) for each in exchange.given_up)
    if absorbed_nusd is not None:
        entry["absorbed_nusd"] = absorbed_nusd
    if (ticket := exchange.ticket) is not None and ticket.is_in_store:
        entry["held_nusd"] = ticket.held_nusd
    if (cache := exchange.cache) is not None:
        entry["cache"] = str(cache.result)
    return entry


def hit_row(exchange: Exchange, kept: CacheEntry, own_us: int) -> bytes:
    """The row of a call that is answered from the cache, written before its first byte leaves: it costs nothing, and
    uses no tokens of anybody's. Who answered is who did when the answer was made."""
    of_answer = (kept.served_model, kept.provider, kept.deployment, kept.head.cost_nusd, kept.key_source)
    return _HIT % (  # neither a run's name nor an instant has anything that JSON would escape
        exchange.run_id.encode(),
        rfc3339(exchange.started_at_ms).encode(),
        _of_hits(of_answer, *_what_is_alike(exchange, None)),
        own_us / 1_000,
        own_us,
    )


@lru_cache(maxsize=_ALIKE_MAX)
def _of_hits(of_answer: tuple[str | None, str, str, int | None, str], *alike: Any) -> bytes:
    """What the rows of calls have in common that are alike and get the same answer: members of a JSON object."""
    served_model, provider, deployment, saved_nusd, key_source = of_answer
    entry: dict[str, Any] = {
        **_alike(*alike),
        "served_model": served_model,
        "provider": provider,
        "deployment": deployment,
        "attempts": 0,
        "status": 200,
        "cost_nusd": 0,
        "charged_nusd": 0,
        "saved_nusd": saved_nusd,
        "key_source": key_source,
        "cache": "hit",
    }
    for name in ("run_id", "started_at", "latency_ms", "first_byte_ms", "overhead_us"):
        del entry[name]
    return jsonio.encode(entry)[1:-1]


def pending_row(
    exchange: Exchange, held_nusd: int, following: Attempt | None = None, given_up: tuple[GivenUp, ...] = ()
) -> bytes:
    """The row that the run gets if this process vanishes: charged at its worst case. `following` is the attempt that is
    to be made after `given_up`; None: the one under way."""
    attempt = exchange.attempt if following is None else following
    assert attempt is not None, "it is to be sent somewhere"
    entry: Entry = {
        **_begun(exchange, attempt),
        "run_id": exchange.run_id,
        "started_at": rfc3339(exchange.started_at_ms),
        "fallback_reason": reason_of(exchange.choice, attempt, given_up or exchange.given_up),
        "usage_source": _WORST_CASE,
        "held_nusd": held_nusd,
        "cost_nusd": held_nusd,
        "charged_nusd": held_nusd,
        "key_source": str(attempt.payer.source),
    }
    return jsonio.encode_to_keep(entry)


def _begun(exchange: Exchange, attempt: Attempt | None) -> Entry:
    """What is known of a call, and of whom it is sent to, and nothing of what becomes of it. It is other calls' as
    well: to be read, not written to."""
    if exchange.row is not None and exchange.row[0] is attempt:
        return exchange.row[1]
    entry = _alike(*_what_is_alike(exchange, attempt))
    exchange.row = (attempt, entry)
    return entry


def _what_is_alike(exchange: Exchange, attempt: Attempt | None) -> tuple[Any, ...]:
    """The arguments of `_alike`."""
    caller, route, call, snapshot = exchange.caller or _NOBODY, exchange.route, exchange.call, exchange.snapshot
    deployment, translated, price_version = None, _NONE_OF_BOTH, None
    if attempt is not None:
        deployment = attempt.candidate.deployment
        if attempt.translation is not None:
            translated = attempt.translation.name, attempt.translation.dropped
        if attempt.facts is not None:
            price_version = snapshot.prices.version
    return (
        caller.tenant_id,
        caller.user,
        caller.feature,
        caller.virtual_key_id,
        exchange.prompt or _NONE_OF_BOTH,
        snapshot.version,
        exchange.operation.name,
        (call.model_alias, None if route is None else route.rule, exchange.split),
        deployment,
        translated,
        call.stream,
        price_version,
    )


@lru_cache(maxsize=_ALIKE_MAX)
def _alike(
    tenant_id: str,
    user: str | None,
    feature: str | None,
    virtual_key_id: str | None,
    prompt: tuple[str | None, str | None],
    config_version: str,
    endpoint: str,
    model_rule_split: tuple[str | None, str | None, str | None],
    deployment: Deployment | None,
    translated: tuple[str | None, str | None],
    stream: bool,
    price_version: str | None,
) -> Entry:
    """What the rows of calls have in common that one caller makes of one kind, one after another."""
    requested_model, rule, split = model_rule_split
    return {
        "run_id": "",
        "started_at": "",
        "kind": "run",
        "adjusts": None,
        "tenant": tenant_id,
        "user": user,
        "feature": feature,
        "virtual_key_id": virtual_key_id,
        "prompt_id": prompt[0],
        "prompt_version": prompt[1],
        "config_version": config_version,
        "endpoint": endpoint,
        "requested_model": requested_model,
        "rule": rule or None,
        "split": split,
        "served_model": None if deployment is None else deployment.model,
        "provider": None if deployment is None else deployment.provider,
        "deployment": None if deployment is None else deployment.label,
        "attempts": 1,
        "given_up": None,
        "fallback_reason": None,
        "translated": translated[0],
        "dropped_fields": translated[1],
        "stream": stream,
        "status": _UNKNOWN_STATUS,
        "error_source": None,
        "input_tokens": None,
        "cached_input_tokens": None,
        "cache_write_tokens": None,
        "output_tokens": None,
        "reasoning_tokens": None,
        "usage_source": None,
        "price_version": price_version,
        "held_nusd": None,
        "cost_nusd": None,
        "charged_nusd": None,
        "absorbed_nusd": None,
        "saved_nusd": None,
        "key_source": None,
        "cache": None,
        "latency_ms": 0.0,
        "first_byte_ms": None,
        "overhead_us": None,
    }
