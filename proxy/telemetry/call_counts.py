"""What is counted of the calls that ended.

They are taken as they end, and counted in groups, those that are alike together: what a group costs is then done
once for all of them, much of it in C. Whoever reads has all that were taken.
"""

from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar, cast

from proxy.core.types import Usage
from proxy.telemetry.series import Counts, Timings

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD_SECONDS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1)
_RATIOS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
Value = TypeVar("Value")

_MS_PER_S: Final = 1e3
_US_PER_S: Final = 1e6
_GROUP_CALLS_MAX: Final = 64

_TOKEN_KINDS: Final = ("input", "output", "cached_input", "cache_write", "reasoning")
_TOKENS: Final = attrgetter(
    "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"
)


class CallKind(NamedTuple):
    """What calls of one kind have in common: their labels."""

    endpoint: str
    model: str
    status: int
    error_source: str | None
    deployment: str | None = None  # None: nothing was sent
    outcome: str = ""  # of sending it there: `answered`, `failed` or `abandoned`
    usage_source: str = ""  # `exact`, `estimated`, `worst_case`, `unpriced` or `unknown`


class CallFigures(NamedTuple):
    """What is one call's own."""

    latency_ms: float
    first_byte_ms: float | None
    overhead_us: int | None
    usage: Usage | None = None
    context_used: float | None = None  # what part of its model's context its input took
    charged_nusd: int | None = None
    absorbed_nusd: int | None = None


class CallCounts:
    """Part of `Metrics`."""

    __slots__ = (
        "_context_used",
        "_ended",
        "_ended_count",
        "_first_byte_seconds",
        "_overhead_seconds",
        "_request_seconds",
        "_requests",
        "_tokens",
        "_usage_sources",
        "attempts",
        "usd",
    )

    def __init__(self) -> None:
        self._requests = Counts(
            "tollway_requests_total", "Requests that ended.", "endpoint", "model", "status", "error_source"
        )
        self._request_seconds = Timings("tollway_request_seconds", "From accept to the last byte.", SECONDS, "endpoint")
        self._first_byte_seconds = Timings(
            "tollway_first_byte_seconds", "From accept to the answer's first byte.", SECONDS, "endpoint"
        )
        self._overhead_seconds = Timings(
            "tollway_overhead_seconds", "The gateway's own time, from accept to the upstream send.", _OVERHEAD_SECONDS
        )
        self._tokens = Counts("tollway_tokens_total", "Tokens, as the providers reported them.", "kind")
        self._usage_sources = Counts(
            "tollway_usage_source_total", "Runs, by how far their usage can be trusted.", "source"
        )
        self._context_used = Timings(
            "tollway_context_used_ratio", "A call's input, as a part of what its model takes.", _RATIOS
        )
        self.attempts = Counts("tollway_attempts_total", "Sends to a deployment.", "deployment", "outcome")
        self.usd = Counts("tollway_usd_total", "Dollars, by who bears or saves them.", "kind")
        self._ended: defaultdict[CallKind, list[CallFigures]] = defaultdict(list)
        self._ended_count = 0

    def ended(self, kind: CallKind, figures: CallFigures) -> None:
        """One call, answered, refused or given up."""
        self._ended[kind].append(figures)
        self._ended_count += 1
        if self._ended_count >= _GROUP_CALLS_MAX:
            self.sum_up()

    def sum_up(self) -> None:
        """Count what was taken by now."""
        for kind, group in self._ended.items():
            self._count(kind, group)
        self._ended.clear()
        self._ended_count = 0

    def families(self) -> tuple[Counts | Timings, ...]:
        """What a scrape reads. Of dollars the unit is a nano-dollar: they are not among these."""
        counted = (self._requests, self.attempts, self._tokens, self._usage_sources)
        return (
            *counted,
            self._request_seconds,
            self._first_byte_seconds,
            self._overhead_seconds,
            self._context_used,
        )

    def _count(self, kind: CallKind, group: list[CallFigures]) -> None:
        calls, endpoint = len(group), kind.endpoint
        latencies_ms, first_bytes_ms, overheads_us, usages, contexts_used, charged_nusd, absorbed_nusd = zip(
            *group, strict=True
        )
        self._requests.add((endpoint, kind.model, kind.status, kind.error_source or "none"), calls)
        self._request_seconds.observe_all(latencies_ms, endpoint, per_s=_MS_PER_S)
        self._first_byte_seconds.observe_all(_known(first_bytes_ms), endpoint, per_s=_MS_PER_S)
        self._overhead_seconds.observe_all(_known(overheads_us), per_s=_US_PER_S)
        self._context_used.observe_all(_known(contexts_used))
        if kind.deployment is not None:
            self.attempts.add((kind.deployment, kind.outcome), calls)
            self._usage_sources.add((kind.usage_source,), calls)
        told = map(_TOKENS, _known(usages))
        for name, counts in zip(_TOKEN_KINDS, zip(*told, strict=True), strict=False):
            tokens = sum(counts)
            if tokens or name in ("input", "output"):
                self._tokens.add((name,), tokens)
        for name, amounts in (("charged", charged_nusd), ("absorbed", absorbed_nusd)):
            if any(amounts):
                self.usd.add((name,), sum(filter(None, amounts)))


def _known(values: Sequence[Value | None]) -> Sequence[Value]:
    # Most often all are.
    return [value for value in values if value is not None] if None in values else cast(Sequence[Value], values)
