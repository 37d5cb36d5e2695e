"""Every metric of the gateway, in one place: the only importer of prometheus-client.

Names carry their unit; label values come from closed sets (endpoints, configured aliases,
deployments, statuses), so that no caller can make the registry grow. Children are looked up
once and remembered: `labels()` costs four times what `inc()` does.
"""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from proxy.core.types import Usage

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD_SECONDS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1)
_STATE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.25, 1)


class Metrics:
    """What is counted and timed. One per application; a test makes its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests: dict[tuple[str, str, int, str], Counter] = {}
        self._attempts: dict[tuple[str, str], Counter] = {}
        self._timings: dict[str, tuple[Histogram, Histogram]] = {}
        self._requests_total = self._counter(
            "tollway_requests_total", "Requests answered.", "endpoint", "model", "status", "error_source"
        )
        self._request_seconds = self._histogram(
            "tollway_request_seconds", "From accept to the last byte.", _SECONDS, "endpoint"
        )
        self._first_byte_seconds = self._histogram(
            "tollway_first_byte_seconds", "From accept to the answer's first byte.", _SECONDS, "endpoint"
        )
        self._overhead_seconds = self._histogram(
            "tollway_overhead_seconds", "The gateway's own time, from accept to the upstream send.", _OVERHEAD_SECONDS
        )
        self._tokens_total = self._counter("tollway_tokens_total", "Tokens, as the providers reported them.", "kind")
        self._usage_source_total = self._counter(
            "tollway_usage_source_total", "Runs, by how far their usage can be trusted.", "source"
        )
        self._attempts_total = self._counter(
            "tollway_attempts_total", "Sends to a deployment.", "deployment", "outcome"
        )
        self._auth_failures_total = self._counter("tollway_auth_failures_total", "Callers turned away.", "code")
        self._state_seconds = self._histogram(
            "tollway_state_seconds", "Calls to the state store.", _STATE_SECONDS, "operation"
        )
        self._log_dropped_total = self._counter(
            "tollway_access_log_dropped_total", "Log lines dropped because their reader was too slow."
        )
        self._pending = self._gauge("tollway_settlements_pending", "Ledger rows that wait to be written.")
        self._loop_lag = self._gauge(
            "tollway_loop_lag_seconds", "How late the event loop last woke from a timer: what every request waits for."
        )
        self._kinds = {
            kind: self._tokens_total.labels(kind)
            for kind in ("input", "cached_input", "cache_write", "output", "reasoning")
        }

    def render(self) -> tuple[bytes, str]:
        """The exposition text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def request_ended(
        self,
        endpoint: str,
        model: str,
        status: int,
        error_source: str | None,
        *,
        latency_us: int,
        first_byte_us: int | None,
        overhead_us: int | None,
    ) -> None:
        """One request, answered or given up."""
        labels = (endpoint, model, status, error_source or "none")
        counter = self._requests.get(labels)
        if counter is None:
            counter = self._requests[labels] = self._requests_total.labels(*labels)
        counter.inc()
        timings = self._timings.get(endpoint)
        if timings is None:
            timings = (self._request_seconds.labels(endpoint), self._first_byte_seconds.labels(endpoint))
            self._timings[endpoint] = timings
        timings[0].observe(latency_us / 1e6)
        if first_byte_us is not None:
            timings[1].observe(first_byte_us / 1e6)
        if overhead_us is not None:
            self._overhead_seconds.observe(overhead_us / 1e6)

    def attempt_ended(self, deployment: str, outcome: str) -> None:
        """One send to a deployment: `answered`, `failed` or `abandoned`."""
        labels = (deployment, outcome)
        counter = self._attempts.get(labels)
        if counter is None:
            counter = self._attempts[labels] = self._attempts_total.labels(*labels)
        counter.inc()

    def usage_known(self, usage: Usage) -> None:
        """What one run used."""
        self._kinds["input"].inc(usage.input_tokens)
        self._kinds["output"].inc(usage.output_tokens)
        if usage.cached_input_tokens:
            self._kinds["cached_input"].inc(usage.cached_input_tokens)
        if usage.cache_write_tokens:
            self._kinds["cache_write"].inc(usage.cache_write_tokens)
        if usage.reasoning_tokens:
            self._kinds["reasoning"].inc(usage.reasoning_tokens)

    def usage_source(self, source: str) -> None:
        """How far one run's usage can be trusted: `exact`, `estimated` or `unknown`."""
        self._usage_source_total.labels(source).inc()

    def auth_failed(self, code: str) -> None:
        """One caller turned away, by the error's code."""
        self._auth_failures_total.labels(code).inc()

    def state_called(self, operation: str, seconds: float) -> None:
        """One call to the state store."""
        self._state_seconds.labels(operation).observe(seconds)

    def log_dropped(self, lines: int) -> None:
        """Access-log lines that nobody took in time."""
        self._log_dropped_total.inc(lines)

    def rows_pending(self, rows: int) -> None:
        """How many ledger rows wait to be written."""
        self._pending.set(rows)

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop woke."""
        self._loop_lag.set(seconds)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self._registry)

    def _gauge(self, name: str, documentation: str) -> Gauge:
        return Gauge(name, documentation, registry=self._registry)

    def _histogram(self, name: str, documentation: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, documentation, labels, buckets=buckets, registry=self._registry)
