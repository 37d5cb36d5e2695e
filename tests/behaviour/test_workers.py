"""Promise: several workers are one gateway: they share the callers, the caps and one port; one that dies is replaced
and takes only its own calls with it; a reload, a stop and the figures are those of all. The real command."""

import asyncio
import os
import signal

import pytest

from tests.command import Command
from tests.scripted_upstream import scripted_upstream, until
from tests.streaming import SOON_S
from tests.workers import (
    HELD_NUSD,
    STREAMS,
    SUM,
    USED,
    WORKERS,
    all_ready,
    begin_stream,
    call,
    configuration,
    is_running,
    metric,
    processes_of,
    readyz,
    several,
    stream_held_until,
    until_ready,
    until_told,
)

CONNECTIONS = 32


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
                # Not 503: the other one serves, and nobody comes to this one. A balancer must not take both away.
                assert (status, said["ready"], said["checks"]["workers"]) == (200, True, "ok")
                (warning,) = said["warnings"].values()
                assert "no answer in time" in warning
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
    async with scripted_upstream(lambda request: stream_held_until(go, request)) as upstream:
        async with several(Command(tmp_path, configuration(upstream, redis_url), workers=WORKERS)) as command:
            processes = await processes_of(command)
            assert {await call(command) for _ in range(5)} == {200}
            assert await metric(command, SUM) == 5
            kept_open = await asyncio.gather(*(KeptOpen.begin(command) for _ in range(CONNECTIONS)))
            streams = await asyncio.gather(*(begin_stream(command) for _ in range(STREAMS)))

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
    async with scripted_upstream(lambda request: stream_held_until(go, request)) as upstream:
        async with several(Command(tmp_path, configuration(upstream, redis_url), workers=WORKERS)) as command:
            processes = await processes_of(command)
            streams = await asyncio.gather(*(begin_stream(command) for _ in range(STREAMS)))
            os.kill(processes[0], signal.SIGTERM)
            said = await until_told(command, lambda _status, said: "draining" in said["warnings"].get("worker 1", ""))
            assert said["ready"]  # the other one serves
            go.set()
            assert all(await asyncio.gather(*(one.ends_whole() for one in streams)))
            await until_ready(command, other_than=processes[0])
            assert "was told to stop; another takes its place" in command.errors
            assert "ERROR" not in command.errors
            # What it counted is counted, though nobody asked it.
            assert await metric(command, SUM) == STREAMS


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
            said = await until_told(
                command, lambda _status, said: before["config"] not in said["config"] and all_ready(said)
            )
            versions = [worker["config"] for worker in said["workers"]]
            assert versions == [said["config"]] * WORKERS
            await until(lambda: command.errors.count(f"configuration {versions[0]} is in force") == WORKERS, SOON_S)

            killed = (await processes_of(command))[0]  # the one that follows has what the others have
            os.kill(killed, signal.SIGKILL)
            await until_ready(command, other_than=killed)
            assert (await readyz(command))[1]["config"] == versions[0]


async def test_told_to_stop_all_finish_what_is_under_way(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: stream_held_until(go, request)) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), drain_s=SOON_S, workers=WORKERS)
        async with several(command):
            streams = await asyncio.gather(*(begin_stream(command) for _ in range(STREAMS)))
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
    async with scripted_upstream(lambda request: stream_held_until(go, request)) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), drain_s=600, workers=WORKERS)
        async with several(command):
            streams = await asyncio.gather(*(begin_stream(command) for _ in range(STREAMS)))
            command.signal(signal.SIGINT)
            await until(lambda: command.errors.count("under way") == WORKERS, SOON_S)
            command.signal(signal.SIGTERM)
            assert not any(await asyncio.gather(*(one.ends_whole() for one in streams)))
            assert await command.ended() == 0


async def test_without_their_supervisor_they_finish_and_end(tmp_path, redis_url):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: stream_held_until(go, request)) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), drain_s=SOON_S, workers=WORKERS)
        async with several(command, exit_code=-signal.SIGKILL):
            processes = await processes_of(command)
            streaming = await begin_stream(command)
            command.process.kill()
            await until(lambda: command.errors.count("the supervisor is gone") == WORKERS, SOON_S)
            with pytest.raises(ConnectionRefusedError):  # another supervisor could bind it
                await asyncio.open_connection("127.0.0.1", command.port)
            go.set()
            assert await streaming.ends_whole()
            await until(lambda: not any(map(is_running, processes)), SOON_S)
