"""What an exchange may spend: its place in every limit and cap, from admission to settlement."""

from dataclasses import dataclass

from proxy.admission.estimate import Estimate
from proxy.admission.figures import NOTHING_LIMITED, Left
from proxy.admission.terms import Demand
from proxy.pipeline.allowance import Allowance


@dataclass(slots=True)
class Ticket:
    """A reservation that was admitted. `held_nusd` grows where a stream's hold is extended."""

    demand: Demand
    held_nusd: int
    estimate: Estimate | None = None  # None: no cap holds, so nobody asked what it may cost
    # How often the tenant's stored provider keys had changed by the admission; None: this process's own limits
    # admitted it, while the store was away.
    keyring_epoch: int | None = None
    left: Left = NOTHING_LIMITED  # as of the admission
    is_soft: bool = False  # that one is filled beyond the plan's `soft_cap_pct`
    answer_tokens: int | None = None  # what one answer may come to under this hold; None: all that the estimate has
    inserted_ceiling: int | None = None  # the ceiling that was spliced into the body
    call_caps: tuple[Allowance, ...] = ()  # those that bound what this one call may cost

    @property
    def is_in_store(self) -> bool:
        """True where the store knows of it, and is to hear of its end."""
        return self.keyring_epoch is not None
