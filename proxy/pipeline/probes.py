"""Asks providers that are taken for down whether they are back, where no caller is to find out (`probe_every_s`).

What is asked costs nothing: the list of models, with the gateway's own key. The answer goes to the breakers of the
provider's deployments that are not closed, as a caller's call would.
"""

import asyncio
import logging
from collections.abc import Iterator
from typing import Final

from proxy.core.clock import Clock
from proxy.core.errors import GatewayError
from proxy.pipeline.snapshot import ProviderAccess, SnapshotSlot
from proxy.upstream.breaker import BreakerState
from proxy.upstream.conditions import Condition, Conditions

_log = logging.getLogger("tollway.probes")

LOOK_EVERY_S: Final = 0.25
_TOTAL_S: Final = 10.0
_TARGET: Final = "/models"


class Probes:
    """One process's."""

    def __init__(self, snapshots: SnapshotSlot, conditions: Conditions, clock: Clock) -> None:
        self._snapshots = snapshots
        self._conditions = conditions
        self._clock = clock
        self._due_us: dict[str, int] = {}  # by provider
        self._asking: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """End; what is being asked is given up."""
        tasks = [*self._asking, *([] if self._looking is None else [self._looking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self._look()
            except Exception:  # noqa: BLE001  whatever it is, the next look may do
                _log.exception("no provider could be asked whether it is back")

    def _look(self) -> None:
        now_us = self._clock.monotonic_us()
        for name, access in self._snapshots.current.providers.items():
            every_s = access.settings.probe_every_s
            if every_s is None or now_us < self._due_us.get(name, 0):
                continue
            down = list(self._down(name, now_us))
            if down:
                self._due_us[name] = now_us + int(every_s * 1e6)
                task = asyncio.get_running_loop().create_task(self._ask(access, down))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)

    def _down(self, provider: str, now_us: int) -> Iterator[Condition]:
        """Its deployments that a probe may be sent for now, each with the probe's lease."""
        for label, condition in self._conditions.own():
            is_its = label.partition("/")[0] == provider
            if is_its and condition.breaker.state(now_us) is BreakerState.HALF_OPEN and condition.breaker.enter(now_us):
                yield condition

    async def _ask(self, access: ProviderAccess, down: list[Condition]) -> None:
        status: int | None = None
        try:
            status = await self._status(access)
        except GatewayError as error:
            _log.info("%s is still down: %s", access.settings.name, error.message)
        except Exception:  # noqa: BLE001  a fault of ours: it says nothing of the provider
            _log.exception("%s could not be asked whether it is back", access.settings.name)
            for condition in down:
                condition.breaker.left()
            return
        now_us = self._clock.monotonic_us()
        for condition in down:
            if status is not None and status < 500 and status not in (401, 403):
                condition.breaker.succeeded(now_us)
            else:
                condition.breaker.failed(now_us)

    async def _status(self, access: ProviderAccess) -> int:
        dialect, provider_key = access.dialect, access.settings.provider_key
        headers = [(b"accept-encoding", b"identity"), *dialect.headers]
        if provider_key is not None:
            shown = dialect.credential_prefix + provider_key.reveal().encode()
            headers.append((dialect.credential_header, shown))
        head = access.client.prepare("GET", _TARGET, headers)
        answer = await access.client.send(head, b"", stream=False, total_s=_TOTAL_S)
        await answer.aclose()
        return answer.status
