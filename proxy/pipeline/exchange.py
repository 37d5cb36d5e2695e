"""Everything that is known of one request while it is under way.

State lives here and nowhere else: the line fills the fields in its own order, and the
settlement reads them once, at the end, whatever happened.
"""

import os
from dataclasses import dataclass, field

from proxy.core.clock import Clock
from proxy.core.errors import GatewayError
from proxy.core.types import Call, Caller, Deployment, InboundRequest, KeySource
from proxy.dialects.openai import Operation
from proxy.dialects.usage import UsageTap
from proxy.identity.caller import Prompt
from proxy.pipeline.snapshot import Snapshot
from proxy.routing.resolve import Route


@dataclass(slots=True)
class Exchange:
    """One request. Instants are monotonic microseconds; None: that point was not reached."""

    run_id: str
    request: InboundRequest
    snapshot: Snapshot
    operation: Operation
    started_at_ms: int
    accepted_us: int
    prompt: Prompt | None = None
    caller: Caller | None = None
    call: Call = field(default_factory=Call)
    route: Route | None = None
    deployment: Deployment | None = None
    key_source: KeySource | None = None
    attempts: int = 0
    usage_tap: UsageTap | None = None
    status: int = 0  # what the caller was told; 0 while nothing is
    error: GatewayError | None = None
    sent_us: int | None = None
    head_us: int | None = None
    first_byte_us: int | None = None
    body_bytes: int = 0

    @property
    def dispatched(self) -> bool:
        """True once a provider may have seen the call: from then on it has a row."""
        return self.attempts > 0


def open_exchange(
    request: InboundRequest, operation: Operation, snapshot: Snapshot, clock: Clock, accepted_us: int
) -> Exchange:
    """Begin an exchange, on the snapshot that holds now and until its end."""
    started_at_ms = clock.now_ms()
    return Exchange(_run_id(started_at_ms), request, snapshot, operation, started_at_ms, accepted_us)


def _run_id(started_at_ms: int) -> str:
    """Sorts by time, and cannot be guessed: 48 bits of milliseconds, 80 random bits."""
    return f"run_{started_at_ms:012x}{os.urandom(10).hex()}"
