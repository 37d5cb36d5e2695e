"""What keeps answers: the stores that a configuration names, and the shelf before them."""

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import URL_PREFIX, SqliteDoor, sqlite_path
from proxy.adapters.sqlite_schema import CACHE_MIGRATIONS
from proxy.cache.embedded import EmbeddedCacheStore
from proxy.cache.entry import stored_bytes_max
from proxy.cache.memory import Memory
from proxy.cache.shelf import AnswerSealer, Shelf
from proxy.cache.store import CacheStore, RedisCacheStore
from proxy.core.clock import Clock
from proxy.settings.caching import NO_CACHE_STORE
from proxy.settings.model import Settings
from proxy.telemetry.metrics import Metrics


def connect_cache(settings: Settings, clock: Clock) -> CacheStore | None:
    """The store of kept answers. Nothing is opened until the first call."""
    url, data_bytes_max = settings.state.kept_url, stored_bytes_max(settings.cache.entry_bytes_max)
    if url == NO_CACHE_STORE:
        return None
    if url.startswith(URL_PREFIX):
        door = SqliteDoor(sqlite_path(url, settings.state.folder), CACHE_MIGRATIONS)
        return EmbeddedCacheStore(door, settings.cache.file_bytes_max, clock, data_bytes_max)
    return RedisCacheStore(RedisDoor(url), data_bytes_max)


def make_shelf(
    settings: Settings, store: CacheStore | None, sealer: AnswerSealer | None, metrics: Metrics, clock: Clock
) -> Shelf:
    """One process's."""
    memory = Memory(settings.cache.memory_bytes_max)
    metrics.cache.read_bytes(lambda: memory.bytes)
    return Shelf(memory, store, sealer, settings.cache.entry_bytes_max, clock, metrics.cache.failed)
