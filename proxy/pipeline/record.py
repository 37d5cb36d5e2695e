"""What is written of an exchange: its row, its log line, its metric labels.

Pure. Nothing here can hold a prompt, a completion or a key.
"""

from datetime import UTC, datetime

from proxy.core.types import Usage, UsageSource
from proxy.ledger.entry import Entry
from proxy.pipeline.exchange import Exchange


def outcome(exchange: Exchange) -> str:
    """How the attempt ended, as a metric label."""
    if exchange.error is None:
        return "answered"
    return "abandoned" if exchange.error.code == "caller_gone" else "failed"


def status_of(exchange: Exchange) -> int:
    """What the caller was told; for a caller who was gone by then, what it would have been."""
    if exchange.status:
        return exchange.status
    return exchange.error.status if exchange.error is not None else 500


def error_source(exchange: Exchange) -> str | None:
    """Whose fault it was; None where nothing went wrong."""
    if exchange.error is not None:
        return exchange.error.source
    return "upstream" if exchange.status >= 400 else None


def usage_source(exchange: Exchange, usage: Usage | None) -> UsageSource | None:
    """How far the usage can be trusted: a stream that broke off has told a part at most."""
    if usage is None or exchange.usage_tap is None:
        return None
    return UsageSource.ESTIMATED if exchange.usage_tap.saw_end is False else UsageSource.EXACT


def model_label(exchange: Exchange) -> str:
    """The alias as a metric label: only names of the configuration, since callers send any."""
    alias = exchange.call.model_alias
    if alias is None:
        return "none"
    return alias if exchange.snapshot.routes.is_routed(alias) else "other"


def deployment_label(exchange: Exchange) -> str:
    """The deployment as a metric label, from the configuration's names alone."""
    assert exchange.deployment is not None
    return exchange.deployment.label if model_label(exchange) not in ("other", "none") else exchange.deployment.provider


def since_accept(exchange: Exchange, instant_us: int | None) -> int | None:
    """Microseconds from accept to an instant of this exchange, if it was reached."""
    return None if instant_us is None else instant_us - exchange.accepted_us


def rfc3339(at_ms: int) -> str:
    """Milliseconds since the Unix epoch as text, UTC (RFC 3339)."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ledger_entry(exchange: Exchange, usage: Usage | None, ended_us: int) -> Entry:
    """The run's row."""
    caller, deployment, tap = exchange.caller, exchange.deployment, exchange.usage_tap
    assert caller is not None, "what was dispatched has a caller"
    assert deployment is not None, "what was dispatched has a deployment"
    prompt_id, prompt_version = exchange.prompt or (None, None)
    first_byte_us = since_accept(exchange, exchange.first_byte_us)
    return Entry(
        run_id=exchange.run_id,
        started_at=rfc3339(exchange.started_at_ms),
        tenant=caller.tenant_id,
        user=caller.user,
        feature=caller.feature,
        virtual_key_id=caller.virtual_key_id,
        prompt_id=prompt_id,
        prompt_version=prompt_version,
        config_version=exchange.snapshot.version,
        endpoint=exchange.operation.name,
        requested_model=exchange.call.model_alias,
        served_model=(tap.served_model if tap is not None else None) or deployment.model,
        provider=deployment.provider,
        deployment=deployment.label,
        attempts=exchange.attempts,
        stream=exchange.call.stream,
        status=status_of(exchange),
        error_source=error_source(exchange),
        input_tokens=usage.input_tokens if usage else None,
        cached_input_tokens=usage.cached_input_tokens if usage else None,
        cache_write_tokens=usage.cache_write_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        reasoning_tokens=usage.reasoning_tokens if usage else None,
        usage_source=usage_source(exchange, usage),
        key_source=exchange.key_source,
        latency_ms=(ended_us - exchange.accepted_us) / 1_000,
        first_byte_ms=None if first_byte_us is None else first_byte_us / 1_000,
        overhead_us=since_accept(exchange, exchange.sent_us),
    )


def log_line(exchange: Exchange, usage: Usage | None, ended_us: int) -> dict[str, object]:
    """The access log's line. The query is left out: people put secrets there."""
    request, caller, error = exchange.request, exchange.caller, exchange.error
    return {
        "at": rfc3339(exchange.started_at_ms),
        "run_id": exchange.run_id,
        "peer": request.peer,
        "method": request.method,
        "path": request.path,
        "endpoint": exchange.operation.name,
        "tenant": caller.tenant_id if caller else None,
        "virtual_key_id": caller.virtual_key_id if caller else None,
        "model": exchange.call.model_alias,
        "deployment": exchange.deployment.label if exchange.deployment else None,
        "stream": exchange.call.stream,
        "status": status_of(exchange),
        "error": error.code if error else None,
        "error_source": error_source(exchange),
        "body_bytes": exchange.body_bytes,
        "output_tokens": usage.output_tokens if usage else None,
        "latency_ms": (ended_us - exchange.accepted_us) / 1_000,
        "overhead_us": since_accept(exchange, exchange.sent_us),
        "config": exchange.snapshot.version,
    }
