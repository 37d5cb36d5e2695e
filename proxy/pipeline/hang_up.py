"""The caller's disconnect, turned into the end of the work for it."""

from proxy.pipeline.downstream import Downstream


class HangUp:
    """Turns the caller's disconnect into a cancellation of the task that serves it."""

    __slots__ = ("_task", "happened")

    def __init__(self, downstream: Downstream) -> None:
        self._task = downstream.task
        self.happened = False
        downstream.on_gone(self._cancel)

    def absorb(self) -> None:
        """The cancellation has done its work; the task may end in peace."""
        if self._task is not None:
            self._task.uncancel()

    def _cancel(self) -> None:
        self.happened = True
        if self._task is not None:
            self._task.cancel()
