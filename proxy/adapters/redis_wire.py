"""Calls to Redis over one connection: any number under way, answered in the order in which they went.

Redis runs one script at a time, so more connections would gain nothing; what is saved is Python. A call
that finds nothing under way leaves at once; others wait for the end of the loop's turn and leave together.
Nothing is ever repeated here: a call without an answer may have been carried out.

State of a link: `_waiting` holds one entry for each command that Redis has not answered, oldest first, those
that were given up included: their answers are read and dropped. Losing a link is final and fails them all.
"""

import asyncio
import math
import os
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Self, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from proxy.adapters.busy_poll import BusyPoll

Argument: TypeAlias = str | bytes | int
Reply: TypeAlias = "bytes | int | list[Reply] | None"
"""A reply as RESP2 carries it: nothing is decoded or reshaped on the way."""
Answer: TypeAlias = "Reply | Exception"
"""A reply, or the error that Redis answered."""

# Redis 6.2 answers in this way what a script was refused: "ERR Error running script (call to f_…): …: -READONLY …".
_READ_ONLY: Final = re.compile(r"(?:ERR Error running script .*-)?READONLY ")

URL_SCHEMES: Final = ("redis", "rediss")
PORT: Final = 6_379
UNDER_WAY_MAX: Final = 10_000
TOGETHER_MAX: Final = 32  # commands in one write
SILENT_S_MAX: Final = 1.0  # an answer that is overdue for so long: the connection leads nowhere any more


class WireError(Exception):
    """There is no answer: not in time, not any more, or no connection. It may have been carried out. The message is
    for operators: it names the host, and no password."""


class WireSilent(WireError):
    """There is a connection, and no answer came in time."""


class WireAddress(NamedTuple):
    """Where Redis is, and who asks."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None
    ssl_context: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str) -> Self:
        """What `redis://[user:password@]host[:port][/database]` says, and `rediss://` over TLS, where the server is
        verified by the system's authorities (`SSL_CERT_FILE` names others).

        Raises:
            ValueError: another scheme, or no URL. It does not show the URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in URL_SCHEMES:
            raise ValueError("The state URL must begin with redis:// or rediss://.")
        return cls(
            parts.hostname or "localhost",
            parts.port or PORT,
            int(parts.path.strip("/") or 0),
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            ssl.create_default_context() if parts.scheme == "rediss" else None,
        )

    @property
    def place(self) -> str:
        """Host and port, as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:  # the password
        return f"WireAddress({self.host!r}, {self.port})"


class RedisWire:
    """One connection, made again when it was lost. It belongs to one event loop."""

    __slots__ = ("_address", "_connecting", "_is_closed", "_link", "_on_connected", "_pack", "_timeout_s")

    def __init__(self, address: WireAddress, timeout_s: float, on_connected: Callable[[bytes | None], None]) -> None:
        """`on_connected` hears what the server of each new connection says of itself (INFO server), before
        anything else is sent to it; None where this user may not ask."""
        from hiredis import pack_command  # only where Redis is configured

        self._address = address
        self._timeout_s = timeout_s
        self._on_connected = on_connected
        self._pack = cast(Callable[[tuple[Argument, ...]], bytes], pack_command)
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None
        self._is_closed = False

    def ask(self, *command: Argument, timeout_s: float | None = None, awake: bool = False) -> Awaitable[Answer]:
        """Send one command, and wait for what this gives; an error that Redis answers is given back, not raised.
        `awake`: some call of a caller waits for it, see `adapters.busy_poll`.

        Raises, when it is waited for:
            WireError: no answer within the time-out (this call's own, if it has one); a new connection has as long.
        """
        if timeout_s is None:
            timeout_s = self._timeout_s
        link = self._link
        if link is None or link.is_lost:
            return self._ask_anew(command, timeout_s)
        return link.ask(self._pack(command), timeout_s, awake=awake)

    async def ask_all(self, commands: Sequence[Sequence[Argument]]) -> list[Answer]:
        """Send several commands together; their answers in order, once all are there. Raises as `ask`, where any of
        them has none."""
        link = self._link
        if link is None or link.is_lost:
            link = await self._connected()
        asked = [link.ask(self._pack(tuple(command)), self._timeout_s) for command in commands]
        replies: list[Answer] = []
        lost: WireError | None = None
        try:
            for each in asked:  # all are waited for: none may fail with nobody to hear it
                try:
                    replies.append(await each)
                except WireError as error:
                    lost = error
        except BaseException:
            for each in asked:
                each.cancel()
            raise
        if lost is not None:
            raise lost
        return replies

    async def close(self) -> None:
        """Close the connection. Safe to repeat."""
        self._is_closed = True
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait((connecting,))
        if self._link is not None:
            self._link.lose(WireError("closed"))

    async def _ask_anew(self, command: tuple[Argument, ...], timeout_s: float) -> Answer:
        link = await self._connected()
        return await link.ask(self._pack(command), timeout_s)

    async def _connected(self) -> "_Link":
        """One attempt for all who wait for it; who hangs up leaves it to the others."""
        if self._is_closed:
            raise WireError("closed")
        connecting = self._connecting
        if connecting is None:
            connecting = self._connecting = asyncio.get_running_loop().create_task(self._connect())
            connecting.add_done_callback(self._attempt_ended)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if connecting.cancelled() and asking is not None and not asking.cancelling():
                raise WireError("closed") from None  # the attempt was given up, not whoever waits for it
            raise

    def _attempt_ended(self, attempt: "asyncio.Task[_Link]") -> None:
        self._connecting = None
        if not attempt.cancelled():
            attempt.exception()  # seen, also where nobody waits for it any more

    async def _connect(self) -> "_Link":
        address, loop = self._address, asyncio.get_running_loop()
        link = _Link(loop)
        try:
            async with asyncio.timeout(self._timeout_s):
                await loop.create_connection(lambda: link, address.host, address.port, ssl=address.ssl_context)
                greeting = await self._greet(link)
        except (OSError, TimeoutError) as error:
            link.lose(WireError("no connection"))
            raise WireError(self._no_connection(error)) from error
        except BaseException:
            link.lose(WireError("no connection"))
            raise
        self._on_connected(greeting)
        self._link = link
        return link

    async def _greet(self, link: "_Link") -> bytes | None:
        """Say who asks, and ask who answers; in one round trip."""
        address = self._address
        demanded: list[asyncio.Future[Answer]] = []  # all are waited for: none may fail with nobody to hear it
        if address.password is not None:
            user = () if address.username is None else (address.username,)
            demanded.append(link.ask(self._pack(("AUTH", *user, address.password)), self._timeout_s))
        if address.database:
            demanded.append(link.ask(self._pack(("SELECT", address.database)), self._timeout_s))
        info = link.ask(self._pack(("INFO", "server")), self._timeout_s)
        *replies, greeting = await asyncio.gather(*demanded, info)
        for reply in replies:
            if isinstance(reply, Exception):
                raise WireError(
                    f"Redis at {address.place} refuses: {_without(address.password, str(reply))}"
                ) from reply
        return greeting if isinstance(greeting, bytes) else None

    def _no_connection(self, error: OSError) -> str:
        """Why there is none, in one line."""
        address, is_tls = self._address, self._address.ssl_context is not None
        what = f"no {'TLS ' if is_tls else ''}connection to Redis at {address.place}"
        if isinstance(error, TimeoutError) and error.errno is None:  # our own time-out; the system's has a number
            why = f"none within {self._timeout_s * 1_000:.0f} ms"
        elif error.errno is not None and (isinstance(error, ConnectionError) or type(error) is OSError):
            why = os.strerror(error.errno)  # asyncio has words of its own, with the place once more
        else:
            why = error.strerror or str(error) or type(error).__name__
        # A server without TLS waits for the end of what it takes for a line, or hangs up.
        is_no_tls = is_tls and isinstance(error, TimeoutError | ssl.SSLError | ConnectionResetError)
        if is_no_tls and not isinstance(error, ssl.SSLCertVerificationError):
            why += ". Does it speak TLS (rediss://)?"
        return f"{what}: {why}"


def _without(password: str | None, words: str) -> str:
    """What Redis said: one that does not know AUTH shows what it was given."""
    return words.replace(password, "…") if password else words


class _Link(asyncio.Protocol):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from hiredis import Reader

        self.is_lost = False
        self._loop = loop
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[asyncio.Future[Answer], float]] = deque()  # an answer, and when it is due
        self._outbox: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._look_at_s = math.inf
        self._busy_poll = BusyPoll(loop)

    def ask(self, command: bytes, timeout_s: float, *, awake: bool = False) -> "asyncio.Future[Answer]":
        """Send a command; its answer, or WireError."""
        loop, waiting, transport = self._loop, self._waiting, self._transport
        answer: asyncio.Future[Answer] = loop.create_future()
        if transport is None or len(waiting) >= UNDER_WAY_MAX:
            answer.set_exception(WireError("too many calls are under way" if transport else "no connection"))
            return answer
        if waiting:
            self._send_together(command)
        else:
            transport.write(command)
            if awake:
                self._busy_poll.begin()
        due_at_s = loop.time() + timeout_s
        waiting.append((answer, due_at_s))
        if due_at_s < self._look_at_s:
            self._look_by(due_at_s)
        return answer

    def lose(self, error: WireError) -> None:
        """Give the connection up; whoever waits for an answer hears why. Safe to repeat."""
        self.is_lost = True
        self._busy_poll.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()  # what was not sent yet must not be carried out later
        self._outbox.clear()
        waiting, self._waiting = self._waiting, deque()
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(error)

    # ── asyncio's side ───────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.is_lost:  # given up while it was made
            cast(asyncio.Transport, transport).abort()
        else:
            self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        waiting, next_reply = self._waiting, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := next_reply()) is not False:
                if not waiting:  # nobody asked
                    self.lose(WireError("an answer to nothing"))
                    return
                answer, _ = waiting.popleft()
                if isinstance(reply, Exception) and _READ_ONLY.match(str(reply)):
                    # The address may lead to another server by now. This is done before whoever asked goes on.
                    self._loop.call_soon(self.lose, WireError("this Redis takes no writes"))
                if not answer.done():
                    answer.set_result(reply)
            if not waiting:
                self._busy_poll.end()
        except Exception as error:  # noqa: BLE001  hiredis: what came is no RESP
            lost = WireError("what answers does not speak Redis's protocol")
            lost.__cause__ = error
            self.lose(lost)

    def connection_lost(self, exc: Exception | None) -> None:
        error = WireError("the connection to Redis was lost")
        error.__cause__ = exc
        self.lose(error)

    def _send_together(self, command: bytes) -> None:
        outbox = self._outbox
        outbox.append(command)
        if len(outbox) == 1:
            self._loop.call_soon(self._flush)
        elif len(outbox) >= TOGETHER_MAX:
            self._flush()  # a long turn must not hold back what was asked at its beginning

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        if outbox and self._transport is not None:
            self._transport.write(b"".join(outbox))

    def _look(self) -> None:
        """Give up what is overdue."""
        self._timer = None
        self._look_at_s = math.inf
        now_s = self._loop.time()
        if self._waiting and now_s - self._waiting[0][1] > SILENT_S_MAX:
            self.lose(WireSilent("no answer in time"))
            return
        next_at_s = math.inf
        for answer, due_at_s in self._waiting:
            if answer.done():
                continue
            if due_at_s > now_s:
                next_at_s = min(next_at_s, due_at_s)
            else:
                answer.set_exception(WireSilent("no answer in time"))
        if self._waiting:
            self._look_by(min(next_at_s, now_s + SILENT_S_MAX))

    def _look_by(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._look_at_s = at_s
        self._timer = self._loop.call_at(at_s, self._look)
