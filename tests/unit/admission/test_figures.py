from proxy.admission.answers import Admitted, SettleCode, Settlement
from proxy.admission.figures import NOTHING_LIMITED, CapUse, what_is_left
from proxy.admission.terms import Bucket, Demand, RunStep, ScopeDemand, Window, WindowKind, outline_of, window_of

NOW_US = 1_800_000_000_000_000


def window(cap_nusd: int | None) -> Window:
    return window_of(WindowKind.DAY, 0, 1, cap_nusd)


def demand(*scopes: ScopeDemand) -> Demand:
    return Demand(RunStep("acme", "r", 0), 0, 0, outline_of(scopes), 1, None, b"")


def test_the_tightest_cap_is_the_fullest_by_its_own_measure():
    scopes = (
        ScopeDemand("tenant", windows=(window(1_000), window(None))),
        ScopeDemand("user:u", windows=(window(10),)),
    )
    admitted = Admitted(NOW_US, (0, 0, 799, 10**9, 0, 0, 8))
    tightest = what_is_left(demand(*scopes), admitted).cap
    assert tightest == CapUse("user:u", WindowKind.DAY, 10, 8, used_pct=80, window_start_ms=0)


def test_pcts_are_exact_where_a_double_is_not():
    def used_pct(cap_nusd: int, used_nusd: int) -> int:
        asked = demand(ScopeDemand("t", windows=(window(cap_nusd),)))
        cap = what_is_left(asked, Admitted(NOW_US, (0, 0, used_nusd))).cap
        assert cap is not None
        return cap.used_pct

    cap_nusd = 4_000_000_000_000_000
    assert used_pct(cap_nusd, cap_nusd) == 100
    assert used_pct(cap_nusd, cap_nusd - 1) == 99
    assert used_pct(0, 0) == 100


def test_without_caps_and_limits_there_are_no_figures():
    admitted = Admitted(NOW_US, (0, 0, 5))
    asked = demand(ScopeDemand("tenant", windows=(window(None),)))
    assert what_is_left(asked, admitted) == NOTHING_LIMITED


def test_what_is_left_is_the_tightest_scopes():
    scopes = (
        ScopeDemand("tenant", requests=Bucket(10, 100), tokens_per_minute=600),
        ScopeDemand("user:u", requests=Bucket(10, 30), tokens_per_minute=60),
        ScopeDemand("feature:f"),
    )
    figures = (NOW_US + 80, NOW_US + 59_000_000, NOW_US + 20, NOW_US, 0, 0)
    assert what_is_left(demand(*scopes), Admitted(NOW_US, figures)) == (1, 10, None)


def test_overage_is_what_was_charged_beyond_the_hold():
    assert Settlement(SettleCode.SETTLED, 12, 10).overage_nusd == 2
    assert Settlement(SettleCode.CORRECTED, 12, 10).overage_nusd == 2
    assert Settlement(SettleCode.SETTLED, 9, 10).overage_nusd == 0
    assert Settlement(SettleCode.POSTED, 9, 0).overage_nusd == 0
    assert Settlement(SettleCode.ALREADY_SETTLED, None, None).overage_nusd == 0
