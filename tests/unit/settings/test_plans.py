"""Plans, prices and amounts: what is written becomes whole numbers, exactly."""

from pathlib import Path

import pytest

from proxy.core.limits import NO_LIMITS, ScopeLimits
from proxy.settings.load import load
from proxy.settings.model import PlanSettings
from proxy.settings.plans import user_limits
from proxy.settings.problem import SettingsError
from proxy.settings.routing import DeploymentSettings, PriceSettings

USD = 1_000_000_000


def settings_of(text):
    return load(text, path="t.toml", environ={}, read_file=Path.read_text)


def only_problem(text):
    with pytest.raises(SettingsError) as caught:
        settings_of(text)
    (problem,) = caught.value.problems
    return problem


def test_the_default_plan_is_there_whoever_wrote_it():
    assert settings_of("").plans == {"default": PlanSettings("default")}
    plans = settings_of("[plans.pro]\nsoft_cap_pct = 50\n").plans
    assert plans == {"default": PlanSettings("default"), "pro": PlanSettings("pro", soft_cap_pct=50)}
    assert settings_of("[plans.default]\nsoft_cap_pct = 50\n").plans["default"].soft_cap_pct == 50


def test_every_scope_takes_every_limit():
    lines = """
        requests_per_minute = 1
        tokens_per_minute = 2
        burst = 3
        max_concurrency = 4
        usd_per_call = 0.05
        usd_per_hour = 6
        usd_per_24h = 7.5
        usd_per_day = 8.000000001
        usd_per_month = 9e1
        usd_total = 1_0.0
    """
    expected = ScopeLimits(1, 2, 3, 4, 50_000_000, 6 * USD, 7_500_000_000, 8_000_000_001, 90 * USD, 10 * USD)
    scopes = ("tenant", "user", "virtual_key", "features.report", 'models."gpt-5.1"')
    text = "".join(f"[plans.default.{scope}]\n{lines}\n" for scope in scopes)
    plan = settings_of("[plans.default]\ninput_bytes_max = 2_000_000\n" + text).plans["default"]
    assert plan.input_bytes_max == 2_000_000
    assert (plan.tenant, plan.user, plan.virtual_key) == (expected, expected, expected)
    assert plan.features == {"report": expected}
    assert plan.models == {"gpt-5.1": expected}


def test_a_burst_that_is_not_written_is_a_minutes_worth():
    assert settings_of("[plans.default.user]\nrequests_per_minute = 60\n").plans["default"].user.burst == 60


# ── amounts ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "expected_nusd"),
    [
        ("0", 0),
        ("0.0", 0),
        ("5", 5 * USD),
        ("5.00", 5 * USD),
        ("0.1", 100_000_000),
        ("0.000_000_001", 1),
        ("4_000_000", 4_000_000 * USD),
        ("3999999.999999999", 3_999_999_999_999_999),  # no float holds it
        ("1.50000000000000000000000000000000000", 1_500_000_000),
    ],
)
def test_an_amount_is_taken_exactly(written, expected_nusd):
    assert settings_of(f"[plans.default.tenant]\nusd_per_day = {written}\n").plans["default"].tenant.per_day_nusd == (
        expected_nusd
    )


@pytest.mark.parametrize(
    "written",
    [
        *("-1", "-0.01", "nan", "-nan", "inf", "-inf", "+inf", "0.0000000001", "1e-999999", "1e999999"),
        *("1e-99999999999999999999", "1e99999999999999999999", "4_000_000.000000001", "4_000_001", "0xffffffffffffff"),
        *('"5"', '"five"', "true", "[5]", "{}", "2026-11-01", '""'),
    ],
)
def test_what_is_no_amount_is_refused_with_its_path(written):
    problem = only_problem(f"[plans.default.features.report]\nusd_per_day = {written}\n")
    assert problem.path == "plans.default.features.report.usd_per_day"
    assert problem.expected == "dollars from 0 to 4000000, with at most 9 decimals"


@pytest.mark.parametrize(
    ("name", "maximum"),
    [
        ("requests_per_minute", 60_000_000),
        ("tokens_per_minute", 10**12),
        ("burst", 60_000_000),
        ("max_concurrency", 1_000_000),
    ],
)
def test_a_limit_is_a_whole_number_from_1(name, maximum):
    assert (
        getattr(settings_of(f"[plans.default.tenant]\n{name} = {maximum}\n").plans["default"].tenant, name) == maximum
    )
    for wrong in (0, -1, maximum + 1, 1.0, "true", '"1"'):
        assert only_problem(f"[plans.default.tenant]\n{name} = {wrong}\n").path == f"plans.default.tenant.{name}"


# ── a user's share ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tenant", "user", "expected"),
    [
        (NO_LIMITS, NO_LIMITS, NO_LIMITS),
        (ScopeLimits(per_day_nusd=5 * USD), NO_LIMITS, ScopeLimits(per_day_nusd=1 * USD)),
        (ScopeLimits(per_day_nusd=5 * USD), ScopeLimits(per_day_nusd=5 * USD), ScopeLimits(per_day_nusd=5 * USD)),
        (ScopeLimits(per_day_nusd=5 * USD), ScopeLimits(per_day_nusd=0), ScopeLimits(per_day_nusd=0)),
        # each window for itself
        (
            ScopeLimits(per_hour_nusd=10, per_24h_nusd=20, per_day_nusd=30, per_month_nusd=40, total_nusd=50),
            ScopeLimits(per_day_nusd=29),
            ScopeLimits(per_hour_nusd=2, per_24h_nusd=4, per_day_nusd=29, per_month_nusd=8, total_nusd=10),
        ),
        (ScopeLimits(total_nusd=9), NO_LIMITS, ScopeLimits(total_nusd=1)),  # rounded down
        # a call is no window to share, and a rate is no cap
        (ScopeLimits(requests_per_minute=100, max_concurrency=100, per_call_nusd=5 * USD), NO_LIMITS, NO_LIMITS),
    ],
)
def test_a_user_has_a_fifth_of_its_tenants_caps(tenant, user, expected):
    assert user_limits(tenant, user) == expected


def test_the_share_is_prepared_at_load():
    plan = settings_of("[plans.default.tenant]\nusd_per_day = 5.00\nusd_per_month = 50\n").plans["default"]
    assert plan.user == ScopeLimits(per_day_nusd=1 * USD, per_month_nusd=10 * USD)


# ── what the operator says of a model ────────────────────────────────────────────────────

MODEL = """
[providers.vllm]
base_url = "https://x.example"
[[models.m.deployments]]
provider = "vllm"
model = "llama-4"
"""


def test_a_model_that_no_catalogue_knows_says_its_own_numbers():
    text = MODEL + (
        "price = { input_usd_per_mtok = 0.10, output_usd_per_mtok = 0.30, cached_input_usd_per_mtok = 0.0125, "
        "cache_write_usd_per_mtok = 1 }\n"
        'context_tokens = 128_000\nmax_output_tokens = 16_384\ncapabilities = ["tools", "vision", "tools"]\n'
        "audio_seconds_max = 1_500\n"
    )
    (deployment,) = settings_of(text).models["m"].deployments
    assert deployment == DeploymentSettings(
        "vllm",
        "llama-4",
        PriceSettings(100_000_000, 300_000_000, 12_500_000, USD),
        128_000,
        16_384,
        frozenset({"tools", "vision"}),
        1_500,
    )


def test_what_it_does_not_say_is_the_catalogues():
    assert settings_of(MODEL).models["m"].deployments == (DeploymentSettings("vllm", "llama-4"),)
    text = MODEL + "price = { input_usd_per_mtok = 0, output_usd_per_mtok = 10_000 }\n"
    assert settings_of(text).models["m"].deployments[0].price == PriceSettings(0, 10_000 * USD)


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        ("price = { input_usd_per_mtok = 1 }", "price.output_usd_per_mtok", "dollars from 0 to 10000"),
        ("price = { output_usd_per_mtok = 1 }", "price.input_usd_per_mtok", "dollars from 0 to 10000"),
        ("price = { input_usd_per_mtok = -1, output_usd_per_mtok = 1 }", "price.input_usd_per_mtok", "dollars"),
        ("price = { input_usd_per_mtok = 1, output_usd_per_mtok = 10_000.01 }", "price.output_usd_per_mtok", "dollars"),
        ("price = { input_usd_per_mtok = 1, output_usd_per_mtok = 1, image_usd = 1 }", "price.image_usd", "one of"),
        ("price = 5", "price", "a table"),
        ("context_tokens = 0", "context_tokens", "a whole number from 1"),
        ("audio_seconds_max = 0", "audio_seconds_max", "a whole number from 1"),
        ("max_output_tokens = 1.5", "max_output_tokens", "a whole number from 1"),
        (
            "context_tokens = 10\nmax_output_tokens = 11",
            "max_output_tokens",
            "at most models.m.deployments[0].context_",
        ),
        ('capabilities = ["tool"]', "capabilities[0]", "one of audio"),
        ('capabilities = "tools"', "capabilities", "a list of texts"),
    ],
)
def test_a_number_that_cannot_be_is_refused(line, path, expected):
    problem = only_problem(MODEL + line + "\n")
    assert problem.path == f"models.m.deployments[0].{path}"
    assert problem.expected.startswith(expected)
