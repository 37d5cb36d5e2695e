"""Counters and histograms of plain numbers, and the families that a scrape reads of them."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

_WAITING_MAX: Final = 64


class Counts:
    """One counter: a number for each set of label values."""

    __slots__ = ("_documentation", "_labels", "_name", "_values")

    def __init__(self, name: str, documentation: str, *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._values: dict[tuple[object, ...], int] = {}

    def add(self, labels: tuple[object, ...], amount: int = 1) -> None:
        """Count."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def family(self, per: float = 1) -> Metric:
        """What a scrape reads: so many make one of the unit that the name says."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric([str(label) for label in labels], value if per == 1 else value / per)
        if not self._labels and not self._values:
            family.add_metric([], 0)
        return family


class Timings:
    """One histogram of seconds, for each value of at most one label. Times are counted in groups."""

    __slots__ = ("_bounds_s", "_documentation", "_labels", "_name", "_series", "_waiting")

    def __init__(self, name: str, documentation: str, bounds_s: tuple[float, ...], *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds_s = bounds_s
        self._labels = labels
        self._series: dict[str, list[float]] = {} if labels else {"": self._empty()}
        self._waiting: defaultdict[str, list[float]] = defaultdict(list)

    def observe(self, seconds: float, label: str = "") -> None:
        """Time one thing."""
        waiting = self._waiting[label]
        waiting.append(seconds)
        if len(waiting) >= _WAITING_MAX:
            self.observe_all(waiting, label)
            waiting.clear()

    def observe_all(self, times: Collection[float], label: str = "", per_s: float = 1.0) -> None:
        """Time many things at once, in a unit of which so many make a second."""
        if not times:
            return
        series, ordered = self._series.get(label), sorted(times)
        if series is None:
            series = self._series[label] = self._empty()
        counted = 0
        for place, bound_s in enumerate(self._bounds_s):
            within = bisect_right(ordered, bound_s * per_s, counted)
            series[place] += within - counted
            counted = within
            if counted == len(ordered):
                break
        series[-2] += len(ordered) - counted
        series[-1] += sum(ordered) / per_s

    def family(self) -> Metric:
        """What a scrape reads."""
        for label, waiting in self._waiting.items():
            self.observe_all(waiting, label)
            waiting.clear()
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for label, series in self._series.items():
            family.add_metric([label] if self._labels else [], list(self._buckets(series)), series[-1])
        return family

    def _empty(self) -> list[float]:
        return [0] * (len(self._bounds_s) + 2)  # a count below each bound, one above all, and the sum

    def _buckets(self, series: list[float]) -> Iterator[tuple[str, float]]:
        below = 0.0
        for bound_s, count in zip((*map(str, self._bounds_s), "+Inf"), series[:-1], strict=True):
            below += count
            yield bound_s, below
