"""What is said of an exchange that is over: its log line, its metric labels.

Pure. Nothing here can hold a prompt, a completion or a key.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from proxy.core.errors import GatewayError
from proxy.pipeline.charge import Charge
from proxy.pipeline.exchange import Exchange


class Ending(NamedTuple):
    """How an exchange ended: what its row, its log line and its metrics have in common."""

    started_at: str  # RFC 3339, UTC
    status: int  # what the caller was told, or would have been had it stayed
    error_source: str | None
    latency_us: int
    first_byte_us: int | None
    overhead_us: int | None


def end(exchange: Exchange) -> Ending:
    """Sum an exchange up."""
    error, accepted_at_us = exchange.error, exchange.accepted_at_us
    first_byte_at_us, sent_at_us = exchange.first_byte_at_us, exchange.sent_at_us
    status = exchange.status or (error.status if error is not None else 500)
    return Ending(
        rfc3339(exchange.started_at_ms),
        status,
        error.source if error is not None else ("upstream" if status >= 400 else None),
        exchange.ended_at_us - accepted_at_us,
        None if first_byte_at_us is None else first_byte_at_us - accepted_at_us,
        None if sent_at_us is None else sent_at_us - accepted_at_us,
    )


def outcome(exchange: Exchange) -> str:
    """How the attempt ended, as a metric label."""
    error = exchange.error
    if error is None:
        return "answered"
    return "abandoned" if error.code == "caller_gone" else "failed"


def model_label(exchange: Exchange) -> str:
    """The alias as a metric label: only names of the configuration, since callers send any."""
    alias = exchange.call.model_alias
    if alias is None:
        return "none"
    return alias if exchange.snapshot.routes.is_routed(alias) else "other"


def log_line(exchange: Exchange, ending: Ending, charge: Charge) -> dict[str, object]:
    """The access log's line. The query is left out: people put secrets there."""
    request, caller, call, usage = exchange.request, exchange.caller, exchange.call, charge.usage
    error, cache, attempt = exchange.error, exchange.cache, exchange.attempt
    deployment = attempt.candidate.deployment.label if attempt is not None else None
    overhead_us = ending.overhead_us
    if cache is not None and cache.given is not None:
        deployment, overhead_us = cache.given.deployment, cache.own_us
    return {
        "at": ending.started_at,
        "run_id": exchange.run_id,
        "peer": request.peer,
        "method": request.method,
        "path": request.path,
        "endpoint": exchange.operation.name,
        "tenant": caller.tenant_id if caller is not None else None,
        "virtual_key_id": caller.virtual_key_id if caller is not None else None,
        "model": call.model_alias,
        "deployment": deployment,
        "attempts": exchange.attempts,
        "stream": call.stream,
        "cache": None if cache is None else str(cache.result),
        "status": ending.status,
        "error": error.code if error is not None else None,
        "error_source": ending.error_source,
        "body_bytes": exchange.body_bytes,
        "output_tokens": usage.output_tokens if usage is not None else None,
        "latency_ms": ending.latency_us / 1_000,
        "overhead_us": overhead_us,
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


@lru_cache(maxsize=256)
def rfc3339(at_ms: int) -> str:
    """Milliseconds since the Unix epoch as text, UTC (RFC 3339). Each call asks for its own a few times."""
    return f"{_second(at_ms // 1_000)}.{at_ms % 1_000:03d}Z"


@lru_cache(maxsize=4)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
