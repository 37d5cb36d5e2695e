"""Several real workers behind one address: started, asked how they are, called, and gone at the end."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.command import Command
from tests.gateway import JSON, plain_request, priced_to
from tests.scripted_upstream import Received, ScriptedUpstream, Step, answer, until
from tests.streaming import CHAT, SOON_S, Streaming, held_until

HEADERS = [*JSON, (b"x-tollway-tenant", b"several")]
PLAIN = b'{"model":"priced","max_tokens":100,"messages":[]}'
STREAM = b'{"model":"priced","max_tokens":100,"stream":true,"messages":[]}'
USED = answer(b'{"id":"c","model":"priced","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9}}')
HELD_NUSD = (len(PLAIN) + 2_048) * 1_000 + 100 * 4_000
WORKERS, STREAMS = 2, 12
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
        lambda status, said: (
            status == 200 and all(worker["ready"] and worker["process"] != other_than for worker in said["workers"])
        ),
    )
    return [worker["process"] for worker in said["workers"]]


def all_ready(said: dict[str, Any]) -> bool:
    return all(worker["ready"] for worker in said["workers"])


async def processes_of(command: Command) -> list[int]:
    return await until_ready(command)


async def call(command: Command) -> int:
    status, _, _ = await plain_request(command, "POST", CHAT, PLAIN, HEADERS)
    return status


async def metric(command: Command, line: str) -> float:
    return await asyncio.to_thread(command.metric, line)


def stream_held_until(go: asyncio.Event, request: Received) -> Iterator[Step]:
    """A stream that goes on when it may, or a plain answer."""
    if b'"stream":true' not in request.body:
        yield from USED
        return
    yield from held_until(go)


async def begin_stream(command: Command) -> Streaming:
    return await Streaming.begin(command, STREAM, HEADERS)
