"""Virtual keys move on to the newest pepper by being used: noted here, done behind the calls.

A key that was found under an older pepper, or whose pepper nobody has noted, gets a digest under
the newest one. No call waits for it, and nothing is lost where it fails: the key works as before,
and its next look-up notes it again. The older digest stays until its pepper is retired, because a
gateway may run whose configuration does not know the newest pepper yet.
"""

import asyncio
import logging
from typing import Final, TypeAlias

from proxy.core.errors import StateUnavailable
from proxy.identity.store import VirtualKeyStore
from proxy.identity.virtual_key import PepperedDigest

_log = logging.getLogger("tollway.identity")

WAITING_MAX: Final = 10_000

_Job: TypeAlias = tuple[str, PepperedDigest, PepperedDigest]


class Redigest:
    """Writes digests under the newest pepper, one after the other."""

    __slots__ = ("_store", "_waiting", "_worker")

    def __init__(self, store: VirtualKeyStore) -> None:
        self._store = store
        self._waiting: dict[str, _Job] = {}  # by the digest that is to be; in order
        self._worker: asyncio.Task[None] | None = None

    def soon(self, virtual_key_id: str, known: PepperedDigest, newest: PepperedDigest) -> None:
        """Let the key be found under the newest pepper, too, once there is time. Where 10,000 wait already, it is left
        to a later use."""
        if len(self._waiting) >= WAITING_MAX:
            return
        self._waiting.setdefault(newest.digest, (virtual_key_id, known, newest))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Leave what waits to the next use. Safe to repeat."""
        self._waiting.clear()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.wait({worker})

    async def _work(self) -> None:
        try:
            while self._waiting:
                place = next(iter(self._waiting))
                job = self._waiting[place]
                await self._store.add_digest(*job)
                del self._waiting[place]
        except StateUnavailable:
            _log.info("%d virtual keys stay under an older pepper until their next use", len(self._waiting))
            self._waiting.clear()
        except Exception:  # noqa: BLE001  a fault of ours costs no call
            _log.exception("virtual keys could not be digested under the newest pepper")
            self._waiting.clear()
        finally:
            if self._worker is asyncio.current_task():
                self._worker = None


def ignore(_virtual_key_id: str, _known: PepperedDigest, _newest: PepperedDigest) -> None:
    """For whoever moves nothing on."""
