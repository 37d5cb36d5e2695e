"""`[cache]`, and the table `cache` of a tenant, a model, a feature or an endpoint."""

from typing import Final

from proxy.settings.caching import (
    CACHED_ENDPOINTS,
    EVENTS_PER_S_MAX,
    TTL_S_MAX,
    CacheMode,
    CachePolicy,
    CacheSettings,
    CacheShare,
)
from proxy.settings.reader import Reader
from proxy.settings.suggest import did_you_mean
from proxy.settings.values import Mismatch, parse_feature_name

MEMORY_BYTES_MAX: Final = 1 << 40
FILE_BYTES_MIN: Final = 1 << 20  # a smaller one would hold one answer and throw it away for the next
FILE_BYTES_MAX: Final = 1 << 44
ENTRY_BYTES_MIN: Final = 1_024
ENTRY_BYTES_MAX: Final = 1 << 26  # an answer that is kept is held in memory whole
WAIT_S_MAX: Final = 300.0


def read_cache(at: Reader) -> CacheSettings:
    """The whole section."""
    default = CacheSettings()
    cache = CacheSettings(
        memory_bytes_max=at.integer("memory_bytes_max", default.memory_bytes_max, 0, MEMORY_BYTES_MAX),
        file_bytes_max=at.integer("file_bytes_max", default.file_bytes_max, FILE_BYTES_MIN, FILE_BYTES_MAX),
        entry_bytes_max=at.integer("entry_bytes_max", default.entry_bytes_max, ENTRY_BYTES_MIN, ENTRY_BYTES_MAX),
        wait_s=at.seconds("wait_s", default.wait_s, WAIT_S_MAX, or_zero=True),
        features={name: _policy(one) for name, one in at.table("features").named_tables(parse_feature_name)},
        endpoints={name: _policy(one) for name, one in at.table("endpoints").named_tables(parse_endpoint)},
    )
    at.close()
    return cache


def read_policy(at: Reader) -> CachePolicy | None:
    """The member `cache` of a tenant or a model; None: nothing is said."""
    table = at.table_if_any("cache")
    return None if table is None else _policy(table)


def parse_endpoint(text: str) -> str:
    """The name of an endpoint whose answers can be kept. Raises Mismatch."""
    if text not in CACHED_ENDPOINTS:
        raise Mismatch(f"one of {', '.join(CACHED_ENDPOINTS)}", suggestion=did_you_mean(text, CACHED_ENDPOINTS))
    return text


def _policy(at: Reader) -> CachePolicy:
    default = CachePolicy()
    policy = CachePolicy(
        # A table without a mode could be read as "on" as well as "off".
        mode=at.choice("mode", CacheMode, default.mode, required=True),
        ttl_s=at.integer("ttl_s", default.ttl_s, 1, TTL_S_MAX),
        share=at.choice("share", CacheShare, default.share),
        events_per_s=at.integer("events_per_s", default.events_per_s, 1, EVENTS_PER_S_MAX),
    )
    at.close()
    return policy
