"""Everything that is known of one request while it is under way.

State lives here, and in the attempt that it holds, and nowhere else: the line fills the fields in
its own order, and the settlement reads them once, at the end, whatever happened.
"""

from dataclasses import dataclass
from typing import Final

from proxy.core.consent import Consent
from proxy.core.errors import GatewayError
from proxy.core.types import Call, Caller, InboundRequest
from proxy.dialects.openai import Operation
from proxy.identity.caller import Prompt
from proxy.ledger.entry import Entry
from proxy.pipeline.attempt import Attempt, GivenUp
from proxy.pipeline.cache_use import CacheUse
from proxy.pipeline.charge import Charge
from proxy.pipeline.form_body import FormBody
from proxy.pipeline.snapshot import Snapshot
from proxy.pipeline.ticket import Ticket
from proxy.routing.resolve import Candidate, Route
from proxy.routing.selection import Choice, Needs
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
    call: Call = _NO_CALL  # as the caller made it
    form: FormBody | None = None  # the body, where it is a form
    tenant: TenantSettings | None = None
    needs: Needs | None = None  # what the call asks of whichever model answers it; None: nobody had to know
    route: Route | None = None
    cache: CacheUse | None = None  # None: caching is off for it
    choice: Choice | None = None
    options_left: tuple[Candidate, ...] = ()  # whom else to ask
    split: str | None = None  # the deployment that a lot has drawn for this caller
    is_in_flight: bool = False  # it has a place among the calls under way
    attempt: Attempt | None = None  # the one under way, or the last
    attempts: int = 0  # sends, however they ended
    given_up: tuple[GivenUp, ...] = ()
    given_up_nusd: int = 0  # what providers may bill for attempts that came to nothing
    withheld: Consent | None = None  # it failed, and with this consent there was a fallback to be had
    counts_dollars: bool = True  # whether what it costs counts against the tenant's caps
    ticket: Ticket | None = None  # None: nothing is limited
    status: int = 0  # what the caller was told; 0 while nothing is
    error: GatewayError | None = None
    sent_at_us: int | None = None  # the first time
    first_byte_at_us: int | None = None
    ended_at_us: int = 0  # set when it is closed
    body_bytes: int = 0
    row: tuple[Attempt | None, Entry] | None = None  # what its rows have in common, while that attempt is the last
    charge: Charge | None = None  # as its headers have told it; nothing but an error changes it after that
    absorption_day: str | None = None  # the day (UTC) on which the operator holds an amount for it

    @property
    def plan(self) -> PlanSettings:
        """The plan of the tenant that calls, once that is known."""
        assert self.tenant is not None, "who calls is known before what it may use"
        return self.snapshot.settings.plans[self.tenant.plan]

    def let_document_go(self) -> None:
        """All that is in it is decided: what was parsed takes more room than its text, which can be parsed again."""
        self.call = self.call._replace(document=None)
        if self.attempt is not None:
            self.attempt.call = self.attempt.call._replace(document=None)

    def let_body_go(self) -> None:
        """Nobody else will be asked: a stream may be open for long, and be one of thousands."""
        self.call = self.call.without_body()
        if self.attempt is not None:
            self.attempt.let_body_go()

    @property
    def dispatched(self) -> bool:
        """True once a provider may have seen the call: from then on it has a row."""
        return self.attempts > 0

    @property
    def fallback_reason(self) -> str | None:
        """Why another deployment than the first choice was asked; None: none was."""
        return reason_of(self.choice, self.attempt, self.given_up)


def reason_of(choice: Choice | None, attempt: Attempt | None, given_up: tuple[GivenUp, ...]) -> str | None:
    """Why this attempt is at another deployment than the first choice, after those; None: it is not."""
    if choice is None or attempt is None or attempt.candidate is choice.first:
        return None
    skipped = next((each for each in given_up if each.name != attempt.candidate.name), None)
    if skipped is None:
        return "unwell"  # the first choice was passed over before anything was sent
    return str(skipped.failure) if skipped.status is None else f"{skipped.failure}:{skipped.status}"
