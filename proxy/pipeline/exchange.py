"""Everything that is known of one request while it is under way.

State lives here and nowhere else: the line fills the fields in its own order, and the
settlement reads them once, at the end, whatever happened.
"""

from dataclasses import dataclass
from typing import Final

from proxy.core.errors import GatewayError
from proxy.core.types import Call, Caller, Deployment, InboundRequest, KeySource
from proxy.dialects.openai import Operation
from proxy.dialects.stream_usage import UsageAsking
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.dialects.usage import UsageTap
from proxy.identity.caller import Prompt
from proxy.pipeline.form_body import FormBody
from proxy.pipeline.snapshot import Snapshot
from proxy.pipeline.ticket import Ticket
from proxy.pipeline.translation import Translation
from proxy.pricing.facts import ModelFacts
from proxy.routing.resolve import Route
from proxy.settings.model import PlanSettings, TenantSettings

_NO_CALL: Final = Call()  # until the body is read


@dataclass(slots=True)
class Exchange:
    """One request. Instants are monotonic microseconds; None: that point was not reached."""

    run_id: str
    request: InboundRequest
    snapshot: Snapshot
    operation: Operation
    started_at_ms: int
    accepted_at_us: int
    prompt: Prompt | None = None
    caller: Caller | None = None
    call: Call = _NO_CALL
    form: FormBody | None = None  # the body, where it is a form
    route: Route | None = None
    deployment: Deployment | None = None
    key_source: KeySource | None = None
    tenant: TenantSettings | None = None
    facts: ModelFacts | None = None  # what is known of the model that is asked; None: not its price
    counts_dollars: bool = True  # whether what it costs counts against the tenant's caps
    ticket: Ticket | None = None  # None: nothing is limited
    asking: UsageAsking = UsageAsking.LEAVE
    may_hide_reasoning: bool = False
    attempts: int = 0
    upstream_status: int | None = None
    usage_tap: UsageTap | None = None
    output_counter: StreamedOutputCounter | None = None  # beside the tap, where a cap holds for a stream
    status: int = 0  # what the caller was told; 0 while nothing is
    error: GatewayError | None = None
    sent_at_us: int | None = None
    first_byte_at_us: int | None = None
    ended_at_us: int = 0  # set when it is closed
    body_bytes: int = 0
    translation: Translation | None = None  # None: the provider speaks the caller's own API

    @property
    def upstream_operation(self) -> Operation:
        """What the provider is asked: what the caller asks for, or what that is in the provider's API."""
        return self.operation if self.translation is None else self.translation.operation

    @property
    def plan(self) -> PlanSettings:
        """The plan of the tenant that calls, once that is known."""
        assert self.tenant is not None, "who calls is known before what it may use"
        return self.snapshot.settings.plans[self.tenant.plan]

    @property
    def dispatched(self) -> bool:
        """True once a provider may have seen the call: from then on it has a row."""
        return self.attempts > 0
