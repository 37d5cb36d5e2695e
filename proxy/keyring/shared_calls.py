"""Calls that are shared: one for all who ask for the same, and what it failed with holds for a moment.

A call that was begun goes on when everybody has given up waiting, so that its answer is there for the next who asks.
While what is asked is away or refuses, what it said last holds: a KMS that is down is not asked anew by every request.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from proxy.core.clock import Clock
from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable, StateUnavailable, TenantShredded
from proxy.keyring.aws_kek import unavailable

CALLS_MAX: Final = 4_096  # under way at one time
FAILURES_MAX: Final = 4_096
AWAY_US: Final = 1_000_000
REFUSED_US: Final = 5_000_000

Name: TypeAlias = tuple[str | bytes, ...]
"""What is asked for. Its first part is the tenant's id."""

Answer = TypeVar("Answer")

_Failed: TypeAlias = KeyringUnavailable | ProviderKeyUnreadable | StateUnavailable | TenantShredded
_AWAY: Final = (KeyringUnavailable, StateUnavailable)
_REFUSED: Final = (ProviderKeyUnreadable, TenantShredded)


class _Failure(NamedTuple):
    error: _Failed
    until_us: int


class SharedCalls(Generic[Answer]):
    """Calls of one kind, by name. Belongs to one event loop."""

    __slots__ = ("_calls", "_clock", "_failures")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[Name, asyncio.Task[Answer]] = {}
        self._failures: dict[Name, _Failure] = {}

    async def answer(
        self, name: Name, call: Callable[[], Coroutine[Any, Any, Answer]], keep: Callable[[Answer], object]
    ) -> Answer:
        """What `call` answers, or one that is under way by this name. Waits for as long as that takes: whoever cannot,
        waits less. `keep` hears it once, before anybody who waits; not at all if the name was dropped meanwhile.

        Raises:
            GatewayError: as the call; for a while, what it failed with last.
            KeyringUnavailable: also where too many are under way.
        """
        failure = self._failures.get(name)
        if failure is not None and self._clock.monotonic_us() < failure.until_us:
            raise failure.error.afresh()
        running = self._calls.get(name)
        if running is None:
            if len(self._calls) >= CALLS_MAX:
                raise unavailable()
            running = self._calls[name] = asyncio.get_running_loop().create_task(self._run(name, call, keep))
            running.add_done_callback(lambda done: self._end(name, done))
        return await asyncio.shield(running)  # who hangs up must not end it for the others

    def drop(self, tenant_id: str) -> None:
        """Forget a tenant's failures, and what is under way for it: whoever waits gets it, and nobody later."""
        for names in (self._calls, self._failures):
            for name in [name for name in names if name[0] == tenant_id]:
                del names[name]

    def clear(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._failures.clear()

    async def stop(self) -> None:
        """End what is under way, and forget everything. Safe to repeat."""
        calls = [*self._calls.values()]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        self.clear()

    async def _run(
        self, name: Name, call: Callable[[], Coroutine[Any, Any, Answer]], keep: Callable[[Answer], object]
    ) -> Answer:
        try:
            answer = await call()
        except (*_AWAY, *_REFUSED) as error:
            if self._is_wanted(name):
                self._note(name, error)
            raise
        if self._is_wanted(name):
            keep(answer)
        return answer

    def _is_wanted(self, name: Name) -> bool:
        """False where it was dropped in the meantime."""
        return self._calls.get(name) is asyncio.current_task()

    def _note(self, name: Name, error: _Failed) -> None:
        if len(self._failures) >= FAILURES_MAX:
            self._failures.clear()
        holds_us = AWAY_US if isinstance(error, _AWAY) else REFUSED_US
        self._failures[name] = _Failure(error.afresh(), self._clock.monotonic_us() + holds_us)

    def _end(self, name: Name, done: "asyncio.Task[Answer]") -> None:
        if self._calls.get(name) is done:
            del self._calls[name]
        if not done.cancelled():
            done.exception()  # seen, also where nobody waits for it any more
