"""Counters and histograms of plain numbers, and the families that a scrape reads of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric


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
    """One histogram of seconds, for each value of at most one label."""

    __slots__ = ("_bounds_s", "_documentation", "_labels", "_name", "_series")

    def __init__(self, name: str, documentation: str, bounds_s: tuple[float, ...], *labels: str) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds_s = bounds_s
        self._labels = labels
        self._series: dict[str, list[float]] = {} if labels else {"": self._empty()}

    def observe(self, seconds: float, label: str = "") -> None:
        """Time one thing."""
        series = self._series.get(label) or self._begin(label)
        series[bisect_left(self._bounds_s, seconds)] += 1
        series[-1] += seconds

    def observe_all(self, times: Collection[float], label: str = "", per_s: float = 1.0) -> None:
        """Time many things at once, in a unit of which so many make a second."""
        if not times:
            return
        series, ordered = self._series.get(label) or self._begin(label), sorted(times)
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
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for label, series in self._series.items():
            family.add_metric([label] if self._labels else [], list(self._buckets(series)), series[-1])
        return family

    def _begin(self, label: str) -> list[float]:
        series = self._series[label] = self._empty()
        return series

    def _empty(self) -> list[float]:
        return [0] * (len(self._bounds_s) + 2)  # a count below each bound, one above all, and the sum

    def _buckets(self, series: list[float]) -> Iterator[tuple[str, float]]:
        below = 0.0
        for bound_s, count in zip((*map(str, self._bounds_s), "+Inf"), series[:-1], strict=True):
            below += count
            yield bound_s, below
