"""An upstream that sends exactly the bytes a test tells it to, and the client's side of a test."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Self

import httpx

from proxy.adapters.http.transport import Transport, WholeBody

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE_S = 10.0  # so long that only a hang meets it


class ServerSide:
    """One accepted connection."""

    def __init__(self, server: "RawServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = server.accepted

    async def request(self) -> bytes:
        """The next request: its head, and the body if it has a length or is chunked."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        body = b""
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                body = await self.reader.readexactly(int(line.split(b":")[1]))
            elif line == b"transfer-encoding: chunked":
                body = await self.reader.readuntil(b"0\r\n\r\n")
        self.server.requests.append(head + body)
        return head + body

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if self.writer.is_closing():  # uvloop has another error for it
                raise ConnectionResetError
            self.writer.write(piece)
            await self.writer.drain()

    async def until_closed(self) -> None:
        """Wait until the client has closed, reading away what it may still send."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass


Script = Callable[[ServerSide], Awaitable[None]]


class RawServer:
    """Runs a script for each connection; what the script leaves open is closed after it."""

    def __init__(self, script: Script, *, ssl_context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._script = script
        self._ssl = ssl_context
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self._sides: set[ServerSide] = set()
        self.accepted = 0
        self.requests: list[bytes] = []
        self.errors: list[BaseException] = []
        self.url = ""

    @property
    def live(self) -> int:
        """Connections whose script still runs."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0, ssl=self._ssl)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._ssl else 'http'}://{self._host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert not self.errors, self.errors

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._run(ServerSide(self, reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, side: ServerSide) -> None:
        try:
            await self._script(side)
            await side.writer.drain()
            side.writer.close()
        except (asyncio.IncompleteReadError, ConnectionError):
            side.writer.transport.abort()
        except asyncio.CancelledError:
            side.writer.transport.abort()
        except Exception as error:  # noqa: BLE001 - shown when the server is left
            self.errors.append(error)
            side.writer.transport.abort()


@contextmanager
def blocking_upstream() -> Iterator[tuple[str, socket.socket]]:
    """A listening socket that the test itself works, without the event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", listener


def answering(*answers: bytes) -> Script:
    """Answers the requests of a connection one after the other, the last answer again and again."""

    async def script(side: ServerSide) -> None:
        remaining = list(answers)
        while True:
            await side.request()
            await side.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return script


def sending(*pieces: bytes, pause_s: float = 0.0) -> Script:
    """Answers one request with these pieces, each on its own, and then closes."""

    async def script(side: ServerSide) -> None:
        await side.request()
        for piece in pieces:
            await side.send(piece)
            await asyncio.sleep(pause_s)

    return script


async def silent(side: ServerSide) -> None:
    """Reads and never answers."""
    await side.until_closed()


def request(
    url: str,
    method: str = "GET",
    content: bytes = b"",
    *,
    stream: httpx.AsyncByteStream | None = None,
    headers: list[tuple[bytes, bytes]] | None = None,
    **timeouts_s: float,
) -> httpx.Request:
    body = WholeBody(content) if stream is None else stream
    return httpx.Request(method, httpx.URL(url), headers=headers or [], stream=body, extensions={"timeout": timeouts_s})


async def read(response: httpx.Response) -> bytes:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return b"".join([chunk async for chunk in response.stream])


async def fetch(transport: httpx.AsyncBaseTransport, asked: httpx.Request) -> tuple[int, bytes]:
    async with asyncio.timeout(PATIENCE_S):
        response = await transport.handle_async_request(asked)
        return response.status_code, await read(response)


class Pieces(httpx.AsyncByteStream):
    """A request body that comes in pieces, waiting before each for what the test decides."""

    def __init__(self, *pieces: bytes, gate: asyncio.Event | None = None) -> None:
        self.pieces = pieces
        self.gate = gate
        self.given = 0
        self.is_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                if self.gate is not None and self.given:
                    await self.gate.wait()
                self.given += 1
                yield piece
        finally:
            self.is_over = True


async def eventually(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited raises no event
            await asyncio.sleep(0.001)


async def settled(transport: Transport) -> None:
    """Wait until no connection is in use."""
    await eventually(lambda: transport.open_connections == transport.idle_connections)
