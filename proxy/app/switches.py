"""Keeps what operators have taken out of service in force in this process: read anew twice a second."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from proxy.core.errors import StateUnavailable
from proxy.routing.store import SwitchStore
from proxy.routing.switches import Switch, SwitchSlot, in_force

_log = logging.getLogger("tollway.switches")

EVERY_S: Final = 0.5  # so that a switch holds everywhere within a second


class SwitchWatch:
    """One process's. A store that is away leaves in force what was."""

    def __init__(self, store: SwitchStore, slot: SwitchSlot) -> None:
        self._store = store
        self._slot = slot
        self._watching: asyncio.Task[None] | None = None
        self._seen = 0  # how often something was seen, so that a read which was overtaken can tell

    async def start(self) -> None:
        """Read them once, and go on."""
        await self._read()
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def stop(self) -> None:
        """End."""
        if self._watching is not None:
            self._watching.cancel()

    def see(self, switches: Sequence[Switch]) -> None:
        """What is in the store now."""
        self._seen += 1
        now = in_force(switches)
        if now != self._slot.current:
            _log.warning("out of service: %s; switched: %s", sorted(now.drained), dict(now.switched))
            self._slot.current = now

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._read()
            except Exception:  # noqa: BLE001  whatever it is, the next turn may do
                _log.exception("what is out of service could not be read")

    async def _read(self) -> None:
        seen = self._seen
        try:
            switches = await self._store.read()
        except StateUnavailable:
            return
        if self._seen == seen:  # else this process changed them meanwhile, and knows better
            self.see(switches)
