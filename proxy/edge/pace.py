"""How fast a request's body must come, and how much framing it may have around it.

Pure: `edge.protocol` owns the clock and asks at the end of each window. Time during which
the gateway itself had stopped reading belongs to no window.
"""

from proxy.core.errors import MalformedRequest, RequestTimedOut
from proxy.edge.framing import ProtocolLimits


class BodyPace:
    """One body at a time: `begin`, then `feed`, and `end_window` when its time is over."""

    __slots__ = ("_body_bytes", "_framing_bytes", "_limits", "_seen_bytes", "_window_s")

    def __init__(self, limits: ProtocolLimits) -> None:
        self._limits = limits
        self._body_bytes = 0
        self._framing_bytes = 0
        self._seen_bytes = 0  # of the body, when the window began
        self._window_s = 0.0

    def begin(self) -> None:
        """A request's head is complete."""
        self._body_bytes = self._framing_bytes = self._seen_bytes = 0

    def begin_window(self) -> float:
        """The client may send now. Gives the first window, in seconds."""
        self._seen_bytes = 0
        self._window_s = self._limits.body_first_byte_s
        return self._window_s

    def feed(self, body_bytes: int) -> None:
        """A piece of the body came."""
        self._body_bytes += body_bytes
        self._framing_bytes = 0

    def feed_wire(self, wire_bytes: int) -> None:
        """Bytes came. Called before the parser sees them, so that a piece of body clears the count."""
        self._framing_bytes += wire_bytes

    def check_framing(self) -> None:
        """After the parser has seen the bytes.

        Raises:
            MalformedRequest: chunk sizes, extensions or trailers without end.
        """
        if self._framing_bytes > self._limits.chunk_framing_bytes_max:
            raise MalformedRequest(
                "The body's chunks hold more framing than body. Send larger chunks, without extensions."
            )

    def end_window(self) -> float:
        """The window is over. Gives the next one, in seconds.

        Raises:
            RequestTimedOut: no byte came in the first window, or too few in a later one.
        """
        limits = self._limits
        if self._body_bytes == 0:
            raise RequestTimedOut(
                f"The body did not begin within {limits.body_first_byte_s:g} s. Send it right after the headers."
            )
        came_bytes = self._body_bytes - self._seen_bytes
        if self._seen_bytes and came_bytes < limits.body_bytes_per_s_min * self._window_s:
            raise RequestTimedOut(
                f"The body came slower than {limits.body_bytes_per_s_min} bytes/s. Look at the network, and send again."
            )
        self._seen_bytes, self._window_s = self._body_bytes, limits.body_window_s
        return self._window_s
