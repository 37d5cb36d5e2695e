"""Which candidates of a route may serve this caller at all, however they are and whatever they cost.

Pure. Residency, retention and whom a deployment is kept for are promises: there is no fallback around them.
"""

from typing import NamedTuple

from proxy.core.consent import TIER_RANK, Consent, allows, consent_to
from proxy.core.errors import NoDeploymentAllowed, NoDeploymentAvailable
from proxy.routing.resolve import Candidate, Route


class Seeker(NamedTuple):
    """Who is to be served, and what it has agreed to."""

    tenant_id: str
    plan: str
    consent: Consent = Consent.NONE
    residency: frozenset[str] | None = None
    zero_retention: bool = False


def eligible(
    route: Route, seeker: Seeker, drained: frozenset[str]
) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
    """Those that may serve it, and those that would have, had it consented. `drained` were so at run time, by label.

    Raises:
        NoDeploymentAllowed: by what was promised to the tenant, none may.
        NoDeploymentAvailable: all of those are drained.
    """
    candidates = route.candidates
    if route.is_open and seeker.residency is None and not seeker.zero_retention and not drained:
        return candidates, ()
    promised = tuple(each for each in candidates if _is_for(each, seeker))
    if not promised:
        raise _not_allowed(route, seeker)
    in_use = tuple(each for each in promised if not each.drained and each.deployment.label not in drained)
    agreed = tuple(each for each in in_use if allows(seeker.consent, each.tier))
    if not agreed:
        raise NoDeploymentAvailable(
            f"All deployments of {_shown(route)} that may serve you are taken out of service. Try again later, "
            "or ask for another model.",
            withheld=consent_to(min((each.tier for each in in_use), key=TIER_RANK.__getitem__)) if in_use else None,
        )
    return agreed, tuple(each for each in in_use if not allows(seeker.consent, each.tier))


def _is_for(candidate: Candidate, seeker: Seeker) -> bool:
    return (
        (candidate.tenants is None or seeker.tenant_id in candidate.tenants)
        and (candidate.plans is None or seeker.plan in candidate.plans)
        and (seeker.residency is None or candidate.region in seeker.residency)
        and (not seeker.zero_retention or candidate.keeps_nothing)
    )


def _not_allowed(route: Route, seeker: Seeker) -> NoDeploymentAllowed:
    wants = []
    if seeker.residency is not None:
        wants.append(f"only be served in {', '.join(sorted(seeker.residency)) or 'no region'}")
    if seeker.zero_retention:
        wants.append("only be served by providers that keep nothing")
    rule = f"You may {' and '.join(wants)}" if wants else "Its deployments are kept for others"
    return NoDeploymentAllowed(f"No deployment of {_shown(route)} may serve you. {rule}. Ask for another model.")


def _shown(route: Route) -> str:
    return "the default provider" if route.alias is None else f"`{route.alias[:128]}`"
