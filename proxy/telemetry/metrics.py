"""Every metric of the gateway, in one place.

Names carry their unit; label values come from closed sets (endpoints, configured aliases,
deployments, statuses), so that no caller can make them grow. A request adds to plain numbers;
the families that a scrape reads are made of them when it comes: prometheus-client's own
objects cost ten times as much at each request.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.telemetry.cache_counts import CacheCounts
from proxy.telemetry.call_counts import SECONDS, CallCounts, CallFigures, CallKind
from proxy.telemetry.merging import render as render_families
from proxy.telemetry.series import Counts, Timings

_NUSD_PER_USD: Final = 1e9
_STATE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.25, 1)


class DeploymentFigures(NamedTuple):
    """How one deployment does, as a scrape reads it."""

    deployment: str
    health: float
    breaker: int  # 0 closed, 1 half open, 2 open
    in_flight: int


class Metrics(Collector):
    """What is counted and timed. One per application; a test makes its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.calls = CallCounts()
        self._auth_failures = Counts("tollway_auth_failures_total", "Callers turned away.", "code")
        self._admin_requests = Counts(
            "tollway_admin_requests_total", "Requests to the admin API.", "operation", "status"
        )
        self._admin_turned_away = Counts(
            "tollway_admin_auth_failures_total", "Requests to the admin API that were turned away.", "code"
        )
        self._state_seconds = Timings("tollway_state_seconds", "Calls to the state store.", _STATE_SECONDS, "operation")
        self._log_dropped = Counts(
            "tollway_access_log_dropped_total", "Log lines dropped because their reader was too slow."
        )
        self._cap_refusals = Counts("tollway_cap_refusals_total", "Calls that a spend cap refused.", "scope")
        self._limit_refusals = Counts("tollway_limit_refusals_total", "Calls that a rate limit refused.", "scope")
        self._soft_caps = Counts("tollway_soft_caps_total", "Calls admitted beyond a soft cap.", "scope")
        self._overages = Counts("tollway_overages_total", "Runs that cost more than was held for them.")
        self._kms_seconds = Timings("tollway_kms_seconds", "Calls to the KMS.", SECONDS, "operation")
        self._queue_seconds = Timings("tollway_queue_seconds", "How long calls waited for a place.", _STATE_SECONDS)
        self._keys_unreadable = Counts(
            "tollway_provider_keys_unreadable_total", "Stored provider keys that could not be opened.", "reason"
        )
        self.cache = CacheCounts()
        self._oldest_dek_s = 0.0
        self._rotation_overdue = 0.0
        self._log_dropped_lock = threading.Lock()  # the log's own thread counts too
        self._ledger_rows = Counts("tollway_ledger_exported_rows_total", "Ledger rows that are in the sink.")
        self._ledger_export_seconds = Timings(
            "tollway_ledger_export_seconds", "From a page's rows to the page in the sink.", SECONDS
        )
        self._ledger_failures = Counts("tollway_ledger_export_failures_total", "Exports of the ledger that failed.")
        self._held_nusd = self._settlements_pending = self._rows_pending = self._ledger_unexported_bytes = 0
        self._in_flight = self._waiting = 0
        self._loop_lag_s = 0.0
        self._before_scrape: Callable[[], object] = lambda: None
        self._deployments: Callable[[], Iterable[DeploymentFigures]] = lambda: ()
        self._registry.register(self)

    def before_scrape(self, catch_up: Callable[[], object]) -> None:
        """Call this before each scrape, so that what was put off is counted."""
        self._before_scrape = catch_up

    def read_deployments(self, read: Callable[[], Iterable[DeploymentFigures]]) -> None:
        """Ask this at each scrape how every deployment does."""
        self._deployments = read

    def collect(self) -> Iterable[Metric]:
        """What a scrape reads, by the interface of prometheus-client."""
        self.calls.sum_up()
        money = (self._cap_refusals, self._limit_refusals, self._soft_caps, self._overages)
        exported = (self._ledger_rows, self._ledger_failures, self._ledger_export_seconds)
        administered = (self._admin_requests, self._admin_turned_away)
        keyring = (self._kms_seconds, self._keys_unreadable)
        isolated = (self._queue_seconds,)
        families = (
            *self.calls.families(),
            self._auth_failures,
            *money,
            *administered,
            self._log_dropped,
            self._state_seconds,
            *exported,
            *keyring,
            *isolated,
        )
        yield from (family.family() for family in families)
        yield self.calls.usd.family(per=_NUSD_PER_USD)
        yield GaugeMetricFamily(
            "tollway_ledger_unexported_bytes",
            "Roughly what waits in the store to be exported.",
            self._ledger_unexported_bytes,
        )
        yield GaugeMetricFamily(
            "tollway_keyring_oldest_dek_seconds", "How old the oldest data key of provider keys is.", self._oldest_dek_s
        )
        yield GaugeMetricFamily(
            "tollway_keyring_rotation_overdue", "1 where that is too old, else 0.", self._rotation_overdue
        )
        yield GaugeMetricFamily(
            "tollway_held_usd", "Dollars held for this process's calls under way.", self._held_nusd / _NUSD_PER_USD
        )
        yield GaugeMetricFamily(
            "tollway_settlements_pending",
            "Settlements and ledger rows that wait to be written.",
            self._rows_pending + self._settlements_pending,
        )
        yield GaugeMetricFamily(
            "tollway_loop_lag_seconds", "How late the event loop last woke from a timer.", self._loop_lag_s
        )
        yield GaugeMetricFamily("tollway_in_flight", "Calls under way.", self._in_flight)
        yield GaugeMetricFamily("tollway_waiting", "Calls that wait for a place.", self._waiting)
        yield from self.cache.families()
        yield from self._deployment_families()

    def _deployment_families(self) -> Iterator[Metric]:
        of_deployment = partial(GaugeMetricFamily, labels=("deployment",))
        health = of_deployment("tollway_deployment_health", "1: all calls of late were answered; 0: none.")
        breaker = of_deployment("tollway_breaker_state", "Of the gateway's own key. 0 closed, 1 half open, 2 open.")
        in_flight = of_deployment("tollway_deployment_in_flight", "Calls that wait for their first byte.")
        for figures in self._deployments():
            health.add_metric([figures.deployment], figures.health)
            breaker.add_metric([figures.deployment], figures.breaker)
            in_flight.add_metric([figures.deployment], figures.in_flight)
        yield from (health, breaker, in_flight)

    def render(self) -> tuple[bytes, str]:
        """The exposition text, and its content type."""
        self._before_scrape()
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    async def scrape(self) -> tuple[bytes, str]:
        """As `render`, for a loop that serves calls: a thread writes the text, which takes most of the time; 20 ms for
        a thousand models."""
        return await asyncio.to_thread(render_families, tuple(self.caught_up()))

    def caught_up(self) -> Iterable[Metric]:
        """The families of a scrape of several workers."""
        self._before_scrape()
        return self.collect()

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
        """One request, answered, refused or given up."""
        kind = CallKind(endpoint, model, status, error_source)
        self.calls.ended(
            kind, CallFigures(latency_us / 1e3, None if first_byte_us is None else first_byte_us / 1e3, overhead_us)
        )

    def attempt_ended(self, deployment: str, outcome: str) -> None:
        """One send to a deployment, after which another was tried."""
        self.calls.attempts.add((deployment, outcome))

    def spent(self, kind: str, nusd: int) -> None:
        """Money beside what calls cost: `saved` by a kept answer."""
        self.calls.usd.add((kind,), nusd)

    def held(self, nusd: int) -> None:
        """More is held for calls under way, or less."""
        self._held_nusd += nusd

    def cap_refused(self, scope: str) -> None:
        """One call that a cap of this kind of scope could not hold."""
        self._cap_refusals.add((scope,))

    def limit_refused(self, scope: str) -> None:
        """One call that a rate limit of this kind of scope refused."""
        self._limit_refusals.add((scope,))

    def soft_cap_passed(self, scope: str) -> None:
        """One call admitted while a cap of this kind of scope is nearly used up."""
        self._soft_caps.add((scope,))

    def overage(self) -> None:
        """One run that cost more than was held for it."""
        self._overages.add(())

    def settlements_pending(self, settlements: int) -> None:
        """How many settlements the store has not confirmed yet."""
        self._settlements_pending = settlements

    def auth_failed(self, code: str) -> None:
        """One caller turned away, by the error's code."""
        self._auth_failures.add((code,))

    def admin_answered(self, operation: str, status: int) -> None:
        """One request to the admin API, by the operation's name."""
        self._admin_requests.add((operation, status))

    def admin_turned_away(self, code: str) -> None:
        """One that had no token, role or place that would do, by the error's code."""
        self._admin_turned_away.add((code,))

    def state_called(self, operation: str, seconds: float) -> None:
        """One call to the state store."""
        self._state_seconds.observe(seconds, operation)

    def queued(self, seconds: float) -> None:
        """One call that had to wait for a place, whether it got one or not."""
        self._queue_seconds.observe(seconds)

    def in_flight(self, calls: int, waiting: int) -> None:
        """How many calls are under way, and how many wait to be."""
        self._in_flight, self._waiting = calls, waiting

    def kms_called(self, operation: str, seconds: float) -> None:
        """One call to the KMS, answered or not."""
        self._kms_seconds.observe(seconds, operation)

    def provider_key_unreadable(self, reason: str) -> None:
        """A stored provider key that could not be opened."""
        self._keys_unreadable.add((reason,))

    def oldest_dek(self, age_s: float, is_overdue: bool) -> None:
        """How old the oldest data key in use is (0 where there is none), and whether its rotation is overdue."""
        self._oldest_dek_s = age_s
        self._rotation_overdue = float(is_overdue)

    def log_dropped(self, lines: int) -> None:
        """Access-log lines that nobody took in time. Safe to call from any thread."""
        with self._log_dropped_lock:
            self._log_dropped.add((), lines)

    def rows_pending(self, rows: int) -> None:
        """How many ledger rows wait to be written."""
        self._rows_pending = rows

    def ledger_unexported(self, unexported_bytes: int) -> None:
        """Roughly what waits in the store to be exported."""
        self._ledger_unexported_bytes = unexported_bytes

    def ledger_exported(self, rows: int, seconds: float) -> None:
        """One page is in the sink, and the store knows it."""
        self._ledger_rows.add((), rows)
        self._ledger_export_seconds.observe(seconds)

    def ledger_export_failed(self) -> None:
        """A turn of the exporter failed, or a tenant's part of it."""
        self._ledger_failures.add(())

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop woke."""
        self._loop_lag_s = seconds
