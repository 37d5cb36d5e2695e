"""What a route offers to a caller: worked out once for all who are alike, because most calls are.

Pure, but for what it remembers: nothing in an offer depends on the call, or on how a deployment is just now.
"""

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from proxy.core.consent import TIER_RANK, Consent
from proxy.core.types import Deployment
from proxy.routing.eligible import Seeker, eligible
from proxy.routing.resolve import NAMED_MAX, Candidate, Route
from proxy.routing.selection import Abilities, Choice
from proxy.settings.model import TenantSettings

OFFERS_MAX: Final = 10_000


class Offer(NamedTuple):
    """Who may serve the caller. `plain` has a choice for each of the first ones that a strategy may choose among,
    those of the best tier: what it comes to where that one can do what the call needs, and is well."""

    candidates: tuple[Candidate, ...]  # by tier
    withheld: tuple[Candidate, ...]  # who would, had it consented
    leading: tuple[Candidate, ...]  # of the best tier
    plain: tuple[Choice, ...]  # of each of these
    are_alike: bool  # as far as is known, all can do the same: what the call needs decides nothing


class Offers:
    """Those of one configuration, while the same deployments are drained and the same is known of every model."""

    __slots__ = ("_abilities_of", "_drained", "_known", "_named")

    def __init__(self, drained: frozenset[str], abilities_of: Callable[[Deployment], Abilities]) -> None:
        """`drained` were so at run time, by label."""
        self._drained = drained
        self._abilities_of = abilities_of
        self._known: dict[Hashable, Offer] = {}
        # Of names that callers made: apart, so that whoever makes up thousands puts out nothing of the others'.
        self._named: dict[Hashable, Offer] = {}

    def find(self, route: Route, tenant: TenantSettings, consent: Consent) -> Offer:
        """What this route offers to this tenant.

        Raises:
            NoDeploymentAllowed, NoDeploymentAvailable: see `eligible`.
        """
        is_for_all = route.is_for_all and tenant.residency is None and not tenant.zero_retention
        seeker = None if is_for_all else _seeker(tenant, consent)
        what: Hashable
        if route.is_written:
            offers, offers_max, what = self._known, OFFERS_MAX, (route.alias, consent, seeker)
        else:  # several may be an alias's own: what it calls so, and each model that it stands for
            deployment = route.candidates[0].deployment
            offers, offers_max, what = self._named, NAMED_MAX, (route.alias, deployment, consent, seeker)
        known = offers.get(what)
        if known is None:
            if len(offers) >= offers_max:
                offers.clear()
            known = offers[what] = self._offer(route, seeker or _seeker(tenant, consent))
        return known

    def _offer(self, route: Route, seeker: Seeker) -> Offer:
        candidates, withheld = eligible(route, seeker, self._drained)
        candidates = tuple(sorted(candidates, key=lambda each: TIER_RANK[each.tier]))
        leading = tuple(each for each in candidates if each.tier is candidates[0].tier)
        plain = tuple(_plain(place, candidates, withheld, seeker.consent) for place in range(len(leading)))
        return Offer(candidates, withheld, leading, plain, self._are_alike(route, candidates))

    def _are_alike(self, route: Route, candidates: tuple[Candidate, ...]) -> bool:
        if not route.is_written:
            return True  # the default provider's own models are its own to judge
        if len(candidates) == 1:
            return not candidates[0].says_capabilities  # it is asked, whatever a catalogue says
        known = [self._abilities_of(each.deployment) for each in candidates]
        return known.count(known[0]) == len(known) and (known[0].capabilities is None or not known[0].is_certain)


def _plain(place: int, candidates: tuple[Candidate, ...], withheld: tuple[Candidate, ...], consent: Consent) -> Choice:
    first, others = candidates[place], (*candidates[:place], *candidates[place + 1 :])
    if consent is Consent.NONE:  # one may be chosen for the call; none is asked after it
        return Choice(first, (first,), 0, (*others, *withheld))
    return Choice(first, (first, *others), 0, withheld)


def _seeker(tenant: TenantSettings, consent: Consent) -> Seeker:
    return Seeker(tenant.id, tenant.plan, consent, tenant.residency, tenant.zero_retention)
