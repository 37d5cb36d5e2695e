"""What each deployment's calls cost, by one snapshot of the configuration.

Pure. What the operator writes beside a deployment wins over the catalogue.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final, NamedTuple

from proxy.core.types import Deployment
from proxy.dialects.dialect import DIALECTS
from proxy.dialects.openai import Operation
from proxy.pricing.catalog import Catalog
from proxy.pricing.facts import ModelFacts, Price, own_facts
from proxy.routing.selection import Abilities
from proxy.settings.model import ProviderSettings, Settings, TransportKind
from proxy.settings.routing import DeploymentSettings

SIMULATED_CATALOG = "simulated"
_HOUR_MS: Final = 3_600_000
_KNOWN_MAX: Final = 10_000
# Whom a call without a model asks (OpenAI's API reference); of pictures that depends on the rest of the call.
_UNNAMED: Final = {"moderations": "omni-moderation-latest"}


def catalog_name(provider: ProviderSettings, available: Collection[str]) -> str:
    """Whose prices hold for a provider: as written, else its own name if there are such prices,
    else those of what it speaks."""
    if provider.catalog is not None:
        return provider.catalog
    if provider.transport is TransportKind.SIMULATED:
        return SIMULATED_CATALOG
    return provider.name if provider.name in available else DIALECTS[provider.dialect].catalog


class _Known(NamedTuple):
    """Of one deployment, in one hour since the Unix epoch."""

    hour: int
    facts: ModelFacts | None
    abilities: Abilities
    price: Price | None


class PriceList:
    """The facts of every model that may be called."""

    __slots__ = ("_catalog", "_catalog_names", "_known", "_own", "_written", "version")

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self.version = catalog.version
        self._catalog = catalog
        self._known: dict[Deployment, _Known] = {}
        available = catalog.names
        self._catalog_names = {name: catalog_name(each, available) for name, each in settings.providers.items()}
        self._own = {
            (deployment.provider, deployment.model): deployment
            for model in settings.models.values()
            for deployment in model.deployments
            if deployment.says_something
        }
        # What a catalogue says of a model that the operator has written of, and both together.
        self._written: dict[tuple[str, str], tuple[ModelFacts | None, ModelFacts | None]] = {}

    def catalog_of(self, provider: str) -> str:
        """The name of the catalogue whose prices hold for a provider."""
        return self._catalog_names[provider]

    def abilities(self, deployment: Deployment, at_ms: int) -> Abilities:
        """What is known of what a deployment's model can do, whatever it costs; as of the hour."""
        return self._known_at(deployment, at_ms).abilities

    def likely_price(self, deployment: Deployment, at_ms: int) -> Price | None:
        """Its price as of the hour: near enough to compare deployments by, and not to charge anyone."""
        return self._known_at(deployment, at_ms).price

    def _known_at(self, deployment: Deployment, at_ms: int) -> _Known:
        hour = at_ms // _HOUR_MS
        known = self._known.get(deployment)
        if known is None or known.hour != hour:
            if len(self._known) >= _KNOWN_MAX:  # of names that callers send
                self._known.clear()
            facts = self._found(deployment, at_ms)
            price = None if facts is None else facts.price
            known = self._known[deployment] = _Known(hour, facts, self._abilities_of(deployment, facts), price)
        return known

    def _abilities_of(self, deployment: Deployment, facts: ModelFacts | None) -> Abilities:
        own = self._own.get((deployment.provider, deployment.model or "")) if self._own else None
        capabilities = own.capabilities if own is not None else None
        context_tokens = own.context_tokens if own is not None else None
        if facts is None:
            return Abilities(capabilities, context_tokens)
        if capabilities is not None:
            return Abilities(capabilities, facts.context_tokens)
        # A catalogue that lists none has not been told.
        return Abilities(facts.capabilities or None, facts.context_tokens, is_certain=False)

    def facts_of(self, deployment: Deployment, operation: Operation, at_ms: int) -> ModelFacts | None:
        """As `find`; of a call that names no model, what the provider then takes."""
        if deployment.model is None and operation.name in _UNNAMED:
            deployment = deployment._replace(model=_UNNAMED[operation.name])
        return self._known_at(deployment, at_ms).facts

    def find(self, deployment: Deployment, at_ms: int) -> ModelFacts | None:
        """What is known of a deployment's model at an instant; None where nobody says a price. A price begins with
        a day (UTC), so what is found holds for the hour."""
        return self._known_at(deployment, at_ms).facts

    def _found(self, deployment: Deployment, at_ms: int) -> ModelFacts | None:
        if deployment.model is None:
            return None
        known = self._catalog.find(self._catalog_names[deployment.provider], deployment.model, at_ms)
        what = (deployment.provider, deployment.model)
        own = self._own.get(what) if self._own else None
        if own is None:
            return known
        written = self._written.get(what)
        if written is None or written[0] is not known:  # a price of the catalogue's begins on a day
            written = self._written[what] = (known, _as_written(own, known))
        return written[1]


def _as_written(own: DeploymentSettings, known: ModelFacts | None) -> ModelFacts | None:
    if own.price is not None:
        priced = own_facts(
            own.price.input_nusd_per_mtok,
            own.price.output_nusd_per_mtok,
            cached_input_nusd_per_mtok=own.price.cached_input_nusd_per_mtok,
            cache_write_nusd_per_mtok=own.price.cache_write_nusd_per_mtok,
        )
        known = priced if known is None else replace(known, price=priced.price)
    if known is None:
        return None
    return replace(
        known,
        context_tokens=own.context_tokens or known.context_tokens,
        max_output_tokens=own.max_output_tokens or known.max_output_tokens,
        capabilities=known.capabilities if own.capabilities is None else own.capabilities,
        audio_ms_max=known.audio_ms_max if own.audio_seconds_max is None else own.audio_seconds_max * 1_000,
    )
