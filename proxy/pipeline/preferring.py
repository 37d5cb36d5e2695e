"""What a model's strategy prefers for a call: a number for each candidate, the lowest asked first.

The arithmetic is in `routing.strategy`; here it meets what this process has measured, and what things cost.
"""

from collections.abc import Hashable, Mapping, Sequence
from operator import attrgetter
from random import Random
from typing import Final

from proxy.admission.estimate import EXPECTED_OUTPUT_TOKENS
from proxy.dialects.conversation import beginning
from proxy.dialects.streamed_output import BYTES_PER_TOKEN
from proxy.pipeline.exchange import Exchange
from proxy.pricing.cost import FUSD_PER_NUSD, rates_of
from proxy.routing.resolve import Candidate, Route, Routes
from proxy.routing.strategy import as_fast_us, digest, draw, lots, speeds
from proxy.settings.routing import Sticky, Strategy
from proxy.upstream.conditions import Conditions

_DEALT_MAX: Final = 10_000
_NOBODY: Final = Sticky.NONE
_NAME: Final = attrgetter("name")
_UNPRICED_FUSD: Final = float("inf")


class Preferring:
    """Says it, and remembers the lots of those who are to be served alike."""

    __slots__ = ("_chance", "_conditions", "_dealt", "_dealt_by")

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._chance = Random().random
        self._dealt: dict[Hashable, Mapping[str, float]] = {}  # of one snapshot's routes
        self._dealt_by: Routes | None = None

    def preferences(
        self, exchange: Exchange, route: Route, candidates: tuple[Candidate, ...], now_us: int
    ) -> Sequence[float] | None:
        """One for each candidate, in their order; None: that order itself. Notes which deployment a lot has drawn."""
        if route.strategy is Strategy.PRIORITY or len(candidates) < 2:
            return None
        if route.strategy is Strategy.CHEAPEST:
            return [_likely_fusd(exchange, each) for each in candidates]
        if route.strategy is Strategy.FASTEST:
            return self._speeds(exchange, route, candidates, now_us)
        drawn = self._lots(exchange, route, candidates)
        if exchange.split is None:
            exchange.split = candidates[drawn.index(min(drawn))].name
        return drawn

    def note_asked(self, candidate: Candidate, now_us: int, *, stream: bool) -> None:
        """A call is on its way to it, which may measure a time that nobody knows."""
        vitals = self._conditions.vitals(candidate.name)
        if vitals.is_unmeasured(now_us, stream=stream):
            vitals.to_be_measured(now_us, stream=stream)

    def _speeds(
        self, exchange: Exchange, route: Route, candidates: tuple[Candidate, ...], now_us: int
    ) -> Sequence[float]:
        times_us = self._conditions.first_bytes_us(tuple(map(_NAME, candidates)), now_us, stream=exchange.call.stream)
        until_us = as_fast_us(times_us)
        if max(times_us) <= until_us:
            return self._lots(exchange, route, candidates)  # none is faster than another
        if sorted(times_us)[1] > until_us:
            return times_us  # one is the fastest: no lot is asked
        return speeds(times_us, self._lots(exchange, route, candidates), until_us)

    def _lots(self, exchange: Exchange, route: Route, candidates: tuple[Candidate, ...]) -> Sequence[float]:
        """Each candidate's lot for whoever is to be served alike. The same ones come again and again."""
        who = None if route.sticky is _NOBODY else _who(exchange, route.sticky)
        if who is None:
            return lots(candidates, self._chance)
        if self._dealt_by is not exchange.snapshot.routes or len(self._dealt) >= _DEALT_MAX:
            self._dealt_by, self._dealt = exchange.snapshot.routes, {}
        what = (route.alias, who)
        dealt = self._dealt.get(what)
        if dealt is None:
            dealt = self._dealt[what] = _deal(route, who if isinstance(who, int) else digest("\0".join(who).encode()))
        return [dealt[each.name] for each in candidates]


def _deal(route: Route, who: int) -> Mapping[str, float]:
    return {each.name: draw(each, who, route.alias or "") for each in route.candidates}


def _who(exchange: Exchange, sticky: Sticky) -> int | tuple[str, ...] | None:
    """Whose calls go to the same deployment: their names, or the digest of how they begin; None: it is for this
    call alone."""
    caller = exchange.caller
    assert caller is not None
    if sticky is Sticky.TENANT:
        return (caller.tenant_id,)
    if sticky is Sticky.USER:
        return (caller.tenant_id, caller.user or "")
    if sticky is Sticky.CONVERSATION and (begins := beginning(exchange.call.document)):
        return digest(caller.tenant_id.encode() + b"\0" + begins)
    return None


def _likely_fusd(exchange: Exchange, candidate: Candidate) -> float:
    """What the call will likely cost there; without a price it is asked last."""
    price = exchange.snapshot.prices.likely_price(candidate.deployment, exchange.started_at_ms)
    if price is None:
        return _UNPRICED_FUSD
    input_tokens = len(exchange.call.text or b"") // BYTES_PER_TOKEN
    rates = rates_of(price, None, input_tokens)
    tokens_fusd = input_tokens * rates.input_nusd_per_mtok + EXPECTED_OUTPUT_TOKENS * rates.output_nusd_per_mtok
    return tokens_fusd + price.request_nusd * FUSD_PER_NUSD
