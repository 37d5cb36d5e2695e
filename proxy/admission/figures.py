"""What an admission's figures say to the caller: what is left, and how full the tightest cap is.

Pure.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.admission import limits
from proxy.admission.answers import Admitted
from proxy.admission.hits import HitAdmitted, HitDemand
from proxy.admission.terms import Demand, Gauges, WindowKind


class CapUse(NamedTuple):
    """How full one cap is, this reservation's hold included."""

    scope: str
    kind: WindowKind
    cap_nusd: int
    used_nusd: int
    used_pct: int  # whole per cents, rounded down: 100 means full to the last nano-dollar
    window_start_ms: int


class Left(NamedTuple):
    """What an admission leaves; None: nothing of the kind is limited."""

    requests: int | None = None  # that the tightest scope lets through now
    tokens: int | None = None  # likewise
    cap: CapUse | None = None  # the one that is fullest by its own measure


NOTHING_LIMITED: Final = Left()


def what_is_left(demand: Demand, admitted: Admitted) -> Left:
    """In one look at all figures: every call takes one."""
    gauges, figures, now_us = demand.outline.gauges, admitted.figures, admitted.now_us
    return Left(
        limits.fewest_requests(gauges, figures, now_us),
        limits.fewest_tokens(gauges, figures, now_us),
        _fullest(gauges, figures) if gauges.caps else None,
    )


def _fullest(gauges: Gauges, figures: Sequence[int]) -> CapUse:
    used_pcts = [figures[place] * 100 // cap_nusd if cap_nusd else 100 for place, cap_nusd in gauges.caps]
    used_pct = max(used_pcts)
    fullest = used_pcts.index(used_pct)
    scope, kind, start_ms = gauges.capped[fullest]
    place, cap_nusd = gauges.caps[fullest]
    return CapUse(scope, kind, cap_nusd, figures[place], used_pct, start_ms)


def remaining_hit_requests(demand: HitDemand, admitted: HitAdmitted) -> int | None:
    """How many more requests the tightest scope lets through after a kept answer; None where none is limited."""
    left = [
        limits.remaining_requests(tat_us, admitted.now_us, scope.requests)
        for scope, tat_us in zip(demand.scopes, admitted.requests_tat_us, strict=True)
        if scope.requests is not None
    ]
    return min(left, default=None)
