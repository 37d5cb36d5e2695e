"""What a caller has agreed to, where the deployment that it asked for does not answer.

One language for the file, the tenant, the virtual key and the header `x-tollway-fallback`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Tier(StrEnum):
    """What a deployment is, held against the model that its alias promises."""

    SAME = "same"  # that model itself, perhaps elsewhere
    EQUIVALENT = "equivalent"  # another that does as well
    LOWER = "lower"  # one that does less well


class Consent(StrEnum):
    """Which deployments may be asked besides the first."""

    NONE = "none"
    EQUIVALENT = "equivalent"  # the same model elsewhere, and others that do as well
    LOWER = "lower"  # any


TIER_RANK: Final[Mapping[Tier, int]] = MappingProxyType({Tier.SAME: 0, Tier.EQUIVALENT: 1, Tier.LOWER: 2})
_CONSENT_RANK: Final[Mapping[Consent, int]] = MappingProxyType(
    {Consent.NONE: 0, Consent.EQUIVALENT: 1, Consent.LOWER: 2}
)


def allows(consent: Consent, tier: Tier) -> bool:
    """True where whoever gave this consent may be answered by such a deployment. The same model needs none."""
    return TIER_RANK[tier] <= _CONSENT_RANK[consent]


def narrower(one: Consent, other: Consent) -> Consent:
    """The lesser of two."""
    return min(one, other, key=lambda each: _CONSENT_RANK[each])


def consent_to(tier: Tier) -> Consent:
    """The least consent under which a deployment of this tier may be fallen back to."""
    return Consent.LOWER if tier is Tier.LOWER else Consent.EQUIVALENT
