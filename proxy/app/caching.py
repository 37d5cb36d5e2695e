"""What keeps answers: the stores that a configuration names, and the shelf before them."""

from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import URL_PREFIX, SqliteDoor, sqlite_path
from proxy.adapters.sqlite_schema import CACHE_MIGRATIONS
from proxy.cache.embedded import EmbeddedCacheStore
from proxy.cache.memory import Memory
from proxy.cache.shelf import AnswerSealer, Shelf
from proxy.cache.store import CacheStore, RedisCacheStore
from proxy.core.clock import Clock
from proxy.settings.caching import CACHE_FILE_URL, NO_CACHE_STORE
from proxy.settings.model import Settings
from proxy.telemetry.metrics import Metrics


def cache_url(settings: Settings) -> str:
    """Where kept answers are, besides each process's memory. Beside a Redis that holds money they are
    only where another place is named: what a cache may throw away must not crowd out what nothing may."""
    url = settings.state.cache_url
    if url is not None:
        return url
    return CACHE_FILE_URL if settings.state.url.startswith(URL_PREFIX) else NO_CACHE_STORE


def connect_cache(settings: Settings, clock: Clock) -> CacheStore | None:
    """The store of kept answers. Nothing is opened until the first call."""
    url = cache_url(settings)
    if url == NO_CACHE_STORE:
        return None
    if url.startswith(URL_PREFIX):
        door = SqliteDoor(sqlite_path(url, settings.state.folder), CACHE_MIGRATIONS)
        return EmbeddedCacheStore(door, settings.cache.file_bytes_max, clock)
    return RedisCacheStore(RedisDoor(url))


def make_shelf(
    settings: Settings, store: CacheStore | None, sealer: AnswerSealer | None, metrics: Metrics, clock: Clock
) -> Shelf:
    """One process's."""
    memory = Memory(settings.cache.memory_bytes_max)
    metrics.cache.read_bytes(lambda: memory.bytes)
    return Shelf(memory, store, sealer, settings.cache.entry_bytes_max, clock, metrics.cache.failed)
