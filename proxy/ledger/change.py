"""A change's row: who did what to a tenant, and when.

Pure. It stands in the tenant's own chain, between the rows of its runs, so that whoever would
hide a change has to break the chain. It holds no amount, so no sum sees it, and no secret: there
is a field for the id of a virtual key, and none for its text.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypedDict

from proxy.core import jsonio
from proxy.ledger.entry import SealedRow

AUDIT = "audit"
"""The `kind` of such a row. Sums pass it over."""

_KIND = b'"kind":"audit"'  # as `jsonio` writes it


class Action(StrEnum):
    """What can be done to a tenant, or to what serves all of them."""

    TENANT_PUT = "tenant.put"
    TENANT_DELETE = "tenant.delete"
    TENANT_SHRED = "tenant.shred"
    VIRTUAL_KEY_ISSUE = "virtual_key.issue"
    VIRTUAL_KEY_REVOKE = "virtual_key.revoke"
    PROVIDER_KEY_PUT = "provider_key.put"
    PROVIDER_KEY_ROTATE = "provider_key.rotate"
    PROVIDER_KEY_DELETE = "provider_key.delete"
    DEPLOYMENT_DRAIN = "deployment.drain"
    DEPLOYMENT_RESTORE = "deployment.restore"
    MODEL_SWITCH = "model.switch"
    MODEL_RESTORE = "model.restore"
    KEYRING_PREPARE = "keyring.prepare"
    KEYRING_ROTATE_KEK = "keyring.rotate_kek"
    KEYRING_ROTATE_DEK = "keyring.rotate_dek"


class ChangeEntry(TypedDict):
    """One change. Names that a run's row has too mean the same there."""

    run_id: str  # `audit_…`: the change's own
    started_at: str  # RFC 3339, UTC, milliseconds
    kind: str  # "audit"
    tenant: str
    virtual_key_id: str | None  # whose issue or end it is
    config_version: str
    actor: str  # an admin token's name, or `cli:` and the system's user
    action: str
    details: Mapping[str, object]  # what was asked for: plain values


def is_change(data: bytes) -> bool:
    """Whether a stored row is one of these, without decoding it. In a text that a caller chose, quotes are escaped."""
    return _KIND in data


def encode_change(entry: ChangeEntry) -> SealedRow:
    """The row's bytes: one JSON object."""
    return SealedRow(entry["tenant"], entry["run_id"], jsonio.encode(entry))
