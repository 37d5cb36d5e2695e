"""From the name that a caller used to the places that may serve it.

Pure. A model that a caller may not use does not exist for it: the refusal is the same 404
as for a name that nobody routes, so that names of other tenants' models cannot be guessed.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

from proxy.core.consent import Tier
from proxy.core.errors import EndpointNotAllowed, MissingParameter, ModelNotFound, UnknownUrl
from proxy.core.types import Caller, Deployment
from proxy.routing.rules import Asked, first_that_holds, prepared
from proxy.settings.model import ProviderSettings
from proxy.settings.routing import DeploymentSettings, ModelSettings, Retention, Sticky, Strategy

NAMED_MAX: Final = 1_000
"""So many names that callers made are remembered; then all are forgotten."""


class Candidate(NamedTuple):
    """A deployment, and whom it may serve. `name` is what health and metrics know it by: a name that
    only the configuration can make."""

    deployment: Deployment
    name: str
    tier: Tier = Tier.SAME
    weight: int = 1
    region: str | None = None
    keeps_nothing: bool = False
    tenants: frozenset[str] | None = None
    plans: frozenset[str] | None = None
    drained: bool = False
    in_flight_max: int | None = None
    says_capabilities: bool = False  # the operator has written what it can do


class Route(NamedTuple):
    """The alias whose limits and caps hold, and its candidates, in order of preference."""

    alias: str | None
    candidates: tuple[Candidate, ...]
    is_written: bool = True  # False: the default provider's own name for a model, or no model at all
    strategy: Strategy = Strategy.PRIORITY
    sticky: Sticky = Sticky.NONE
    is_open: bool = True  # every candidate is of tier same, for everybody, and not drained
    is_for_all: bool = True  # no candidate is kept for certain tenants or plans
    rule: str | None = None  # which rules led here: `auto.long`


class Routes:
    """The routes of one snapshot, prepared once."""

    __slots__ = (
        *("_aliases_of", "_default_provider", "_for_all", "_led", "_models"),
        *("_named", "_providers", "_routes", "_rules"),
    )

    def __init__(
        self,
        models: Mapping[str, ModelSettings],
        providers: Mapping[str, ProviderSettings],
        default_provider: str | None,
    ) -> None:
        self._models = models
        self._providers = providers
        self._routes = {alias: self._route(alias, model) for alias, model in models.items() if model.deployments}
        self._for_all = frozenset(
            alias for alias, each in models.items() if each.tenants is None and each.plans is None
        )
        self._rules = {alias: prepared(model) for alias, model in models.items() if not model.deployments}
        self._led: dict[tuple[str, str], Route] = {}
        self._named: dict[str, Route] = {}  # by names that callers made, all of them the default provider's
        self._default_provider = default_provider
        # What the default provider itself calls it, and the aliases that stand for that.
        self._aliases_of: dict[str, list[tuple[str, Candidate]]] = {}
        for alias, route in self._routes.items():
            for candidate in route.candidates:
                provider, name = candidate.deployment
                if provider == default_provider and name is not None:
                    self._aliases_of.setdefault(name, []).append((alias, candidate))

    def is_routed(self, alias: str) -> bool:
        """True where the configuration names this alias."""
        return alias in self._models

    def visible_to(self, caller: Caller, plan: str) -> list[str]:
        """The aliases that this caller may use, in order of the configuration."""
        return [alias for alias in self._models if self._may_use(caller, plan, alias)]

    def resolve(
        self,
        caller: Caller,
        plan: str,
        alias: str | None,
        *,
        model_required: bool,
        switched: Mapping[str, str],
        asked: Callable[[], Asked],
    ) -> Route:
        """Where this call may go. A name that only the default provider knows goes there; where an alias
        stands for the same model, its tenants and its limits hold, so that no other name is a way around them.

        `switched` are aliases that were switched to others at run time; `asked` says what rules decide on.

        Raises:
            ModelNotFound: nobody routes the alias, or not for this caller.
            MissingParameter: the endpoint needs a model and the call names none.
            EndpointNotAllowed: the virtual key is bound to models, and the call names none.
            UnknownUrl: no model is named, and there is no default provider.
        """
        if alias is None:
            return self._without_model(caller, model_required)
        if caller.allowed_models is not None and alias not in caller.allowed_models:
            raise _not_found(alias)
        model = self._models.get(alias)
        if model is None:
            return self._named.get(alias) or self._unrouted(caller, plan, alias)
        if alias not in self._for_all and not self._is_for(caller, plan, alias):
            raise _not_found(alias)
        route = self._routes.get(alias)
        if route is None or model.switched_to is not None or alias in switched:
            return self._follow(caller, plan, alias, switched, asked)
        return route

    def _follow(
        self, caller: Caller, plan: str, alias: str, switched: Mapping[str, str], asked: Callable[[], Asked]
    ) -> Route:
        """Through switches and rules to a model with deployments. Both are checked to come to an end."""
        models, at, led = self._models, alias, ""
        for _ in range(len(models) + 1):
            model = models[at]
            to = switched.get(at) or model.switched_to
            if to is not None:
                step = f"{at}.switched"
                if not self._may_be_led(caller, plan, to):
                    raise _not_found(alias)
            elif model.deployments:
                return self._led_to(at, led)
            else:
                rule = first_that_holds(self._rules[at], partial(self._may_be_led, caller, plan), asked())
                if rule is None:
                    raise _not_found(alias)
                to, step = rule.use, rule.step
            at, led = to, f"{led}>{step}" if led else step
        raise _not_found(alias)  # switches of the store and of the file can make a circle together

    def _led_to(self, alias: str, rule: str) -> Route:
        """The alias's route, with what led there. There are as many as the configuration has ways."""
        route = self._led.get((alias, rule))
        if route is None:
            route = self._led[alias, rule] = self._routes[alias]._replace(rule=rule)
        return route

    def _unrouted(self, caller: Caller, plan: str, alias: str) -> Route:
        if self._default_provider is None:
            raise _not_found(alias)
        known = self._aliases_of.get(alias)
        if known is None:
            if len(self._named) >= NAMED_MAX:
                self._named.clear()
            route = self._named[alias] = Route(alias, (self._of_default(alias),), is_written=False)
            return route
        for standing, candidate in known:
            if self._is_for(caller, plan, standing):
                is_for_all = candidate.tenants is None and candidate.plans is None
                is_open = is_for_all and not candidate.drained
                of_tier_same = (candidate._replace(tier=Tier.SAME),)
                return Route(standing, of_tier_same, is_written=False, is_open=is_open, is_for_all=is_for_all)
        raise _not_found(alias)

    def _route(self, alias: str, model: ModelSettings) -> Route:
        candidates = tuple(self._candidate(deployment) for deployment in model.deployments)
        is_for_all = all(each.tenants is None and each.plans is None for each in candidates)
        is_open = is_for_all and all(each.tier is Tier.SAME and not each.drained for each in candidates)
        return Route(alias, candidates, True, model.strategy, model.sticky, is_open, is_for_all)

    def _candidate(self, settings: DeploymentSettings) -> Candidate:
        deployment = Deployment(settings.provider, settings.model)
        provider = self._providers[settings.provider]
        return Candidate(
            deployment,
            deployment.label,
            settings.tier,
            settings.weight,
            provider.region,
            provider.retention is Retention.ZERO,
            settings.tenants,
            settings.plans,
            settings.drained,
            settings.in_flight_max,
            settings.capabilities is not None,
        )

    def _of_default(self, model: str | None) -> Candidate:
        assert self._default_provider is not None
        provider = self._providers[self._default_provider]
        keeps_nothing = provider.retention is Retention.ZERO
        deployment = Deployment(self._default_provider, model)
        return Candidate(deployment, provider.name, region=provider.region, keeps_nothing=keeps_nothing)

    def _may_use(self, caller: Caller, plan: str, alias: str) -> bool:
        if caller.allowed_models is not None and alias not in caller.allowed_models:
            return False
        return self._is_for(caller, plan, alias)

    def _may_be_led(self, caller: Caller, plan: str, alias: str) -> bool:
        return alias in self._for_all or (alias in self._models and self._is_for(caller, plan, alias))

    def _is_for(self, caller: Caller, plan: str, alias: str) -> bool:
        model = self._models.get(alias)
        if model is None:
            return True
        return (model.tenants is None or caller.tenant_id in model.tenants) and (
            model.plans is None or plan in model.plans
        )

    def _without_model(self, caller: Caller, model_required: bool) -> Route:
        if model_required:
            raise MissingParameter("You must name a `model`. GET /v1/models lists yours.", param="model")
        if caller.allowed_models is not None:
            raise EndpointNotAllowed(
                "This key may only make calls that name one of its models, and this call names none. "
                "Name one, or use a key that is not bound to models."
            )
        if self._default_provider is None:
            raise UnknownUrl(
                "No route has this path: it names no model, and no default provider is configured. "
                "Check it against the base URL, or have `auth.default_provider` set."
            )
        return Route(None, (self._of_default(None),), is_written=False)


def _not_found(alias: str) -> ModelNotFound:
    shown = alias if len(alias) <= 128 else alias[:125] + "…"
    message = f"The model `{shown}` does not exist or you do not have access to it. GET /v1/models lists yours."
    return ModelNotFound(message, param="model")
