"""A request's body that arrives piece by piece, on its way to an upstream in a task of its own."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING

import httpx

from proxy.adapters.http.framing import LAST_CHUNK, frame_chunk

if TYPE_CHECKING:
    from proxy.adapters.http.connection import Connection


class Upload:
    """Sends one body. It ends when the body does, or is stopped when nobody wants it any more."""

    __slots__ = ("_body", "_connection", "_content_length", "_on_sent", "_on_stalled", "_room", "_task")

    def __init__(
        self,
        connection: "Connection",
        body: AsyncIterator[bytes],
        content_length: int | None,
        *,
        on_sent: Callable[[], None],
        on_stalled: Callable[[], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        """Begin. Without a `content_length` the body goes in chunks. `on_stalled` hears when the
        upstream takes no more; `room_came` is to be called once it does again."""
        self._connection = connection
        self._body = body
        self._content_length = content_length
        self._on_sent = on_sent
        self._on_stalled = on_stalled
        self._room: asyncio.Future[None] | None = None
        self._task = connection.loop.create_task(self._send())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                on_failed(error)

        self._task.add_done_callback(ended)

    def room_came(self) -> None:
        """All that was written is on its way."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def stop(self) -> None:
        """Send no more, and let go of where the body comes from. Safe to repeat."""
        if not self._task.done():
            self._task.cancel()

    async def _send(self) -> None:
        try:
            await self._send_pieces(self._content_length)
        finally:
            # A source that was stopped half-way is let go now, not when memory is next swept.
            if isinstance(self._body, AsyncGenerator):
                await self._body.aclose()
        self._on_sent()

    async def _send_pieces(self, unsent: int | None) -> None:
        connection = self._connection
        async for piece in self._body:
            if not piece:
                continue
            if unsent is None:
                connection.write(frame_chunk(piece), b"")
            else:
                unsent -= len(piece)
                if unsent < 0:
                    raise httpx.LocalProtocolError("the request's body is longer than its content-length")
                connection.write(piece, b"")
            await self._wait_for_room()
        if unsent is None:
            connection.write(LAST_CHUNK, b"")
            await self._wait_for_room()
        elif unsent:
            raise httpx.LocalProtocolError("the request's body is shorter than its content-length")

    async def _wait_for_room(self) -> None:
        while self._connection.is_write_paused:
            self._room = self._connection.loop.create_future()
            self._on_stalled()
            await self._room
