"""What a tenant's id may look like.

It is part of every state key, cache key, row and encryption context, so its alphabet leaves
no room for a separator, a hash tag's braces or a path.
"""

import re
from functools import lru_cache

TENANT_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
TENANT_ID_RULE = "A tenant's id is 1 to 64 of A-Z, a-z, 0-9, _ and -."
"""The same, as whoever gave another is told."""

_is_match = re.compile(TENANT_ID_PATTERN.replace("$", r"\Z"), re.ASCII).match

_KNOWN_MAX = 16_384


def is_tenant_id(text: str) -> bool:
    """True for 1 to 64 of `A-Za-z0-9_-`."""
    return _is_match(text) is not None


@lru_cache(maxsize=_KNOWN_MAX)  # every name of a tenant's state is made of an id that was looked at
def require_tenant_id(text: str) -> str:
    """Give the id back. Raises ValueError for anything else: it would reach into other state."""
    if _is_match(text) is None:
        raise ValueError(f"not a tenant id: {text!r}")
    return text
