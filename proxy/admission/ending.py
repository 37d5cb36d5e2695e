"""The readable specification of admission, 3: settle, release, expire.

Pure; `settle.lua`, `release.lua` and `sweep.lua` are its twins. A reservation has one terminal
effect: whatever comes after it is answered by its name, in any order. The one exception is an
expired reservation, whose late settlement replaces the worst case by the truth.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from proxy.admission.answers import ReleaseCode, SettleCode, Settlement, State
from proxy.admission.book import (
    EXPIRED_TOMBSTONE_MS,
    TOMBSTONE_MS,
    Change,
    Reservation,
    Scopes,
    close,
    posted_late,
)
from proxy.admission.terms import Touched


class Bill(NamedTuple):
    """What a call cost in the end, and the row that says so."""

    cost_nusd: int
    tokens: int | None  # for the token buckets; None: not known, what was expected stays
    row: bytes


Adjust: TypeAlias = Callable[[bytes, int], bytes]
"""The row that corrects a charge of so many nano-dollars, which a reservation that expired was charged at, to what a
bill's own row says. Made only then: of most calls nobody needs it."""


_ENDED = {
    State.SETTLED: SettleCode.ALREADY_SETTLED,
    State.RELEASED: SettleCode.RELEASED,
    State.DENIED: SettleCode.DENIED,
}
_RELEASES = {
    State.RELEASED: ReleaseCode.ALREADY_RELEASED,
    State.SETTLED: ReleaseCode.SETTLED,
    State.EXPIRED: ReleaseCode.EXPIRED,
    State.DENIED: ReleaseCode.DENIED,
}


def settle(
    bill: Bill, kept: Reservation, scopes: Scopes, adjust: Adjust, *, row_id: str, now_us: int
) -> tuple[Settlement, Change | None]:
    """Charge what a call cost and free its hold; correct it if it had expired."""
    tokens = kept.expected_tokens if bill.tokens is None else bill.tokens
    settled = _tombstone(State.SETTLED, now_us)._replace(cost_nusd=bill.cost_nusd, held_nusd=kept.held_nusd)
    if kept.state is State.PENDING:
        after = close(kept, scopes, spent_nusd=bill.cost_nusd, tokens=tokens, now_us=now_us)
        answer = Settlement(SettleCode.SETTLED, bill.cost_nusd, kept.held_nusd)
        return answer, Change(settled, after, (row_id, bill.row))
    if kept.state is State.EXPIRED:
        difference_nusd = bill.cost_nusd - kept.held_nusd
        after = posted_late(kept.touched, scopes, difference_nusd, kept.expected_tokens, tokens, now_us)
        answer = Settlement(SettleCode.CORRECTED, bill.cost_nusd, kept.held_nusd)
        return answer, Change(settled, after, (f"{row_id}:adjustment", adjust(bill.row, kept.held_nusd)))
    is_settled = kept.state is State.SETTLED
    charged_nusd, held_nusd = (kept.cost_nusd, kept.held_nusd) if is_settled else (0, 0)
    return Settlement(_ENDED[kept.state], charged_nusd, held_nusd), None


def post(
    bill: Bill, touched: tuple[Touched, ...], scopes: Scopes, *, row_id: str, now_us: int
) -> tuple[Settlement, Change]:
    """Write the spend and the row of a reservation that the store knows nothing of (any more)."""
    after = posted_late(touched, scopes, bill.cost_nusd, 0, 0, now_us)
    settled = _tombstone(State.SETTLED, now_us)._replace(cost_nusd=bill.cost_nusd)
    return Settlement(SettleCode.POSTED, bill.cost_nusd, 0), Change(settled, after, (row_id, bill.row))


def release(kept: Reservation | None, scopes: Scopes, *, now_us: int) -> tuple[ReleaseCode, Change | None]:
    """Let a hold go without spend; one that comes first denies the late admission. The tokens that
    were expected go back to their bucket; the request stays counted, for it was made."""
    if kept is not None and kept.state is not State.PENDING:
        return _RELEASES[kept.state], None
    released = _tombstone(State.RELEASED, now_us)
    if kept is None:
        return ReleaseCode.FORESTALLED, Change(released, {})
    return ReleaseCode.RELEASED, Change(released, close(kept, scopes, spent_nusd=0, tokens=0, now_us=now_us))


def expire(kept: Reservation, scopes: Scopes, *, row_id: str, now_us: int) -> Change:
    """Charge a reservation whose lease has run out at its worst case, with the row that admission stored."""
    assert kept.state is State.PENDING
    after = close(kept, scopes, spent_nusd=kept.held_nusd, tokens=kept.expected_tokens, now_us=now_us)
    expired = kept._replace(
        state=State.EXPIRED,
        cost_nusd=kept.held_nusd,
        row=b"",
        lease_until_ms=None,
        forget_at_ms=now_us // 1_000 + EXPIRED_TOMBSTONE_MS,
    )
    return Change(expired, after, (row_id, kept.row))


def _tombstone(state: State, now_us: int) -> Reservation:
    return Reservation(state, forget_at_ms=now_us // 1_000 + TOMBSTONE_MS)
