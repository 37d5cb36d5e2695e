"""What is written of an exchange: its row, its log line, its metric labels.

Pure. Nothing here can hold a prompt, a completion or a key.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from proxy.core.errors import GatewayError
from proxy.core.types import Usage, UsageSource
from proxy.ledger.entry import Entry
from proxy.pipeline.exchange import Exchange


class Ending(NamedTuple):
    """How an exchange ended: what its row, its log line and its metrics have in common."""

    started_at: str  # RFC 3339, UTC
    status: int  # what the caller was told, or would have been had it stayed
    error_source: str | None
    usage: Usage | None
    usage_source: UsageSource | None
    deployment: str | None
    latency_us: int
    first_byte_us: int | None
    overhead_us: int | None


def end(exchange: Exchange) -> Ending:
    """Sum an exchange up."""
    error, tap = exchange.error, exchange.usage_tap
    usage = tap.usage if tap is not None else None
    status = exchange.status or (error.status if error is not None else 500)
    accepted_at_us, first_byte_at_us, sent_at_us = (
        exchange.accepted_at_us,
        exchange.first_byte_at_us,
        exchange.sent_at_us,
    )
    deployment = exchange.deployment
    return Ending(
        rfc3339(exchange.started_at_ms),
        status,
        error.source if error is not None else ("upstream" if status >= 400 else None),
        usage,
        _usage_source(exchange) if usage is not None else None,
        deployment.label if deployment is not None else None,
        exchange.ended_at_us - accepted_at_us,
        None if first_byte_at_us is None else first_byte_at_us - accepted_at_us,
        None if sent_at_us is None else sent_at_us - accepted_at_us,
    )


def outcome(exchange: Exchange) -> str:
    """How the attempt ended, as a metric label."""
    if exchange.error is None:
        return "answered"
    return "abandoned" if exchange.error.code == "caller_gone" else "failed"


def model_label(exchange: Exchange) -> str:
    """The alias as a metric label: only names of the configuration, since callers send any."""
    alias = exchange.call.model_alias
    if alias is None:
        return "none"
    return alias if exchange.snapshot.routes.is_routed(alias) else "other"


def deployment_label(exchange: Exchange, model: str, ending: Ending) -> str:
    """The deployment as a metric label, from the configuration's names alone."""
    assert exchange.deployment is not None
    assert ending.deployment is not None
    return exchange.deployment.provider if model in ("other", "none") else ending.deployment


def ledger_entry(exchange: Exchange, ending: Ending) -> Entry:
    """The run's row."""
    caller, deployment, tap, usage = exchange.caller, exchange.deployment, exchange.usage_tap, ending.usage
    assert caller is not None, "what was dispatched has a caller"
    assert deployment is not None, "what was dispatched has a deployment"
    prompt_id, prompt_version = exchange.prompt or (None, None)
    return {
        "run_id": exchange.run_id,
        "started_at": ending.started_at,
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
        "served_model": (tap.served_model if tap is not None else None) or deployment.model,
        "provider": deployment.provider,
        "deployment": ending.deployment,
        "attempts": exchange.attempts,
        "stream": exchange.call.stream,
        "status": ending.status,
        "error_source": ending.error_source,
        "input_tokens": usage.input_tokens if usage else None,
        "cached_input_tokens": usage.cached_input_tokens if usage else None,
        "cache_write_tokens": usage.cache_write_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "reasoning_tokens": usage.reasoning_tokens if usage else None,
        "usage_source": ending.usage_source,
        "price_version": None,
        "cost_nusd": None,
        "charged_nusd": None,
        "absorbed_nusd": None,
        "key_source": exchange.key_source,
        "latency_ms": ending.latency_us / 1_000,
        "first_byte_ms": None if ending.first_byte_us is None else ending.first_byte_us / 1_000,
        "overhead_us": ending.overhead_us,
    }


def log_line(exchange: Exchange, ending: Ending) -> dict[str, object]:
    """The access log's line. The query is left out: people put secrets there."""
    request, caller, error = exchange.request, exchange.caller, exchange.error
    return {
        "at": ending.started_at,
        "run_id": exchange.run_id,
        "peer": request.peer,
        "method": request.method,
        "path": request.path,
        "endpoint": exchange.operation.name,
        "tenant": caller.tenant_id if caller else None,
        "virtual_key_id": caller.virtual_key_id if caller else None,
        "model": exchange.call.model_alias,
        "deployment": ending.deployment,
        "stream": exchange.call.stream,
        "status": ending.status,
        "error": error.code if error else None,
        "error_source": ending.error_source,
        "body_bytes": exchange.body_bytes,
        "output_tokens": ending.usage.output_tokens if ending.usage else None,
        "latency_ms": ending.latency_us / 1_000,
        "overhead_us": ending.overhead_us,
        "config": exchange.snapshot.version,
    }


def refusal_line(at_ms: int, error: GatewayError, peer: str | None) -> dict[str, object]:
    """The access log's line for a request that could not be read."""
    return {
        "at": rfc3339(at_ms),
        "run_id": None,
        "peer": peer,
        "endpoint": "unread",
        "status": error.status,
        "error": error.code,
        "error_source": error.source,
    }


def rfc3339(at_ms: int) -> str:
    """Milliseconds since the Unix epoch as text, UTC (RFC 3339)."""
    return f"{_second(at_ms // 1_000)}.{at_ms % 1_000:03d}Z"


@lru_cache(maxsize=4)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _usage_source(exchange: Exchange) -> UsageSource:
    """How far the usage can be trusted: a stream that broke off has told a part at most."""
    assert exchange.usage_tap is not None
    return UsageSource.ESTIMATED if exchange.usage_tap.saw_end is False else UsageSource.EXACT
