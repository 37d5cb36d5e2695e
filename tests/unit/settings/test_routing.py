"""Models that stand for others, and deployments that are chosen: what no call could come through is refused at load."""

from pathlib import Path

import pytest

from proxy.core.consent import Consent, Tier
from proxy.settings.load import load
from proxy.settings.problem import SettingsError
from proxy.settings.routing import DeploymentSettings, Retention, RuleSettings, Sticky, Strategy, When
from proxy.settings.routing_checks import CHAIN_MAX, covers

PROVIDERS = """
[providers.openai]
base_url = "https://api.openai.com/v1"
[providers.azure]
base_url = "https://azure.example/v1"
region = "eu"
retention = "zero"
[plans.pro]
queue_weight = 4
"""
FIRST = '{ provider = "openai", model = "x" }'
MINI = f"[models.mini]\ndeployments = [{FIRST}]\n"
BIG = f"[models.big]\ndeployments = [{FIRST}]\n"


def placed(**places):
    """A model under aliases of which each says how many places it has; None: it says nothing."""
    said = {alias: "" if number is None else f", in_flight_max = {number}" for alias, number in places.items()}
    return "".join(
        f"[models.{alias}]\ndeployments = [{FIRST.replace(' }', number + ' }')}]\n" for alias, number in said.items()
    )


def load_text(text):
    def read_file(path: Path) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    return load(PROVIDERS + text, path="/etc/tollway/t.toml", environ={}, read_file=read_file)


def problems_of(text):
    with pytest.raises(SettingsError) as caught:
        load_text(text)
    return caught.value.problems


def ruled(*rules, default="mini"):
    return MINI + BIG + f'[models.auto]\ndefault = "{default}"\nrules = [{", ".join(rules)}]\n'


def test_a_model_says_how_one_of_its_deployments_is_chosen():
    settings = load_text(
        '[models.m]\nstrategy = "weighted"\nplans = ["pro"]\ndeployments = [\n'
        '  { provider = "openai", model = "x", weight = 9 },\n'
        '  { provider = "azure", model = "x", weight = 1, tier = "equivalent", plans = ["pro"], tenants = ["acme"], '
        "in_flight_max = 32, drained = true },\n]\n"
    )
    model = settings.models["m"]
    assert (model.strategy, model.sticky, model.plans) == (Strategy.WEIGHTED, Sticky.USER, {"pro"})
    assert model.deployments == (
        DeploymentSettings("openai", "x", weight=9),
        DeploymentSettings(
            "azure",
            "x",
            weight=1,
            tier=Tier.EQUIVALENT,
            plans=frozenset({"pro"}),
            tenants=frozenset({"acme"}),
            in_flight_max=32,
            drained=True,
        ),
    )
    assert settings.providers["azure"].region == "eu"
    assert settings.providers["azure"].retention is Retention.ZERO
    assert settings.plans["pro"].queue_weight == 4


def test_a_model_of_rules():
    settings = load_text(
        ruled(
            '{ name = "long", use = "big", when = { input_tokens_min = 20_000 } }',
            '{ use = "big", when = { feature = "sql", plan = ["pro"], images = true, tools = false } }',
            '{ use = "big", when = { cap_used_pct_min = 80, code_blocks_min = 2, tier = ["fast", "cheap"] } }',
        )
    )
    auto = settings.models["auto"]
    assert auto.deployments == ()
    assert auto.default == "mini"
    assert auto.rules == (
        RuleSettings("big", When(input_tokens_min=20_000), "long"),
        RuleSettings("big", When(feature=frozenset({"sql"}), plan=frozenset({"pro"}), images=True, tools=False)),
        RuleSettings("big", When(cap_used_pct_min=80, code_blocks_min=2, tier=frozenset({"fast", "cheap"}))),
    )


def test_a_tenant_says_who_may_serve_it():
    tenant = load_text('[tenants.acme]\nfallback = "lower"\nresidency = ["eu"]\nzero_retention = true\n').tenants[
        "acme"
    ]
    assert (tenant.fallback, tenant.residency, tenant.zero_retention) == (Consent.LOWER, {"eu"}, True)


def test_what_the_operator_absorbs_is_an_exact_amount():
    assert load_text("[fallback]\nabsorb_usd_per_day = 12.345678901\n").fallback.absorb_nusd_per_day == 12_345_678_901
    assert load_text("").fallback.absorb_nusd_per_day is None


REFUSED = [
    # what is written, where the problem is, a part of what is said
    ('[models.m]\ndeployments = [{ provider = "opnai", model = "x" }]\n', "models.m.deployments[0].provider", "openai"),
    (ruled('{ use = "bgi" }'), "models.auto.rules[0].use", '"big"'),
    (ruled(default="none"), "models.auto.default", "a model that stands under [models]"),
    (MINI + '[models.auto]\nrules = [{ use = "mini" }]\n', "models.auto.default", "where no rule holds"),
    (MINI + f'[models.auto]\ndefault = "mini"\ndeployments = [{FIRST}]\n', "models.auto.deployments", "has rules"),
    ("[models.m]\n", "models.m.deployments", "at least one table"),
    (
        ruled('{ use = "big", when = { input_tokens_min = 9, input_tokens_max = 8 } }'),
        "models.auto.rules[0].when.input_tokens_min",
        "at most models.auto.rules[0].when.input_tokens_max (8)",
    ),
    (ruled('{ use = "big", when = { feature = [] } }'), "models.auto.rules[0].when.feature", "at least one name"),
    (ruled('{ use = "big", when = { plan = "prp" } }'), "models.auto.rules[0].when.plan", '"pro"'),
    (
        ruled('{ use = "big", when = { cap_used_pct_min = 0 } }'),
        "models.auto.rules[0].when.cap_used_pct_min",
        "1 to 100",
    ),
    (ruled('{ use = "big", when = { tokens = 5 } }'), "models.auto.rules[0].when.tokens", "an unknown name"),
    (ruled('{ use = "big", name = "a b" }'), "models.auto.rules[0].name", "a rule's name"),
    (ruled('{ use = "big" }', '{ use = "mini", when = { tools = true } }'), "models.auto.rules[1]", "takes first"),
    (
        ruled(
            '{ use = "big", when = { input_tokens_min = 1000 } }',
            '{ use = "mini", when = { input_tokens_min = 2000, tools = true } }',
        ),
        "models.auto.rules[1]",
        "models.auto.rules[0] takes first",
    ),
    (
        MINI + '[models.a]\ndefault = "b"\n[models.b]\ndefault = "a"\n',
        "models.a",
        "a circle: a → b → a",
    ),
    ('[models.a]\ndefault = "a"\n', "models.a", "a circle: a → a"),
    (MINI + '[models.b]\nswitched_to = "b"\ndefault = "mini"\n', "models.b.switched_to", "itself"),
    (
        '[models.m]\nstrategy = "weighted"\ndeployments = [{ provider = "openai", model = "x", weight = 0 }]\n',
        "models.m.deployments",
        "a sum of 0",
    ),
    (
        '[models.m]\nstrategy = "weighted"\ndeployments = [{ provider = "openai", model = "x", weight = -1 }]\n',
        "models.m.deployments[0].weight",
        "0 to 1000000",
    ),
    (
        '[models.m]\ndeployments = [{ provider = "openai", model = "x", tier = "lower" }]\n',
        "models.m.deployments",
        "could never be served",
    ),
    (
        '[models.m]\ndeployments = [{ provider = "openai", model = "x", tier = "lowest" }]\n',
        "models.m.deployments[0].tier",
        "one of same, equivalent, lower",
    ),
    (f"[models.m]\ndeployments = [{FIRST}, {FIRST}]\n", "models.m.deployments[1]", "the same provider and model"),
    (
        placed(m=8, n=16),
        "models.n.deployments[0].in_flight_max",
        "the same as at models.m.deployments[0] (8); found 16",
    ),
    (
        placed(m=8, n=None),
        "models.n.deployments[0].in_flight_max",
        "the same as at models.m.deployments[0] (8); found none",
    ),
    (
        placed(m=None, n=8),
        "models.n.deployments[0].in_flight_max",
        "the same as at models.m.deployments[0] (none); found 8",
    ),
    ('[models.m]\nstrategy = "random"\ndeployments = [' + FIRST + "]\n", "models.m.strategy", "priority"),
    (f'[models.m]\nplans = ["prp"]\ndeployments = [{FIRST}]\n', "models.m.plans[0]", '"pro"'),
    ('[tenants.acme]\nfallback = "all"\n', "tenants.acme.fallback", "one of none, equivalent, lower"),
    ('[tenants.acme]\nresidency = ["EU"]\n', "tenants.acme.residency[0]", "a region"),
    ("[fallback]\nabsorb_usd_per_day = -1\n", "fallback.absorb_usd_per_day", "dollars from 0"),
]


@pytest.mark.parametrize("places", [8, None])
def test_aliases_that_say_the_same_of_a_deployments_places_are_taken(places):
    models = load_text(placed(m=places, n=places)).models
    assert [models[alias].deployments[0].in_flight_max for alias in "mn"] == [places] * 2


@pytest.mark.parametrize(("text", "where", "said"), REFUSED)
def test_what_no_call_could_come_through_is_refused(text, where, said):
    (problem,) = problems_of(text)
    assert problem.path == where
    assert said in str(problem)


def test_a_chain_of_aliases_is_bounded():
    chain = "".join(f'[models.m{n}]\ndefault = "m{n + 1}"\n' for n in range(CHAIN_MAX + 1))
    (problem,) = problems_of(chain + f"[models.m{CHAIN_MAX + 1}]\ndeployments = [{FIRST}]\n")
    assert problem.path == "models.m0"
    assert f"at most {CHAIN_MAX} models" in str(problem)


def test_one_that_is_switched_to_another_keeps_its_deployments():
    models = load_text(BIG + f'[models.mini]\nswitched_to = "big"\ndeployments = [{FIRST}]\n').models
    assert models["mini"].switched_to == "big"
    assert len(models["mini"].deployments) == 1


UNWISE = [
    (f"[models.m]\nplans = []\ndeployments = [{FIRST}]\n", "models.m.plans is empty"),
    (
        '[models.m]\ndeployments = [{ provider = "openai", model = "x", drained = true }]\n',
        "all deployments are drained",
    ),
    ('[models.m]\ndeployments = [{ provider = "openai", model = "x", weight = 3 }]\n', "a weight does nothing"),
    (f'[models.m]\nsticky = "user"\ndeployments = [{FIRST}]\n', "models.m.sticky does nothing"),
    ('[tenants.acme]\nresidency = ["us"]\n', "tenants.acme.residency names no region of any provider"),
]


@pytest.mark.parametrize(("text", "said"), UNWISE)
def test_what_is_unwise_is_told(text, said):
    assert any(said in warning for warning in load_text(text).warnings)


COVERS = [
    # what holds for more calls, what holds for fewer, whether each call of the second is one of the first
    (When(), When(), True),
    (When(), When(tools=True), True),
    (When(tools=True), When(), False),
    (When(tools=True), When(tools=False), False),
    (When(input_tokens_min=10), When(input_tokens_min=10), True),
    (When(input_tokens_min=10), When(input_tokens_min=9), False),
    (When(input_tokens_max=10), When(input_tokens_max=9), True),
    (When(input_tokens_max=10), When(input_tokens_max=11), False),
    (When(feature=frozenset("ab")), When(feature=frozenset("a")), True),
    (When(feature=frozenset("a")), When(feature=frozenset("ab")), False),
    (When(cap_used_pct_min=80), When(cap_used_pct_min=90, plan=frozenset({"pro"})), True),
    (When(tier=frozenset({"fast"})), When(cap_used_pct_min=90), False),
]


@pytest.mark.parametrize(("wide", "narrow", "expected"), COVERS)
def test_covers(wide, narrow, expected):
    assert covers(wide, narrow) is expected
