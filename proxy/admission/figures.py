"""What an admission's figures say to the caller: what is left, and how full the tightest cap is.

Pure.
"""

from typing import Final, NamedTuple

from proxy.admission import limits
from proxy.admission.answers import Admitted
from proxy.admission.hits import HitAdmitted, HitDemand
from proxy.admission.terms import Demand, ScopeDemand, Window, WindowKind


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
        return _used_pct(self.used_nusd, self.cap_nusd)


def _used_pct(used_nusd: int, cap_nusd: int) -> int:
    return 100 if cap_nusd == 0 else used_nusd * 100 // cap_nusd


class Left(NamedTuple):
    """What an admission leaves; None: nothing of the kind is limited."""

    requests: int | None = None  # that the tightest scope lets through now
    tokens: int | None = None  # likewise
    cap: CapUse | None = None  # the one that is fullest by its own measure


NOTHING_LIMITED: Final = Left()


def what_is_left(demand: Demand, admitted: Admitted) -> Left:
    """In one look at all figures: every call takes one."""
    now_us = admitted.now_us
    requests: int | None = None
    tokens: int | None = None
    tightest: tuple[ScopeDemand, Window, int] | None = None
    fullest_pct = -1
    for scope, figures in zip(demand.scopes, admitted.figures, strict=True):
        requests_tat_us, tokens_tat_us, used = figures
        if scope.requests is not None:
            left = limits.remaining_requests(requests_tat_us, now_us, scope.requests)
            requests = left if requests is None or left < requests else requests
        if scope.tokens_per_minute is not None:
            left = limits.remaining_tokens(tokens_tat_us, now_us, scope.tokens_per_minute)
            tokens = left if tokens is None or left < tokens else tokens
        for window, used_nusd in zip(scope.windows, used, strict=True):
            cap_nusd = window.cap_nusd
            if cap_nusd is not None and (pct := _used_pct(used_nusd, cap_nusd)) > fullest_pct:
                tightest, fullest_pct = (scope, window, used_nusd), pct
    if tightest is None:
        return Left(requests, tokens)
    scope, window, used_nusd = tightest
    assert window.cap_nusd is not None
    return Left(requests, tokens, CapUse(scope.name, window.kind, window.cap_nusd, used_nusd, window.start_ms))


def remaining_hit_requests(demand: HitDemand, admitted: HitAdmitted) -> int | None:
    """How many more requests the tightest scope lets through after a kept answer; None where none is limited."""
    left = [
        limits.remaining_requests(tat_us, admitted.now_us, scope.requests)
        for scope, tat_us in zip(demand.scopes, admitted.requests_tat_us, strict=True)
        if scope.requests is not None
    ]
    return min(left, default=None)
