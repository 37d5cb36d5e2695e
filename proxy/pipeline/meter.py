"""Extends what a stream holds while it runs, where its call named no ceiling (`no_ceiling`).

The hold covers an answer of so many tokens. A token is a byte at least, so the bytes heard so far
bound the tokens; before they reach the hold, it is extended, or the stream is cut.
"""

from typing import Final

from proxy.admission.estimate import worst_nusd
from proxy.admission.keeper import Keeper
from proxy.dialects.streamed_output import StreamedOutputCounter
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.holding import hold_more
from proxy.pipeline.rows import pending_row
from proxy.telemetry.metrics import Metrics

_AHEAD_TOKENS: Final = 1_024  # what may be on its way while the store is asked


class Meter:
    """One stream's. `is_low` costs little; `extend` is one round trip."""

    __slots__ = ("_counter", "_exchange", "_keeper", "_metrics", "_slice_tokens")

    def __init__(self, exchange: Exchange, counter: StreamedOutputCounter, keeper: Keeper, metrics: Metrics) -> None:
        assert exchange.ticket is not None
        assert exchange.ticket.answer_tokens is not None
        self._exchange = exchange
        self._counter = counter
        self._keeper = keeper
        self._metrics = metrics
        self._slice_tokens = exchange.ticket.answer_tokens

    @property
    def is_low(self) -> bool:
        """True where what is held may not cover what comes next."""
        ticket = self._exchange.ticket
        assert ticket is not None
        if ticket.answer_tokens is None:
            return False  # it holds the longest answer by now
        return not self._counter.is_complete or self._counter.output_bytes + _AHEAD_TOKENS > ticket.answer_tokens

    async def extend(self) -> None:
        """Hold a slice more.

        Raises:
            CapExceeded: a cap cannot hold it.
            StateUnavailable: the store is away, or has given the reservation up.
        """
        ticket = self._exchange.ticket
        assert ticket is not None
        assert ticket.estimate is not None
        assert ticket.answer_tokens is not None
        heard_tokens = self._counter.output_bytes + _AHEAD_TOKENS
        answer_tokens = max(ticket.answer_tokens, heard_tokens) + self._slice_tokens
        if not self._counter.is_complete:
            answer_tokens = ticket.estimate.answer_tokens_max  # what cannot be counted is held whole
        held_nusd = worst_nusd(ticket.estimate, answer_tokens)
        await hold_more(ticket, held_nusd, pending_row(self._exchange, held_nusd), self._keeper, self._metrics)
        whole = answer_tokens >= ticket.estimate.answer_tokens_max
        ticket.answer_tokens = None if whole else answer_tokens
