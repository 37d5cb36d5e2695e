"""One deployment that is asked, and all that is known of asking it.

An exchange has one at a time; a fallback puts another in its place, and what became of the earlier ones is kept in
a line each. What is reserved, sent, measured and priced is the attempt's: the call as this provider gets it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from proxy.core.types import Call, Deployment, KeySource
from proxy.dialects.openai import Operation
from proxy.dialects.opening import Opening
from proxy.dialects.stream_usage import UsageAsking
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.dialects.usage import UsageTap
from proxy.pipeline.translation import Translation
from proxy.pricing.facts import ModelFacts
from proxy.routing.resolve import Candidate
from proxy.upstream.fallback import Failure
from proxy.upstream.payer import Payer


@dataclass(slots=True)
class Attempt:
    """One deployment's. Instants are monotonic microseconds; None: that point was not reached."""

    candidate: Candidate
    operation: Operation  # what this provider is asked for
    call: Call  # as this provider gets it
    payer: Payer
    facts: ModelFacts | None  # what is known of the model that is asked; None: not its price
    # Of the model that the tenant asked for, where another is asked in its place: that price bounds what it pays.
    promised_facts: ModelFacts | None = None
    translation: Translation | None = None  # None: the provider speaks the caller's own API
    asking: UsageAsking = UsageAsking.LEAVE
    may_hide_reasoning: bool = False
    text_bytes: int | None = None  # of a call whose body was let go
    upstream_status: int | None = None
    opening: Opening = Opening.ANSWER  # how its stream began
    is_let_in: bool = False  # it has a place at a deployment that takes only so many
    usage_tap: UsageTap | None = None
    output_counter: StreamedOutputCounter | None = None  # beside the tap, where a cap holds for a stream

    @property
    def deployment(self) -> Deployment:
        """Whom it asks."""
        return self.candidate.deployment

    def forget_answer(self) -> None:
        """It is sent again: nothing that is known of its last answer says anything of what becomes of this."""
        self.upstream_status = self.usage_tap = self.output_counter = None
        self.opening = Opening.ANSWER

    def let_body_go(self) -> None:
        """It has been sent for the last time: all that is still asked of it is how long it was."""
        self.text_bytes = len(self.call.text or b"")
        self.call = self.call.without_body()

    @property
    def key_source(self) -> KeySource:
        """Whose provider key pays for it."""
        return self.payer.source


class GivenUp(NamedTuple):
    """An attempt that came to nothing, in a line: for the row, the log and the metrics."""

    name: str  # the candidate's
    label: str
    failure: Failure
    status: int | None = None

    def __str__(self) -> str:
        return f"{self.label}:{self.failure if self.status is None else self.status}"
