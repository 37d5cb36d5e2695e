"""What the store says: one type for each outcome.

Pure values. The numbers of a refusal are those that the store decided by, at its own moment.
"""

from enum import StrEnum
from typing import NamedTuple, TypeAlias

from proxy.admission.terms import WindowKind


class State(StrEnum):
    """Where a reservation is: pending, then one of the others. An expired one may yet be settled."""

    PENDING = "pending"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"
    DENIED = "denied"  # it was refused: kept for a moment, so that a repeat gets the same answer


class LimitKind(StrEnum):
    """Which limit was met."""

    CONCURRENCY = "max_concurrency"
    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"


class Admitted(NamedTuple):
    """It may run. The figures are what is used by now, this reservation included, as the store tells them: for each
    of the demand's scopes its buckets' theoretical arrival times, of requests and of tokens, then for each of its
    windows what is spent and held."""

    now_us: int
    figures: tuple[int, ...]
    repeated: bool = False  # it was pending already: the figures are of now
    keyring_epoch: int = 0  # how often the tenant's stored provider keys had changed by then


class CapRefused(NamedTuple):
    """A cap cannot hold it: spent + held + needed would exceed it."""

    scope: str
    kind: WindowKind
    cap_nusd: int
    spent_nusd: int
    held_nusd: int
    needed_nusd: int
    resets_at_ms: int | None  # when it would fit, if nothing else were spent; None: never by itself


class LimitRefused(NamedTuple):
    """A limit is met."""

    scope: str
    limit: LimitKind
    retry_after_ms: int


class Revoked(NamedTuple):
    """The virtual key has been revoked."""


class WrongWindow(NamedTuple):
    """The store's clock is outside the windows that were named: make them anew for its time, and
    ask again with the same run id and step. Nothing was reserved."""

    now_ms: int


class WrongEpoch(NamedTuple):
    """The store may have lost something since this process looked: settle that first. Nothing was reserved."""


class Known(NamedTuple):
    """A reservation of this name has ended already; nothing new was reserved."""

    state: State


Refused: TypeAlias = CapRefused | LimitRefused
Admission: TypeAlias = Admitted | Refused | Revoked | WrongWindow | WrongEpoch | Known


class SettleCode(StrEnum):
    """What a settlement did."""

    UNKNOWN = "unknown"  # nothing: the store does not know the reservation
    SETTLED = "settled"
    ALREADY_SETTLED = "already_settled"
    RELEASED = "released"  # nothing: it had been let go
    CORRECTED = "corrected"  # it had expired at its worst case; now the truth is charged
    DENIED = "denied"  # nothing: it had been refused
    POSTED = "posted"  # the store knew nothing of it (any more), and now has its spend and its row


class Settlement(NamedTuple):
    """The answer to a settlement."""

    code: SettleCode
    cost_nusd: int | None  # what is charged now; None: an earlier settlement, of which only the row is left
    held_nusd: int | None

    @property
    def overage_nusd(self) -> int:
        """What was charged beyond the hold. The estimate was no upper bound where this is not 0."""
        if self.code not in (SettleCode.SETTLED, SettleCode.CORRECTED):
            return 0
        return max(0, (self.cost_nusd or 0) - (self.held_nusd or 0))


class ReleaseCode(StrEnum):
    """What a release did."""

    FORESTALLED = "forestalled"  # the store knew nothing of it, and will admit nothing of that name
    RELEASED = "released"
    ALREADY_RELEASED = "already_released"
    SETTLED = "settled"
    EXPIRED = "expired"
    DENIED = "denied"


class Grown(NamedTuple):
    """The reservation holds so much now."""

    held_nusd: int


class NotPending(NamedTuple):
    """There is nothing to grow; the state is None where the store knows nothing of the reservation."""

    state: State | None


Growth: TypeAlias = Grown | CapRefused | NotPending
