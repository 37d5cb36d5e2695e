"""Calls that go on while a test changes something: each is told apart by a number in its body."""

import asyncio
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from tests.gateway import Gateway, plain_request
from tests.scripted_upstream import Received, until

CHAT = "/v1/chat/completions"
_BOUND_S = 20.0
_NUMBER = re.compile(rb'"call (\d+)"')

Result = TypeVar("Result")
Caller = Callable[[], list[tuple[bytes, bytes]]]
"""Makes the headers of a call."""


@dataclass(frozen=True, slots=True)
class Served:
    """One call that was answered."""

    number: int
    status: int
    era: int  # how many changes were over when it began
    body: bytes


class Load:
    """Callers in a circle, before one gateway or several in turn."""

    def __init__(self, gateways: Sequence[Gateway], callers: Sequence[Caller], model: str) -> None:
        self._gateways = gateways
        self._callers = callers
        self._model = model
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self.era = 0
        self.served: list[Served] = []

    async def __aenter__(self) -> Self:
        for caller in self._callers:
            # One after the other: what a herd of cold callers does to a slow machine is another test's business.
            self._tasks.append(asyncio.create_task(self._call_on(caller)))
            await until(lambda: len(self.served) >= len(self._tasks), _BOUND_S)
        await self.more()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    async def during(self, change: Awaitable[Result]) -> Result:
        """Make a change in the midst of calls; those that begin from now on are of the next era."""
        result = await change
        self.era += 1
        await self.more()
        return result

    async def more(self, rounds: int = 3) -> None:
        """Wait until each caller was answered so many calls that began from now on."""
        begun, wanted = next(self._numbers), rounds * len(self._callers)
        await until(lambda: sum(served.number > begun for served in self.served) >= wanted, _BOUND_S)

    def failures(self) -> list[Served]:
        return [served for served in self.served if served.status != 200]

    async def _call_on(self, caller: Caller) -> None:
        for gateway in itertools.cycle(self._gateways):
            if not self._tasks and self.served:
                return
            number, era = next(self._numbers), self.era
            content = {"messages": [{"role": "user", "content": f"call {number}"}], "max_tokens": 10}
            body = json.dumps({"model": self._model, **content}).encode()
            status, _, answer = await plain_request(gateway, "POST", CHAT, body, caller())
            self.served.append(Served(number, status, era, answer))


def number_of(received: Received) -> int:
    """Of the call that a provider was sent."""
    found = _NUMBER.search(received.body)
    assert found is not None
    return int(found[1])
