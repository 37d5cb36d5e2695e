"""While the store is away: rates by this process alone, for a minute, and then nothing."""

import pytest

from proxy.admission.answers import LimitKind, LimitRefused
from proxy.admission.limits import requests_bucket
from proxy.admission.terms import Demand, RunStep, ScopeDemand, outline_of
from proxy.core.errors import StateUnavailable
from proxy.pipeline.local_limits import AWAY_US_MAX, LocalLimits

SECOND_US = 1_000_000


def demand(*scopes: ScopeDemand, tenant_id: str = "acme", expected_tokens: int = 0) -> Demand:
    return Demand(RunStep(tenant_id, "run_1", 0), 0, expected_tokens, outline_of(scopes), 30_000, None, b"{}")


def two_at_once(name: str = "tenant") -> ScopeDemand:
    return ScopeDemand(name, requests=requests_bucket(60, 2))  # one flows back each second


def test_a_burst_and_then_as_many_as_flow_back() -> None:
    limits = LocalLimits()
    # at, in seconds → refused for so many ms; two at once, the third waits for the first to flow back
    for at_s, retry_after_ms in [(0, None), (0, None), (0, 1_000), (0.5, 500), (1, None), (1, 1_000), (10, None)]:
        answer = limits.admit(demand(two_at_once()), int(at_s * SECOND_US))
        expected = None if retry_after_ms is None else LimitRefused("tenant", LimitKind.REQUESTS, retry_after_ms)
        assert answer == expected, at_s


def test_nobody_is_told_to_come_again_at_once() -> None:
    limits = LocalLimits()
    asked = demand(ScopeDemand("tenant", requests=requests_bucket(60_000, 1)))  # one flows back each millisecond
    assert limits.admit(asked, 0) is None
    assert limits.admit(asked, 0) == LimitRefused("tenant", LimitKind.REQUESTS, 100)


def test_tenants_and_scopes_have_buckets_of_their_own() -> None:
    limits = LocalLimits()
    for tenant_id in ("acme", "globex"):
        for scope in ("tenant", "user:1", "user:2"):
            asked = demand(two_at_once(scope), tenant_id=tenant_id)
            assert [limits.admit(asked, 0) is None for _ in range(3)] == [True, True, False]


def test_what_one_scope_refuses_is_taken_from_none() -> None:
    limits = LocalLimits()
    user = ScopeDemand("user:1", requests=requests_bucket(60, 1))
    assert limits.admit(demand(two_at_once(), user), 0) is None
    for _ in range(5):
        assert limits.admit(demand(two_at_once(), user), 0) == LimitRefused("user:1", LimitKind.REQUESTS, 1_000)
    assert limits.admit(demand(two_at_once()), 0) is None  # the tenant's second is still there


def test_tokens_are_counted_and_a_full_bucket_takes_any_one_call() -> None:
    limits = LocalLimits()
    asked = demand(ScopeDemand("tenant", tokens_per_minute=60), expected_tokens=120)  # two minutes' worth
    assert limits.admit(asked, 0) is None
    # Full again after 120 s, beyond what is let through here: by then the store decides or nobody does.
    assert limits.admit(asked, 0) == LimitRefused("tenant", LimitKind.TOKENS, 120_000)


def test_after_a_minute_nothing_is_let_through_until_the_store_answers() -> None:
    limits = LocalLimits()
    asked = demand(two_at_once())
    assert limits.admit(asked, 7) is None
    assert limits.admit(asked, 7 + AWAY_US_MAX) is None
    with pytest.raises(StateUnavailable):
        limits.admit(asked, 7 + AWAY_US_MAX + 1)
    limits.store_answered()
    assert limits.admit(asked, 7 + AWAY_US_MAX + 2) is None


def test_each_absence_begins_with_full_buckets() -> None:
    limits = LocalLimits()
    asked = demand(two_at_once())
    assert [limits.admit(asked, 0) is None for _ in range(3)] == [True, True, False]
    limits.store_answered()
    assert [limits.admit(asked, 0) is None for _ in range(3)] == [True, True, False]
