"""What is remembered of each deployment and provider key, and what cannot push it out."""

from proxy.upstream import conditions
from proxy.upstream.breaker import FAILURES_IN_A_ROW_MAX, BreakerState
from proxy.upstream.conditions import Conditions


def test_keys_have_breakers_of_their_own_and_share_the_health():
    known = Conditions()
    own, acmes = known.find("p/m", "p/m", None), known.find("p/m", "p/m", ("acme", 1))
    for _ in range(FAILURES_IN_A_ROW_MAX):
        acmes.breaker.failed(0)
        acmes.vitals.failed(0)
    assert acmes.blocked_us(0)
    assert not own.blocked_us(0)
    assert own.vitals is acmes.vitals
    assert known.find("p/m", "p/m", ("acme", 1)) is acmes


def test_callers_keys_cannot_push_the_gateways_own_out(monkeypatch):
    monkeypatch.setattr(conditions, "CONDITIONS_MAX", 3)
    known = Conditions()
    own, used = known.find("p/m", "p/m", None), known.find("p/m", "p/m", 0)
    for mark in range(1, 10):
        known.find("p/m", "p/m", mark)
        known.find("p/m", "p/m", 0)
    assert known.find("p/m", "p/m", None) is own
    assert known.find("p/m", "p/m", 0) is used


def test_models_that_callers_name_have_breakers_of_their_own_and_one_name():
    known = Conditions()
    for _ in range(FAILURES_IN_A_ROW_MAX):
        known.find("p", "p/broken", None).breaker.failed(0)
    assert known.find("p", "p/broken", None).blocked_us(0)
    assert not known.find("p", "p/fine", None).blocked_us(0)
    assert [status.label for status in known.statuses(0)] == ["p"]


def test_statuses_tell_of_the_gateways_own_key():
    known = Conditions()
    condition = known.find("p/m", "p/m", None)
    for _ in range(FAILURES_IN_A_ROW_MAX):
        condition.breaker.failed(0)
    condition.throttle.told(2_000, 0)
    condition.vitals.in_flight += 4
    (status,) = known.statuses(0)
    assert status == ("p/m", 1.0, BreakerState.OPEN, 2_000_000, 4)
