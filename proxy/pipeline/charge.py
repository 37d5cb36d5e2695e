"""What a run used, and what of it is whose to pay."""

from typing import Final, NamedTuple

from proxy.admission.terms import TOKENS_MAX
from proxy.core.types import Usage, UsageSource


class Charge(NamedTuple):
    """`cost_nusd` is what the usage costs, `charged_nusd` what of it counts against the tenant's
    caps, `absorbed_nusd` what the operator bears. None: not known."""

    usage: Usage | None = None
    usage_source: UsageSource | None = None
    cost_nusd: int | None = None
    charged_nusd: int | None = None
    absorbed_nusd: int | None = None

    @property
    def tokens(self) -> int | None:
        """For the token buckets, which take so many of one call; None: what was expected stays."""
        return None if self.usage is None else min(self.usage.input_tokens + self.usage.output_tokens, TOKENS_MAX)


NOTHING: Final = Charge()
