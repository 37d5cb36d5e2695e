"""One worker's figures, as its siblings ask for them, and those of all as a scrape reads them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import Metric

from proxy.telemetry.keepsake import Keepsake
from proxy.telemetry.merging import decode, encode, growing, merged, render, workers_family


class WorkerFigures:
    """This worker's own, and what those before it in its place had counted."""

    __slots__ = ("_collect", "_inherited", "_keepsakes", "_number")

    def __init__(self, collect: Callable[[], Iterable[Metric]], number: int, keepsakes: Sequence[Keepsake]) -> None:
        """`number`: this worker's, counted from 1."""
        self._collect = collect
        self._number = number
        self._keepsakes = keepsakes
        left = keepsakes[number - 1].take()
        self._inherited = decode(left) if left is not None else []

    def keep(self) -> None:
        """Leave what this one has by now to whoever comes after it."""
        self._own()

    def tell(self) -> bytes:
        """For a sibling that was asked."""
        return encode(self._own())

    def render(self, others: Mapping[int, bytes | None]) -> tuple[bytes, str]:
        """All workers': this one's, and what each of the others told, by its number. None: it was silent, and has
        counted what it last told."""
        silent = [number for number, told in others.items() if told is None]
        left = [self._keepsakes[number - 1].take() for number in silent]
        heard = [decode(told) for told in (*others.values(), *left) if told is not None]
        workers = workers_family(answering=len(others) + 1 - len(silent), silent=len(silent))
        return render([*merged([self._own(), *heard]), workers])

    def _own(self) -> list[Metric]:
        own = merged([self._collect(), self._inherited])
        self._keepsakes[self._number - 1].put(encode(growing(own)))  # what is told now must not be taken back
        return own
