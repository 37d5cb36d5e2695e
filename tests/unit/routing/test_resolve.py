"""Where a call may go, and what does not exist for whom."""

import pytest

from proxy.core.errors import EndpointNotAllowed, MissingParameter, ModelNotFound, UnknownUrl
from proxy.core.types import Caller, Deployment
from proxy.routing.resolve import NAMED_MAX, Routes
from proxy.routing.rules import Asked
from proxy.settings.model import ProviderSettings
from proxy.settings.routing import DeploymentSettings, ModelSettings, RuleSettings, When

MODELS = {
    "open": ModelSettings("open", (DeploymentSettings("p", "m-1"), DeploymentSettings("q", "m-2"))),
    "acmes": ModelSettings("acmes", (DeploymentSettings("p", "m-3"),), tenants=frozenset({"acme"})),
}
PROVIDERS = {name: ProviderSettings(name, f"https://{name}.example") for name in "pqd"}
ANY = Caller("other")
ACME = Caller("acme")
BOUND = Caller("acme", allowed_models=frozenset({"open", "elsewhere"}))


def resolve(caller, alias, default_provider=None, *, models=MODELS, plan="default", required=True, **rules):
    routes = Routes(models, PROVIDERS, default_provider)
    switched, asked = rules.get("switched", {}), rules.get("asked", Asked())
    return routes.resolve(caller, plan, alias, model_required=required, switched=switched, asked=lambda: asked)


def deployments_of(route):
    return tuple(candidate.deployment for candidate in route.candidates)


def test_a_route_keeps_the_operators_order():
    assert deployments_of(resolve(ANY, "open")) == (Deployment("p", "m-1"), Deployment("q", "m-2"))


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
    assert deployments_of(resolve(caller, alias, default_provider, required=False))[0] == expected


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
        resolve(caller, alias, default_provider, required=required)


def test_a_foreign_model_and_an_unknown_one_are_refused_in_the_same_words():
    with pytest.raises(ModelNotFound) as foreign:
        resolve(ANY, "acmes")
    with pytest.raises(ModelNotFound) as unknown:
        resolve(ANY, "nobody")
    assert foreign.value.message.replace("acmes", "X") == unknown.value.message.replace("nobody", "X")


@pytest.mark.parametrize(
    ("caller", "name", "alias"),
    [(ANY, "m-1", "open"), (ACME, "m-3", "acmes"), (BOUND, "elsewhere", "elsewhere"), (ANY, "m-2", "m-2")],
)
def test_the_provider_s_own_name_counts_as_the_alias_that_stands_for_it(caller, name, alias):
    route = resolve(caller, name, "p")
    assert (route.alias, deployments_of(route)) == (alias, (Deployment("p", name),))


def test_the_provider_s_own_name_is_no_way_around_an_alias_of_other_tenants():
    with pytest.raises(ModelNotFound):
        resolve(ANY, "m-3", "p")


@pytest.mark.parametrize(("caller", "visible"), [(ANY, ["open"]), (ACME, ["open", "acmes"]), (BOUND, ["open"])])
def test_lists_what_the_caller_may_use(caller, visible):
    assert Routes(MODELS, PROVIDERS, "d").visible_to(caller, "default") == visible


# ── rules and switches ───────────────────────────────────────────────────────────────────


def model(alias, *rules, default=None, **said):
    deployments = () if default else (DeploymentSettings("p", alias),)
    return ModelSettings(alias, deployments, rules=tuple(rules), default=default, **said)


RULED = {
    each.alias: each
    for each in (
        model("small"),
        model("big"),
        model("acmes", tenants=frozenset({"acme"})),
        model("pros", plans=frozenset({"pro"})),
        model(
            "auto",
            RuleSettings("acmes", When(feature=frozenset({"report"}))),
            RuleSettings("big", When(input_tokens_min=1_000), "long"),
            RuleSettings("nested", When(tools=True)),
            default="small",
        ),
        model("nested", default="big"),
        model("gone", switched_to="small"),
        model("lost", switched_to="acmes"),
    )
}


@pytest.mark.parametrize(
    ("caller", "alias", "asked", "switched", "expected", "rule"),
    [
        (ANY, "auto", Asked(), {}, "small", "auto.default"),
        (ANY, "auto", Asked(input_tokens=1_000), {}, "big", "auto.long"),
        (ACME, "auto", Asked(input_tokens=1_000, feature="report"), {}, "acmes", "auto.rules[0]"),
        (ANY, "auto", Asked(input_tokens=1_000, feature="report"), {}, "big", "auto.long"),  # the first is not for it
        (ANY, "auto", Asked(tools=True), {}, "big", "auto.rules[2]>nested.default"),
        (ANY, "gone", Asked(), {}, "small", "gone.switched"),
        (ANY, "big", Asked(), {"big": "small"}, "small", "big.switched"),
        (ANY, "auto", Asked(input_tokens=1_000), {"big": "small"}, "small", "auto.long>big.switched"),
        (ANY, "gone", Asked(), {"gone": "big"}, "big", "gone.switched"),  # what was said last
        (ANY, "auto", Asked(), {"auto": "big"}, "big", "auto.switched"),
        (ANY, "big", Asked(), {}, "big", None),
    ],
)
def test_rules_and_switches_lead_to_a_model(caller, alias, asked, switched, expected, rule):
    route = resolve(caller, alias, models=RULED, asked=asked, switched=switched)
    assert (route.alias, route.rule) == (expected, rule)


@pytest.mark.parametrize(
    ("alias", "switched"),
    [("lost", {}), ("big", {"big": "acmes"}), ("big", {"big": "small", "small": "big"}), ("big", {"big": "unknown"})],
)
def test_what_leads_nowhere_for_this_caller_is_not_found(alias, switched):
    with pytest.raises(ModelNotFound):
        resolve(ANY, alias, models=RULED, switched=switched)


def test_a_switch_of_a_name_that_has_left_the_file_decides_nothing():
    with pytest.raises(ModelNotFound):
        resolve(ANY, "left", models=RULED, switched={"left": "big"})
    assert resolve(ANY, "left", "d", models=RULED, switched={"left": "big"}).is_written is False


@pytest.mark.parametrize(("plan", "exists"), [("pro", True), ("default", False)])
def test_a_model_of_a_plan(plan, exists):
    assert ("pros" in Routes(RULED, PROVIDERS, None).visible_to(ANY, plan)) is exists
    if exists:
        assert resolve(ANY, "pros", models=RULED, plan=plan).alias == "pros"
    else:
        with pytest.raises(ModelNotFound):
            resolve(ANY, "pros", models=RULED, plan=plan)


def test_a_deployment_that_is_kept_for_somebody_is_so_under_the_provider_s_own_name_too():
    kept = DeploymentSettings("p", "m", tenants=frozenset({"acme"}), drained=True)
    route = resolve(ANY, "m", "p", models={"alias": ModelSettings("alias", (kept,))})
    (candidate,) = route.candidates
    assert (candidate.tenants, candidate.drained, route.is_open) == ({"acme"}, True, False)


def test_names_that_callers_make_are_remembered_up_to_a_bound_and_for_whom_they_are_allowed():
    routes = Routes(MODELS, PROVIDERS, "d")

    def named(caller, alias):
        return routes.resolve(caller, "default", alias, model_required=True, switched={}, asked=Asked)

    first = named(Caller("acme"), "made-up")
    assert named(Caller("acme"), "made-up") is first
    with pytest.raises(ModelNotFound):
        named(Caller("acme", allowed_models=frozenset({"other"})), "made-up")
    for number in range(2 * NAMED_MAX):
        assert deployments_of(named(Caller("acme"), f"made-up-{number}")) == (Deployment("d", f"made-up-{number}"),)
    assert len(routes._named) <= NAMED_MAX
