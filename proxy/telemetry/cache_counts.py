"""What is counted of the cache: what calls found there, what was not kept, what failed, and what it takes."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from proxy.telemetry.series import Counts


class CacheCounts:
    """Part of `Metrics`."""

    __slots__ = ("_asked", "_failures", "_not_kept", "_read_bytes")

    def __init__(self) -> None:
        self._asked = Counts("tollway_cache_total", "Calls for which caching is on.", "result", "reason")
        self._not_kept = Counts("tollway_cache_not_kept_total", "Answers that were not kept.", "reason")
        self._failures = Counts("tollway_cache_failures_total", "Steps of the cache that failed.", "step")
        self._read_bytes: Callable[[], int] = lambda: 0

    def asked(self, result: str, reason: str) -> None:
        """One call for which caching is on: `hit`, `miss` (nothing was given out) or `bypass`, and why it went past."""
        self._asked.add((result, reason))

    def not_kept(self, reason: str) -> None:
        """One answer that was to be kept and was not, and why."""
        self._not_kept.add((reason,))

    def failed(self, step: str) -> None:
        """One step that failed; calls went on as if nothing were kept."""
        self._failures.add((step,))

    def read_bytes(self, read: Callable[[], int]) -> None:
        """Ask this at each scrape how much of this process's memory kept answers take, roughly."""
        self._read_bytes = read

    def families(self) -> Iterator[Metric]:
        """What a scrape reads."""
        yield from (counts.family() for counts in (self._asked, self._not_kept, self._failures))
        yield GaugeMetricFamily(
            "tollway_cache_bytes", "What kept answers take of this process's memory.", self._read_bytes()
        )
