"""The models that a caller may use, as the SDKs expect to be told.

Pure. OpenAI's list and Anthropic's share a path; the caller's `anthropic-version` header
tells them apart (platform.openai.com/docs/api-reference/models, docs.anthropic.com/en/api/models-list).
"""

from collections.abc import Sequence
from typing import Any


def openai_model(alias: str, created_s: int) -> dict[str, Any]:
    """One model in OpenAI's shape. `created_s` is seconds since the Unix epoch."""
    return {"id": alias, "object": "model", "created": created_s, "owned_by": "tollway"}


def openai_list(aliases: Sequence[str], created_s: int) -> dict[str, Any]:
    """A list of models in OpenAI's shape."""
    return {"object": "list", "data": [openai_model(alias, created_s) for alias in aliases]}


def anthropic_model(alias: str, created_at: str) -> dict[str, Any]:
    """One model in Anthropic's shape. `created_at` is RFC 3339."""
    return {"type": "model", "id": alias, "display_name": alias, "created_at": created_at}


def anthropic_list(aliases: Sequence[str], created_at: str) -> dict[str, Any]:
    """A list of models in Anthropic's shape, as one page."""
    return {
        "data": [anthropic_model(alias, created_at) for alias in aliases],
        "has_more": False,
        "first_id": aliases[0] if aliases else None,
        "last_id": aliases[-1] if aliases else None,
    }
