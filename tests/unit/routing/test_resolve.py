"""Where a call may go, and what does not exist for whom."""

import pytest

from proxy.core.errors import EndpointNotAllowed, MissingParameter, ModelNotFound, UnknownUrl
from proxy.core.types import Caller, Deployment
from proxy.routing.resolve import Routes
from proxy.settings.routing import DeploymentSettings, ModelSettings

MODELS = {
    "open": ModelSettings("open", (DeploymentSettings("p", "m-1"), DeploymentSettings("q", "m-2"))),
    "acmes": ModelSettings("acmes", (DeploymentSettings("p", "m-3"),), tenants=frozenset({"acme"})),
}
ANY = Caller("other")
ACME = Caller("acme")
BOUND = Caller("acme", allowed_models=frozenset({"open", "elsewhere"}))


def test_a_route_keeps_the_operators_order():
    route = Routes(MODELS, None).resolve(ANY, "open", model_required=True)
    assert route.deployments == (Deployment("p", "m-1"), Deployment("q", "m-2"))


@pytest.mark.parametrize(
    ("caller", "alias", "default_provider", "expected"),
    [
        (ANY, "open", None, Deployment("p", "m-1")),
        (ACME, "acmes", None, Deployment("p", "m-3")),
        (BOUND, "open", "d", Deployment("p", "m-1")),
        (ANY, "elsewhere", "d", Deployment("d", "elsewhere")),
        (BOUND, "elsewhere", "d", Deployment("d", "elsewhere")),
        (ANY, None, "d", Deployment("d", None)),
    ],
)
def test_goes_to(caller, alias, default_provider, expected):
    route = Routes(MODELS, default_provider).resolve(caller, alias, model_required=False)
    assert route.deployments[0] == expected


@pytest.mark.parametrize(
    ("caller", "alias", "default_provider", "required", "error"),
    [
        (ANY, "elsewhere", None, True, ModelNotFound),
        (ANY, "acmes", None, True, ModelNotFound),
        (ANY, "acmes", "d", True, ModelNotFound),  # another tenant's model is not the default provider's either
        (BOUND, "acmes", "d", True, ModelNotFound),
        (BOUND, "third", "d", True, ModelNotFound),
        (ANY, None, "d", True, MissingParameter),
        (BOUND, None, "d", False, EndpointNotAllowed),
        (ANY, None, None, False, UnknownUrl),
    ],
)
def test_is_refused(caller, alias, default_provider, required, error):
    with pytest.raises(error):
        Routes(MODELS, default_provider).resolve(caller, alias, model_required=required)


def test_a_foreign_model_and_an_unknown_one_are_refused_in_the_same_words():
    routes = Routes(MODELS, None)
    with pytest.raises(ModelNotFound) as foreign:
        routes.resolve(ANY, "acmes", model_required=True)
    with pytest.raises(ModelNotFound) as unknown:
        routes.resolve(ANY, "nobody", model_required=True)
    assert foreign.value.message.replace("acmes", "X") == unknown.value.message.replace("nobody", "X")


@pytest.mark.parametrize(
    ("caller", "name", "alias"),
    [(ANY, "m-1", "open"), (ACME, "m-3", "acmes"), (BOUND, "elsewhere", "elsewhere"), (ANY, "m-2", "m-2")],
)
def test_the_provider_s_own_name_counts_as_the_alias_that_stands_for_it(caller, name, alias):
    route = Routes(MODELS, "p").resolve(caller, name, model_required=True)
    assert (route.alias, route.deployments) == (alias, (Deployment("p", name),))


def test_the_provider_s_own_name_is_no_way_around_an_alias_of_other_tenants():
    with pytest.raises(ModelNotFound):
        Routes(MODELS, "p").resolve(ANY, "m-3", model_required=True)


@pytest.mark.parametrize(("caller", "visible"), [(ANY, ["open"]), (ACME, ["open", "acmes"]), (BOUND, ["open"])])
def test_lists_what_the_caller_may_use(caller, visible):
    assert Routes(MODELS, "d").visible_to(caller) == visible
