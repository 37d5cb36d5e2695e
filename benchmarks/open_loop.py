"""A load generator that does not wait for answers: each call leaves at the time that was drawn for it.

What is late is late from that time on, so a gateway that stalls cannot slow the calls down that would show it. Each
tenant's calls come at a constant rate, independently of one another (a Poisson process). Connections are opened as they
are needed, and used again.
"""

import asyncio
import gc
import heapq
import random
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from benchmarks.fine_timer import FineTimer
from benchmarks.load import LoadFailed

CONNECTIONS_MAX: Final = 4_000
CONNECT_S_MAX: Final = 5.0
ANSWER_S_MAX: Final = 10.0
_OK: Final = 200
_NS_PER_S: Final = 1_000_000_000
_LINGER_S: Final = 0.01
_YIELD_NS: Final = 500_000


@dataclass(frozen=True, slots=True)
class Storm:
    """What to send, and how much of it for which tenant."""

    base_url: str  # ends in /v1
    bodies: Sequence[bytes]  # one is drawn for each call
    per_s: Mapping[str, float]  # calls a second, by tenant
    seconds: float
    warm_up_s: float
    seed: int
    token: str | None = None  # the bearer token


@dataclass(slots=True)
class Seen:
    """What became of one tenant's calls in the measured time."""

    statuses: Counter[int] = field(default_factory=Counter)  # 0: the connection broke, or no answer came
    # Of good answers, from when the call was due.
    first_bytes_ns: "array[int]" = field(default_factory=lambda: array("q"))
    latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))  # to the last byte
    lates_ns: "array[int]" = field(default_factory=lambda: array("q"))  # by how much it left too late: our own fault

    @property
    def sent(self) -> int:
        """How many there were."""
        return self.statuses.total()


def arrivals(per_s: Mapping[str, float], until_s: float, seed: int) -> Iterator[tuple[float, str]]:
    """When whose calls leave, in seconds from the beginning, in order."""
    chance = random.Random(seed)
    return heapq.merge(
        *(_arrivals_of(tenant_id, rate, until_s, chance.random()) for tenant_id, rate in per_s.items() if rate)
    )


def _arrivals_of(tenant_id: str, per_s: float, until_s: float, seed: float) -> Iterator[tuple[float, str]]:
    chance = random.Random(seed)
    at_s = chance.expovariate(per_s)
    while at_s < until_s:
        yield at_s, tenant_id
        at_s += chance.expovariate(per_s)


def request_bytes(storm: Storm, tenant_id: str, body: bytes) -> bytes:
    """One tenant's request as it goes over the wire, every time the same."""
    url = urlsplit(storm.base_url)
    lines = (
        f"POST {url.path.rstrip('/')}/chat/completions HTTP/1.1",
        f"host: {url.netloc}",
        "content-type: application/json",
        *([f"x-tollway-tenant: {tenant_id}"] if tenant_id else []),
        *([] if storm.token is None else [f"authorization: Bearer {storm.token}"]),
        f"content-length: {len(body)}",
    )
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def play(storm: Storm) -> dict[str, Seen]:
    """Send everything, and wait for what is outstanding.

    Raises:
        LoadFailed: the other side cannot be connected to, or calls pile up without an end.
    """
    course = _Course(storm)
    gc.disable()  # a collection in the middle would count as the other side's latency
    try:
        await course.play()
    finally:
        gc.enable()
        course.close()
        await asyncio.sleep(_LINGER_S)  # the sockets are closed in the loop's next turns
    return course.seen


class _Course:
    """One storm while it lasts."""

    def __init__(self, storm: Storm) -> None:
        self._storm = storm
        self.seen = {tenant_id: Seen() for tenant_id in storm.per_s}
        self._requests = {
            tenant_id: [request_bytes(storm, tenant_id, body) for body in storm.bodies] for tenant_id in storm.per_s
        }
        self._chance = random.Random(storm.seed)
        self.idle: list[_Client] = []
        self.clients: set[_Client] = set()
        self._opening: set[asyncio.Task[None]] = set()
        url = urlsplit(storm.base_url)
        self._host, self._port = url.hostname or "", url.port or 80

    async def play(self) -> None:
        began_ns, yielded_ns = time.perf_counter_ns(), 0
        until_s = self._storm.warm_up_s + self._storm.seconds
        with FineTimer() as timer:
            for at_s, tenant_id in arrivals(self._storm.per_s, until_s, self._storm.seed):
                due_ns = began_ns + int(at_s * _NS_PER_S)
                now_ns = time.perf_counter_ns()
                if due_ns > now_ns:
                    await timer.until(due_ns)
                elif now_ns - yielded_ns > _YIELD_NS:  # behind: answers have to be read nevertheless
                    yielded_ns = now_ns
                    await asyncio.sleep(0)
                self._fire(tenant_id, due_ns, None if at_s < self._storm.warm_up_s else self.seen[tenant_id])
        for _ in range(int(ANSWER_S_MAX / _LINGER_S)):  # what is open even then counts as broken
            if not self._opening and len(self.idle) == len(self.clients):
                return
            await asyncio.sleep(_LINGER_S)

    def _fire(self, tenant_id: str, due_ns: int, seen: Seen | None) -> None:
        request = self._chance.choice(self._requests[tenant_id])
        if self.idle:
            self.idle.pop().send(request, due_ns, seen)
            return
        if len(self.clients) + len(self._opening) >= CONNECTIONS_MAX:
            raise LoadFailed(f"{CONNECTIONS_MAX} calls are outstanding: the gateway does not keep up, nor refuse any")
        task = asyncio.get_running_loop().create_task(self._open(request, due_ns, seen))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes, due_ns: int, seen: Seen | None) -> None:
        client = _Client(self)
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await asyncio.get_running_loop().create_connection(lambda: client, self._host, self._port)
        except (OSError, TimeoutError):
            if seen is not None:
                seen.statuses[0] += 1
            return
        client.send(request, due_ns, seen)

    def close(self) -> None:
        for task in list(self._opening):
            task.cancel()
        for client in list(self.clients):
            client.end(0)
            client.abort()


class _Client(asyncio.Protocol):
    """One connection."""

    __slots__ = ("_course", "_due_ns", "_first_ns", "_parser", "_seen", "_transport")

    def __init__(self, course: _Course) -> None:
        self._course = course
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._seen: Seen | None = None  # None: no call that counts is outstanding
        self._due_ns = self._first_ns = 0

    def send(self, request: bytes, due_ns: int, seen: Seen | None) -> None:
        self._due_ns, self._first_ns, self._seen = due_ns, 0, seen
        if self._transport is None:  # it was closed as it was taken
            self.end(0)
        else:
            if seen is not None:
                seen.lates_ns.append(time.perf_counter_ns() - due_ns)
            self._transport.write(request)

    def end(self, status: int) -> None:
        """Count the call that is outstanding, once."""
        seen, self._seen = self._seen, None
        if seen is not None:
            seen.statuses[status] += 1
            if status == _OK:
                seen.first_bytes_ns.append(self._first_ns - self._due_ns)
                seen.latencies_ns.append(time.perf_counter_ns() - self._due_ns)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's have no such base class
        self._course.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.end(0)
        self._course.clients.discard(self)
        if self in self._course.idle:
            self._course.idle.remove(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def on_body(self, _chunk: bytes) -> None:
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()

    def on_message_complete(self) -> None:
        self.end(self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self._course.idle.append(self)
        else:
            self.abort()
