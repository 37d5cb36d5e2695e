import pytest

from proxy.admission.answers import LimitKind, LimitRefused, Revoked
from proxy.admission.book import Amounts, ScopeState
from proxy.admission.figures import remaining_hit_requests
from proxy.admission.hits import HitAdmitted, HitDemand, Purged, Shredded, admit_hit, hit_scope, require_hit
from proxy.admission.terms import Bucket, ScopeDemand
from proxy.core.limits import ScopeLimits

NOW_US = 1_800_000_000_000_000
DAY_MS = 86_400_000
TENANT = ScopeDemand("tenant", Bucket(10_000, 30_000))
USER = ScopeDemand("user:u", Bucket(1_000, 1_000))
EMPTY = ScopeState(requests_tat_us=NOW_US + 1_000)
SCOPES = {"tenant": ScopeState(), "user:u": EMPTY}


def demand(*scopes: ScopeDemand, asked_at_ms: int = 500, **changed) -> HitDemand:
    values = HitDemand("acme", "r", "m", asked_at_ms, None, scopes, b"row")
    return values._replace(**changed)


@pytest.mark.parametrize(
    ("is_shredded", "is_revoked", "purged_before_ms", "expected"),
    [
        (True, True, 501, Shredded()),
        (False, True, 501, Revoked()),
        (False, False, 501, Purged()),
        (False, False, 500, LimitRefused("user:u", LimitKind.REQUESTS, 1)),  # asked for at that very instant: it stays
        (False, False, 0, LimitRefused("user:u", LimitKind.REQUESTS, 1)),
    ],
)
def test_who_asks_comes_before_what_is_asked_for_and_that_before_how_often(
    is_shredded, is_revoked, purged_before_ms, expected
):
    answer = admit_hit(
        demand(TENANT, USER),
        SCOPES,
        now_us=NOW_US,
        is_shredded=is_shredded,
        is_revoked=is_revoked,
        purged_before_ms=purged_before_ms,
    )
    assert answer == (expected, {})


@pytest.mark.parametrize(("ahead_ms", "expected"), [(5_000, HitAdmitted), (5_001, Purged)])
def test_what_claims_to_be_of_the_future_is_let_through_to_nobody(ahead_ms, expected):
    answer, _ = admit_hit(demand(asked_at_ms=NOW_US // 1_000 + ahead_ms), {}, now_us=NOW_US)
    assert isinstance(answer, expected)


def test_one_that_is_let_through_takes_a_request_of_each_scope():
    scopes = {"tenant": ScopeState(requests_tat_us=NOW_US + 20_000), "user:u": ScopeState(requests_tat_us=NOW_US - 5)}
    answer, after = admit_hit(demand(TENANT, USER), scopes, now_us=NOW_US)
    assert answer == HitAdmitted(NOW_US, (NOW_US + 30_000, NOW_US + 1_000))
    assert {name: scope.requests_tat_us for name, scope in after.items()} == {
        "tenant": NOW_US + 30_000,
        "user:u": NOW_US + 1_000,
    }
    assert remaining_hit_requests(demand(TENANT, USER), answer) == 0
    assert remaining_hit_requests(demand(TENANT), HitAdmitted(NOW_US, (NOW_US + 10_000,))) == 2
    assert remaining_hit_requests(demand(), HitAdmitted(NOW_US, ())) is None


def test_where_its_row_is_there_it_is_let_through_again_and_takes_nothing():
    answer = admit_hit(demand(TENANT, USER), SCOPES, now_us=NOW_US, has_row=True)
    assert answer == (HitAdmitted(NOW_US, (0, NOW_US + 1_000)), {})


@pytest.mark.parametrize(
    ("before", "forgotten_in_ms"),
    [
        (ScopeState(), DAY_MS),
        (ScopeState(pending=1), None),
        (ScopeState(periods={"t": Amounts(1, 0)}), None),
        (ScopeState(periods={"t": Amounts(1, 0)}, forget_at_ms=NOW_US // 1_000 + 5), None),
        (ScopeState(periods={"d0": Amounts(1, 0), "h0": Amounts(1, 0)}), 3 * DAY_MS),
        (ScopeState(periods={"m0": Amounts(1, 0)}), 64 * DAY_MS),
    ],
)
def test_how_long_a_scope_is_remembered(before, forgotten_in_ms):
    _, after = admit_hit(demand(TENANT), {"tenant": before}, now_us=NOW_US)
    expected = None if forgotten_in_ms is None else NOW_US // 1_000 + forgotten_in_ms
    assert after["tenant"].forget_at_ms == expected
    assert after["tenant"].pending == before.pending
    assert after["tenant"].periods == before.periods


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (ScopeLimits(), None),
        (ScopeLimits(tokens_per_minute=5, max_concurrency=1, per_day_nusd=0, total_nusd=0, burst=7), None),
        (ScopeLimits(requests_per_minute=60), ScopeDemand("tenant", Bucket(1_000_000, 60_000_000))),
        (ScopeLimits(requests_per_minute=60, burst=2), ScopeDemand("tenant", Bucket(1_000_000, 2_000_000))),
    ],
)
def test_a_scope_asks_for_its_requests_alone(limits, expected):
    assert hit_scope("tenant", limits) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant_id": "a}b"},
        {"tenant_id": "@"},
        {"run_id": ""},
        {"run_id": "a:1"},
        {"asked_at_ms": -1},
        {"asked_at_ms": 2**53},
        {"scopes": (TENANT, TENANT)},
        {"scopes": (ScopeDemand("tenant"),)},
    ],
)
def test_a_demand_that_cannot_be_meant_is_refused(changed):
    with pytest.raises(ValueError, match=r".+"):
        require_hit(demand(**changed))


def test_a_demand_that_can_be_meant_is_given_back():
    asked = demand(TENANT, USER, asked_at_ms=2**53 - 1)
    assert require_hit(asked) is asked
