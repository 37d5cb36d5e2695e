"""Calls counted in groups give what each counted by itself would."""

import random
from bisect import bisect_left

import pytest

from proxy.core.types import Usage
from proxy.telemetry.call_counts import CallFigures, CallKind
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.series import Timings

SEED = 20_261_127
BOUNDS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.0025, 0.005, 0.025, 0.25, 2.5)


def exposed(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render()[0].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.mark.parametrize("values", [[], [0], [50, 51, 100, 100, 250, 249, 5_000, 2_500_000, 2_500_001, 9_000_000]])
def test_times_at_once_are_as_one_by_one(values: list[int]) -> None:
    one, many = Timings("a_seconds", "A.", BOUNDS_S, "x"), Timings("a_seconds", "A.", BOUNDS_S, "x")
    chance = random.Random(SEED)
    drawn = values + [chance.choice((50, 100, 5_000)) + chance.randrange(-2, 3) for _ in values]
    for value in drawn:
        one.observe(value / 1e6, "y")
    many.observe_all(drawn, "y", per_s=1e6)
    expected, told = one.family().samples, many.family().samples
    assert [(sample.name, sample.labels) for sample in told] == [(sample.name, sample.labels) for sample in expected]
    assert [sample.value for sample in told] == pytest.approx([sample.value for sample in expected])
    assert bisect_left(BOUNDS_S, 0.00025) == 2  # a bound is within its bucket


def test_a_scrape_has_every_call_that_ended_however_they_are_grouped() -> None:
    answered = CallKind("chat_completions", "m", 200, None, "openai/m", "answered", "exact")
    refused = CallKind("chat_completions", "m", 429, "policy")
    metrics = Metrics()
    usage = Usage(input_tokens=10, output_tokens=2, reasoning_tokens=1)
    for calls in range(1, 200):
        metrics.calls.ended(answered, CallFigures(6.0, 5.0, 100, usage, 0.05, 7, None))
        metrics.calls.ended(refused, CallFigures(0.09, None, None))
        if calls in (1, 31, 32, 33, 199):
            found = exposed(metrics)
            labels = '{endpoint="chat_completions",error_source="%s",model="m",status="%d"}'
            assert found["tollway_requests_total" + labels % ("none", 200)] == calls
            assert found["tollway_requests_total" + labels % ("policy", 429)] == calls
            assert found['tollway_request_seconds_count{endpoint="chat_completions"}'] == 2 * calls
            assert found['tollway_request_seconds_bucket{endpoint="chat_completions",le="0.005"}'] == calls
            assert found['tollway_first_byte_seconds_count{endpoint="chat_completions"}'] == calls
            assert found['tollway_first_byte_seconds_bucket{endpoint="chat_completions",le="0.005"}'] == calls
            assert found['tollway_overhead_seconds_bucket{le="0.0001"}'] == calls
            assert found['tollway_attempts_total{deployment="openai/m",outcome="answered"}'] == calls
            assert found['tollway_usage_source_total{source="exact"}'] == calls
            assert found['tollway_tokens_total{kind="input"}'] == 10 * calls
            assert found['tollway_tokens_total{kind="reasoning"}'] == calls
            assert 'tollway_tokens_total{kind="cached_input"}' not in found
            assert found['tollway_usd_total{kind="charged"}'] == pytest.approx(7e-9 * calls)
            assert 'tollway_usd_total{kind="absorbed"}' not in found
            assert found['tollway_context_used_ratio_bucket{le="0.05"}'] == calls
    assert not metrics.calls._ended
