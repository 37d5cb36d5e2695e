"""What a caller is told about a spend cap is true, and says what helps."""

import pytest

from proxy.admission.answers import CapRefused
from proxy.admission.terms import WindowKind
from proxy.pipeline.refusals import cap_refusal

MIDNIGHT_MS = 1_795_737_600_000  # 2026-11-27 00:00:00 UTC


def refused(cap_nusd, spent_nusd, needed_nusd, kind=WindowKind.DAY, resets_at_ms=MIDNIGHT_MS):
    return CapRefused("tenant", kind, cap_nusd, spent_nusd, 0, needed_nusd, resets_at_ms)


def test_a_call_that_fits_an_empty_window_is_told_when_there_is_one():
    message = cap_refusal(refused(500, 400, 500)).message
    assert message.endswith(" There is room again at 2026-11-27 00:00:00 UTC.")


@pytest.mark.parametrize(
    ("kind", "resets_at_ms"),
    [(WindowKind.DAY, MIDNIGHT_MS), (WindowKind.ROLLING_24H, None), (WindowKind.TOTAL, None)],
)
def test_a_call_that_no_window_ever_holds_is_not_told_to_wait(kind, resets_at_ms):
    message = cap_refusal(refused(500, 0, 501, kind, resets_at_ms)).message
    assert message.endswith(
        " That is more than the whole cap: ask for a shorter answer, send less, or have the cap raised."
    )
    assert "room again" not in message


def test_a_ceiling_that_would_fit_comes_first():
    error = cap_refusal(refused(500, 0, 501), ceiling=7, ceiling_name="max_tokens")
    assert error.message.endswith(" Set `max_tokens` to at most 7, and it fits this cap.")
    assert error.param == "max_tokens"
