"""What a valid `cache = {…}` and `[cache]` are made of. Frozen.

Every default here is the documented default (`docs/configuration.md`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CACHE_FILE_URL: Final = "sqlite:cache.db"
"""Where kept answers are beside an embedded store, where `[state] cache_url` is not written."""

NO_CACHE_STORE: Final = "none"
"""As `[state] cache_url`: only in each process's memory."""

CACHED_ENDPOINTS: Final = (
    *("chat_completions", "completions", "responses", "messages", "messages_count_tokens"),
    *("embeddings", "moderations", "audio_speech"),
)
"""Those whose answers can be kept, as rows and metrics call them."""

TTL_S_MAX: Final = 2_592_000  # 30 days
EVENTS_PER_S_MAX: Final = 10_000


class CacheMode(StrEnum):
    """Which answers are kept, to be given again."""

    OFF = "off"
    DETERMINISTIC = "deterministic"  # what is the same each time: embeddings, moderations, temperature 0
    ALL = "all"


class CacheShare(StrEnum):
    """Among whom of one tenant an answer is shared. Never beyond the tenant."""

    TENANT = "tenant"
    USER = "user"
    VIRTUAL_KEY = "virtual_key"


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """`cache = {…}` of a tenant, a model, a feature or an endpoint."""

    mode: CacheMode = CacheMode.OFF
    ttl_s: int = 3_600
    share: CacheShare = CacheShare.TENANT
    events_per_s: int | None = None  # the pace at which a kept stream is given again; None: at once


def in_words(policy: CachePolicy | None) -> dict[str, object] | None:
    """As records, rows and answers have it: each called as in the configuration."""
    if policy is None:
        return None
    return {
        "mode": str(policy.mode),
        "ttl_s": policy.ttl_s,
        "share": str(policy.share),
        "events_per_s": policy.events_per_s,
    }


def _no_policies() -> Mapping[str, CachePolicy]:
    return {}


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """`[cache]`: the bounds, and what holds for a feature or an endpoint of every tenant."""

    memory_bytes_max: int = 67_108_864  # in each process
    file_bytes_max: int = 1_073_741_824  # in the embedded store
    entry_bytes_max: int = 1_048_576  # of one answer; a longer one is not kept
    wait_s: float = 30.0  # how long a call waits for one that is the same; 0: not at all
    features: Mapping[str, CachePolicy] = field(default_factory=_no_policies)
    endpoints: Mapping[str, CachePolicy] = field(default_factory=_no_policies)  # by names of `CACHED_ENDPOINTS`
