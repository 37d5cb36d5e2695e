"""Promise: thousands of callers who hang up, at random moments, leave nothing behind: no connection,
no slot, no task; each run has its one row, and who comes afterwards is served.

`TOLLWAY_STORM_CANCELS=10000` makes it the full storm; `TOLLWAY_STORM_SEED` repeats one."""

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from proxy.adapters.http.transport import Transport
from tests.gateway import JSON, Gateway, dechunked, plain_request, request_bytes, running_gateway
from tests.scripted_upstream import Received, ScriptedUpstream, Step, answer, scripted_upstream, stream, until

CANCELS = int(os.environ.get("TOLLWAY_STORM_CANCELS", "500"))
SEED = int(os.environ.get("TOLLWAY_STORM_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
CALLERS = 24
CONNECTIONS_MAX = 12  # fewer than callers: some are hung up on while they wait for a connection
IDLE_MAX = 6
WAIT_S_MAX = 0.02
SHARE_MIN = 0.1  # of all cancels, for each phase of a call
GOOD_CALLS = 100

CHAT = "/v1/chat/completions"
UPLOAD = "/v1/audio/transcriptions"
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
STREAM = EVENT * 8 + b"data: [DONE]\n\n"
BODY = b'{"id":"c","choices":[]}'
TENANT = (b"x-tollway-tenant", b"default")
LINGER_OFF = struct.pack("ii", 1, 0)


def configuration(moody_url: str, deaf_url: str) -> str:
    return f"""
[auth]
mode = "trusted-headers"
default_provider = "moody"
[providers.moody]
base_url = "{moody_url}"
[providers.deaf]
base_url = "{deaf_url}"
[models.moody]
deployments = [{{ provider = "moody", model = "m" }}]
[models.deaf]
deployments = [{{ provider = "deaf", model = "d" }}]
"""


def moody(request: Received) -> list[Step]:
    """A provider that takes its time, as the call itself says: before the head, or between the pieces."""
    waits_s = [float(wait) for wait in (request.header(b"x-waits") or b"").split()]
    if request.header(b"x-kind") == b"stream":
        events = [STREAM[i : i + len(EVENT)] for i in range(0, len(STREAM), len(EVENT))]
        return stream(*[step for pair in zip(events, waits_s, strict=True) for step in pair])
    if request.header(b"x-kind") == b"body":
        whole = b"".join(step for step in answer(BODY) if isinstance(step, bytes))
        return [whole[: -len(BODY)], BODY[:5], waits_s[0], BODY[5:]]
    return [waits_s[0], *answer(BODY)]


# What a call is about, and how many waits it brings for the provider to keep.
KINDS = {"connect": 1, "head": 1, "stream": 9, "body": 1, "upload": 1}


@dataclass
class Storm:
    """Callers who call and hang up, and what became of each call, by the user that it named."""

    port: int
    chance: random.Random
    hung_up: Counter[str] = field(default_factory=Counter)  # by kind
    answered: set[str] = field(default_factory=set)
    began: int = 0

    async def caller(self) -> None:
        while self.hung_up.total() < CANCELS:
            self.began += 1
            await self._call(self.chance.choice(list(KINDS)), f"u-{self.began}")

    async def _call(self, kind: str, user: str) -> None:
        """Its patience is as random as the provider's time: either may end first, or both at once."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self._request(kind, user))
        heard = b""
        if kind in ("stream", "body"):
            heard = await reader.read(65_536)  # patience begins with the answer, to end within it
        try:
            async with asyncio.timeout(self.chance.random() * WAIT_S_MAX):
                while chunk := await reader.read(65_536):
                    heard += chunk
        except TimeoutError:
            self.hung_up[kind] += 1
            if self.chance.random() < 0.3:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
            writer.transport.abort()
            return
        body = heard.partition(b"\r\n\r\n")[2]
        assert (dechunked(body) if kind == "stream" else body) == (STREAM if kind == "stream" else BODY)
        self.answered.add(user)
        writer.close()

    def _request(self, kind: str, user: str) -> bytes:
        longest_s = WAIT_S_MAX / KINDS[kind] * 2
        waits = " ".join(f"{self.chance.random() * longest_s:.4f}" for _ in range(KINDS[kind]))
        told = [(b"x-kind", kind.encode()), (b"x-waits", waits.encode()), (b"x-user", user.encode())]
        told += [TENANT, (b"x-tollway-user", user.encode())]
        if kind == "upload":
            headers = [(b"content-type", b"application/octet-stream"), *told]
            return request_bytes("POST", UPLOAD, b"x" * 50_000, headers)[: -self.chance.randrange(1, 50_000)]
        alias = b"deaf" if kind == "connect" else b"moody"
        streamed = b',"stream":true' if kind == "stream" else b""
        return request_bytes("POST", CHAT, b'{"model":"%b"%b,"messages":[]}' % (alias, streamed), [*JSON, *told])


@contextlib.contextmanager
def deaf_socket() -> Iterator[socket.socket]:
    """A port that takes no connection yet: what its backlog may hold, it holds."""
    with socket.socket() as deaf, contextlib.ExitStack() as held:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        yield deaf


@asynccontextmanager
async def woken(deaf: socket.socket) -> AsyncIterator[ScriptedUpstream]:
    """The same port, accepting late."""
    upstream = ScriptedUpstream(deaf.getsockname()[1], lambda _request: answer(BODY))
    server = await asyncio.start_server(upstream.serve, sock=deaf)
    try:
        yield upstream
    finally:
        server.close()


def own_tasks() -> list[str]:
    """The gateway's tasks, wherever they were started: those that run code of its own."""
    codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    return [code.co_name for code in codes if code is not None and "/proxy/" in code.co_filename]


def summed(gateway: Gateway, name: str) -> int:
    """A metric, over all its labels."""
    lines = gateway.app.metrics.render()[0].decode().splitlines()
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{")))


# What looks after the store, keeps reservations, and sees what is down or out of service: as long as the gateway lives.
STANDING = ["_look_on", *["_repeat"] * 4, "_watch", "_watch", "_watch_on", "run"]


async def assert_nothing_is_left(gateway: Gateway, transports: dict[str, Transport]) -> None:
    await gateway.idle()
    await until(lambda: not gateway.state.connections)
    for name, transport in transports.items():
        assert transport.open_connections == transport.idle_connections <= IDLE_MAX, name
    await gateway.app.settlement.drain(10.0)
    assert gateway.app.settlement.failure is None
    assert gateway.metric("tollway_settlements_pending") == 0
    assert sorted(own_tasks()) == sorted(STANDING)


async def assert_each_run_has_its_row(gateway: Gateway, storm: Storm, upstream: ScriptedUpstream) -> Counter[str]:
    """By three witnesses: the callers, the provider, the log. Gives the cancels by phase, as the rows tell them."""
    rows = await gateway.rows()
    users = [row["user"] for row in rows]
    assert len(set(users)) == len({row["run_id"] for row in rows}) == len(rows)
    assert storm.answered <= set(users)
    assert {(request.header(b"x-user") or b"").decode() for request in upstream.received} <= set(users)
    lines = await gateway.log_lines(summed(gateway, "tollway_requests_total"))
    assert {line["run_id"] for line in lines if line["overhead_us"] is not None} == {row["run_id"] for row in rows}
    assert summed(gateway, "tollway_attempts_total") == len(rows)
    phases: Counter[str] = Counter()
    for row in rows:
        if row["error_source"] is None:
            assert row["status"] == 200
            phases["answered"] += 1
        elif row["provider"] == "deaf":
            assert (row["status"], row["error_source"]) == (499, "caller")
            phases["before a connection"] += 1
        else:
            assert (row["status"], row["error_source"]) in ((499, "caller"), (200, "caller")), row
            phases["before the head" if row["status"] == 499 else "within the body"] += 1
    return phases


async def assert_every_slot_is_free(gateway: Gateway, alias: bytes, upstream: ScriptedUpstream) -> None:
    """As many calls at once as there may be connections: the provider answers when it has them all."""
    before = len(upstream.received)

    def all_at_once(_request: Received) -> Iterator[Step]:
        while len(upstream.received) < before + CONNECTIONS_MAX:
            yield 0.005
        yield from answer(BODY)

    upstream.script = all_at_once
    await assert_good(gateway, alias, CONNECTIONS_MAX)


async def assert_good(gateway: Gateway, alias: bytes, count: int) -> None:
    body = b'{"model":"%b","messages":[]}' % alias
    calls = (plain_request(gateway, "POST", CHAT, body, [*JSON, TENANT]) for _ in range(count))
    assert [(status, got) for status, _, got in await asyncio.gather(*calls)] == [(200, BODY)] * count


@pytest.mark.timeout(60 + CANCELS // 20)
async def test_a_storm_of_hang_ups_leaves_nothing_behind():
    print(f"TOLLWAY_STORM_SEED={SEED}")
    transports = {
        name: Transport(connections_max=CONNECTIONS_MAX, idle_connections_max=IDLE_MAX) for name in ("moody", "deaf")
    }
    began_s = time.monotonic()
    with deaf_socket() as deaf:
        deaf_url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        async with scripted_upstream(moody) as upstream:
            text = configuration(upstream.base_url, deaf_url)
            async with running_gateway(text, transports=transports) as gateway:
                storm = Storm(gateway.port, random.Random(SEED))
                await asyncio.gather(*(storm.caller() for _ in range(CALLERS)))
                await assert_nothing_is_left(gateway, transports)
                await until(lambda: upstream.open_connections == transports["moody"].open_connections)
                phases = await assert_each_run_has_its_row(gateway, storm, upstream)
                print(f"{storm.began} calls, hung up {dict(storm.hung_up)}, as the rows tell it {dict(phases)}")
                for phase in ("before a connection", "before the head", "within the body"):
                    assert phases[phase] >= SHARE_MIN * CANCELS, phases

                async with woken(deaf) as awake:
                    await assert_every_slot_is_free(gateway, b"moody", upstream)
                    await assert_every_slot_is_free(gateway, b"deaf", awake)
                    upstream.script = awake.script = lambda _request: answer(BODY)
                    for _ in range(GOOD_CALLS // 20):
                        await assert_good(gateway, b"moody", 10)
                        await assert_good(gateway, b"deaf", 10)
                    await assert_nothing_is_left(gateway, transports)
                    assert all(transport.open_connections > 0 for transport in transports.values())
    print(f"{time.monotonic() - began_s:.1f} s in all")
