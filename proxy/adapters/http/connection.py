"""One connection to an upstream: bytes in and out, one timer, and whose turn it is.

It is connecting, busy (`_round_trip` is set), resting in its pool, on its way between the two,
or closed. Closing is final, idempotent, and tells the pool at once.
"""

import asyncio
import math
import select
import socket
from collections.abc import Callable
from typing import Final, cast

import httpx

from proxy.adapters.busy_poll import BusyPoll
from proxy.adapters.http.framing import ResponseReader
from proxy.adapters.http.round_trip import RoundTrip
from proxy.adapters.queued_writes import QueuedWrites

_JOINED_BYTES_MAX: Final = 65_536  # head and body below this leave in one write
# A peer that vanished without a word (a firewall's forgetting, a machine that died) is noticed
# within a minute, and not at the end of a plain call's total time. See tcp(7).
_PROBES: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_UNSENT_BYTES_MAX: Final = 65_536  # beyond this a request counts as not sent yet


class Connection(asyncio.BufferedProtocol):
    """A connection of the pool that gave the two callbacks."""

    __slots__ = (
        "_busy_poll",
        "_forget",
        "_give_back",
        "_inbox",
        "_is_reading_paused",
        "_poll",
        "_reader",
        "_round_trip",
        "_timer",
        "_timer_at",
        "_transport",
        "_unwritten",
        "_wake_at",
        "_writes",
        "is_closed",
        "is_write_paused",
        "loop",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: memoryview,
        busy_poll: BusyPoll,
        writes: QueuedWrites,
        give_back: "Callable[[Connection], None]",
        forget: "Callable[[Connection], None]",
    ) -> None:
        self.loop = loop
        self.is_closed = False
        self.is_write_paused = False
        self._inbox = inbox  # shared by all connections of a loop: what it holds is read at once
        self._busy_poll = busy_poll  # the pool's, to which it is told that something came
        self._writes = writes  # likewise
        self._unwritten = b""  # a request that leaves at the end of the loop's turn
        self._give_back = give_back
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._reader = ResponseReader()
        self._round_trip: RoundTrip | None = None
        self._is_reading_paused = False
        # One timer, armed again only for an earlier moment; one that fires too early looks anew.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._wake_at = math.inf

    # For the pool.

    def is_usable(self) -> bool:
        """True if nothing has happened to it while it rested, not even unseen by the loop."""
        transport = self._transport
        return not (self.is_closed or transport is None or transport.is_closing() or self._poll.poll(0))

    def close(self) -> None:
        """Close at once, without lingering."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        round_trip, self._round_trip = self._round_trip, None
        self._unwritten = b""
        if self._transport is not None:
            self._transport.abort()
        self._forget(self)
        if round_trip is not None:
            round_trip.lost(None)

    # For the round trip, and `wake_by` for the pool too.

    def begin(self, round_trip: RoundTrip, *, bodiless: bool) -> None:
        """Take up a round trip; `bodiless` if its answer will have no body."""
        assert self._round_trip is None
        self._round_trip = round_trip
        self._reader.expect(bodiless=bodiless)

    def write(self, head: bytes, content: bytes) -> None:
        """Write both, in one packet where they are small."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # the round trip hears of it when the loop has told us
        if len(content) <= _JOINED_BYTES_MAX:
            transport.write(head + content)
        else:
            transport.write(head)
            transport.write(content)

    def write_soon(self, request: bytes) -> None:
        """Write a whole request at the end of the loop's turn, and tell its round trip. For a connection that rested:
        a new one may have something to say that belongs to its handshake."""
        self._unwritten = request
        self._writes.add(self._write_unwritten)

    @property
    def unsent_bytes(self) -> int:
        """What was written, but not yet taken by the kernel."""
        transport = self._transport
        return 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read nothing more until `resume_reading`; either may be repeated."""
        if not self._is_reading_paused and self._transport is not None and not self._transport.is_closing():
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._is_reading_paused:
            self._is_reading_paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def wake_by(self, at: float) -> None:
        """Look at the round trip's deadlines at the loop's time `at`, or close if there is none by
        then; replaces the last such wish."""
        self._wake_at = at
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self.loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = self.loop.time()
        if now < self._wake_at:
            if self._wake_at != math.inf:
                self.wake_by(self._wake_at)
        elif self._round_trip is not None:
            self._round_trip.expire(now)
        else:
            self.close()

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, TLS included."""
        self._transport = duplex = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        if self.is_closed:
            duplex.abort()
            return
        # Low at 0: "resume" then says that everything was sent.
        duplex.set_write_buffer_limits(high=_UNSENT_BYTES_MAX, low=0)
        wire = duplex.get_extra_info("socket")
        self._poll.register(wire.fileno(), select.POLLIN)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _PROBES:
            if hasattr(socket, option):  # not every system has each
                wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop puts what it receives."""
        return self._inbox

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self._busy_poll.end()
        round_trip = self._round_trip
        if round_trip is None or self._unwritten:
            # Nobody asked, or has not yet. What speaks unasked could answer the next request before it is made.
            self.close()
            return
        reader = self._reader
        try:
            reader.feed(self._inbox[:nbytes])
        except httpx.RemoteProtocolError as error:
            round_trip.advance(reader)
            self._round_trip = None
            round_trip.fail(error)
            return
        round_trip.advance(reader)
        if reader.is_complete:
            self._finish(round_trip)

    def eof_received(self) -> None:
        """The upstream will send no more. An answer without a length ends here."""
        round_trip = self._round_trip
        if round_trip is not None and self._reader.finish():
            round_trip.advance(self._reader)
            self._finish(round_trip)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        round_trip, self._round_trip = self._round_trip, None
        if round_trip is not None:
            round_trip.lost(exc)
        self.close()

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """Everything that was written is in the kernel's hands."""
        self.is_write_paused = False
        if self._round_trip is not None:
            self._round_trip.drained()

    def _write_unwritten(self) -> None:
        unwritten, self._unwritten = self._unwritten, b""
        round_trip = self._round_trip
        if not unwritten or round_trip is None:
            return
        if not self.is_usable():  # something has happened since the pool looked
            self.close()
            return
        self.write(unwritten, b"")
        round_trip.left()

    def _finish(self, round_trip: RoundTrip) -> None:
        """The whole answer has been taken."""
        transport = self._transport
        assert transport is not None
        self._round_trip = None
        if (
            self._reader.is_reusable
            and round_trip.is_sent
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            if self._is_reading_paused:
                self.resume_reading()
            self._wake_at = math.inf
            self._give_back(self)
        else:
            self.close()
