"""Promise: what one worker does wrong is its own alone: one that hangs is ended and replaced while the others serve,
and holds up no stop; a reload is in force in all of them or in none, and never one that none could start on; whatever
ends one is in the log. The real command."""

import asyncio
import json
import os
import signal

from tests.command import Command
from tests.gateway import JSON, plain_request
from tests.scripted_upstream import scripted_upstream, until
from tests.streaming import CHAT, SOON_S
from tests.workers import (
    PLAIN,
    STREAMS,
    USED,
    WORKERS,
    Admin,
    all_ready,
    begin_stream,
    call,
    configuration,
    is_running,
    processes_of,
    readyz,
    several,
    stream_held_until,
    until_ready,
    until_told,
)

# Else a worker is looked at every 5 s, and may be silent for 30.
LOOKS_OFTEN = """
import proxy.edge.supervisor, proxy.edge.whole
proxy.edge.supervisor._LOOK_S, proxy.edge.whole._TURN_S = 0.4, 0.05
"""
KILLS_NOBODY = "proxy.edge.supervisor._SILENT_LOOKS_MAX = 1_000"
STARTS_SLOWLY = """
import asyncio, proxy.app.application
startup = proxy.app.application.App.startup
async def start_slowly(app):
    print("starting", flush=True)
    await asyncio.sleep(0.5)
    await startup(app)
proxy.app.application.App.startup = start_slowly
"""
FAILS = """
import proxy.app.process
def fail(*_):
    raise RuntimeError("nobody thought of this")
proxy.app.process._make_app = fail
"""
# The supervisor's second reading is that of the first reload.
WRITES_OVER_WHAT_WAS_READ = """
import os, pathlib, proxy.cli.configuration
read, supervisor, readings = proxy.cli.configuration.read_configuration, os.getpid(), []
def read_and_write_over(path, *more):
    found = read(path, *more)
    readings.append(found)
    if os.getpid() == supervisor and len(readings) == 2:
        pathlib.Path(path).write_text("[[[")
    return found
proxy.cli.configuration.read_configuration = read_and_write_over
"""


async def is_refused(port: int) -> bool:
    """Whether nobody listens there: a hung worker would let the kernel accept."""
    try:
        async with asyncio.timeout(SOON_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    writer.close()
    return False


async def until_refused(port: int) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            if await is_refused(port):
                return
            await asyncio.sleep(0.05)


# ── one that hangs ───────────────────────────────────────────────────────────────────────


async def test_one_that_hangs_is_ended_and_replaced_while_the_others_serve_and_one_that_drains_is_not(
    tmp_path, redis_url
):
    go = asyncio.Event()
    async with scripted_upstream(lambda request: stream_held_until(go, request)) as upstream:
        text = configuration(upstream, redis_url)
        async with several(Command(tmp_path, text, drain_s=600, workers=3, first=LOOKS_OFTEN)) as command:
            drained, hung, _ = await processes_of(command)
            streams = await asyncio.gather(*(begin_stream(command) for _ in range(STREAMS)))
            os.kill(drained, signal.SIGTERM)  # it turns, and has long to go on
            await until_told(command, lambda _status, said: "draining" in said["warnings"].get("worker 1", ""))
            os.kill(hung, signal.SIGSTOP)
            status, said = await readyz(command)
            assert (status, said["ready"]) == (200, True)
            assert "no answer in time" in said["warnings"]["worker 2"]
            async with asyncio.timeout(SOON_S):
                assert await call(command) == 200

            await until(lambda: "has not turned for 2.4 s, and is killed" in command.errors, SOON_S)
            await until_told(
                command, lambda _status, said: said["workers"][1]["ready"] and said["workers"][1]["process"] != hung
            )
            assert command.errors.count("is killed") == 1
            assert is_running(drained)
            go.set()
            whole = await asyncio.gather(*(one.ends_whole() for one in streams))
            assert 0 < whole.count(True) < STREAMS  # all but those of the one that hung
            await until_ready(command, other_than=drained)


async def test_one_that_hangs_holds_neither_port_once_all_are_told_to_stop(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        text, first = configuration(upstream, redis_url), LOOKS_OFTEN + KILLS_NOBODY
        command = Command(tmp_path, text, drain_s=600, workers=WORKERS, first=first)
        async with several(command):
            hung, _ = await processes_of(command)
            os.kill(hung, signal.SIGSTOP)
            command.signal(signal.SIGTERM)
            await until_refused(command.port)
            await until_refused(command.admin_port)
            assert is_running(hung)
            os.kill(hung, signal.SIGCONT)
            assert await command.ended() == 0


# ── starts and ends ──────────────────────────────────────────────────────────────────────


async def test_told_to_stop_while_they_start_they_end_well_and_announce_nothing(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), workers=WORKERS, first=STARTS_SLOWLY)
        with command.launched():
            await until(lambda: (tmp_path / "stdout.txt").read_text().count("starting") == WORKERS, SOON_S)
            command.signal(signal.SIGTERM)
            assert await command.ended() == 0
            assert all(word not in command.errors for word in ("ERROR", "Errno", "listens", "Traceback"))


async def test_what_nobody_expected_ends_a_worker_with_its_cause_in_the_log(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        command = Command(tmp_path, configuration(upstream, redis_url), workers=WORKERS, first=FAILS)
        with command.launched():
            assert await command.ended() == 1
            assert "RuntimeError: nobody thought of this" in command.errors
            assert "this gateway does not start" in command.errors


# ── what they are told ───────────────────────────────────────────────────────────────────


async def test_what_no_worker_could_put_in_force_is_refused_and_those_to_come_start_on_the_old(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        text = configuration(upstream, redis_url)
        async with several(Command(tmp_path, text, workers=WORKERS)) as command:
            _, before = await readyz(command)
            (tmp_path / "state" / "pepper").write_text("no pepper")
            command.write(text.replace("trusted-headers", "virtual-keys"))
            command.signal(signal.SIGHUP)
            await until(lambda: "Restore it from a backup" in command.errors, SOON_S)
            killed = (await processes_of(command))[0]
            os.kill(killed, signal.SIGKILL)
            await until_ready(command, other_than=killed)
            assert (await readyz(command))[1]["config"] == before["config"]
            assert command.errors.count("is refused") == 1


async def test_all_put_in_force_what_was_read_once_whatever_stands_in_the_file_by_then(tmp_path, redis_url):
    async with scripted_upstream(USED) as upstream:
        text = configuration(upstream, redis_url)
        command = Command(tmp_path, text, workers=WORKERS, first=WRITES_OVER_WHAT_WAS_READ)
        async with several(command):
            _, before = await readyz(command)
            command.write(configuration(upstream, redis_url, "# changed"))
            command.signal(signal.SIGHUP)
            said = await until_told(
                command, lambda _status, said: before["config"] not in said["config"] and all_ready(said)
            )
            assert [worker["config"] for worker in said["workers"]] == [said["config"]] * WORKERS
            assert command.path.read_text() == "[[["
            assert "is refused" not in command.errors


async def test_a_key_that_one_worker_revokes_is_known_to_no_other(tmp_path, redis_url):
    (tmp_path / "token").write_text("t" * 40)
    admin = (
        f"""[admin]\ntokens = [{{ name = "op", token = "file:{tmp_path / "token"}", roles = ["operate", "keys"] }}]\n"""
    )
    headers = [*JSON, (b"authorization", b"Bearer " + b"t" * 40)]
    async with scripted_upstream(USED) as upstream:
        text = configuration(upstream, redis_url, admin).replace("trusted-headers", "virtual-keys")
        async with several(Command(tmp_path, text, workers=WORKERS)) as command:
            port = Admin(command.admin_port)
            assert (await plain_request(port, "PUT", "/admin/v1/tenants/acme", b"{}", headers))[0] in (200, 201)
            _, _, body = await plain_request(port, "POST", "/admin/v1/virtual-keys", b'{"tenant":"acme"}', headers)
            issued = json.loads(body)
            with_key = [*JSON, (b"authorization", b"Bearer " + issued["token"].encode())]

            async def statuses() -> set[int]:  # of enough connections at once for every worker to have some
                calls = (plain_request(command, "POST", CHAT, PLAIN, with_key) for _ in range(12))
                return {status for status, _, _ in await asyncio.gather(*calls)}

            assert await statuses() == {200}
            target = f"/admin/v1/virtual-keys/{issued['id']}/revoke"
            assert (await plain_request(port, "POST", target, b"", headers))[0] == 200
            async with asyncio.timeout(3.0):  # what a worker has looked up it believes for 5 s
                while True:
                    if await statuses() == {401}:
                        break
                    await asyncio.sleep(0.05)
