from array import array

import pytest

from benchmarks.comparison import alternate, busiest_pct, compare
from benchmarks.load import Round, Sample

MS = 1_000_000


def sample(*latencies_ms: float, elapsed_s: float = 1.0, failures: int = 0) -> Sample:
    latencies_ns = array("q", (round(each * MS) for each in latencies_ms))
    elapsed_ns = round(elapsed_s * 1_000_000_000)
    return Sample(elapsed_ns, elapsed_ns // 4, latencies_ns, latencies_ns, failures=failures)


def test_added_is_the_difference_of_percentiles_round_by_round():
    ten = range(1, 11)
    pairs = [(sample(*ten), sample(*(each + added for each in ten))) for added in (1, 2, 9)]
    found = compare("plain", "whole", pairs, lambda each: each.latencies_ns)
    assert found.direct_ms[50].value == 5
    assert found.gateway_ms[50].value == 7
    assert [found.added_ms[pct].value for pct in (50, 90, 99)] == [2, 2, 2]
    assert (found.added_ms[50].low, found.added_ms[50].high) == (1, 9)
    assert found.direct_per_s.value == 10
    assert found.rounds == 3


def test_failures_of_both_sides_are_counted():
    found = compare("plain", "whole", [(sample(1, failures=2), sample(1, failures=3))], lambda each: each.latencies_ns)
    assert found.failures == 5


def test_how_busy_the_generator_was():
    assert busiest_pct([(sample(1), sample(1, elapsed_s=2))]) == pytest.approx(25)


class Recorder:
    """Stands in for the load process: says which side was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, round_: Round) -> Sample:
        self.asked.append(round_.base_url)
        return sample(1 if round_.base_url == "direct" else 2)


def test_rounds_are_played_by_turns_and_the_order_turns_too():
    recorder, steps = Recorder(), []
    direct, gateway = (Round(name, b"", "", 1, 1.0) for name in ("direct", "gateway"))
    pairs = alternate(recorder, direct, gateway, 3, lambda: steps.append(1))  # type: ignore[arg-type]
    assert recorder.asked == [
        *("direct", "gateway"),  # warm-up, counted nowhere
        *("direct", "gateway"),
        *("gateway", "direct"),
        *("direct", "gateway"),
    ]
    assert [(each.latencies_ns[0], other.latencies_ns[0]) for each, other in pairs] == [(MS, 2 * MS)] * 3
    assert len(steps) == 3
