"""How a demand goes to the scripts, how their replies are read, and what is kept as text.

Pure. `touched` and `checks` are the JSON texts of ARGV in `admit.lua`; a journal may keep the
former, since it says where a settlement is posted.
"""

from collections.abc import Sequence
from typing import Any, Final

from proxy.admission.answers import (
    Admission,
    Admitted,
    CapRefused,
    Grown,
    Growth,
    Known,
    LimitKind,
    LimitRefused,
    NotPending,
    Refused,
    ReleaseCode,
    Revoked,
    SettleCode,
    Settlement,
    State,
    WrongEpoch,
    WrongWindow,
)
from proxy.admission.book import Amounts, ScopeState
from proxy.admission.ending import Bill
from proxy.admission.hits import HitAdmission, HitAdmitted, HitDemand, Purged, Shredded
from proxy.admission.limits import each_tokens_us
from proxy.admission.terms import Demand, ScopeDemand, Touched, WindowKind
from proxy.core import jsonio

_WRONG_EPOCH, _ADMITTED, _KNOWN, _WRONG_WINDOW, _REVOKED, _CAP, _LIMIT = range(7)
_GROWN: Final = 1
_HIT, _HIT_LIMIT = 0, 4  # between them: shredded, revoked, purged
_LIMITS: Final = (LimitKind.CONCURRENCY, LimitKind.REQUESTS, LimitKind.TOKENS)
_SETTLEMENTS: Final = (
    SettleCode.UNKNOWN,
    SettleCode.SETTLED,
    SettleCode.ALREADY_SETTLED,
    SettleCode.RELEASED,
    SettleCode.CORRECTED,
    SettleCode.DENIED,
    SettleCode.POSTED,
)
_EXPIRED: Final = len(_SETTLEMENTS)  # the code of settle.lua behind those: no settlement yet
_RELEASES: Final = (
    ReleaseCode.FORESTALLED,
    ReleaseCode.RELEASED,
    ReleaseCode.ALREADY_RELEASED,
    ReleaseCode.SETTLED,
    ReleaseCode.EXPIRED,
    ReleaseCode.DENIED,
)


def hit_admission_of(reply: Sequence[Any], demand: HitDemand) -> HitAdmission:
    """What `hit.lua` said."""
    code = reply[0]
    if code == _HIT:
        return HitAdmitted(reply[1], tuple(reply[2:]))
    if code == _HIT_LIMIT:
        return LimitRefused(demand.scopes[reply[1]].name, LimitKind.REQUESTS, reply[2])
    return (Shredded(), Revoked(), Purged())[code - 1]


def touched_of(text: bytes) -> tuple[Touched, ...]:
    """What such a text says."""
    return tuple(Touched(scope, per_minute, tuple(periods)) for scope, per_minute, periods in jsonio.parse(text))


def checks_text(demand: Demand) -> bytes:
    """What is asked of each scope, in the same order."""
    outline = demand.outline
    return outline.checks_format % each_tokens_us(demand.expected_tokens, outline.tokens_per_minute)


def admit_args(demand: Demand, mode: str, epoch: str) -> tuple[bytes | int | str, ...]:
    """What `admit.lua` is given of a demand."""
    _, held_nusd, expected_tokens, outline, lease_ms, virtual_key_id, row = demand
    return (
        mode,
        epoch,
        virtual_key_id or "",
        held_nusd,
        expected_tokens,
        lease_ms,
        outline.from_ms,
        outline.until_ms,
        outline.touched_text,
        checks_text(demand),
        row,
    )


def admission_of(reply: Sequence[Any], demand: Demand) -> Admission:
    """What `admit.lua` said."""
    code = reply[0]
    if code == _ADMITTED:
        return Admitted(reply[1], tuple(reply[3:-1]), reply[2] == 1, reply[-1])
    if code in (_CAP, _LIMIT):
        return refusal_of(reply, demand.scopes)
    if code == _KNOWN:
        return Known(State(reply[1].decode()))
    if code == _WRONG_WINDOW:
        return WrongWindow(reply[1])
    assert code in (_WRONG_EPOCH, _REVOKED), reply
    return WrongEpoch() if code == _WRONG_EPOCH else Revoked()


def refusal_of(reply: Sequence[Any], scopes: Sequence[ScopeDemand]) -> Refused:
    """A refusal, from the numbers that name its scope and window by their places."""
    if reply[0] == _LIMIT:
        return LimitRefused(scopes[reply[1]].name, _LIMITS[reply[2]], reply[3])
    _, scope_at, window_at, cap_nusd, spent_nusd, held_nusd, needed_nusd, resets_at_ms = reply
    scope = scopes[scope_at]
    window = scope.windows[window_at]
    if window.kind is WindowKind.TOTAL or (window.kind is WindowKind.ROLLING_24H and resets_at_ms < 0):
        resets = None
    else:
        resets = resets_at_ms if window.kind is WindowKind.ROLLING_24H else window.end_ms
    return CapRefused(scope.name, window.kind, cap_nusd, spent_nusd, held_nusd, needed_nusd, resets)


def refusal_text(refusal: Refused) -> bytes:
    """A refusal as SQLite keeps it."""
    return jsonio.encode([type(refusal).__name__, *refusal])


def refusal_from(text: bytes) -> Refused:
    """What such a text says."""
    name, *values = jsonio.parse(text)
    if name == LimitRefused.__name__:
        scope, limit, retry_after_ms = values
        return LimitRefused(scope, LimitKind(limit), retry_after_ms)
    scope, kind, *amounts = values
    return CapRefused(scope, WindowKind(kind), *amounts)


def growth_of(reply: Sequence[Any], scopes: Sequence[ScopeDemand]) -> Growth:
    """What `grow.lua` said."""
    if reply[0] == _GROWN:
        return Grown(reply[1])
    if reply[0] == _CAP:
        refusal = refusal_of(reply, scopes)
        assert isinstance(refusal, CapRefused)
        return refusal
    return NotPending(State(reply[1].decode()) if reply[1] else None)


def settle_args(bill: Bill, touched: bytes, adjustment: bytes = b"") -> tuple[bytes | int, ...]:
    """What `settle.lua` is given of a run's end."""
    cost_nusd, tokens, row = bill
    return cost_nusd, -1 if tokens is None else tokens, row, adjustment, touched


def expired_nusd(reply: Any) -> int | None:
    """What a run was charged that had expired, where `settle.lua` asks for its adjustment; else None."""
    code, _, held_nusd = reply
    assert isinstance(held_nusd, int)
    return held_nusd if code == _EXPIRED else None


def settlement_of(reply: Any) -> Settlement:
    """What it said."""
    code, cost_nusd, held_nusd = reply
    return Settlement(_SETTLEMENTS[code], None if cost_nusd < 0 else cost_nusd, None if held_nusd < 0 else held_nusd)


def release_of(reply: int) -> ReleaseCode:
    """What `release.lua` said."""
    return _RELEASES[reply]


def scope_state(fields: dict[str, int]) -> ScopeState:
    """A scope from the fields of its hash."""
    periods: dict[str, Amounts] = {}
    for name, value in fields.items():
        period, _, kind = name.partition(":")
        before = periods.get(period, Amounts())
        if kind == "s":
            periods[period] = before._replace(spent_nusd=value)
        elif kind == "h":
            periods[period] = before._replace(held_nusd=value)
    return ScopeState(
        requests_tat_us=fields.get("r", 0),
        tokens_tat_us=fields.get("t", 0),
        pending=fields.get("n", 0),
        periods=periods,
    )
