"""What is said of an exchange that is over: its log line, its metric labels.

Pure. Nothing here can hold a prompt, a completion or a key.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from proxy.core.errors import GatewayError
from proxy.ledger.entry import Entry
from proxy.pipeline.exchange import Exchange

ANSWERED: Final = "answered"
"""How most attempts end, as a metric label."""


def failed_outcome(error: GatewayError) -> str:
    """How another ended."""
    return "abandoned" if error.code == "caller_gone" else "failed"


def model_label(exchange: Exchange) -> str:
    """The alias as a metric label: only names of the configuration, since callers send any."""
    alias = exchange.call.model_alias
    if alias is None:
        return "none"
    return alias if exchange.snapshot.routes.is_routed(alias) else "other"


def log_line(exchange: Exchange, row: Entry) -> dict[str, object]:
    """The access log's line. The query is left out: people put secrets there."""
    request, error, cache = exchange.request, exchange.error, exchange.cache
    line: dict[str, object] = {
        "at": row["started_at"],
        "run_id": row["run_id"],
        "peer": request.peer,
        "method": request.method,
        "path": request.path,
        "endpoint": row["endpoint"],
        "tenant": row["tenant"] or None,
        "virtual_key_id": row["virtual_key_id"],
        "model": row["requested_model"],
        "deployment": row["deployment"],
        "attempts": row["attempts"],
        "stream": row["stream"],
    }
    line |= {  # of more than 15 members, each would be put in by itself
        "cache": row["cache"],
        "status": row["status"],
        "error": error.code if error is not None else None,
        "error_source": row["error_source"],
        "body_bytes": exchange.body_bytes,
        "output_tokens": row["output_tokens"],
        "latency_ms": row["latency_ms"],
        "overhead_us": row["overhead_us"],
        "config": row["config_version"],
    }
    if cache is not None and cache.given is not None:
        line["deployment"], line["overhead_us"] = cache.given.deployment, cache.own_us
    return line


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
