"""The caller's side of one exchange, as the line sees it.

The protocol is stated here and implemented at the front (`edge.relay`): the line must not
know about ASGI, and unit tests drive it with a scripted caller.
"""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from proxy.core.errors import GatewayError
from proxy.core.types import Answer, Headers


class Downstream(Protocol):
    """Reads the caller's body; writes the answer, at most one."""

    @property
    def head_sent(self) -> bool:
        """True once the answer's head is on its way: nothing else can be said then."""
        ...

    @property
    def gone(self) -> bool:
        """True once the caller has hung up."""
        ...

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call back, at once and only once, when the caller hangs up."""
        ...

    async def read_body(self, bytes_max: int) -> bytes:
        """The whole body. Raises RequestTooLarge, CallerGone."""
        ...

    def stream_body(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises RequestTooLarge, CallerGone."""
        ...

    async def send_head(self, status: int, headers: Headers) -> None:
        """The answer's status and headers."""
        ...

    async def send_chunk(self, chunk: bytes, more: bool) -> None:
        """A piece of the body; waits while the caller is slow. `more=False` ends it cleanly."""
        ...

    async def send_answer(self, answer: Answer, headers: Headers) -> None:
        """A whole answer of the gateway's own."""
        ...

    async def refuse(self, error: GatewayError, headers: Headers) -> None:
        """Render an error in the caller's dialect; nothing if the head is out already."""
        ...

    def abort(self) -> None:
        """Close the connection without a clean end: what was sent is not the whole answer."""
        ...
