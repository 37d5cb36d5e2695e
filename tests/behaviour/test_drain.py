"""Promise: told to stop, the gateway finishes what is under way, cuts what does not end, and writes
every row; told to reload, it swaps the whole configuration under running streams or leaves the old
one in force; killed, it starts again on what it had written. The real command, in a process of its own."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.command import Command
from tests.gateway import BrokenOff, plain_request
from tests.scripted_upstream import Do, Received, ScriptedUpstream, Step, answer, scripted_upstream, stream, until
from tests.streaming import CHAT, EVENT, REST, SOON_S, Streaming, held_until

PLAIN = b'{"model":"alias","messages":[]}'
STREAM = b'{"model":"alias","stream":true,"messages":[]}'
POLLS = 1_000
STREAMS = 200
LONG_S = 600  # a test that waited for this would have failed long before


def configuration(upstream: ScriptedUpstream, *aliases: str, idle_s: int = 60) -> str:
    routes = "\n".join(
        f'[models.{alias}]\ndeployments = [{{ provider = "scripted", model = "m" }}]' for alias in ("alias", *aliases)
    )
    return f"""
[auth]
mode = "passthrough"
default_provider = "scripted"
[providers.scripted]
base_url = "{upstream.base_url}"
timeouts_s = {{ idle = {idle_s} }}
{routes}
"""


async def readyz(command: Command) -> tuple[int, dict]:
    reader, writer = await asyncio.open_connection("127.0.0.1", command.admin_port)
    writer.write(b"GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split(b" ")[1]), json.loads(body)


async def until_ready_is(command: Command, status: int) -> dict:
    for _ in range(POLLS):
        seen, said = await readyz(command)
        if seen == status:
            return said
        await asyncio.sleep(0.01)
    raise AssertionError(f"/readyz did not become {status}")


async def until_config_is_not(command: Command, version: str) -> str:
    for _ in range(POLLS):
        _, said = await readyz(command)
        if said["config"] != version:
            return str(said["config"])
        await asyncio.sleep(0.01)
    raise AssertionError(f"the configuration stays {version}")


async def until_said(command: Command, text: str, times: int = 1) -> None:
    await until(lambda: command.errors.count(text) >= times, SOON_S)


def rows_of(command: Command) -> list[dict]:
    """The runs' rows as they lie on the disk, asked of SQLite and nobody else."""
    with closing(sqlite3.connect(command.folder / "state" / "tollway.db")) as connection:
        found = connection.execute("SELECT data FROM ledger ORDER BY tenant_id, position").fetchall()
    return [row for (data,) in found if (row := json.loads(data))["kind"] != "audit"]


async def models(command: Command) -> tuple[list[str], str]:
    """The aliases that a caller sees, and the version of the configuration that it is told."""
    _, head, body = await plain_request(command, "GET", "/v1/models")
    return [model["id"] for model in json.loads(body)["data"]], head[b"x-tollway-config"].decode()


# ── SIGTERM ──────────────────────────────────────────────────────────────────────────────


async def test_told_to_stop_it_takes_nothing_new_and_ends_what_is_under_way(tmp_path):
    go = asyncio.Event()
    async with scripted_upstream(lambda _request: held_until(go)) as upstream:
        limited = "[plans.default.tenant]\nrequests_per_minute = 10_000\n"  # so that each has something to settle
        with Command(tmp_path, configuration(upstream) + limited, drain_s=LONG_S).serving() as command:
            streams = [await Streaming.begin(command, STREAM) for _ in range(STREAMS)]
            idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", command.port)
            idle_writer.write(b"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer x\r\n\r\n")
            await idle_reader.readuntil(b"\r\n\r\n")
            assert (await readyz(command))[0] == 200

            command.signal(signal.SIGTERM)
            checks = (await until_ready_is(command, 503))["checks"]
            assert "asked to stop" in checks["draining"]
            with pytest.raises(ConnectionRefusedError):
                async with asyncio.timeout(SOON_S):
                    while True:
                        _, writer = await asyncio.open_connection("127.0.0.1", command.port)
                        writer.close()
                        await asyncio.sleep(0.01)
            async with asyncio.timeout(SOON_S):
                await idle_reader.read()  # to its end: a connection at rest is closed
            idle_writer.close()
            assert command.process.poll() is None
            assert (await readyz(command))[0] == 503  # the drain can be watched

            go.set()
            assert await asyncio.gather(*(each.rest() for each in streams)) == [REST] * STREAMS
            assert await command.ended() == 0
        rows = rows_of(command)
        told = [(row["status"], row["error_source"], row["usage_source"]) for row in rows]
        assert told == [(200, None, "exact")] * STREAMS
        lines = [line for line in command.log_lines() if line["endpoint"] == "chat_completions"]
        assert {line["run_id"] for line in lines} == {row["run_id"] for row in rows}
        assert "did not end" not in command.errors


async def assert_cut_and_written(command: Command, streams: list[Streaming], waiting: Streaming) -> None:
    """What a run looks like that the gateway itself did not let end."""
    for each in (*streams, waiting):
        with pytest.raises(BrokenOff) as broken:
            await each.rest()
        assert broken.value.body == b""
    assert await command.ended() == 0
    rows = rows_of(command)
    told = sorted((row["status"], row["error_source"], row["usage_source"]) for row in rows)
    assert told == [(200, "gateway", None)] * len(streams) + [(503, "gateway", None)]
    assert [line["error"] for line in command.log_lines()] == ["gateway_stopped"] * len(rows)
    assert {line["run_id"] for line in command.log_lines()} == {row["run_id"] for row in rows}


def hang(request: Received) -> list[Step]:
    """Streams that stop after an event; plain calls that are never answered."""
    return stream(EVENT, Do.HANG) if b"stream" in request.body else [Do.HANG]


async def test_what_does_not_end_in_time_is_cut_and_has_its_row(tmp_path):
    async with scripted_upstream(hang) as upstream:
        with Command(tmp_path, configuration(upstream), drain_s=0.3).serving() as command:
            streams = [await Streaming.begin(command, STREAM) for _ in range(3)]
            waiting = await Streaming.begin(command, PLAIN, until_seen=b"")
            await until(lambda: len(upstream.received) == 4)
            command.signal(signal.SIGTERM)
            await assert_cut_and_written(command, streams, waiting)
            await until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(tmp_path, second):
    async with scripted_upstream(hang) as upstream:
        with Command(tmp_path, configuration(upstream), drain_s=LONG_S).serving() as command:
            streams = [await Streaming.begin(command, STREAM) for _ in range(3)]
            waiting = await Streaming.begin(command, PLAIN, until_seen=b"")
            await until(lambda: len(upstream.received) == 4)
            command.signal(signal.SIGTERM)
            await until_ready_is(command, 503)
            assert command.process.poll() is None
            command.signal(second)
            await assert_cut_and_written(command, streams, waiting)


# ── SIGHUP ───────────────────────────────────────────────────────────────────────────────


async def test_a_changed_file_takes_force_while_a_stream_ends_on_the_old_one(tmp_path):
    go = asyncio.Event()

    def script(request: Received) -> Iterator[Step]:
        return held_until(go) if b"stream" in request.body else iter(answer(b"{}"))

    async with scripted_upstream(script) as upstream:
        with Command(tmp_path, configuration(upstream)).serving() as command:
            aliases, before = await models(command)
            assert aliases == ["alias"]
            running = await Streaming.begin(command, STREAM)

            command.write(configuration(upstream, "fresh", idle_s=61))  # the provider changes too
            command.signal(signal.SIGHUP)
            after = await until_config_is_not(command, before)
            assert await models(command) == (["alias", "fresh"], after)
            status, head, _ = await plain_request(command, "POST", CHAT, PLAIN.replace(b"alias", b"fresh"))
            assert (status, head[b"x-tollway-config"].decode()) == (200, after)

            go.set()
            assert await running.rest() == REST
        versions = {row["requested_model"]: row["config_version"] for row in rows_of(command)}
        assert versions == {"fresh": after, "alias": before}


async def test_connections_to_a_provider_that_did_not_change_survive(tmp_path):
    async with scripted_upstream(answer(b"{}")) as upstream:
        with Command(tmp_path, configuration(upstream)).serving() as command:
            _, version = await models(command)
            for number in range(1, 4):
                assert (await plain_request(command, "POST", CHAT, PLAIN))[0] == 200
                command.write(configuration(upstream, f"fresh-{number}"))
                command.signal(signal.SIGHUP)
                version = await until_config_is_not(command, version)
            assert (await plain_request(command, "POST", CHAT, PLAIN))[0] == 200
            assert upstream.connections_made == 1


BROKEN = {
    "not TOML": ("[[[", "expected TOML"),
    "a wrong value": ("[providers.scripted]\nbase_url = 7\n", "providers.scripted.base_url"),
    "a secret that is not set": (
        '[providers.scripted]\nbase_url = "http://127.0.0.1:9/v1"\nprovider_key = "env:TOLLWAY_TEST_UNSET"\n',
        "TOLLWAY_TEST_UNSET",
    ),
    "gone": (None, "cannot read"),
}


async def test_a_broken_file_leaves_the_old_configuration_in_force_and_says_why(tmp_path):
    async with scripted_upstream(answer(b"{}")) as upstream:
        with Command(tmp_path, configuration(upstream)).serving() as command:
            before = await models(command)
            for number, (text, why) in enumerate(BROKEN.values(), start=1):
                if text is None:
                    command.path.unlink()
                else:
                    command.write(text)
                command.signal(signal.SIGHUP)
                await until_said(command, "refused", number)
                said = command.errors.rpartition("refused")[2]
                assert before[1] in said  # which one stays
                assert why in said
                assert await models(command) == before
                assert (await plain_request(command, "POST", CHAT, PLAIN))[0] == 200
                assert (await readyz(command))[0] == 200
            command.write(configuration(upstream, "fresh"))
            command.signal(signal.SIGHUP)
            await until_config_is_not(command, before[1])
            assert (await models(command))[0] == ["alias", "fresh"]


# ── SIGKILL ──────────────────────────────────────────────────────────────────────────────


async def test_killed_it_starts_again_on_the_same_state(tmp_path):
    def with_virtual_keys(upstream: ScriptedUpstream) -> str:
        text = configuration(upstream).replace('mode = "passthrough"', 'mode = "virtual-keys"')
        return text.replace("timeouts_s", 'provider_key = "sk-gateways"\ntimeouts_s')

    async with scripted_upstream(hang) as upstream:
        command = Command(tmp_path, with_virtual_keys(upstream))
        token = command.run("keys", "issue", "--tenant", "acme")["virtual_key"]
        headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer " + token.encode())]
        with command.serving(exit_code=-signal.SIGKILL):
            upstream.script = lambda _request: answer(b"{}")
            for _ in range(3):
                assert (await plain_request(command, "POST", CHAT, PLAIN, headers))[0] == 200
            await until(lambda: len(rows_of(command)) == 3)
            upstream.script = lambda _request: stream(EVENT, Do.HANG)
            cut = asyncio.ensure_future(plain_request(command, "POST", CHAT, STREAM, headers))
            await until(lambda: len(upstream.received) == 4)
            command.signal(signal.SIGKILL)
            with pytest.raises((BrokenOff, ConnectionError, IndexError)):
                await cut
        upstream.script = lambda _request: answer(b"{}")
        for _ in range(2):  # and once more, after an end that was asked for
            with command.serving():
                await until_ready_is(command, 200)
                assert (await plain_request(command, "POST", CHAT, PLAIN, headers))[0] == 200
        rows = rows_of(command)
        assert [(row["tenant"], row["status"]) for row in rows] == [("acme", 200)] * 5
        assert len({row["run_id"] for row in rows}) == 5
