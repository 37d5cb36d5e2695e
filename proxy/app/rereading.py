"""Reads the configuration anew while calls go on, and puts it in force.

Ten thousand tenants take a good part of a second to read and check. A thread does that, so that
the event loop has no more to do than to swap the snapshot. One is read at a time; whoever asks
meanwhile gets another reading after it, because this one may have begun before the file was written.
"""

import asyncio
import logging
from collections.abc import Callable

from proxy.settings.model import Settings
from proxy.settings.problem import SettingsError

_log = logging.getLogger("tollway")


class Rereading:
    """Made once a process that serves; everything but the reading happens on one event loop."""

    def __init__(
        self, read: Callable[[], Settings], put_in_force: Callable[[Settings], object], version: Callable[[], str]
    ) -> None:
        """What `read` and `put_in_force` raise (SettingsError, OSError, ValueError) leaves the old one in force,
        whose `version` the log then tells."""
        self._read = read
        self._put_in_force = put_in_force
        self._version = version
        self._is_asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Reload soon. Waits for nothing."""
        self._is_asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._reload())

    async def stop(self) -> None:
        """Put nothing in force any more; what is being read is read to its end, for nobody. Safe to repeat."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _reload(self) -> None:
        while self._is_asked:
            self._is_asked = False
            try:
                self._put_in_force(await asyncio.to_thread(self._read))
            except (SettingsError, OSError, ValueError) as error:
                _log.error("the new configuration is refused; %s stays in force: %s", self._version(), error)
            except Exception as error:  # noqa: BLE001  a task's fault is seen by nobody, and the next reading may do
                _log.error("the reload failed; %s stays in force: %s", self._version(), error, exc_info=error)
