"""What a valid `[models.ALIAS]` is made of: deployments, how one is chosen, rules. Frozen.

Every default here is the documented default (`docs/configuration.md`).
"""

from dataclasses import dataclass
from enum import StrEnum

from proxy.core.consent import Tier
from proxy.settings.caching import CachePolicy


class Strategy(StrEnum):
    """Which of a model's deployments is asked first, among those of one tier."""

    PRIORITY = "priority"  # in the order of the file
    WEIGHTED = "weighted"  # by lot, as their weights are
    FASTEST = "fastest"  # by the time to the first byte, of late
    CHEAPEST = "cheapest"  # by the price of the call at hand


class Sticky(StrEnum):
    """Whose calls go to the same deployment."""

    NONE = "none"
    TENANT = "tenant"
    USER = "user"  # a tenant's, where no user is known
    CONVERSATION = "conversation"  # what begins alike: providers keep the prompt's beginning


class Retention(StrEnum):
    """What a provider keeps of a call."""

    STANDARD = "standard"  # what its terms say
    ZERO = "zero"  # nothing, by contract


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """What the operator says that a model costs. None: as the input."""

    input_nusd_per_mtok: int
    output_nusd_per_mtok: int
    cached_input_nusd_per_mtok: int | None = None
    cache_write_nusd_per_mtok: int | None = None


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """One place to send to, in a model's list. What is None is the catalogue's to say."""

    provider: str
    model: str
    price: PriceSettings | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    audio_seconds_max: int | None = None
    tier: Tier = Tier.SAME
    weight: int = 1
    tenants: frozenset[str] | None = None  # None: every tenant
    plans: frozenset[str] | None = None  # None: every plan
    in_flight_max: int | None = None  # calls under way at once, from this process
    drained: bool = False

    @property
    def facts(self) -> tuple[object, ...]:
        """What is said of the model itself, wherever it is listed; None: the catalogue has the word."""
        lengths = (self.context_tokens, self.max_output_tokens, self.audio_seconds_max)
        return (self.price, self.capabilities, *lengths)

    @property
    def says_something(self) -> bool:
        """True where anything is written that the catalogue would say otherwise."""
        return any(part is not None for part in self.facts)


@dataclass(frozen=True, slots=True)
class When:
    """What a call has to be for a rule to hold: all that is not None."""

    input_tokens_min: int | None = None
    input_tokens_max: int | None = None
    code_blocks_min: int | None = None
    images: bool | None = None
    tools: bool | None = None
    feature: frozenset[str] | None = None
    plan: frozenset[str] | None = None
    cap_used_pct_min: int | None = None
    tier: frozenset[str] | None = None  # what the header x-tollway-tier may say


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One rule of a model that stands for others."""

    use: str
    when: When = When()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The alias that callers name: its deployments in order of preference, or rules that lead to other aliases."""

    alias: str
    deployments: tuple[DeploymentSettings, ...]
    tenants: frozenset[str] | None = None  # None: every tenant
    plans: frozenset[str] | None = None  # None: every plan
    strategy: Strategy = Strategy.PRIORITY
    sticky: Sticky = Sticky.NONE
    rules: tuple[RuleSettings, ...] = ()
    default: str | None = None  # which alias serves where no rule holds; None: this one has deployments
    switched_to: str | None = None  # which alias serves instead, whatever else is written
    cache: CachePolicy | None = None
