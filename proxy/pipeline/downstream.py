"""The caller's side of one exchange, as the line sees it.

The protocol is stated here and implemented at the front (`edge.relay`), because arrows point
down and the line must not know about ASGI.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from proxy.core.errors import GatewayError
from proxy.core.types import Answer
from proxy.pipeline.passage import Passage
from proxy.upstream.client import UpstreamAnswer


class Downstream(Protocol):
    """Reads the caller's body; writes the answer, at most one."""

    @property
    def head_sent(self) -> bool:
        """True once the answer's head is on its way: nothing else can be said then."""
        ...

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """The task that serves this request: what a hang-up cancels."""
        ...

    @property
    def announced_bytes(self) -> int | None:
        """The length of the request's body, where the caller told it."""
        ...

    @property
    def body_bytes(self) -> int:
        """How much of an upstream's answer was passed on."""
        ...

    def on_gone(self, callback: Callable[[], object]) -> None:
        """Call back, at once and only once, when the caller hangs up before its answer ends."""
        ...

    async def read_body(self, bytes_max: int) -> bytes:
        """The whole body. Raises RequestTooLarge, CallerGone."""
        ...

    def stream_body(self, bytes_max: int) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises RequestTooLarge, CallerGone."""
        ...

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head of an upstream's answer; `relay` follows."""
        ...

    async def relay(self, answer: UpstreamAnswer, passage: Passage) -> None:
        """Pass an upstream's body on, chunk by chunk as it arrives.

        The passage's tap has heard the beginning, listens to every other, and says at the end whether the
        answer is whole.

        Raises:
            UpstreamTruncated, UpstreamTimedOut, UpstreamMalformed: the answer broke off.
            CapExceeded, StateUnavailable: what the stream holds could not be extended. The caller has been told,
                in the stream.
        """
        ...

    async def replay(self, body: bytes, headers: list[tuple[bytes, bytes]], events_per_s: int | None) -> None:
        """A kept answer, byte for byte: at once, or so many events of it in a second. The framing is the
        connection's to choose where no header tells a length."""
        ...

    async def send_answer(self, answer: Answer, headers: list[tuple[bytes, bytes]]) -> None:
        """A whole answer of the gateway's own."""
        ...

    async def refuse(self, error: GatewayError, headers: list[tuple[bytes, bytes]]) -> None:
        """Say an error in the caller's dialect; once the head is out, close without a clean end."""
        ...

    def close(self) -> None:
        """Forget the callback: the exchange is over."""
        ...
