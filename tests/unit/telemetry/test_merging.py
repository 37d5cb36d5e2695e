"""The figures of several workers as those of one."""

import re

import pytest
from prometheus_client.core import GaugeMetricFamily

from proxy.telemetry.keepsake import Keepsake
from proxy.telemetry.merging import GREATEST, LEAST, decode, encode, growing, merged, render
from proxy.telemetry.metrics import DeploymentFigures, Metrics
from proxy.telemetry.worker_figures import WorkerFigures

# Each of them is decided upon: what is not here is summed.
SUMMED = {
    *("tollway_held_usd", "tollway_settlements_pending", "tollway_in_flight", "tollway_waiting"),
    *("tollway_cache_bytes", "tollway_deployment_in_flight"),
}


def metrics(*, requests: int = 0, label: str = "chat", seconds: float = 0.02, lag_s: float = 0.0, health: float = 1.0):
    made = Metrics()
    for _ in range(requests):
        made.request_ended(label, "m", 200, None, latency_us=int(seconds * 1e6), first_byte_us=None, overhead_us=None)
    made.loop_lag(lag_s)
    made.in_flight(requests, 0)
    made.read_deployments(lambda: [DeploymentFigures("p/m", health, 0, 1)])
    return made


def told(*made: Metrics) -> list:
    return [decode(encode(each.caught_up())) for each in made]


def text(families) -> str:
    return render(families)[0].decode()


def value(families, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", text(families), re.MULTILINE)
    assert found is not None, text(families)
    return float(found[1])


def test_every_gauge_has_a_sense():
    gauges = {family.name for family in metrics(requests=1).caught_up() if isinstance(family, GaugeMetricFamily)}
    assert gauges == GREATEST | LEAST | SUMMED
    assert not GREATEST & LEAST


def test_one_alone_is_as_it_was():
    made = metrics(requests=3)
    assert text(merged(told(made))) == made.render()[0].decode()


def test_counters_and_histograms_are_sums_and_gauges_by_their_sense():
    both = merged(told(metrics(requests=3, lag_s=0.5, health=0.25), metrics(requests=4, lag_s=0.1)))
    labels = 'endpoint="chat",error_source="none",model="m",status="200"'
    assert value(both, f"tollway_requests_total{{{labels}}}") == 7
    assert value(both, 'tollway_request_seconds_bucket{endpoint="chat",le="0.01"}') == 0
    assert value(both, 'tollway_request_seconds_bucket{endpoint="chat",le="0.025"}') == 7
    assert value(both, 'tollway_request_seconds_count{endpoint="chat"}') == 7
    assert value(both, 'tollway_request_seconds_sum{endpoint="chat"}') == pytest.approx(0.14)
    assert value(both, "tollway_in_flight") == 7
    assert value(both, "tollway_loop_lag_seconds") == 0.5
    assert value(both, 'tollway_deployment_health{deployment="p/m"}') == 0.25
    assert value(both, 'tollway_deployment_in_flight{deployment="p/m"}') == 2


def test_series_that_one_alone_has_are_kept():
    both = merged(told(metrics(requests=1, label="chat"), metrics(requests=2, label="models")))
    assert value(both, 'tollway_request_seconds_count{endpoint="chat"}') == 1
    assert value(both, 'tollway_request_seconds_count{endpoint="models"}') == 2


def test_what_was_told_is_not_taken_back_by_the_next_in_that_place():
    left = [Keepsake()]
    first = WorkerFigures(metrics(requests=5).caught_up, 1, left)
    first.tell()
    second = WorkerFigures(metrics(requests=2).caught_up, 1, left)
    second.tell()
    third = WorkerFigures(metrics(requests=1).caught_up, 1, left)
    families = decode(third.tell())
    assert value(families, 'tollway_request_seconds_count{endpoint="chat"}') == 8
    assert value(families, "tollway_in_flight") == 1  # which is over with the process
    assert {family.type for family in growing(families)} == {"counter", "histogram"}


def test_silent_workers_are_counted_and_have_what_they_last_told():
    keepsakes = [Keepsake() for _ in range(4)]
    second = WorkerFigures(metrics(requests=2).caught_up, 2, keepsakes)
    third = WorkerFigures(metrics(requests=4).caught_up, 3, keepsakes)
    third.tell()
    body, content_type = WorkerFigures(metrics(requests=1).caught_up, 1, keepsakes).render(
        {2: second.tell(), 3: None, 4: None}
    )
    assert content_type.startswith("text/plain")
    lines = body.decode().splitlines()
    assert 'tollway_workers{state="answering"} 2.0' in lines
    assert 'tollway_workers{state="silent"} 2.0' in lines
    assert 'tollway_request_seconds_count{endpoint="chat"} 7.0' in lines
    assert "tollway_in_flight 3.0" in lines  # nobody knows how many the silent ones have


def test_what_was_counted_is_kept_although_nobody_asked():
    left = [Keepsake()]
    WorkerFigures(metrics(requests=5).caught_up, 1, left).keep()
    after = decode(WorkerFigures(metrics(requests=2).caught_up, 1, left).tell())
    assert value(after, 'tollway_request_seconds_count{endpoint="chat"}') == 7
