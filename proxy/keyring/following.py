"""Hears once a second whose keyring other processes changed, by the list of changes that the store keeps."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.core.errors import GatewayError
from proxy.keyring.store import KeyringStore

_log = logging.getLogger("tollway.keyring")

FOLLOW_S: Final = 1.0

OnChange: TypeAlias = Callable[[str], object]
"""Hears whose keyring changed: a tenant's id."""

OnGap: TypeAlias = Callable[[], object]
"""Hears that changes were missed: they may be anybody's."""


class Following:
    """Follows the changes of one store. Belongs to one event loop."""

    __slots__ = ("_following", "_on_change", "_on_gap", "_place", "_store")

    def __init__(self, store: KeyringStore, on_change: OnChange, on_gap: OnGap) -> None:
        self._store = store
        self._on_change = on_change
        self._on_gap = on_gap
        self._following: asyncio.Task[None] | None = None
        self._place = ""  # in the store's list of changes

    def start(self) -> None:
        """Begin to follow. Safe to repeat."""
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Stop following. Safe to repeat."""
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                changes = await self._store.changes(self._place)
                if changes.tenant_ids is None:
                    self._on_gap()
                else:
                    for tenant_id in changes.tenant_ids:
                        self._on_change(tenant_id)
                self._place = changes.place  # only now: what was not heard whole is heard again
            except GatewayError:  # the store is away: what is known comes of age by itself
                pass
            except Exception:  # noqa: BLE001  whatever it is, the next turn may do
                _log.exception("whose keyring changed could not be heard")
            await asyncio.sleep(FOLLOW_S)
