"""A run's row, and its bytes.

Pure. The row never holds a prompt, a completion or a key: there is no field for one.
"""

from typing import Any, Final, NamedTuple, TypedDict

from proxy.core import jsonio
from proxy.core.errors import InvalidJson


class Entry(TypedDict):
    """One run, or an adjustment of one. The names are the ledger's column names.

    An adjustment is a row of its own, with a run id of its own: its tokens and amounts are what
    is to be added to those of the run that `adjusts` names, and may be negative.
    """

    run_id: str
    started_at: str  # RFC 3339, UTC, milliseconds
    kind: str  # "run" or "adjustment" (a change's row is in `change`); there is room for purchases and refunds
    adjusts: str | None  # the run that an adjustment corrects
    tenant: str
    user: str | None
    feature: str | None
    virtual_key_id: str | None
    prompt_id: str | None
    prompt_version: str | None
    config_version: str
    endpoint: str
    requested_model: str | None
    rule: str | None  # which rules or switches led from that to the model that served: `auto.long`
    split: str | None  # the deployment that a lot drew for this caller
    served_model: str | None
    provider: str | None
    deployment: str | None
    attempts: int
    given_up: str | None  # the attempts that came to nothing before: `openai/gpt-5:503`, apart by commas
    fallback_reason: str | None  # why another deployment was asked than the first choice
    translated: str | None  # `FROM>TO`, where the provider speaks another API than the caller
    dropped_fields: str | None  # what of the call was left out then: names, apart by commas
    stream: bool
    status: int
    error_source: str | None
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str | None
    price_version: str | None
    held_nusd: int | None  # what was reserved; None: nothing was, and no counter knows of the run
    cost_nusd: int | None
    charged_nusd: int | None
    absorbed_nusd: int | None
    saved_nusd: int | None  # what the answer would have cost, had it not been kept
    key_source: str | None
    cache: str | None  # hit, miss or bypass; None: caching was off for it
    latency_ms: float
    first_byte_ms: float | None
    overhead_us: int | None


class SealedRow(NamedTuple):
    """A row as the stores take it: whose it is, its identity, and opaque bytes."""

    tenant_id: str
    run_id: str
    data: bytes


_UNSAID: Final[dict[str, Any]] = {  # by an adjustment: it adds tokens and amounts, and is no call
    "attempts": 1,
    **dict.fromkeys(("given_up", "error_source", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens")),
    **dict.fromkeys(("usage_source", "absorbed_nusd", "saved_nusd", "cache", "first_byte_ms", "overhead_us")),
    "latency_ms": 0.0,
}


def encode(entry: Entry) -> SealedRow:
    """The row's bytes: one JSON object. It is kept until it is written, or for as long as its call is open."""
    return SealedRow(entry["tenant"], entry["run_id"], jsonio.encode_to_keep(entry))


def adjustment(data: bytes, held_nusd: int) -> bytes:
    """The row that corrects a run which was charged `held_nusd`, its worst case, to what its own row `data` says.

    Raises:
        InvalidJson: these bytes are no row.
    """
    row = decode(data)
    row |= _UNSAID
    row["run_id"], row["kind"], row["adjusts"] = f"{row['run_id']}:adjustment", "adjustment", row["run_id"]
    row["held_nusd"] = 0
    row["cost_nusd"] = (row["cost_nusd"] or 0) - held_nusd
    row["charged_nusd"] = (row["charged_nusd"] or 0) - held_nusd
    return jsonio.encode(row)


def decode(data: bytes) -> dict[str, Any]:
    """A stored row's fields, by name.

    Raises:
        InvalidJson: these bytes are no row.
    """
    fields = jsonio.parse(data)
    if not isinstance(fields, dict):
        raise InvalidJson("A stored row is no JSON object.")
    return fields
