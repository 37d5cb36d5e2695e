"""Two ports from bind to the last word, with real signals."""

import asyncio
import os
import re
import signal
import socket
import stat
import time
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from proxy.edge import server
from proxy.edge.admin import create_admin_app
from proxy.edge.health import Readiness
from proxy.edge.server import BindFailed, serve
from proxy.edge.sockets import both_bound
from proxy.settings.model import Address, ServerSettings

PATIENCE_S = 10.0
LOCAL = Address("127.0.0.1", 0)


class App:
    """Answers `/slow` when it is told to, all else at once."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.started = asyncio.Event()
        self.ended: list[str] = []

    async def __call__(self, scope, receive, send):
        try:
            if scope["path"] == "/slow":
                self.started.set()
                await self.go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            self.ended.append("answered")
        finally:
            await asyncio.sleep(0.05)  # as a settlement does
            self.ended.append("settled")


async def no_metrics():
    return b"", "text/plain"


@asynccontextmanager
async def served(app, *, drain_s=PATIENCE_S, bind=LOCAL, admin_bind=LOCAL, on_reload=lambda: None, lines=None):
    lines = [] if lines is None else lines
    readiness = Readiness(config_version=lambda: "v1")
    task = asyncio.ensure_future(
        serve(
            data_app=app,
            admin_app=create_admin_app(readiness, no_metrics),
            server_settings=ServerSettings(bind=bind, admin_bind=admin_bind, drain_s=drain_s),
            readiness=readiness,
            on_reload=on_reload,
            announce=lines.append,
        )
    )
    try:
        await until(lambda: len(lines) == 2 or task.done())
        if task.done():
            await task
        yield task, readiness, [int(found[1]) for line in lines if (found := re.search(r":(\d+)$", line))]
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, BindFailed):
            await task


async def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)


async def get(port, path="/"):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    finally:
        writer.close()


async def ended(task):
    await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)


async def test_both_ports_answer_and_the_announced_ports_are_the_real_ones():
    async with served(App()) as (_, _, (data_port, admin_port)):
        assert (await get(data_port)).endswith(b"ok")
        assert b'"ready":true' in await get(admin_port, "/readyz")
        assert (await get(data_port, "/readyz")).endswith(b"ok")  # the data port's own application has it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains(number):
    app = App()
    async with served(app) as (task, readiness, (data_port, admin_port)):
        slow = asyncio.ensure_future(get(data_port, "/slow"))
        await app.started.wait()
        os.kill(os.getpid(), number)
        await until(lambda: readiness.draining)
        assert (await get(admin_port, "/readyz")).startswith(b"HTTP/1.1 503")  # up until the drain's end
        with pytest.raises(ConnectionRefusedError):
            await get(data_port)
        assert not task.done()
        app.go_on.set()
        answer = await slow
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"ok")
        await ended(task)
        assert app.ended == ["answered", "settled"]
        with pytest.raises(ConnectionRefusedError):
            await get(admin_port, "/livez")


async def test_a_drain_that_waits_says_so_and_an_idle_end_is_silent():
    app = App()
    lines: list[str] = []
    async with served(app, drain_s=600, lines=lines) as (task, readiness, (data_port, _)):
        slow = asyncio.ensure_future(get(data_port, "/slow"))
        await app.started.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await until(lambda: readiness.draining and len(lines) > 2)
        assert lines[2:] == ["Stopping. 1 request is under way, for 600 s at most; a second signal ends now."]
        app.go_on.set()
        await slow
        await ended(task)
        assert len(lines) == 3
    lines = []
    async with served(App(), lines=lines) as (task, _, _):
        os.kill(os.getpid(), signal.SIGINT)
        await ended(task)
    assert len(lines) == 2


async def test_idle_connections_do_not_hold_up_the_drain():
    async with served(App()) as (task, _, (data_port, _)):
        reader, writer = await asyncio.open_connection("127.0.0.1", data_port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"ok"), PATIENCE_S)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        await ended(task)
        writer.close()


async def test_a_second_signal_ends_now_and_still_waits_for_last_words():
    app = App()
    async with served(app, drain_s=600) as (task, _, (data_port, _)):
        slow = asyncio.ensure_future(get(data_port, "/slow"))
        await app.started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert not task.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await ended(task)
        assert app.ended == ["settled"]
        with suppress(ConnectionResetError):
            assert await slow == b""


async def test_what_does_not_end_within_drain_s_is_cancelled_and_waited_for():
    app = App()
    async with served(app, drain_s=0.2) as (task, _, (data_port, _)):
        slow = asyncio.ensure_future(get(data_port, "/slow"))
        await app.started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await ended(task)
        assert app.ended == ["settled"]
        with suppress(ConnectionResetError):
            assert await slow == b""


async def test_a_task_that_will_not_end_does_not_hold_the_process(monkeypatch):
    monkeypatch.setattr(server, "_CANCELLED_S", 0.2)
    let_go = asyncio.Event()

    async def stubborn(scope, receive, send):
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()

    async with served(stubborn, drain_s=0.1) as (task, _, (data_port, _)):
        slow = asyncio.ensure_future(get(data_port))
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        await ended(task)
        let_go.set()
        with suppress(ConnectionResetError):
            assert await slow == b""


async def test_sighup_reloads_and_serves_on():
    reloads = []
    async with served(App(), on_reload=lambda: reloads.append(1)) as (_, _, (data_port, _)):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: reloads)
        assert (await get(data_port)).endswith(b"ok")


@pytest.mark.parametrize("setting", ["bind", "admin_bind"])
async def test_a_port_in_use_is_one_clear_line_and_nothing_has_started(setting):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BindFailed) as caught:
            async with served(App(), **{setting: Address("127.0.0.1", port)}):
                pytest.fail("it started")
    message = str(caught.value)
    assert f"127.0.0.1:{port}" in message
    assert "in use" in message
    assert f"[server] {setting}" in message
    assert "\n" not in message


@pytest.mark.parametrize("setting", ["bind", "admin_bind"])
async def test_of_two_that_start_at_once_the_second_is_told_which_port_it_is(setting, monkeypatch):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))  # and does not listen yet, so that both can bind
        port = other.getsockname()[1]

        @contextmanager
        def bound_and_overtaken(settings):
            with both_bound(settings) as bound:
                other.listen()
                yield bound

        monkeypatch.setattr(server, "both_bound", bound_and_overtaken)
        with pytest.raises(BindFailed, match=rf"127\.0\.0\.1:{port}: .*in use.*set \[server\] {setting} to"):
            async with served(App(), **{setting: Address("127.0.0.1", port)}):
                pytest.fail("it started")


async def test_a_unix_socket_is_private_and_leaves_no_file(tmp_path):
    path = tmp_path / "tollway.sock"
    async with served(App(), bind=Address(unix_path=str(path))) as (task, _, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), PATIENCE_S)).endswith(b"ok")
        writer.close()
        os.kill(os.getpid(), signal.SIGTERM)
        await ended(task)
        assert not path.exists()


async def test_a_stale_unix_socket_is_replaced(tmp_path):
    path = tmp_path / "tollway.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with served(App(), bind=Address(unix_path=str(path))):
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.close()


async def test_a_unix_socket_in_use_is_not_taken(tmp_path):
    path = tmp_path / "tollway.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(BindFailed, match="another process listens there"):
            async with served(App(), bind=Address(unix_path=str(path))):
                pytest.fail("it started")
    assert path.exists()


async def test_a_file_at_the_sockets_path_is_not_touched(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(BindFailed, match="not a socket"):
        async with served(App(), bind=Address(unix_path=str(path))):
            pytest.fail("it started")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("host", [b"evil/livez?", b"evil#", b"a@b"])
async def test_a_poisoned_host_does_not_reach_the_admin_port(host):
    async with served(App()) as (_, _, (_, admin_port)):
        reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"evil" not in answer
