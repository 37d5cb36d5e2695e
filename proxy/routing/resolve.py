"""From the name that a caller used to the places that may serve it.

Pure. A model that a caller may not use does not exist for it: the refusal is the same 404
as for a name that nobody routes, so that names of other tenants' models cannot be guessed.
"""

from collections.abc import Mapping
from typing import NamedTuple

from proxy.core.errors import EndpointNotAllowed, MissingParameter, ModelNotFound, UnknownUrl
from proxy.core.types import Caller, Deployment
from proxy.settings.routing import ModelSettings


class Route(NamedTuple):
    """The alias whose limits and caps hold, and its deployments, in order of preference."""

    alias: str | None
    deployments: tuple[Deployment, ...]
    is_written: bool = True  # False: the default provider's own name for a model, or no model at all


class Routes:
    """The routes of one snapshot, prepared once."""

    __slots__ = ("_aliases_of", "_default_provider", "_routes", "_tenants")

    def __init__(self, models: Mapping[str, ModelSettings], default_provider: str | None) -> None:
        self._routes = {
            alias: Route(alias, tuple(Deployment(d.provider, d.model) for d in model.deployments))
            for alias, model in models.items()
        }
        self._tenants = {alias: model.tenants for alias, model in models.items() if model.tenants is not None}
        self._default_provider = default_provider
        self._aliases_of: dict[str, list[str]] = {}  # what the default provider itself calls it
        for alias, route in self._routes.items():
            for deployment in route.deployments:
                if deployment.provider == default_provider and deployment.model is not None:
                    self._aliases_of.setdefault(deployment.model, []).append(alias)

    def is_routed(self, alias: str) -> bool:
        """True where the configuration names this alias."""
        return alias in self._routes

    def visible_to(self, caller: Caller) -> list[str]:
        """The aliases that this caller may use, in order of the configuration."""
        return [alias for alias in self._routes if self._may_use(caller, alias)]

    def resolve(self, caller: Caller, alias: str | None, *, model_required: bool) -> Route:
        """Where this call may go. A name that only the default provider knows goes there; where an alias
        stands for the same model, its tenants and its limits hold, so that no other name is a way around them.

        Raises:
            ModelNotFound: nobody routes the alias, or not for this caller.
            MissingParameter: the endpoint needs a model and the call names none.
            EndpointNotAllowed: the virtual key is bound to models, and the call names none.
            UnknownUrl: no model is named, and there is no default provider.
        """
        if alias is None:
            return self._without_model(caller, model_required)
        if not self._may_use(caller, alias):
            raise _not_found(alias)
        route = self._routes.get(alias)
        if route is not None:
            return route
        if self._default_provider is None:
            raise _not_found(alias)
        aliases = self._aliases_of.get(alias)
        standing = alias if aliases is None else next((name for name in aliases if self._is_for(caller, name)), None)
        if standing is None:
            raise _not_found(alias)
        return Route(standing, (Deployment(self._default_provider, alias),), is_written=False)

    def _may_use(self, caller: Caller, alias: str) -> bool:
        if caller.allowed_models is not None and alias not in caller.allowed_models:
            return False
        return self._is_for(caller, alias)

    def _is_for(self, caller: Caller, alias: str) -> bool:
        tenants = self._tenants.get(alias)
        return tenants is None or caller.tenant_id in tenants

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
        return Route(None, (Deployment(self._default_provider, None),), is_written=False)


def _not_found(alias: str) -> ModelNotFound:
    shown = alias if len(alias) <= 128 else alias[:125] + "…"
    message = f"The model `{shown}` does not exist or you do not have access to it. GET /v1/models lists yours."
    return ModelNotFound(message, param="model")
