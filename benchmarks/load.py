"""The load generator: a closed loop of prepared requests, timed in nanoseconds.

One request is outstanding on each connection; the next leaves when the answer is whole. How
fast it is itself is what it measures against the upstream directly, and it says how busy its
core was.
"""

import asyncio
import contextlib
import itertools
import random
import ssl
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from benchmarks.simulated_upstream import SENT_NS

CONNECT_S_MAX: Final = 5.0
ANSWER_S_MAX: Final = 30.0
FAILURES_MAX: Final = 100
_CONNECTED_S: Final = 2.0
NUMBER: Final = b"%020d" % 0
"""What a numbered body has somewhere: each call has another number in its place."""

_SHOWN_BYTES_MAX: Final = 300
_NS_PER_S: Final = 1_000_000_000
_LINGER_S: Final = 0.002
_CONNECTING_MAX: Final = 64  # at once: more would overflow a server's queue of connections it has not accepted yet


@dataclass(frozen=True, slots=True)
class Round:
    """What to send, to whom, and for how long."""

    base_url: str  # ends in /v1, as a client's would
    body: bytes
    token: str
    connections: int
    seconds: float
    warm_up_s: float = 0.1
    spread_s: float = 0.0  # the connections begin one after the other over so long, within the warm-up
    watches_events: bool = False  # time each event of a stream; costs the generator some of its speed
    path: str = "/chat/completions"
    tenant: str | None = None  # whose calls they are, where headers say that
    tokens: Sequence[str] = ()  # one for each call, in the place of `token`
    bodies: Sequence[bytes] = ()  # likewise, in the place of `body`; all of one length
    is_numbered: bool = False  # no two calls are the same, in no round: see NUMBER
    seed: int | None = None  # of the choice among those; None: one after the other, from the first
    calls_max: int | None = None  # the round ends with so many answers, if that is sooner
    abandons: bool = False  # hang up at the end, whatever is under way: for streams that last longer than the round
    ca_file: Path | None = None  # whom to trust, where the URL is https; None: the system's authorities


@dataclass(slots=True)
class Sample:
    """What was seen in the measured time; requests that began before it are not counted."""

    elapsed_ns: int = 0
    busy_ns: int = 0  # the generator's own CPU time
    latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))  # to the last byte
    first_bytes_ns: "array[int]" = field(default_factory=lambda: array("q"))  # to the first byte of the body
    gaps_ns: "array[int]" = field(default_factory=lambda: array("q"))  # between the events of a stream
    hops_ns: "array[int]" = field(default_factory=lambda: array("q"))  # from an event's being written to its arrival
    completed: int = 0  # every good answer, in the warm-up and after the end as well
    failures: int = 0
    first_failure: str = ""
    served_cpu_ns: int = 0  # what the other side's process used for it, where somebody looked

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return len(self.latencies_ns) * _NS_PER_S / self.elapsed_ns if self.elapsed_ns else 0.0


class LoadFailed(Exception):
    """The other side did not answer as a benchmark needs it."""


def request_bytes(round_: Round) -> bytes:
    """The request as it goes over the wire, every time the same."""
    return head_bytes(round_, round_.token) + round_.body


def requests(round_: Round) -> Iterator[bytes]:
    """What goes over the wire, call by call, without end."""
    if round_.is_numbered:
        numbered = request_bytes(round_)
        while True:
            yield numbered.replace(NUMBER, b"%020d" % time.perf_counter_ns(), 1)
    if not round_.tokens and not round_.bodies:
        yield from itertools.repeat(request_bytes(round_))
    heads = [head_bytes(round_, token) for token in round_.tokens or (round_.token,)]
    bodies = round_.bodies or (round_.body,)
    assert {len(body) for body in bodies} == {len(round_.body)}, "the head says one length for all"
    if round_.seed is None:
        for number in itertools.count():
            yield heads[number % len(heads)] + bodies[number % len(bodies)]
    chance = random.Random(round_.seed)
    while True:
        yield chance.choice(heads) + chance.choice(bodies)


def head_bytes(round_: Round, token: str) -> bytes:
    """A request's head."""
    url = urlsplit(round_.base_url)
    lines = (
        f"POST {url.path.rstrip('/')}{round_.path} HTTP/1.1",
        f"host: {url.netloc}",
        *([] if round_.tenant is None else [f"x-tollway-tenant: {round_.tenant}"]),
        "accept: application/json",
        "accept-encoding: gzip, deflate",
        "content-type: application/json",
        "user-agent: tollway-benchmark",
        f"authorization: Bearer {token}",
        f"content-length: {len(round_.body)}",
    )
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


async def run(round_: Round) -> Sample:
    """Play one round.

    Raises:
        LoadFailed: no connection, or not one good answer.
    """
    course = _Course(round_)
    try:
        # Whoever begins late connects late: a gateway closes connections on which no request comes.
        at_once = round_.connections if round_.spread_s <= _CONNECTED_S else 0
        for begun in range(0, at_once, _CONNECTING_MAX):
            count = min(_CONNECTING_MAX, at_once - begun)
            async with asyncio.timeout(CONNECT_S_MAX):
                await asyncio.gather(*(course.connect() for _ in range(count)))
    except (OSError, TimeoutError) as error:
        course.close()
        raise LoadFailed(f"{round_.base_url} cannot be connected to: {_reason(error)}") from None
    try:
        return await course.play()
    finally:
        course.close()
        await asyncio.sleep(_LINGER_S)  # the sockets are closed in the loop's next turns


class _Course:
    """One round while it runs."""

    def __init__(self, round_: Round) -> None:
        url = urlsplit(round_.base_url)
        is_tls = url.scheme == "https"
        self.round = round_
        self.requests = requests(round_)
        self.sample = Sample()
        self.is_running = True
        self.is_measuring = False
        self.began_ns = 0
        self.outstanding = 0
        self.idle = asyncio.Event()
        self.is_done = asyncio.Event()  # there are as many answers as were wanted
        self._clients: set[_Client] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._host, self._port = url.hostname or "", url.port or (443 if is_tls else 80)
        self._tls = ssl.create_default_context(cafile=round_.ca_file) if is_tls else None

    async def connect(self) -> None:
        client = _Client(self)
        self._clients.add(client)
        await self._loop.create_connection(lambda: client, self._host, self._port, ssl=self._tls)

    async def play(self) -> Sample:
        step_s = self.round.spread_s / self.round.connections
        begins = [client.fire for client in self._clients] or [self._connect_later] * self.round.connections
        for number, begin in enumerate(begins):
            self._loop.call_later(number * step_s, begin)
        await asyncio.sleep(self.round.warm_up_s)
        busy_ns, self.began_ns = time.process_time_ns(), time.perf_counter_ns()
        self.is_measuring = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.round.seconds):
                await self.is_done.wait()
        self.is_measuring = False
        self.sample.elapsed_ns = time.perf_counter_ns() - self.began_ns
        self.sample.busy_ns = time.process_time_ns() - busy_ns
        self.is_running = False
        if self.outstanding and not self.round.abandons:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S_MAX):
                    await self.idle.wait()
        if not self.sample.latencies_ns and not (self.round.abandons and self.sample.hops_ns):
            raise LoadFailed(f"{self.round.base_url}: {self.sample.first_failure or 'no answer in the time given'}")
        return self.sample

    def fail(self, what: str) -> None:
        self.sample.failures += 1
        self.sample.first_failure = self.sample.first_failure or what
        if self.sample.failures >= FAILURES_MAX:
            self.is_running = False

    def completed(self) -> None:
        self.sample.completed += 1
        if self.sample.completed == self.round.calls_max:
            self.is_running = False
            self.is_done.set()

    def lost(self, client: "_Client") -> None:
        """A connection is gone; while the round runs, another takes its place."""
        self._clients.discard(client)
        self._connect_later()

    def _connect_later(self) -> None:
        if self.is_running:
            task = self._loop.create_task(self._connect_and_fire())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect_and_fire(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                client = _Client(self)
                self._clients.add(client)
                await self._loop.create_connection(lambda: client, self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            self.fail(f"cannot connect: {_reason(error)}")
        else:
            client.fire()

    def close(self) -> None:
        self.is_running = False
        for task in self._connecting:
            task.cancel()
        for client in list(self._clients):
            client.close()


class _Client(asyncio.Protocol):
    """One connection of the closed loop."""

    __slots__ = (
        "_course",
        "_event_ns",
        "_failure",
        "_first_ns",
        "_is_open",
        "_parser",
        "_sent_ns",
        "_transport",
        "_watches",
        "on_body",
    )

    def __init__(self, course: _Course) -> None:
        self._course = course
        self._watches = course.round.watches_events
        self.on_body = self._on_event if self._watches else self._on_body
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._is_open = False  # a request is outstanding
        self._sent_ns = self._first_ns = self._event_ns = 0
        self._failure = b""

    def fire(self) -> None:
        """Send the request, unless the round is over."""
        if self._transport is None or not self._course.is_running:
            return
        self._is_open = True
        self._course.outstanding += 1
        self._first_ns = self._event_ns = 0
        request = next(self._course.requests)
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have no such base class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._is_open:
            self._landed()
            if self._course.is_running:
                self._course.fail(f"the connection broke in the middle of an answer: {exc or 'closed'}")
        self._course.lost(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._course.fail(f"the answer is not HTTP: {error}")
            self.close()

    def _on_body(self, chunk: bytes) -> None:
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()
            if self._parser.get_status_code() != 200:
                self._failure = chunk[:_SHOWN_BYTES_MAX]

    def _on_event(self, chunk: bytes) -> None:
        now_ns = time.perf_counter_ns()
        self._on_body(chunk)
        sample = self._course.sample
        if self._event_ns and self._course.is_measuring:
            sample.gaps_ns.append(now_ns - self._event_ns)
        self._event_ns = now_ns
        # Both processes read the machine's monotonic clock, so the difference is the way between them.
        at = chunk.find(SENT_NS)
        if at >= 0 and self._course.is_measuring:
            sent_ns = chunk[at + len(SENT_NS) : chunk.find(b"\n", at)]
            sample.hops_ns.append(time.monotonic_ns() - int(sent_ns))

    def on_message_complete(self) -> None:
        now_ns = time.perf_counter_ns()
        course, sample = self._course, self._course.sample
        self._landed()
        status = self._parser.get_status_code()
        if status != 200:
            course.fail(f"status {status}: {self._failure.decode(errors='replace')}")
        else:
            course.completed()
        if status == 200 and course.is_measuring and self._sent_ns >= course.began_ns:
            sample.latencies_ns.append(now_ns - self._sent_ns)
            sample.first_bytes_ns.append(self._first_ns - self._sent_ns)
        if not self._parser.should_keep_alive():
            self.close()
            return
        self.fire()

    def _landed(self) -> None:
        course = self._course
        self._is_open = False
        course.outstanding -= 1
        if not course.is_running and not course.outstanding:
            course.idle.set()
