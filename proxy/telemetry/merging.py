"""What several workers count, as one: encoded on the way from one to another, and merged by each metric's sense.

Counters and histograms are summed, and so is a gauge of things that each worker has for itself. A gauge of what
all of them share, or of the worst among them, is not.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.core import jsonio

# The worst of them, or what each of them reads of the one store.
GREATEST: Final = frozenset(
    {
        "tollway_loop_lag_seconds",
        "tollway_breaker_state",
        "tollway_ledger_unexported_bytes",
        "tollway_keyring_oldest_dek_seconds",
        "tollway_keyring_rotation_overdue",
    }
)
LEAST: Final = frozenset({"tollway_deployment_health"})
_GROWING: Final = frozenset({"counter", "histogram"})


def encode(families: Iterable[Metric]) -> bytes:
    """Families as bytes for a sibling."""
    return jsonio.encode(
        [
            (
                family.name,
                family.documentation,
                family.type,
                [(sample.name, sample.labels, sample.value) for sample in family.samples],
            )
            for family in families
        ]
    )


def decode(data: bytes) -> list[Metric]:
    """The families that `encode` was given."""
    families = []
    for name, documentation, kind, samples in jsonio.parse(data):
        family = Metric(name, documentation, kind)
        for sample_name, labels, value in samples:
            family.add_sample(sample_name, labels, value)
        families.append(family)
    return families


def merged(told: Iterable[Iterable[Metric]]) -> list[Metric]:
    """The families of several workers as those of one."""
    heads: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in told:
        for family in families:
            heads.setdefault(family.name, family)
            of_family = values.setdefault(family.name, {})
            unite = _sense(family.name)
            for sample in family.samples:
                series = sample.name, tuple(sample.labels.items())
                before = of_family.get(series)
                of_family[series] = sample.value if before is None else unite((before, sample.value))
    return [_family(head, values[name]) for name, head in heads.items()]


def growing(families: Iterable[Metric]) -> list[Metric]:
    """Those that only ever grow."""
    return [family for family in families if family.type in _GROWING]


def workers_family(answering: int, silent: int) -> Metric:
    """How many workers are in the sums."""
    family = GaugeMetricFamily("tollway_workers", "Workers, by whether they told their figures.", labels=("state",))
    family.add_metric(["answering"], answering)
    family.add_metric(["silent"], silent)
    return family


def render(families: Sequence[Metric]) -> tuple[bytes, str]:
    """The exposition text, and its content type."""
    return generate_latest(_Merged(families)), CONTENT_TYPE_LATEST


class _Merged(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _sense(name: str) -> Callable[[tuple[float, float]], float]:
    if name in GREATEST:
        return max
    return min if name in LEAST else sum


def _family(head: Metric, values: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]) -> Metric:
    family = Metric(head.name, head.documentation, head.type)
    for (sample_name, labels), value in values.items():
        family.add_sample(sample_name, dict(labels), value)
    return family
