"""What the ledger keeps of an exchange: its row, the row that stands in for it until then, and the
row that corrects that one.

Pure. None can hold a prompt, a completion or a key.
"""

from functools import lru_cache
from typing import Final

from proxy.cache.entry import CacheEntry
from proxy.core import jsonio
from proxy.core.types import Deployment, UsageSource
from proxy.ledger.entry import Entry, SealedRow, encode
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.charge import Charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.record import Ending, rfc3339

_ALIKE_MAX: Final = 256
_NONE_OF_BOTH: Final = (None, None)
_WORST_CASE: Final = str(UsageSource.WORST_CASE)
_UNKNOWN_STATUS: Final = 0  # the gateway vanished: nobody knows what the caller was told


def run_row(exchange: Exchange, ending: Ending, charge: Charge) -> SealedRow:
    """The row of a run that is over."""
    attempt, ticket, cache, usage = exchange.attempt, exchange.ticket, exchange.cache, charge.usage
    assert attempt is not None, "it was to be sent somewhere"
    tap, begun, first_byte_us = attempt.usage_tap, _begun(exchange, attempt), ending.first_byte_us
    entry: Entry = {
        **begun,
        "run_id": exchange.run_id,
        "started_at": ending.started_at,
        "served_model": begun["served_model"] if tap is None or tap.served_model is None else tap.served_model,
        "attempts": exchange.attempts,
        "fallback_reason": _fallback_reason(exchange, attempt),
        "status": ending.status,
        "error_source": ending.error_source,
        "usage_source": None if charge.usage_source is None else str(charge.usage_source),
        "held_nusd": ticket.held_nusd if ticket is not None and ticket.is_in_store else None,
        "cost_nusd": charge.cost_nusd,
        "charged_nusd": charge.charged_nusd,
        "absorbed_nusd": charge.absorbed_nusd,
        "key_source": str(attempt.payer.source),
        "cache": None if cache is None else str(cache.result),
        "latency_ms": ending.latency_us / 1_000,
        "first_byte_ms": None if first_byte_us is None else first_byte_us / 1_000,
        "overhead_us": ending.overhead_us,
    }
    if exchange.given_up:
        entry["given_up"] = ", ".join(str(each) for each in exchange.given_up)
    if usage is not None:
        entry["input_tokens"] = usage.input_tokens
        entry["cached_input_tokens"] = usage.cached_input_tokens
        entry["cache_write_tokens"] = usage.cache_write_tokens
        entry["output_tokens"] = usage.output_tokens
        entry["reasoning_tokens"] = usage.reasoning_tokens
    return encode(entry)


def hit_row(exchange: Exchange, kept: CacheEntry, own_us: int) -> bytes:
    """The row of a call that is answered from the cache, written before its first byte leaves: it costs nothing, and
    uses no tokens of anybody's. Who answered is who did when the answer was made."""
    entry: Entry = {
        **_asked(exchange),
        "run_id": exchange.run_id,
        "started_at": rfc3339(exchange.started_at_ms),
        "served_model": kept.served_model,
        "provider": kept.provider,
        "deployment": kept.deployment,
        "attempts": 0,
        "status": 200,
        "cost_nusd": 0,
        "charged_nusd": 0,
        "saved_nusd": kept.head.cost_nusd,
        "key_source": kept.key_source,
        "cache": "hit",
        "latency_ms": own_us / 1_000,
        "overhead_us": own_us,
    }
    return jsonio.encode_to_keep(entry)


def pending_row(exchange: Exchange, held_nusd: int) -> bytes:
    """The row that the run gets if this process vanishes: charged at its worst case."""
    attempt = exchange.attempt
    assert attempt is not None, "it is to be sent somewhere"
    entry: Entry = {
        **_begun(exchange, attempt),
        "run_id": exchange.run_id,
        "started_at": rfc3339(exchange.started_at_ms),
        "fallback_reason": _fallback_reason(exchange, attempt),
        "usage_source": _WORST_CASE,
        "held_nusd": held_nusd,
        "cost_nusd": held_nusd,
        "charged_nusd": held_nusd,
        "key_source": str(attempt.payer.source),
    }
    return jsonio.encode_to_keep(entry)


def adjustment_row(exchange: Exchange, ending: Ending, charge: Charge) -> bytes:
    """What is to be added to the row that stood in for this run, now that the truth is known."""
    attempt, usage = exchange.attempt, charge.usage
    assert attempt is not None, "it was to be sent somewhere"
    held_nusd = exchange.ticket.held_nusd if exchange.ticket is not None else 0
    entry: Entry = {
        **_begun(exchange, attempt),
        "run_id": f"{exchange.run_id}:adjustment",
        "started_at": ending.started_at,
        "kind": "adjustment",
        "adjusts": exchange.run_id,
        "fallback_reason": _fallback_reason(exchange, attempt),
        "status": ending.status,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "held_nusd": 0,
        "cost_nusd": (charge.cost_nusd or 0) - held_nusd,
        "charged_nusd": (charge.charged_nusd or 0) - held_nusd,
        "key_source": str(attempt.payer.source),
    }
    return jsonio.encode_to_keep(entry)


def _fallback_reason(exchange: Exchange, attempt: Attempt) -> str | None:
    choice = exchange.choice
    return None if choice is None or attempt.candidate is choice.first else exchange.fallback_reason


def _begun(exchange: Exchange, attempt: Attempt) -> Entry:
    """What is known of a call that is sent to somebody. It is others' as well: to be read, not written to."""
    if exchange.row is not None and exchange.row[0] is attempt:
        return exchange.row[1]
    translation = attempt.translation
    entry = _asked(
        exchange,
        attempt.candidate.deployment,
        _NONE_OF_BOTH if translation is None else (translation.name, translation.dropped),
        None if attempt.facts is None else exchange.snapshot.prices.version,
    )
    exchange.row = (attempt, entry)
    return entry


def _asked(
    exchange: Exchange,
    deployment: Deployment | None = None,
    translated: tuple[str | None, str | None] = _NONE_OF_BOTH,
    price_version: str | None = None,
) -> Entry:
    """What is known of any call that has a row, and nothing of what becomes of it; likewise to be read alone."""
    caller, route, call, snapshot = exchange.caller, exchange.route, exchange.call, exchange.snapshot
    assert caller is not None, "what has a row has a caller"
    assert route is not None
    return _alike(
        caller.tenant_id,
        caller.user,
        caller.feature,
        caller.virtual_key_id,
        exchange.prompt or _NONE_OF_BOTH,
        snapshot.version,
        exchange.operation.name,
        (call.model_alias, route.rule, exchange.split),
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
