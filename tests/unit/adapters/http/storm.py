"""The cancel storm: callers hang up at random moments, and nothing may leak."""

import asyncio
import os
import random
from collections import Counter
from typing import Any

import httpx

from proxy.adapters.http.transport import Transport
from tests.unit.adapters.http.raw_server import OK, Pieces, RawServer, ServerSide, fetch, read, request, settled

CANCELS = int(os.environ.get("TOLLWAY_STORM_CANCELS", "1000"))
_AT_ONCE = 24
_CONNECTIONS_MAX = 16  # fewer than callers, so that many of them are hung up on while they wait
_DELAY_S_MAX = 0.004


class Moody:
    """An upstream that takes its time at every step, and sometimes hangs up itself."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.is_calm = False

    async def __call__(self, side: ServerSide) -> None:
        while True:
            await self._dawdle()
            await side.request()
            await self._dawdle()
            if self.is_calm:
                await side.send(OK)
                continue
            mood = self._random.random()
            if mood < 0.3:
                await side.send(OK)
            elif mood < 0.85:
                await side.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                for _ in range(self._random.randrange(12)):
                    await self._dawdle()
                    await side.send(b"2\r\nhi\r\n")
                await self._dawdle()
                await side.send(b"0\r\n\r\n")
            elif mood < 0.95:
                await side.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                return
            else:
                return

    async def _dawdle(self) -> None:
        if not self.is_calm and self._random.random() < 0.7:
            await asyncio.sleep(self._random.random() * _DELAY_S_MAX)


async def storm(cancels: int, seed: int) -> Counter[str]:
    """Start calls until so many were cancelled; then 100 good ones. Gives what became of each.

    Raises:
        AssertionError: a slot or a connection leaked, or a good call failed.
    """
    chance = random.Random(seed)
    moody = Moody(seed + 1)
    outcomes: Counter[str] = Counter()
    transport = Transport(connections_max=_CONNECTIONS_MAX, idle_connections_max=8)

    def ask(stream: Pieces | None = None) -> httpx.Request:
        bounded_by_s: dict[str, Any] = {"pool": 5.0, "connect": 5.0, "first_byte": 5.0, "idle": 5.0, "total": 10.0}
        return request(server.url, "POST", b"hello", stream=stream, **bounded_by_s)

    async def call(has_head: asyncio.Event) -> None:
        stream = Pieces(b"abc", b"x" * 100) if chance.random() < 0.2 else None
        response = await transport.handle_async_request(ask(stream))
        has_head.set()
        await read(response)

    async def hang_up_on_one() -> None:
        has_head = asyncio.Event()
        task = asyncio.ensure_future(call(has_head))
        # By phase as well as by the clock: on a busy machine the clock alone would miss some phases.
        fate = chance.random()
        if fate < 0.6:
            await asyncio.sleep(chance.choice([0.0, chance.random() * 0.002, chance.random() * 4 * _DELAY_S_MAX]))
        elif fate < 0.9:
            seen = asyncio.ensure_future(has_head.wait())
            await asyncio.wait([task, seen], return_when=asyncio.FIRST_COMPLETED)
            seen.cancel()
            await asyncio.sleep(chance.choice([0.0, chance.random() * 2 * _DELAY_S_MAX]))
        else:
            await asyncio.wait([task])
        task.cancel()
        try:
            await task
            outcomes["answered"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
            outcomes["cancelled in the body" if has_head.is_set() else "cancelled before the head"] += 1
        except Exception as error:  # noqa: BLE001 - the upstream's moods; counted, and looked at by the caller
            outcomes[type(error).__name__] += 1

    async def caller() -> None:
        while outcomes["cancelled"] < cancels:
            await hang_up_on_one()

    async with RawServer(moody) as server:
        await asyncio.gather(*(caller() for _ in range(_AT_ONCE)))
        await settled(transport)
        assert transport.open_connections <= 8, "what is idle is bounded"
        moody.is_calm = True
        # Connections that the upstream is about to close in a late mood are not good ones yet.
        await asyncio.sleep(5 * _DELAY_S_MAX)
        for _ in range(10):
            answers = await asyncio.gather(*(fetch(transport, ask()) for _ in range(10)))
            assert answers == [(200, b"hi")] * 10
        await settled(transport)
        assert 0 < transport.open_connections == transport.idle_connections <= 8
        assert server.live <= _CONNECTIONS_MAX, "the upstream's side has closed too"
        await transport.aclose()
        assert transport.open_connections == 0
    return outcomes
