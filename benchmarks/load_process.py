"""The load generator in a process of its own, so that it can have a core of its own."""

import asyncio
import gc
import multiprocessing
import os
from collections import Counter
from multiprocessing.connection import Connection
from typing import Self

import uvloop

from benchmarks.load import ANSWER_S_MAX, CONNECT_S_MAX, LoadFailed, Round, Sample, run


class LoadProcess:
    """The generator in another process, on a core of its own if one is named. Leave it by `with`."""

    def __init__(self, cpu: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit this process's event loops
        self._here, there = context.Pipe()
        self._process = context.Process(target=_attend, args=(there, cpu), daemon=True)
        self.completed: Counter[str] = Counter()  # good answers so far, by base URL

    def run(self, round_: Round) -> Sample:
        """Play one round there, and wait for it.

        Raises:
            LoadFailed: as `run` does, or the process does not answer.
        """
        self.begin(round_)
        return self.end(round_)

    def begin(self, round_: Round) -> None:
        """Play one round there; `end` has to be called next."""
        self._here.send(round_)

    def end(self, round_: Round) -> Sample:
        """Wait for the round that was begun.

        Raises:
            LoadFailed: as `run` does, or the process does not answer.
        """
        wait_s = round_.warm_up_s + round_.seconds + 2 * CONNECT_S_MAX + ANSWER_S_MAX
        try:
            answer = self._here.recv() if self._here.poll(wait_s) else "the load generator does not answer"
        except EOFError:
            answer = "the load generator has ended"
        if isinstance(answer, Sample):
            self.completed[round_.base_url] += answer.completed
            return answer
        raise LoadFailed(str(answer))

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._process.join(CONNECT_S_MAX)
        if self._process.is_alive():
            self._process.kill()


def _attend(pipe: Connection, cpu: int | None) -> None:
    """The process's main function: rounds come, samples go, until the pipe is closed."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    gc.disable()  # a collection in the middle of a round would count as the other side's latency
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while True:
            try:
                round_ = pipe.recv()
            except EOFError:
                return
            try:
                answer: Sample | str = runner.run(run(round_))
            except LoadFailed as error:
                answer = str(error)
            pipe.send(answer)
            gc.collect()
