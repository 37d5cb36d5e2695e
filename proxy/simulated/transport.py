"""Plays the simulated provider's scripts in process, as an httpx transport: no network at all."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import httpx

from proxy.core.clock import Clock
from proxy.simulated.refusals import too_large
from proxy.simulated.script import refused, script
from proxy.simulated.steps import Fault, Script, Stamp, Step

BODY_BYTES_MAX: Final = 33_554_432
WAIT_S_MAX: Final = 600.0
"""How long anything waits where the request names no bound."""

_BYTES_PER_UNIQUE: Final = 16


def _unique() -> str:
    return secrets.token_hex(_BYTES_PER_UNIQUE)


class SimulatedTransport(httpx.AsyncBaseTransport):
    """A provider in process. The time-outs of the request's `timeout` extension hold, in seconds:
    `total` from the start, `first_byte` up to the first byte, `idle` (or httpx's own `read`) between bytes.
    """

    def __init__(self, clock: Clock | None = None, unique: Callable[[], str] = _unique) -> None:
        self._clock = clock or Clock()
        self._unique = unique

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request.

        Raises:
            httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError: the script says so, before its head.
        """
        play = _Play(_bounds(request), self._clock)
        body = await _read(request)
        stamp = Stamp(self._clock.now_ms() // 1_000, self._unique())
        if body is None:
            answer = refused(too_large(), stamp)
        else:
            answer = script(request.method, request.url.raw_path.decode("ascii"), body, stamp)
        await play.begin(answer)
        return httpx.Response(answer.status, headers=list(answer.headers), stream=play)


class _Play(httpx.AsyncByteStream):
    """One script on its way. The first step is waited for before the head, the others while the body is read."""

    __slots__ = ("_bounds", "_clock", "_closed", "_first_chunk", "_since_us", "_started_us", "_steps")

    def __init__(self, bounds: Mapping[str, float], clock: Clock) -> None:
        self._bounds = bounds
        self._clock = clock
        self._closed = False
        self._first_chunk = b""
        self._started_us = self._since_us = clock.monotonic_us()
        self._steps: tuple[Step, ...] = ()

    async def begin(self, answer: Script) -> None:
        self._first_chunk = await self._perform(answer.steps[0], "first_byte")
        self._steps = answer.steps[1:]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first_chunk
        for step in self._steps:
            if self._closed:
                return
            yield await self._perform(step, "idle")

    async def aclose(self) -> None:
        self._closed = True

    async def _perform(self, step: Step, bound: str) -> bytes:
        """Wait for the step, then give its chunk or raise its fault."""
        wait_s = WAIT_S_MAX if step.fault is Fault.HANG else step.delay_ms / 1_000
        left_s = self._left_s(bound)
        # Even a chunk that is due gives way to other tasks first, as one off the wire does.
        await asyncio.sleep(max(0.0, min(wait_s, left_s)))
        if wait_s > left_s or step.fault is Fault.HANG:
            raise httpx.ReadTimeout("the simulated provider sent nothing in time")
        if step.fault is Fault.RESET:
            raise httpx.ReadError("the simulated provider broke the connection")
        if step.fault is Fault.MALFORMED:
            raise httpx.RemoteProtocolError("the simulated provider sent what is not HTTP")
        self._since_us = self._clock.monotonic_us()
        return step.chunk

    def _left_s(self, bound: str) -> float:
        now_us = self._clock.monotonic_us()
        total_s = self._bounds.get("total", WAIT_S_MAX) - (now_us - self._started_us) / 1_000_000
        quiet_s = self._bounds.get(bound, self._bounds.get("read", WAIT_S_MAX)) - (now_us - self._since_us) / 1_000_000
        return min(total_s, quiet_s)


def _bounds(request: httpx.Request) -> Mapping[str, float]:
    given: Mapping[str, Any] = request.extensions.get("timeout", {})
    return {name: seconds for name, seconds in given.items() if seconds is not None}


async def _read(request: httpx.Request) -> bytes | None:
    """The request's body; None if it is larger than is read here."""
    assert isinstance(request.stream, httpx.AsyncByteStream), "an asynchronous transport is sent one"
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in request.stream:
        size_bytes += len(chunk)
        if size_bytes > BODY_BYTES_MAX:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
