"""A caller in the middle of a stream, and an upstream that holds it there."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, Self

from tests.command import Command
from tests.gateway import JSON, BrokenOff, dechunked, request_bytes
from tests.scripted_upstream import Step, stream

CHAT: Final = "/v1/chat/completions"
EVENT: Final = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
USAGE_EVENT: Final = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DONE: Final = b"data: [DONE]\n\n"
REST: Final = USAGE_EVENT + DONE
SOON_S: Final = 15.0  # generous: "did not hang"


def held_until(go: asyncio.Event) -> Iterator[Step]:
    """A stream that goes on when it may: the bytes of a whole one."""
    first, *rest = stream(EVENT, USAGE_EVENT, DONE)
    yield first
    yield rest[0]
    while not go.is_set():
        yield 0.05
    yield from rest[1:]


class Streaming:
    """A caller who has seen so much of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(
        cls,
        command: Command,
        body: bytes,
        headers: Sequence[tuple[bytes, bytes]] = JSON,
        *,
        until_seen: bytes = EVENT,
    ) -> Self:
        reader, writer = await asyncio.open_connection("127.0.0.1", command.port)
        writer.write(request_bytes("POST", CHAT, body, headers))
        if until_seen:
            await reader.readuntil(until_seen)
        return cls(reader, writer)

    async def rest(self) -> bytes:
        """All that comes after the first event. Raises BrokenOff where the stream has no clean end."""
        try:
            async with asyncio.timeout(SOON_S):
                return dechunked((await self._reader.read()).removeprefix(b"\r\n"))
        except ConnectionResetError:
            raise BrokenOff(b"") from None
        finally:
            self._writer.close()

    async def ends_whole(self) -> bool:
        """Whether the rest came, to a clean end."""
        try:
            return DONE in await self.rest()
        except BrokenOff:
            return False
