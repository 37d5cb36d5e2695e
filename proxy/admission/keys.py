"""How a scope is named in the store.

Pure. What a caller chose (users, features, models) is hashed: a name in the store has a bounded
length, holds no separator, and tells nobody who the user is.
"""

import hashlib

from proxy.core.tenant import require_tenant_id

TENANT = "tenant"
_HASH_BYTES = 16  # 128 bits: two users meet in one counter by chance once in 2**64 users


def user_scope(user: str) -> str:
    """A user of the tenant."""
    return f"user:{_hashed(user)}"


def feature_scope(feature: str) -> str:
    """A feature of the tenant's product."""
    return f"feature:{_hashed(feature)}"


def model_scope(model_alias: str) -> str:
    """A model, by the name that callers use."""
    return f"model:{_hashed(model_alias)}"


def virtual_key_scope(virtual_key_id: str) -> str:
    """A virtual key. Its id is ours, so it stays readable. Raises ValueError for anything else."""
    return f"virtual_key:{require_tenant_id(virtual_key_id)}"  # the same alphabet, for the same reason


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
