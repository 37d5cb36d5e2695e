"""Promise: whoever reads what the gateway writes may stop reading, or go: requests are answered and
rows are written all the same. The real command, in a process of its own."""

import asyncio
import contextlib
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

from tests.command import ROOT, Command
from tests.gateway import plain_request

SIMULATED = """
[auth]
mode = "passthrough"
allow_keyless = true
[providers.simulated]
transport = "simulated"
[models.simulated]
deployments = [{ provider = "simulated", model = "simulated" }]
"""
CHAT = "/v1/chat/completions"
GOOD = b'{"model":"simulated","messages":[{"role":"user","content":"hi"}]}'
PIPE_BYTES = 65_536  # what Linux holds for a reader that has stopped
BOUND_S = 20.0


@contextlib.contextmanager
def unread(command: Command) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway with both outputs in one pipe, read until both ports are open and never again."""
    reading, writing = os.pipe()
    typed = [sys.executable, "-m", "proxy", "serve", "--config", str(command.path)]
    process = subprocess.Popen(typed, cwd=ROOT, stdout=writing, stderr=writing)
    os.close(writing)
    try:
        said = b""
        while len(urls := re.findall(rb"http://\S+", said)) < 2:
            piece = os.read(reading, 4_096)
            assert piece, said
            said += piece
        command.url, command.admin_url = (url.decode() for url in urls)
        yield process
    finally:
        process.kill()
        process.wait(BOUND_S)
        os.close(reading)


async def nonsense(port: int, count: int) -> None:
    """Requests that are no HTTP: each is a line on standard error."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), BOUND_S) as caller:
            caller.sendall(b"nonsense\r\n\r\n")
            assert (await asyncio.to_thread(caller.recv, 12)) == b"HTTP/1.1 400"


async def test_outputs_that_nobody_reads_hold_up_no_request_and_no_end(tmp_path):
    command = Command(tmp_path, SIMULATED)
    with unread(command) as process:
        await nonsense(command.port, PIPE_BYTES // 60)  # a line is longer: the pipe is full behind these
        for _ in range(20):
            assert (await plain_request(command, "POST", CHAT, GOOD))[0] == 200
        process.terminate()
        assert await asyncio.to_thread(process.wait, BOUND_S) == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "tollway.db")) as state:
        assert state.execute("SELECT count(*) FROM ledger").fetchone() == (20,)
