"""Script calls that come together go together: those of one turn of the event loop share a round trip.

A pipeline costs Python less than half of what as many single calls do, and more than one call
alone. So a call that finds no other one under way is sent directly, at once; others wait for
the end of the turn. No call's outcome depends on another's, but an outage is all of theirs.
"""

import asyncio
from collections.abc import Sequence

from proxy.adapters.redis import Argument, RedisDoor, Reply, Script, ScriptCall
from proxy.core.errors import GatewayError

CALLS_MAX = 64  # in one round trip: whoever is last in it waits for all


class ScriptTurns:
    """One process's script calls. Belongs to the event loop that uses it first."""

    __slots__ = ("_door", "_sending", "_under_way", "_waiting")

    def __init__(self, door: RedisDoor) -> None:
        self._door = door
        self._waiting: list[tuple[ScriptCall, asyncio.Future[Reply]]] = []
        self._sending: set[asyncio.Task[None]] = set()  # the loop holds its tasks weakly
        self._under_way = 0

    async def run(self, script: Script, redis_keys: Sequence[str], args: Sequence[Argument]) -> Reply:
        """Run one script. Raises as `RedisDoor.run`, within the same time from when it is sent."""
        if self._under_way == 0:
            self._under_way = 1
            try:
                return await self._door.run(script, redis_keys, args)
            finally:
                self._under_way -= 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((ScriptCall(script, redis_keys, args), answer))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        elif len(self._waiting) >= CALLS_MAX:
            self._send()
        return await answer

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            sending = asyncio.get_running_loop().create_task(self._answer(waiting))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _answer(self, waiting: Sequence[tuple[ScriptCall, "asyncio.Future[Reply]"]]) -> None:
        self._under_way += 1
        try:
            replies: Sequence[Reply | GatewayError] = await self._door.run_each([call for call, _ in waiting])
        except GatewayError as error:
            replies = [error] * len(waiting)
        finally:
            self._under_way -= 1
        for (_, answer), reply in zip(waiting, replies, strict=True):
            if answer.done():  # its caller has gone
                continue
            if isinstance(reply, GatewayError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)
