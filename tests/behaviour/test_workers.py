"""Promise: several workers are one gateway: they share the callers, the caps and one port; one that dies is replaced
and takes only its own calls with it; a reload, a stop and the figures are those of all. The real command."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command
from tests.gateway import JSON, BrokenOff, dechunked, plain_request, priced_to, request_bytes
from tests.scripted_upstream import Received, ScriptedUpstream, Step, answer, scripted_upstream, stream, until

CHAT = "/v1/chat/completions"
HEADERS = [*JSON, (b"x-tollway-tenant", b"several")]
PLAIN = b'{"model":"priced","max_tokens":100,"messages":[]}'
STREAM = b'{"model":"priced","max_tokens":100,"stream":true,"messages":[]}'
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
USAGE_EVENT = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"
USED = answer(b'{"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}')
HELD_NUSD = (len(PLAIN) + 2_048) * 1_000 + 100 * 4_000
SOON_S = 15.0  # generous: "did not hang"
WORKERS, STREAMS, CONNECTIONS = 2, 12, 32
SUM = 'tollway_requests_total{endpoint="chat_completions",error_source="none",model="priced",status="200"}'


def configuration(upstream: ScriptedUpstream, redis_url: str, extra: str = "") -> str:
    return f'url = "{redis_url}"\n{priced_to(upstream.base_url)}\n{extra}\n'


@asynccontextmanager
async def several(command: Command, exit_code: int = 0):
    """The gateway, serving; at the end it is told to stop if it was not before, and must have left nothing behind."""
    starting = command.serving(exit_code)
    await asyncio.to_thread(starting.__enter__)
    processes: set[int] = set()
    try:
        processes |= set(await processes_of(command))
        yield command
        processes |= set(await processes_of(command)) if command.process.poll() is None else set()
    finally:
        for process in filter(is_running, processes):  # one that a test has stopped would have to be waited for
            os.kill(process, signal.SIGCONT)
        try:
            await asyncio.to_thread(starting.__exit__, None, None, None)
            await until(lambda: not any(map(is_running, processes)), SOON_S)
        finally:
            for process in filter(is_running, processes):
                os.kill(process, signal.SIGKILL)


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(") ")[2][0] != "Z"


async def readyz(command: Command) -> tuple[int, dict[str, Any]]:
    status, _, body = await plain_request(Admin(command.admin_port), "GET", "/readyz")
    return status, json.loads(body)


class Admin:
    def __init__(self, port: int) -> None:
        self.port = port


async def until_told(command: Command, is_so: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
    """What /readyz says, once that is so."""
    async with asyncio.timeout(SOON_S):
        while True:
            status, said = await readyz(command)
            if is_so(status, said):
                return said
            await asyncio.sleep(0.02)


async def until_ready(command: Command, *, other_than: int = 0) -> list[int]:
    """The workers' processes, once all are ready, and none is this one."""
    said = await until_told(
        command,
        lambda status, said: status == 200 and all(worker["process"] != other_than for worker in said["workers"]),
    )
    return [worker["process"] for worker in said["workers"]]


async def processes_of(command: Command) -> list[int]:
    return await until_ready(command)


async def call(command: Command) -> int:
    status, _, _ = await plain_request(command, "POST", CHAT, PLAIN, HEADERS)
    return status


async def metric(command: Command, line: str) -> float:
    return await asyncio.to_thread(command.metric, line)


def held_until(go: asyncio.Event, request: Received) -> Iterator[Step]:
    """A stream that goes on when it may, or a plain answer."""
    if b'"stream":true' not in request.body:
        yield from USED
        return
    first, *rest = stream(EVENT, USAGE_EVENT, DONE)
    yield first
    yield rest[0]
    while not go.is_set():
        yield 0.05
    yield from rest[1:]


class Streaming:
    """A caller in the middle of a stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, command: Command) -> "Streaming":
        reader, writer = await asyncio.open_connection("127.0.0.1", command.port)
        writer.write(request_bytes("POST", CHAT, STREAM, HEADERS))
        await reader.readuntil(EVENT)
        return cls(reader, writer)

    async def ends_whole(self) -> bool:
        """Whether the rest came, to a clean end."""
        try:
            async with asyncio.timeout(SOON_S):
                return DONE in dechunked((await self._reader.read()).removeprefix(b"\r\n"))
        except (BrokenOff, ConnectionResetError):
            return False
        finally:
            self._writer.close()


class KeptOpen:
    """A caller that keeps its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def begin(cls, command: Command) -> "KeptOpen":
        caller = cls(*await asyncio.open_connection("127.0.0.1", command.port))
        assert await caller.is_served()
        return caller

    async def is_served(self) -> bool:
        try:
            async with asyncio.timeout(SOON_S):
                self._writer.write(b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-tollway-tenant: several\r\n\r\n")
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                await self._reader.readexactly(int(length.split(b":")[1]))
                return head.startswith(b"HTTP/1.1 200")
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    def close(self) -> None:
        self._writer.close()


# ── one gateway ──────────────────────────────────────────────────────────────────────────


async def test_a_cap_is_exact_over_all_the_figures_are_their_sum_and_a_stopped_one_is_told_of(tmp_path, redis_url):
    fit, calls = 7, 60
    cap = f"[plans.default.tenant]\nusd_per_day = {fit * HELD_NUSD / 1e9:.9f}"
    decided = asyncio.Event()
    async with scripted_upstream(USED) as upstream:
        original = upstream.serve

        async def waiting(reader, writer):
            await decided.wait()
            await original(reader, writer)

        upstream.serve = waiting  # type: ignore[method-assign]
        async with several(Command(tmp_path, configuration(upstream, redis_url, cap), workers=WORKERS)) as command:
            assert is_running(command.process.pid)
            under_way = [asyncio.ensure_future(call(command)) for _ in range(calls)]
            await until(lambda: sum(one.done() for one in under_way) >= calls - fit, SOON_S)
            decided.set()
            statuses = await asyncio.gather(*under_way)
            assert (statuses.count(200), statuses.count(429)) == (fit, calls - fit)
            assert await metric(command, SUM) == fit
            assert await metric(command, 'tollway_cap_refusals_total{scope="tenant"}') == calls - fit
            assert await metric(command, 'tollway_workers{state="answering"}') == WORKERS

            for stopped in await processes_of(command):
                os.kill(stopped, signal.SIGSTOP)
                async with asyncio.timeout(2.0):
                    status, said = await readyz(command)
                assert (status, said["ready"]) == (503, False)
                assert "no answer in time" in said["checks"]["workers"]
                async with asyncio.timeout(SOON_S):  # whichever it is, the other one serves
                    assert await call(command) == 200
                os.kill(stopped, signal.SIGCONT)
                await until_ready(command)
            os.kill(stopped, signal.SIGSTOP)
            assert await metric(command, SUM) >= fit  # what was seen is not taken back
            os.kill(stopped, signal.SIGCONT)
        lines = command.log_lines()  # each of which is a line, though two processes wrote them
        assert len(lines) == calls + WORKERS


# ── one of them dies ─────────────────────────────────────────────────────────────────────


async def test_one_that_is_killed_takes_its_own_calls_with_it_and_is_replaced(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: held_until(go, request)) as upstream:
        async with several(Command(tmp_path, configuration(upstream, redis_url), workers=WORKERS)) as command:
            processes = await processes_of(command)
            assert {await call(command) for _ in range(5)} == {200}
            assert await metric(command, SUM) == 5
            kept_open = await asyncio.gather(*(KeptOpen.begin(command) for _ in range(CONNECTIONS)))
            streams = await asyncio.gather(*(Streaming.begin(command) for _ in range(STREAMS)))

            os.kill(processes[0], signal.SIGKILL)
            assert {await call(command) for _ in range(10)} == {200}  # at once, by the other one
            served = [await caller.is_served() for caller in kept_open]
            assert CONNECTIONS // 4 <= served.count(True) <= CONNECTIONS * 3 // 4  # its part, and nobody else's
            go.set()
            whole = await asyncio.gather(*(one.ends_whole() for one in streams))
            assert 0 < whole.count(True) < STREAMS
            for caller in kept_open:
                caller.close()

            after = await until_ready(command, other_than=processes[0])
            assert after[1] == processes[1]
            assert "ended by signal 9; another takes its place" in command.errors
            assert await metric(command, SUM) >= 5 + 10  # what was seen of the dead one's is not taken back


async def test_one_that_is_told_to_stop_finishes_its_calls_and_is_replaced(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: held_until(go, request)) as upstream:
        async with several(Command(tmp_path, configuration(upstream, redis_url), workers=WORKERS)) as command:
            processes = await processes_of(command)
            streams = await asyncio.gather(*(Streaming.begin(command) for _ in range(STREAMS)))
            os.kill(processes[0], signal.SIGTERM)
            await until_told(command, lambda status, _said: status == 503)
            go.set()
            assert all(await asyncio.gather(*(one.ends_whole() for one in streams)))
            await until_ready(command, other_than=processes[0])


async def test_what_cannot_start_ends_and_says_why(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        text = configuration(upstream, redis_url).replace("trusted-headers", "virtual-keys")
        command = Command(tmp_path, text, workers=WORKERS)
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "pepper").write_text("no pepper")
        with pytest.raises(AssertionError, match="Restore it from a backup"):
            async with several(command):
                pass
        assert await command.ended() == 1


# ── what they are told ───────────────────────────────────────────────────────────────────


async def test_a_reload_reaches_all_and_a_broken_file_none(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        text = configuration(upstream, redis_url)
        async with several(Command(tmp_path, text, workers=WORKERS)) as command:
            _, before = await readyz(command)
            command.write("[[[")
            command.signal(signal.SIGHUP)
            await until(lambda: "refused" in command.errors, SOON_S)
            assert (await readyz(command))[1]["config"] == before["config"]

            command.write(configuration(upstream, redis_url, "# changed"))
            command.signal(signal.SIGHUP)
            said = await until_told(command, lambda status, said: status == 200 and said["config"] != before["config"])
            versions = [worker["config"] for worker in said["workers"]]
            assert versions == [said["config"]] * WORKERS
            await until(lambda: command.errors.count(f"configuration {versions[0]} is in force") == WORKERS, SOON_S)

            killed = (await processes_of(command))[0]  # the one that follows has what the others have
            os.kill(killed, signal.SIGKILL)
            await until_ready(command, other_than=killed)
            assert (await readyz(command))[1]["config"] == versions[0]


async def test_told_to_stop_all_finish_what_is_under_way(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: held_until(go, request)) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), drain_s=SOON_S, workers=WORKERS)
        async with several(command):
            streams = await asyncio.gather(*(Streaming.begin(command) for _ in range(STREAMS)))
            command.signal(signal.SIGTERM)
            await until_told(command, lambda status, _said: status == 503)
            async with asyncio.timeout(SOON_S):
                with pytest.raises((ConnectionRefusedError, ConnectionResetError, IndexError)):
                    while True:  # until every worker has heard of it
                        await call(command)
            go.set()
            assert all(await asyncio.gather(*(one.ends_whole() for one in streams)))
            assert await command.ended() == 0
        assert [line["status"] for line in command.log_lines() if line["stream"]] == [200] * STREAMS


async def test_told_twice_they_end_at_once(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: held_until(go, request)) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), drain_s=600, workers=WORKERS)
        async with several(command):
            streams = await asyncio.gather(*(Streaming.begin(command) for _ in range(STREAMS)))
            command.signal(signal.SIGINT)
            await until(lambda: command.errors.count("under way") == WORKERS, SOON_S)
            command.signal(signal.SIGTERM)
            assert not any(await asyncio.gather(*(one.ends_whole() for one in streams)))
            assert await command.ended() == 0


async def test_without_their_supervisor_they_finish_and_end(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: held_until(go, request)) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), drain_s=SOON_S, workers=WORKERS)
        async with several(command, exit_code=-signal.SIGKILL):
            processes = await processes_of(command)
            streaming = await Streaming.begin(command)
            command.process.kill()
            await until(lambda: command.errors.count("the supervisor is gone") == WORKERS, SOON_S)
            with pytest.raises(ConnectionRefusedError):  # another supervisor could bind it
                await asyncio.open_connection("127.0.0.1", command.port)
            go.set()
            assert await streaming.ends_whole()
            await until(lambda: not any(map(is_running, processes)), SOON_S)
