"""What a caller is told when it is refused: which limit or cap, the numbers, what to do."""

import pytest

from proxy.admission.answers import CapRefused, Known, LimitKind, LimitRefused, Revoked, State, WrongEpoch
from proxy.admission.keys import TENANT, feature_scope, model_scope, user_scope, virtual_key_scope
from proxy.admission.terms import WindowKind
from proxy.core.errors import CapExceeded, InvalidApiKey, RateLimited, StateUnavailable
from proxy.pipeline.refusals import cap_refusal, refusal, scope_kind

NOON_MS = 1_764_072_000_000  # 2025-11-25 12:00:00 UTC
USD = 1_000_000_000


@pytest.mark.parametrize(
    ("scope", "kind", "said"),
    [
        (TENANT, "tenant", "the tenant"),
        (user_scope("ann@example.com"), "user", "this user"),
        (virtual_key_scope("vk_1"), "virtual_key", "this virtual key"),
        (feature_scope("report"), "feature", "this feature"),
        (model_scope("gpt-5"), "model", "this model"),
    ],
)
def test_a_scope_is_named_by_its_kind_alone(scope: str, kind: str, said: str) -> None:
    assert scope_kind(scope) == kind
    message = refusal(LimitRefused(scope, LimitKind.REQUESTS, 1_500)).message
    assert message.startswith(f"A rate limit of {said} holds")
    assert scope not in message or scope == TENANT


@pytest.mark.parametrize(
    ("answer", "error", "status", "retry_after_ms", "part"),
    [
        (
            LimitRefused(TENANT, LimitKind.TOKENS, 1_500),
            RateLimited,
            429,
            1_500,
            "_per_minute). Try again in 1.5 s",
        ),
        (
            LimitRefused(TENANT, LimitKind.REQUESTS, 20),
            RateLimited,
            429,
            20,
            "_per_minute). Try again in 0.02 s",
        ),
        (LimitRefused(TENANT, LimitKind.CONCURRENCY, 1_000), RateLimited, 429, 1_000, "(max_concurrency)"),
        (CapRefused(TENANT, WindowKind.DAY, 1, 0, 0, 2, NOON_MS), CapExceeded, 429, None, "cap of the tenant"),
        (Revoked(), InvalidApiKey, 401, None, "revoked"),
        (Known(State.RELEASED), StateUnavailable, 503, 0, "released before it could begin"),
        (WrongEpoch(), StateUnavailable, 503, 1_000, "set right after a loss"),
    ],
)
def test_each_answer_that_is_no_admission(answer, error, status: int, retry_after_ms, part: str) -> None:
    told = refusal(answer)
    assert type(told) is error
    assert (told.status, told.retry_after_ms) == (status, retry_after_ms)
    assert part in told.message


NUMBERS = "it may cost $0.50, and of $2.00 for {}, $1.25 is spent and $0.75 is held for calls under way."


@pytest.mark.parametrize(
    ("kind", "resets_at_ms", "said"),
    [
        (WindowKind.HOUR, NOON_MS, NUMBERS.format("an hour") + " There is room again at 2025-11-25 12:00:00 UTC."),
        (WindowKind.ROLLING_24H, NOON_MS, NUMBERS.format("24 hours") + " There is room again at"),
        (WindowKind.DAY, NOON_MS, NUMBERS.format("a day") + " There is room again at"),
        (WindowKind.MONTH, NOON_MS, NUMBERS.format("a month") + " There is room again at"),
        (WindowKind.TOTAL, None, NUMBERS.format("all time") + " Only whoever runs this gateway can raise it."),
        (WindowKind.CALL, None, "may cost $0.50; the tenant may spend $2.00 on one call. Ask for a shorter answer"),
    ],
)
def test_a_cap_says_its_numbers_and_what_helps(kind: WindowKind, resets_at_ms: int | None, said: str) -> None:
    refused = CapRefused(TENANT, kind, 2 * USD, USD * 5 // 4, USD * 3 // 4, USD // 2, resets_at_ms)
    told = cap_refusal(refused)
    assert said in told.message
    assert told.param is None


@pytest.mark.parametrize("kind", [WindowKind.DAY, WindowKind.CALL])
def test_the_ceiling_that_would_fit_is_named_before_all_else(kind: WindowKind) -> None:
    told = cap_refusal(CapRefused(TENANT, kind, 2, 0, 0, 3, NOON_MS), ceiling=412, ceiling_name="max_tokens")
    assert told.message.endswith(" Set `max_tokens` to at most 412, and it fits this cap.")
    assert told.param == "max_tokens"


def test_no_field_is_blamed_where_no_ceiling_fits() -> None:
    told = cap_refusal(CapRefused(TENANT, WindowKind.DAY, 2, 0, 0, 3, NOON_MS), ceiling=None, ceiling_name="max_tokens")
    assert "max_tokens" not in told.message
    assert told.param is None
