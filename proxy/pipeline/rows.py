"""What the ledger keeps of an exchange: its row, the row that stands in for it until then, and the
row that corrects that one.

Pure. None can hold a prompt, a completion or a key.
"""

from typing import Final

from proxy.cache.entry import CacheEntry
from proxy.core.types import UsageSource
from proxy.ledger.entry import Entry, SealedRow, encode
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.charge import Charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.record import Ending, rfc3339

_UNKNOWN_STATUS: Final = 0  # the gateway vanished: nobody knows what the caller was told


def run_row(exchange: Exchange, ending: Ending, charge: Charge) -> SealedRow:
    """The row of a run that is over."""
    entry = _begun(exchange)
    attempt, ticket, usage = exchange.attempt, exchange.ticket, charge.usage
    assert attempt is not None
    tap = attempt.usage_tap
    if tap is not None and tap.served_model is not None:
        entry["served_model"] = tap.served_model
    entry["attempts"] = exchange.attempts
    if exchange.given_up:
        entry["given_up"] = ", ".join(str(each) for each in exchange.given_up)
        entry["fallback_reason"] = exchange.fallback_reason
    entry["status"] = ending.status
    entry["error_source"] = ending.error_source
    if usage is not None:
        entry["input_tokens"] = usage.input_tokens
        entry["cached_input_tokens"] = usage.cached_input_tokens
        entry["cache_write_tokens"] = usage.cache_write_tokens
        entry["output_tokens"] = usage.output_tokens
        entry["reasoning_tokens"] = usage.reasoning_tokens
    if charge.usage_source is not None:
        entry["usage_source"] = str(charge.usage_source)
    entry["cost_nusd"] = charge.cost_nusd
    entry["charged_nusd"] = charge.charged_nusd
    entry["absorbed_nusd"] = charge.absorbed_nusd
    if exchange.cache is not None:
        entry["cache"] = exchange.cache.result.value
    if ticket is not None and ticket.is_in_store:
        entry["held_nusd"] = ticket.held_nusd
    entry["latency_ms"] = ending.latency_us / 1_000
    if ending.first_byte_us is not None:
        entry["first_byte_ms"] = ending.first_byte_us / 1_000
    entry["overhead_us"] = ending.overhead_us
    return encode(entry)


def hit_row(exchange: Exchange, kept: CacheEntry, own_us: int) -> bytes:
    """The row of a call that is answered from the cache, written before its first byte leaves: it costs nothing, and
    uses no tokens of anybody's. Who answered is who did when the answer was made."""
    entry = _asked(exchange)
    entry["served_model"] = kept.served_model
    entry["provider"] = kept.provider
    entry["deployment"] = kept.deployment
    entry["attempts"] = 0
    entry["status"] = 200
    entry["cost_nusd"] = entry["charged_nusd"] = 0
    entry["saved_nusd"] = kept.head.cost_nusd
    entry["key_source"] = kept.key_source
    entry["cache"] = "hit"
    entry["latency_ms"] = own_us / 1_000
    entry["overhead_us"] = own_us
    return encode(entry).data


def pending_row(exchange: Exchange, held_nusd: int) -> bytes:
    """The row that the run gets if this process vanishes: charged at its worst case. What is known by now is kept, for
    another row of the same attempt is to come."""
    entry = _begun(exchange)
    if not exchange.call.stream:  # a stream may be open for long, and there may be thousands of them
        assert exchange.attempt is not None
        exchange.row = (exchange.attempt, entry.copy())
    entry["usage_source"] = str(UsageSource.WORST_CASE)
    entry["cost_nusd"] = entry["charged_nusd"] = entry["held_nusd"] = held_nusd
    return encode(entry).data


def adjustment_row(exchange: Exchange, ending: Ending, charge: Charge) -> bytes:
    """What is to be added to the row that stood in for this run, now that the truth is known."""
    entry = _begun(exchange)
    held_nusd = exchange.ticket.held_nusd if exchange.ticket is not None else 0
    entry["run_id"] = f"{exchange.run_id}:adjustment"
    entry["kind"] = "adjustment"
    entry["adjusts"] = exchange.run_id
    entry["status"] = ending.status
    if charge.usage is not None:
        entry["input_tokens"] = charge.usage.input_tokens
        entry["output_tokens"] = charge.usage.output_tokens
    entry["cost_nusd"] = (charge.cost_nusd or 0) - held_nusd
    entry["charged_nusd"] = (charge.charged_nusd or 0) - held_nusd
    entry["held_nusd"] = 0
    return encode(entry).data


def _begun(exchange: Exchange) -> Entry:
    """What is known of a call that is sent to somebody: a copy, to be gone on with."""
    attempt = exchange.attempt
    assert attempt is not None, "it was to be sent somewhere"
    if exchange.row is not None and exchange.row[0] is attempt:
        entry = exchange.row[1].copy()
    else:
        entry = _sent(exchange, attempt)
    entry["fallback_reason"] = exchange.fallback_reason
    entry["key_source"] = str(attempt.key_source)
    return entry


def _sent(exchange: Exchange, attempt: Attempt) -> Entry:
    deployment, translation = attempt.deployment, attempt.translation
    entry = _asked(exchange)
    entry["served_model"] = deployment.model
    entry["provider"] = deployment.provider
    entry["deployment"] = deployment.label
    if translation is not None:
        entry["translated"] = translation.name
        entry["dropped_fields"] = translation.dropped
    if attempt.facts is not None:
        entry["price_version"] = exchange.snapshot.prices.version
    return entry


def _asked(exchange: Exchange) -> Entry:
    """What is known of any call that has a row, and nothing of what becomes of it."""
    caller, route = exchange.caller, exchange.route
    assert caller is not None, "what has a row has a caller"
    assert route is not None
    prompt_id, prompt_version = exchange.prompt or (None, None)
    return {
        "run_id": exchange.run_id,
        "started_at": rfc3339(exchange.started_at_ms),
        "kind": "run",
        "adjusts": None,
        "tenant": caller.tenant_id,
        "user": caller.user,
        "feature": caller.feature,
        "virtual_key_id": caller.virtual_key_id,
        "prompt_id": prompt_id,
        "prompt_version": prompt_version,
        "config_version": exchange.snapshot.version,
        "endpoint": exchange.operation.name,
        "requested_model": exchange.call.model_alias,
        "rule": route.rule or None,
        "split": exchange.split,
        "served_model": None,
        "provider": None,
        "deployment": None,
        "attempts": 1,
        "given_up": None,
        "fallback_reason": None,
        "translated": None,
        "dropped_fields": None,
        "stream": exchange.call.stream,
        "status": _UNKNOWN_STATUS,
        "error_source": None,
        "input_tokens": None,
        "cached_input_tokens": None,
        "cache_write_tokens": None,
        "output_tokens": None,
        "reasoning_tokens": None,
        "usage_source": None,
        "price_version": None,
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
