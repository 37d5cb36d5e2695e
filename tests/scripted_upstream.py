"""A provider that sends exactly the bytes it is told to, over a real socket, and remembers
exactly the bytes it got."""

import asyncio
import hashlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum


class Do(Enum):
    """What a script can do besides sending bytes and waiting (a float: seconds)."""

    RESET = "reset"  # a TCP reset, whatever was sent before
    CLOSE = "close"  # a clean TCP end
    HANG = "hang"  # nothing more, for as long as the caller waits


Step = bytes | float | Do


@dataclass
class Received:
    """One request as it came."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        """A header's first value, by its name in lower case."""
        return next((value for known, value in self.headers if known.lower() == name), None)

    @property
    def body_sha256(self) -> str:
        """What the body hashes to."""
        return hashlib.sha256(self.body).hexdigest()


def answer(body: bytes, *, status: bytes = b"200 OK", headers: Iterable[tuple[bytes, bytes]] = ()) -> list[Step]:
    """A plain answer with its length."""
    head = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), b"date: Thu, 01 Jan 2026 00:00:00 GMT"]
    fields = dict(headers)
    fields.setdefault(b"content-type", b"application/json")
    head += [name + b": " + value for name, value in fields.items()]
    return [b"\r\n".join(head) + b"\r\n\r\n" + body]


def stream(*pieces: bytes | float | Do, content_type: bytes = b"text/event-stream", head: bytes = b"") -> list[Step]:
    """A chunked answer, one HTTP chunk for each piece; `Do` and waits stand between them."""
    steps: list[Step] = [
        b"HTTP/1.1 200 OK\r\ncontent-type: " + content_type + b"\r\ntransfer-encoding: chunked\r\n" + head + b"\r\n"
    ]
    steps += [b"%x\r\n%b\r\n" % (len(piece), piece) if isinstance(piece, bytes) else piece for piece in pieces]
    if not any(isinstance(piece, Do) for piece in pieces):
        steps.append(b"0\r\n\r\n")
    return steps


Script = Callable[[Received], Iterable[Step]]


@dataclass
class ScriptedUpstream:
    """A server under `scripted_upstream()`. Set `script` at any time."""

    port: int
    script: Script
    received: list[Received] = field(default_factory=list)
    open_connections: int = 0
    connections_made: int = 0

    @property
    def base_url(self) -> str:
        """What a provider's `base_url` would be."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        self.open_connections += 1
        self.connections_made += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.received.append(request)
                if not await _play(self.script(request), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            self.open_connections -= 1
            writer.close()


async def _play(steps: Iterable[Step], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Carry a script out; False where the connection is over."""
    for step in steps:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, float | int):
            if await _gone(reader, float(step)):
                return False
        elif step is Do.RESET:
            # Without it `abort` ends the connection cleanly, unless something has come that nobody read.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif step is Do.CLOSE:
            return False
        else:
            await _gone(reader, 60.0)
            return False
    return True


async def _gone(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Wait; True as soon as the other side has closed."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return reader.at_eof()
    deadline = asyncio.get_running_loop().time() + seconds
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        if reader.at_eof() or reader.exception() is not None:
            return True
        await asyncio.sleep(min(left, 0.005))
    return False


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _ = first.decode("latin-1").split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    request = Received(method, target, headers)
    length = request.header(b"content-length")
    if length is not None:
        request.body = await reader.readexactly(int(length))
    elif request.header(b"transfer-encoding") == b"chunked":
        pieces = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        request.body = b"".join(pieces)
    return request


@asynccontextmanager
async def scripted_upstream(script: Script | list[Step]) -> AsyncIterator[ScriptedUpstream]:
    """A scripted provider on a free port of the loopback."""
    fixed = script if callable(script) else lambda _request: script
    upstream = ScriptedUpstream(0, fixed)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await upstream.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something to become true; fails when it does not."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
