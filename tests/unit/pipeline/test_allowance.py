"""Which limits hold for a call: every scope that it belongs to, from its first call on."""

import random
from zoneinfo import ZoneInfo

import pytest

from proxy.admission.caps import demand_of
from proxy.admission.keys import TENANT, feature_scope, model_scope, user_scope, virtual_key_scope
from proxy.admission.terms import WindowKind, outline_of
from proxy.core.limits import NO_LIMITS, ScopeLimits
from proxy.core.types import Caller
from proxy.pipeline.allowance import Allowance, Allowances, Allowed
from proxy.settings.model import PlanSettings

RATE = ScopeLimits(requests_per_minute=60, burst=60)
DAY = ScopeLimits(per_day_nusd=5)
BOTH = ScopeLimits(requests_per_minute=60, burst=60, per_day_nusd=5)
BARE = Allowance(TENANT, NO_LIMITS)
FULL = PlanSettings("full", tenant=DAY, user=DAY, virtual_key=RATE, features={"report": DAY}, models={"gpt-5": RATE})
ANN = Caller("acme", user="ann", feature="report", virtual_key_id="vk_1")


def of(plan: PlanSettings, caller: Caller, model_alias: str | None = None, counts_dollars: bool = True):
    return Allowances().find(plan, caller, model_alias, counts_dollars=counts_dollars).scopes


@pytest.mark.parametrize(
    ("plan", "caller", "model_alias", "expected"),
    [
        (PlanSettings("p"), ANN, "gpt-5", ()),  # nothing is limited: no store is asked
        (PlanSettings("p", tenant=RATE), Caller("acme"), None, (Allowance(TENANT, RATE),)),
        # The tenant stands first whether it is limited or not: what is spent is summed there.
        (PlanSettings("p", user=DAY), ANN, None, (BARE, Allowance(user_scope("ann"), DAY))),
        (PlanSettings("p", user=DAY), Caller("acme"), None, ()),  # no user, no user's limits
        (PlanSettings("p", features={"chat": DAY}), ANN, None, ()),  # another feature's
        (PlanSettings("p", models={"gpt-5": DAY}), ANN, "gpt-5-mini", ()),  # another model's
        (
            FULL,
            ANN,
            "gpt-5",
            (
                Allowance(TENANT, DAY),
                Allowance(user_scope("ann"), DAY),
                Allowance(virtual_key_scope("vk_1"), RATE),
                Allowance(feature_scope("report"), DAY),
                Allowance(model_scope("gpt-5"), RATE),
            ),
        ),
        (  # a virtual key's own limits stand in for the plan's of their kind, the others stay
            PlanSettings("p", virtual_key=RATE),
            ANN._replace(virtual_key_limits=ScopeLimits(per_day_nusd=5)),
            None,
            (BARE, Allowance(virtual_key_scope("vk_1"), BOTH)),
        ),
    ],
)
def test_which_scopes_hold(plan: PlanSettings, caller: Caller, model_alias, expected) -> None:
    assert of(plan, caller, model_alias) == expected


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (PlanSettings("p", tenant=DAY), ()),
        (PlanSettings("p", tenant=BOTH), (Allowance(TENANT, RATE),)),
        (PlanSettings("p", tenant=DAY, user=RATE), (BARE, Allowance(user_scope("ann"), RATE))),
    ],
)
def test_only_rates_hold_for_a_call_that_costs_the_tenant_nothing(plan: PlanSettings, expected) -> None:
    assert of(plan, ANN, counts_dollars=False) == expected


def test_one_caller_never_has_what_was_worked_out_for_another() -> None:
    allowances = Allowances()
    callers = [
        ANN,
        ANN._replace(user="bob"),
        ANN._replace(feature=None),
        ANN._replace(virtual_key_id="vk_2"),
        ANN._replace(virtual_key_limits=DAY),
    ]
    for _ in range(2):  # the second time from memory
        for caller in callers:
            for alias in ("gpt-5", None):
                for counts in (True, False):
                    found = allowances.find(FULL, caller, alias, counts_dollars=counts)
                    assert found.scopes == of(FULL, caller, alias, counts)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((), False),
        ((RATE,), False),
        ((RATE, DAY), True),
        ((ScopeLimits(per_call_nusd=0),), True),  # a cap of nothing is a cap
    ],
)
def test_is_capped(limits: tuple[ScopeLimits, ...], expected: bool) -> None:
    allowed = Allowed(tuple(Allowance(TENANT, each) for each in limits), counts_dollars=True)
    assert allowed.is_capped is expected


UTC, LONDON, KOLKATA = ZoneInfo("UTC"), ZoneInfo("Europe/London"), ZoneInfo("Asia/Kolkata")
HOUR_MS = 3_600_000
SCOPES = (
    Allowance(TENANT, ScopeLimits(per_hour_nusd=7, per_day_nusd=5, tokens_per_minute=600)),
    Allowance(user_scope("ann"), ScopeLimits(requests_per_minute=60, burst=60, max_concurrency=2)),
)


@pytest.mark.parametrize("zone", [UTC, LONDON, KOLKATA])
def test_what_is_asked_of_the_store_is_as_if_it_were_worked_out_for_each_call(zone):
    allowed, rng = Allowed(SCOPES, counts_dollars=True), random.Random(1)
    now_ms = 1_774_740_000_000  # the evening before summer time begins in London
    for _ in range(300):
        now_ms += rng.choice((0, 1, 59_000, HOUR_MS // 2, HOUR_MS, -1, -HOUR_MS))
        for each in (zone, UTC):
            expected = tuple(
                demand_of(
                    scope,
                    limits,
                    now_ms=now_ms,
                    zone=each,
                    counted=(WindowKind.TOTAL,) if scope == TENANT else (),
                )
                for scope, limits in SCOPES
            )
            assert allowed.outline(now_ms, each) == outline_of(expected)


def test_what_the_tenant_is_not_charged_for_is_not_summed():
    only_rates = Allowed((Allowance(TENANT, RATE),), counts_dollars=False)
    assert [scope.windows for scope in only_rates.outline(0, UTC).scopes] == [()]
    assert [scope.name for scope in only_rates.hit_scopes] == [TENANT]
