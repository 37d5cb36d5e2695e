"""Tells a URL of the operator's that something happened. Nobody waits for it, and nothing depends on it."""

import asyncio
import logging
from typing import Any, Final

import httpx

from proxy.adapters.http.framing import Ask, Target, frame_head
from proxy.adapters.http.round_trip import Bounds
from proxy.adapters.http.transport import Transport
from proxy.core import jsonio
from proxy.core.secret import Secret

_log = logging.getLogger("tollway.webhook")

_UNDER_WAY_MAX: Final = 16
_TIMEOUTS_S: Final = {"connect": 2.0, "pool": 2.0, "first_byte": 5.0, "idle": 5.0, "total": 10.0}


class Webhook:
    """Posts JSON, once: a notice that is lost stands in the log and in a metric all the same."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._bounds = Bounds.of(_TIMEOUTS_S)
        self._under_way: set[asyncio.Task[None]] = set()

    def post(self, url: Secret, document: dict[str, Any]) -> None:
        """Send a notice in the background; it is dropped where 16 are under way."""
        if len(self._under_way) >= _UNDER_WAY_MAX:
            _log.warning("a webhook is too slow: a notice was dropped")
            return
        task = asyncio.get_running_loop().create_task(self._post(url, jsonio.encode(document)))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def aclose(self) -> None:
        """Let what is under way go, and every connection."""
        for task in tuple(self._under_way):
            task.cancel()
        await self._transport.aclose()

    async def _post(self, url: Secret, content: bytes) -> None:
        # The URL is not logged: many are their own password.
        try:
            ask = Ask("POST", Target.of(httpx.URL(url.reveal())), [(b"content-type", b"application/json")])
            round_trip = await self._transport.ask(frame_head(ask), content, self._bounds)
            try:
                head = await round_trip.wait_head()
            finally:
                await round_trip.aclose()
            if head.status >= 300:
                _log.warning("a webhook answered %d", head.status)
        except httpx.TransportError as error:
            _log.warning("a webhook could not be told: %s", type(error).__name__)
