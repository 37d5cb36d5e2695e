"""What an admission's figures say to the caller: what is left, and how full the tightest cap is.

Pure.
"""

from typing import Final, NamedTuple

from proxy.admission import limits
from proxy.admission.answers import Admitted
from proxy.admission.hits import HitAdmitted, HitDemand
from proxy.admission.limits import fewest_left
from proxy.admission.terms import Demand, WindowKind


class CapUse(NamedTuple):
    """How full one cap is, this reservation's hold included."""

    scope: str
    kind: WindowKind
    cap_nusd: int
    used_nusd: int
    window_start_ms: int = 0

    @property
    def used_pct(self) -> int:
        """Whole per cents, rounded down: 100 means full to the last nano-dollar."""
        return self.used_nusd * 100 // self.cap_nusd if self.cap_nusd else 100


class Left(NamedTuple):
    """What an admission leaves; None: nothing of the kind is limited."""

    requests: int | None = None  # that the tightest scope lets through now
    tokens: int | None = None  # likewise
    cap: CapUse | None = None  # the one that is fullest by its own measure


NOTHING_LIMITED: Final = Left()


def what_is_left(demand: Demand, admitted: Admitted) -> Left:
    """In one look at all figures: every call takes one."""
    requests, tokens, caps, capped = demand.outline.gauges
    figures, now_us = admitted.figures, admitted.now_us
    left_requests = fewest_left(requests, figures, now_us) if requests else None
    left_tokens = fewest_left(tokens, figures, now_us) if tokens else None
    if not caps:
        return Left(left_requests, left_tokens)
    used_pcts = [figures[place] * 100 // cap_nusd if cap_nusd else 100 for place, cap_nusd in caps]
    fullest = used_pcts.index(max(used_pcts))
    scope, window = capped[fullest]
    place, cap_nusd = caps[fullest]
    use = CapUse(scope, window.kind, cap_nusd, figures[place], window.start_ms)
    return Left(left_requests, left_tokens, use)


def remaining_hit_requests(demand: HitDemand, admitted: HitAdmitted) -> int | None:
    """How many more requests the tightest scope lets through after a kept answer; None where none is limited."""
    left = [
        limits.remaining_requests(tat_us, admitted.now_us, scope.requests)
        for scope, tat_us in zip(demand.scopes, admitted.requests_tat_us, strict=True)
        if scope.requests is not None
    ]
    return min(left, default=None)
