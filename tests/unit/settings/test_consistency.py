"""What is legal but unwise is said; what is wise is not."""

from pathlib import Path

import pytest

from proxy.settings.load import load
from proxy.settings.problem import SettingsError
from proxy.settings.spending import advise_prices

PROVIDER = '[providers.p]\nbase_url = "https://x"\n'
PASSTHROUGH = '[auth]\nmode = "passthrough"\ndefault_provider = "p"\n'
CAPPED = "[plans.default.tenant]\nusd_per_day = 5.00\n"
FEATURE_CAPPED = "[plans.pro.features.report]\nusd_per_call = 1\n"
DEPLOYMENTS = 'deployments = [{ provider = "p", model = "x" }]\n'


def warnings_of(text):
    return load(text, path="t.toml", environ={"K": "sk-1"}, read_file=Path.read_text).warnings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROVIDER + 'provider_key = "env?:NONE"\n', "providers.p.provider_key is absent"),
        ('[auth]\nmode = "trusted-headers"\n' + PROVIDER + 'provider_key = "env?:NONE"\n', "provider_key is absent"),
        (
            PROVIDER + 'provider_key = "env?:NONE"\n[keyring]\nkek = "file:kek"\n',
            "providers.p.provider_key is absent: it serves only tenants with a stored key of their own. Else set it.",
        ),
        ("[auth]\nallow_keyless = true\n", "auth.allow_keyless does nothing"),
        ('[auth]\ntrusted_peers = ["10.0.0.0/8"]\n', "auth.trusted_peers does nothing"),
        ('[auth]\nmode = "trusted-headers"\ntrusted_peers = ["0.0.0.0/0"]\n', "everyone who can connect"),
        ('[auth]\nmode = "passthrough"\n', "auth.default_provider is not set"),
        ('[providers.p]\nbase_url = "http://x"\nallow_http = true\n', "plain http to x"),
        (PROVIDER + "allow_shared_state = true\n", "allow_shared_state lets every tenant"),
        (
            PROVIDER + "allow_shared_state = true\n[auth]\nknown_tenants_only = true\n[tenants.a]\n[tenants.b]\n",
            "allow_shared_state lets every tenant",
        ),
        (PROVIDER + "timeouts_s.total = 30\n", "timeouts_s.total (30) ends a call before"),
        (PROVIDER + "[models.m]\ntenants = []\n" + DEPLOYMENTS, "models.m.tenants is empty"),
        (PROVIDER + 'provider_key = "sk-1"\n', "stands in the file"),
        ("[plans.default.user]\nburst = 5\n", "plans.default.user.burst does nothing without requests_per_minute"),
        (
            "[plans.default.models.gpt]\nrequests_per_minute = 5\n",
            "plans.default.models.gpt limits a model that is not",
        ),
        (CAPPED + '[tenants.acme]\nstream_usage = "leave"\n', 'tenants.acme.stream_usage is "leave" under the caps'),
        (
            FEATURE_CAPPED + '[tenants.acme]\nplan = "pro"\nstream_usage = "leave"\n',
            'tenants.acme.stream_usage is "leave" under the caps of plans.pro',
        ),
        ('[tenants.acme]\nsoft_cap_webhook = "https://x"\n', "tenants.acme.soft_cap_webhook is never called"),
        (PASSTHROUGH + PROVIDER + CAPPED, "tenants.default.count_own_key is false: the caps of plans.default do not"),
        (
            PASSTHROUGH + 'default_tenant = "house"\n' + PROVIDER + FEATURE_CAPPED + '[tenants.house]\nplan = "pro"\n',
            "tenants.house.count_own_key is false: the caps of plans.pro do not",
        ),
    ],
)
def test_what_is_unwise_is_said_once(text, said):
    (warning,) = warnings_of(text)
    assert said in warning


@pytest.mark.parametrize(
    "text",
    [
        "",
        PROVIDER,  # no key is wanted: a model server next door
        PROVIDER + 'provider_key = "env:K"\n',
        PASSTHROUGH + PROVIDER + 'provider_key = "env?:NONE"\n',
        PASSTHROUGH + "allow_keyless = true\n" + PROVIDER,
        PASSTHROUGH + PROVIDER + "allow_shared_state = true\n",  # one tenant
        PROVIDER + "allow_shared_state = true\n[auth]\nknown_tenants_only = true\n[tenants.a]\n",
        '[providers.p]\nbase_url = "http://127.0.0.1"\n',
        '[providers.p]\ntransport = "simulated"\n',
        CAPPED,
        CAPPED + '[tenants.acme]\nsoft_cap_webhook = "https://x"\n',
        CAPPED + "[plans.free]\n[tenants.acme]\nplan = 'free'\nstream_usage = 'leave'\n",  # no cap holds for it
        "[plans.default.user]\nrequests_per_minute = 5\n",  # burst follows
        PASSTHROUGH + PROVIDER + "[plans.default.models.gpt]\nrequests_per_minute = 5\n",  # the default provider's
        PASSTHROUGH + PROVIDER + CAPPED + "[tenants.default]\ncount_own_key = true\n",
        PASSTHROUGH + PROVIDER + "[plans.default.tenant]\nrequests_per_minute = 5\n",  # no amount is capped
        PROVIDER + '[models.m]\ntenants = ["a"]\n' + DEPLOYMENTS,
        # who is not in the file may have been put at run time
        PROVIDER + '[auth]\nknown_tenants_only = true\n[models.m]\ntenants = ["a"]\n' + DEPLOYMENTS,
    ],
)
def test_what_is_wise_is_passed_over(text):
    assert warnings_of(text) == ()


# ── one model of one provider has one price ──────────────────────────────────────────────

PRICED = (
    'deployments = [{{ provider = "p", model = "{}", '
    "price = {{ input_usd_per_mtok = {}, output_usd_per_mtok = 2 }} }}]\n"
)


def problems_of(text):
    with pytest.raises(SettingsError) as refused:
        warnings_of(text)
    return [(problem.path, str(problem)) for problem in refused.value.problems]


def test_two_prices_of_one_model_are_refused():
    ((path, said),) = problems_of(
        PROVIDER + "[models.a]\n" + PRICED.format("x", 1) + "[models.b]\n" + PRICED.format("x", 9)
    )
    assert path == "models.b.deployments[0]"
    assert "as models.a.deployments[0], or none" in said
    assert "Both are p/x" in said


def test_a_price_that_is_wrong_in_itself_is_one_problem():
    text = PROVIDER + "[models.a]\n" + PRICED.format("x", 1) + "[models.b]\n" + PRICED.format("x", -9)
    ((path, _),) = problems_of(text)
    assert path == "models.b.deployments[0].price.input_usd_per_mtok"


@pytest.mark.parametrize(
    "other",
    [
        PRICED.format("x", 1),  # the same
        PRICED.format("y", 9),  # another model
        DEPLOYMENTS,  # says nothing, so the first one's holds
    ],
)
def test_one_price_may_stand_wherever_it_helps(other):
    assert warnings_of(PROVIDER + "[models.a]\n" + PRICED.format("x", 1) + "[models.b]\n" + other) == ()


# ── prices ───────────────────────────────────────────────────────────────────────────────

USD = 1_000_000_000
MODELS = PROVIDER + (
    "[models.m]\ndeployments = ["
    '{ provider = "p", model = "cheap" }, { provider = "p", model = "dear" }, { provider = "p", model = "unknown" }]\n'
    "[models.n]\n" + DEPLOYMENTS.replace('"x"', '"cheap"')
)
COSTS_NUSD = {"cheap": 1 * USD, "dear": 2_560_000_000}


def price_warnings_of(text):
    settings = load(text, path="t.toml", environ={}, read_file=Path.read_text)
    return list(advise_prices(settings, lambda deployment: COSTS_NUSD.get(deployment.model)))


def test_without_a_cap_no_price_is_needed():
    assert price_warnings_of(MODELS) == []
    assert price_warnings_of(MODELS + "[plans.default.tenant]\ntokens_per_minute = 5\n") == []


def test_a_model_without_a_price_is_named_once():
    text = MODELS + "[plans.default.tenant]\nusd_per_day = 100\n[plans.pro.user]\nusd_per_day = 100\n"
    (warning,) = price_warnings_of(text)
    assert warning.startswith("models.m.deployments[2]: nobody knows a price for p/unknown")
    assert "(plans.default, plans.pro)" in warning


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        # m's longest answer costs $2.56 at its dearest deployment, n's $1.00
        ("[plans.default.tenant]\nusd_per_day = 12.80\n", []),  # a user's fifth is exactly 2.56
        ("[plans.default.tenant]\nusd_per_day = 12.79\n", [("plans.default.user.usd_per_day ($2.558)", "m", "$2.56")]),
        (
            "[plans.default.tenant]\nusd_per_day = 100\nusd_per_call = 2.559999999\n",
            [("plans.default.tenant.usd_per_call ($2.559999999)", "m", "$2.56")],
        ),
        ("[plans.default.models.n]\nusd_total = 0.5\n", [("plans.default.models.n.usd_total ($0.50)", "n", "$1.00")]),
        ("[plans.default.features.f]\nusd_total = 0.5\n", []),  # a call may be for another one
    ],
)
def test_a_cap_that_the_longest_answer_never_fits_is_named(plan, expected):
    found = [warning for warning in price_warnings_of(MODELS + plan) if "nobody knows" not in warning]
    assert len(found) == len(expected)
    for warning, (cap, alias, cost) in zip(found, expected, strict=True):
        assert warning.startswith(cap)
        assert f"the longest answer of {alias} costs ({cost})" in warning


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        (
            "[plans.default.tenant]\nusd_per_day = 100\nusd_per_call = 0.999999999\n",
            "plans.default.tenant.usd_per_call ($0.999999999) for m ($2.56), n ($1.00). Raise the caps, or set",
        ),
        (
            "[plans.default.tenant]\nusd_per_day = 12.79\n[plans.pro.tenant]\nusd_per_call = 0.5\n",
            "plans.default.user.usd_per_day ($2.558) for m ($2.56); "
            "plans.pro.tenant.usd_per_call ($0.50) for m ($2.56), n ($1.00). "
            "Raise the caps (a user's is 20 % of the tenant's where none is written), or set",
        ),
        (
            "".join(f"[plans.p{n}.tenant]\nusd_per_call = 2\n" for n in range(6)),
            "; ".join(f"plans.p{n}.tenant.usd_per_call ($2.00) for m ($2.56)" for n in range(4))
            + "; and 2 more. Raise the caps, or set",
        ),
    ],
)
def test_caps_that_longest_answers_never_fit_are_one_line_together(plans, said):
    (line,) = [warning for warning in price_warnings_of(MODELS + plans) if "nobody knows" not in warning]
    assert line == (
        "these caps are less than the longest answer of a model costs, so that a call that names no max_tokens never "
        f'fits whole: {said} no_ceiling = "insert" or "extend" for the tenants of these plans.'
    )


def test_a_user_s_share_that_nobody_wrote_is_explained():
    _, share = price_warnings_of(MODELS + "[plans.default.tenant]\nusd_per_day = 12.79\n")
    assert "(a user's is 20 % of the tenant's where none is written)" in share
    plan = "[plans.default.tenant]\nusd_per_day = 99\n[plans.default.user]\nusd_per_day = 2\n"
    _, written = price_warnings_of(MODELS + plan)
    assert "plans.default.user.usd_per_day ($2.00)" in written
    assert "20 %" not in written
