"""What an admission's figures say to the caller: what is left, and how full the tightest cap is.

Pure.
"""

from collections.abc import Iterable
from typing import NamedTuple

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


def tightest_cap(demand: Demand, admitted: Admitted) -> CapUse | None:
    """The cap that is fullest by its own measure; None where no window has one."""
    tightest: tuple[ScopeDemand, Window, int] | None = None
    fullest_pct = -1
    for scope, figures in zip(demand.scopes, admitted.figures, strict=True):
        for window, used_nusd in zip(scope.windows, figures.used_nusd, strict=True):
            cap_nusd = window.cap_nusd
            if cap_nusd is not None and (pct := _used_pct(used_nusd, cap_nusd)) > fullest_pct:
                tightest, fullest_pct = (scope, window, used_nusd), pct
    if tightest is None:
        return None
    scope, window, used_nusd = tightest
    assert window.cap_nusd is not None
    return CapUse(scope.name, window.kind, window.cap_nusd, used_nusd, window.start_ms)


def remaining_requests(demand: Demand, admitted: Admitted) -> int | None:
    """How many more requests the tightest scope lets through now; None where none is limited."""
    tats_us = [figures.requests_tat_us for figures in admitted.figures]
    return _fewest_requests(demand.scopes, tats_us, admitted.now_us)


def remaining_hit_requests(demand: HitDemand, admitted: HitAdmitted) -> int | None:
    """Likewise after a kept answer."""
    return _fewest_requests(demand.scopes, admitted.requests_tat_us, admitted.now_us)


def remaining_tokens(demand: Demand, admitted: Admitted) -> int | None:
    """Likewise of tokens."""
    left = [
        limits.remaining_tokens(figures.tokens_tat_us, admitted.now_us, scope.tokens_per_minute)
        for scope, figures in zip(demand.scopes, admitted.figures, strict=True)
        if scope.tokens_per_minute is not None
    ]
    return min(left, default=None)


def _fewest_requests(scopes: Iterable[ScopeDemand], tats_us: Iterable[int], now_us: int) -> int | None:
    left = [
        limits.remaining_requests(tat_us, now_us, scope.requests)
        for scope, tat_us in zip(scopes, tats_us, strict=True)
        if scope.requests is not None
    ]
    return min(left, default=None)
