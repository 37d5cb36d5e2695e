"""What must hold of kept answers between sections, and what is written of them and does nothing.

Pure. One mistake, one problem: what is wrong in itself is reported where it is read.
"""

from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import urlsplit

from proxy.settings.caching import NO_CACHE_STORE, CacheMode, CachePolicy
from proxy.settings.model import SQLITE_PREFIX, AuthMode, Settings, StateSettings
from proxy.settings.problem import member
from proxy.settings.reader import Source

Place: TypeAlias = tuple[str, str | int]

_REDIS_PORT = 6_379
_NAMED_MAX = 3  # by one warning


def check_caching(draft: Settings, source: Source) -> None:
    """Report a cache that would lie among what has to last."""
    state = draft.state
    if not source.is_sound("state.folder", "state.url", "state.cache_url"):
        return
    url = state.kept_url
    if url == NO_CACHE_STORE or _place(url, state) != _place(state.url, state):
        return
    found = "the same" if state.cache_url is not None else f"nothing, which stands for {url}"
    source.report(
        "state.cache_url",
        "another place than state.url",
        found,
        "What a cache may throw away must not lie where nothing may be lost: name another server, or a SQLite file.",
    )


def advise_caching(settings: Settings) -> Iterator[str]:
    """What is legal and does nothing, each said with what to do about it."""
    places = caching_places(settings)
    if places and settings.auth.mode is AuthMode.PASSTHROUGH:
        does, it = ("does", "it") if len(places) == 1 else ("do", "them")
        yield (
            f'{_named(places)} {does} nothing: in mode "{settings.auth.mode}" no answer is kept. Remove {it}, or '
            "choose another auth.mode."
        )
    if places and not settings.cache.memory_bytes_max and settings.state.kept_url == NO_CACHE_STORE:
        yield (
            "cache.memory_bytes_max is 0, and there is no store of kept answers: nothing is ever answered from the "
            "cache. Give it memory, or name a store in state.cache_url."
        )
    for tenant in settings.tenants.values():
        if tenant.zero_retention and tenant.cache is not None and tenant.cache.mode is not CacheMode.OFF:
            where = member("tenants", tenant.id)
            yield f"{where}.cache does nothing with zero_retention: no answer of its is kept. Remove one of the two."
    for alias, model in settings.models.items():
        if model.cache is not None and not model.deployments:
            where = member("models", alias)
            yield (
                f"{where}.cache does nothing: of a call that rules lead elsewhere, the cache of the model that serves "
                "it holds. Write it there."
            )


def caching_places(settings: Settings) -> list[str]:
    """Where the file turns the cache on for something."""
    return [where for where, policy in _policies(settings) if policy.mode is not CacheMode.OFF]


def _named(places: list[str]) -> str:
    if len(places) > _NAMED_MAX:
        places = [*places[:_NAMED_MAX], f"{len(places) - _NAMED_MAX} more"]
    *before, last = places
    return f"{', '.join(before)} and {last}" if before else last


def _policies(settings: Settings) -> Iterator[tuple[str, CachePolicy]]:
    """Everything that is said, and where."""
    for feature, policy in settings.cache.features.items():
        yield member("cache.features", feature), policy
    for alias, model in settings.models.items():
        if model.cache is not None:
            yield member(member("models", alias), "cache"), model.cache
    for endpoint, policy in settings.cache.endpoints.items():
        yield member("cache.endpoints", endpoint), policy
    for tenant in settings.tenants.values():
        if tenant.cache is not None:
            yield member(member("tenants", tenant.id), "cache"), tenant.cache


def _place(url: str, state: StateSettings) -> Place:
    """Which file or server a URL leads to, however it is written. A Redis evicts, and runs out of memory, as a whole,
    whatever the number of the database."""
    if url.startswith(SQLITE_PREFIX):
        return SQLITE_PREFIX, str(state.folder / url.removeprefix(SQLITE_PREFIX))
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _REDIS_PORT
