"""The floor: the least that a relay written in Python can do, on uvloop and httptools, as the gateway is.

    python -m benchmarks.bare_relay --port 9100 --upstream 127.0.0.1:9000

It passes bytes on, and parses them only to know where a message ends. It knows nobody, counts nothing, limits nothing,
has no timeouts and forgives no fault: what the gateway takes more than this is what it does.
"""

import argparse
import asyncio
from functools import partial
from typing import Final, cast

import httptools
import uvloop

_BACKLOG: Final = 4_096


class Downstream(asyncio.Protocol):
    """A caller."""

    def __init__(self, host: str, port: int, idle: "list[Upstream]") -> None:
        self._host, self._port, self._idle = host, port, idle
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: list[bytes] = []  # until the upstream is connected
        self._connecting: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.upstream: Upstream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.upstream is not None:
            self.upstream.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self.upstream is not None:
            self.upstream.write(data)
            return
        if self._idle:
            self.upstream = self._idle.pop()
            self.upstream.serve(self, data)
            return
        self._waiting.append(data)
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        upstream = Upstream(self._idle)
        await asyncio.get_running_loop().create_connection(lambda: upstream, self._host, self._port)
        self.upstream, waiting = upstream, b"".join(self._waiting)
        self._waiting, self._connecting = [], None
        upstream.serve(self, waiting)


class Upstream(asyncio.Protocol):
    """A connection to the provider; one caller's at a time."""

    def __init__(self, idle: "list[Upstream]") -> None:
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._is_whole = False
        self._transport: asyncio.Transport | None = None
        self._caller: Downstream | None = None

    def serve(self, caller: Downstream, data: bytes) -> None:
        self._caller = caller
        self.write(data) if caller.transport is not None else self.abort()  # it may have hung up meanwhile

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self in self._idle:
            self._idle.remove(self)
        if self._caller is not None and self._caller.transport is not None:
            self._caller.transport.abort()

    def data_received(self, data: bytes) -> None:
        caller = self._caller
        if caller is None or caller.transport is None:
            return
        self._parser.feed_data(data)
        if self._is_whole:
            self._is_whole, self._caller, caller.upstream = False, None, None
            self._idle.append(self)
        caller.transport.write(data)

    def on_message_complete(self) -> None:
        self._is_whole = True


async def _serve(port: int, host: str, upstream_port: int) -> None:
    idle: list[Upstream] = []
    loop = asyncio.get_running_loop()
    make = partial(Downstream, host, upstream_port, idle)
    await (await loop.create_server(make, "127.0.0.1", port, backlog=_BACKLOG)).serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT")
    arguments = parser.parse_args()
    upstream_host, upstream_port = arguments.upstream.rsplit(":", 1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments.port, upstream_host, int(upstream_port)))
