"""Whose the time is: functions are timed from within, each less those that are timed inside it.

A coroutine's time is that of its steps: while it waits, others run. The clock itself costs some 0.4 µs a call, part
of it within what is timed and part of it around; both are measured at first, and taken off.
"""

import functools
import importlib
import inspect
import json
import time
import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_CALIBRATION_CALLS: Final = 20_000
_CALIBRATION_ROUNDS: Final = 5


@dataclass(slots=True)
class Watched:
    """One stage's, so far."""

    entered: int = 0
    own_ns: int = 0
    inside: int = 0  # how many times another stage began within this one


class Stopwatch:
    """Belongs to one thread. Functions that other threads call are not for it."""

    def __init__(self) -> None:
        self.stages: dict[str, Watched] = {}
        self._within: list[list[int]] = []  # of what runs now, outermost first: nanoseconds of inner ones, their number
        self._inner_ns, self._outer_ns = 0.0, 0.0
        self._calibrate()

    def watch(self, stage: str, place: str) -> None:
        """Time a function from now on. `place` is "module:name" or "module:Class.name".

        Raises:
            AttributeError: there is none.
        """
        module, _, path = place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, name = path.split(".")
        for each in outer:
            owner = getattr(owner, each)
        setattr(owner, name, self._timed(self.stages.setdefault(stage, Watched()), getattr(owner, name)))

    def reset(self) -> None:
        """Begin at zero."""
        for watched in self.stages.values():
            watched.entered = watched.own_ns = watched.inside = 0

    @property
    def clock_us(self) -> float:
        """What all the timing has cost so far."""
        entered = sum(watched.entered for watched in self.stages.values())
        return entered * (self._inner_ns + self._outer_ns) / 1_000

    def own_us(self) -> dict[str, tuple[int, float]]:
        """By stage: how often it was entered, and its own microseconds in all, less the clock's."""
        return {
            stage: (
                watched.entered,
                max(0.0, watched.own_ns - watched.entered * self._inner_ns - watched.inside * self._outer_ns) / 1_000,
            )
            for stage, watched in self.stages.items()
        }

    def write(self, path: Path) -> None:
        """What `clock_us` and `own_us` give, as JSON."""
        path.write_text(json.dumps({"clock_us": self.clock_us, "own_us": self.own_us()}), encoding="utf-8")

    def _timed(self, watched: Watched, function: Callable[..., Any]) -> Callable[..., Any]:
        return (
            self._steps(watched, function) if inspect.iscoroutinefunction(function) else self._call(watched, function)
        )

    def _call(self, watched: Watched, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began_ns = self._enter()
            try:
                return function(*args, **kwargs)
            finally:
                self._leave(watched, began_ns)

        return timed

    def _steps(self, watched: Watched, function: Callable[..., Any]) -> Callable[..., Any]:
        @types.coroutine
        def steps(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
            value, error = None, None
            while True:
                began_ns = self._enter()
                try:
                    awaited = coroutine.send(value) if error is None else coroutine.throw(error)
                except StopIteration as end:
                    return end.value
                finally:
                    self._leave(watched, began_ns)
                value, error = None, None
                try:
                    value = yield awaited
                except BaseException as thrown:  # noqa: BLE001  it is the coroutine's to handle
                    error = thrown

        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:  # a task takes nothing else
            return await steps(function(*args, **kwargs))

        return timed

    def _enter(self) -> int:
        self._within.append([0, 0])
        return time.perf_counter_ns()

    def _leave(self, watched: Watched, began_ns: int) -> None:
        took_ns = time.perf_counter_ns() - began_ns
        inner_ns, inside = self._within.pop()
        watched.entered += 1
        watched.own_ns += took_ns - inner_ns
        watched.inside += inside
        if self._within:
            around = self._within[-1]
            around[0] += took_ns
            around[1] += 1

    def _calibrate(self) -> None:
        """Time nothing. What the clock sees of it is within; what else it takes is around. The least of some rounds:
        a neighbour can only make it more."""

        def nothing() -> None:
            pass

        within: list[float] = []
        around: list[float] = []
        for _ in range(_CALIBRATION_ROUNDS):
            watched = Watched()
            timed = self._call(watched, nothing)
            bare_ns, timed_ns = _loop_ns(nothing), _loop_ns(timed)
            seen_ns = watched.own_ns / _CALIBRATION_CALLS
            within.append(seen_ns - bare_ns)
            around.append(timed_ns - seen_ns)
        self._inner_ns, self._outer_ns = max(0.0, min(within)), max(0.0, min(around))


def _loop_ns(function: Callable[[], None]) -> float:
    began_ns = time.perf_counter_ns()
    for _ in range(_CALIBRATION_CALLS):
        function()
    return (time.perf_counter_ns() - began_ns) / _CALIBRATION_CALLS
