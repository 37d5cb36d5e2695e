"""The store of kept answers, as commands ask it: what is wrong with it is told as its own, not as the state store's."""

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.cli.terminal import CommandFailed
from proxy.core.errors import StateIncompatible, StateUnavailable
from proxy.settings.model import Settings


class CacheStoreFailed(CommandFailed):
    """The store of kept answers does not answer, or not to this release."""


@contextmanager
def own_faults(settings: Settings) -> Iterator[None]:
    """Around what asks that store alone.

    Raises:
        CacheStoreFailed
    """
    try:
        yield
    except StateUnavailable as error:
        why = error.cause or "the store of kept answers did not answer in time. Try again shortly."
    except StateIncompatible:
        why = "another release of Tollway keeps its answers there. Start that one, or name another place in cache_url."
    else:
        return
    raise CacheStoreFailed(f"{settings.state.shown_kept_url}: {why}")
