"""The whole gateway in this process, behind its own HTTP front on a real socket."""

import asyncio
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import httpx
import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from proxy.app import App, create_app
from proxy.core.clock import Clock
from proxy.edge.protocol import TollwayProtocol
from proxy.settings.load import load
from tests.canaries import TRACES, files_of
from tests.scripted_upstream import ScriptedUpstream, until

JSON = [(b"content-type", b"application/json")]
CALLERS_TOKEN = "sk-callers-own-token"


class Listening(Protocol):
    """A port of the loopback where a gateway listens."""

    @property
    def port(self) -> int: ...


@dataclass
class Gateway:
    """A running gateway."""

    app: App
    port: int
    admin_port: int
    log_sink: io.BytesIO
    state: ServerState

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def rows(self, tenant_id: str = "default") -> list[dict[str, Any]]:
        """The ledger rows of a tenant, written by now: those of runs and of changes."""
        await self.app.settlement.drain(5.0)
        await self.app.keeper.drain(5.0)
        found: list[tuple[int, bytes]] = []
        while page := await self.app.stores.ledger.read(tenant_id, found[-1][0] if found else 0):
            found += page
        return [json.loads(data) for _, data in found]

    async def log_lines(self, count: int) -> list[dict[str, Any]]:
        """The access log, once it has so many lines: a thread of its own writes them."""
        await until(lambda: self.log_sink.getvalue().count(b"\n") >= count)
        return [json.loads(line) for line in self.log_sink.getvalue().splitlines()]

    async def idle(self) -> None:
        """Wait until no request is under way, hung up on or not, so that each has its row."""
        await until(lambda: not self.state.tasks)

    async def settled(self) -> None:
        """Likewise, until what each has used is counted, and the reserved ones have their row as well."""
        await self.idle()
        await self.app.settlement.drain(5.0)  # first: it hands to the keeper what has just ended
        assert await self.app.keeper.drain(5.0) == 0

    def metric(self, line: str) -> float:
        """A metric's value, by its line less the value."""
        text = self.app.metrics.render()[0].decode()
        return next((float(row.rsplit(" ", 1)[1]) for row in text.splitlines() if row.startswith(line + " ")), 0.0)


@asynccontextmanager
async def running_gateway(
    text: str,
    *,
    transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    state_url: str | None = None,
    cache_url: str | None = None,
    lease_s: int = 30,
    clock: Clock | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway under a configuration, with its state in a folder of its own."""
    with TemporaryDirectory() as temporary:
        state = f'[state]\nfolder = "{folder or temporary}"\nlease_s = {lease_s}\n'
        state += f'url = "{state_url}"\n' if state_url else ""
        state += f'cache_url = "{cache_url}"\n' if cache_url else ""
        state += "" if "[ledger]" in text else '[ledger]\nsink = "none"\n'  # rows stay where tests read them
        settings = load(text + "\n" + state, path="test.toml", environ=environ or {}, read_file=Path.read_text)
        sink = io.BytesIO()
        app = create_app(settings, transports=transports, access_log_sink=sink, clock=clock)
        await app.startup()
        server_state = ServerState()
        server = await _listen(app.data_plane, server_state)
        admin_server = await _listen(app.admin_app, server_state)
        try:
            yield Gateway(app, _port(server), _port(admin_server), sink, server_state)
        finally:
            server.close()
            admin_server.close()
            for connection in list(server_state.connections):
                connection.shutdown()
            tasks = [task for task in server_state.tasks if not task.done()]
            if tasks:
                await asyncio.wait(tasks, timeout=5.0)
            await app.shutdown()
        # Every test looks here for what looks like a key; `tests/behaviour/test_canaries.py` looks everywhere.
        left = {"the access log": sink.getvalue(), "the metrics": app.metrics.render()[0]}
        left |= await asyncio.to_thread(files_of, settings.state.folder)
        traces = {place: found for place, data in left.items() if (found := TRACES.findall(data))}
        assert not traces, f"what looks like a key was left in {traces}"


async def _listen(app: ASGIApp, state: ServerState) -> asyncio.Server:
    """Behind the front of the command, and as the command serves it, on a free port of the loopback."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", interface="asgi3", proxy_headers=False)
    config.load()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: TollwayProtocol(config, state, {}), "127.0.0.1", 0)


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def priced_to(base_url: str) -> str:
    """A configuration of one provider, whose `priced` costs $1 and $4 for a million tokens; headers say who calls."""
    return f"""
[auth]
mode = "trusted-headers"
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateways"
[[models.priced.deployments]]
provider = "scripted"
model = "priced"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 4 }}
context_tokens = 100_000
max_output_tokens = 20_000
"""


def first_and_second(
    first_url: str, second_url: str, first_facts: str, second_facts: str, *, second_model: str = "m"
) -> str:
    """A configuration of `m` at two providers, of which the second is the first one's equivalent; headers say who
    calls."""
    return f"""
[auth]
mode = "trusted-headers"
[providers.first]
base_url = "{first_url}"
provider_key = "sk-firsts"
timeouts_s = {{ connect = 0.5, first_byte = 0.5, idle = 0.5, total = 3 }}
[providers.second]
base_url = "{second_url}"
provider_key = "sk-seconds"
[[models.m.deployments]]
provider = "first"
model = "m"
{first_facts}
[[models.m.deployments]]
provider = "second"
model = "{second_model}"
tier = "equivalent"
{second_facts}
"""


def passthrough_to(base_url: str, extra: str = "", *, dialect: str = "openai") -> str:
    """A configuration whose callers bring their own key for the provider at `base_url`."""
    return f"""
[auth]
mode = "passthrough"
default_provider = "scripted"
[providers.scripted]
base_url = "{base_url}"
dialect = "{dialect}"
[models.alias]
deployments = [{{ provider = "scripted", model = "m-2026" }}]
{extra}
"""


@asynccontextmanager
async def gateway_before(upstream: ScriptedUpstream, extra: str = "") -> AsyncIterator[Gateway]:
    """A passthrough gateway before one scripted provider."""
    async with running_gateway(passthrough_to(upstream.base_url, extra)) as gateway:
        yield gateway


async def raw_request(
    gateway: Listening,
    method: str,
    target: str,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = JSON,
) -> AsyncGenerator[bytes, None]:
    """Send one request, its body framed by its length, and give out what comes back as the
    socket gives it, until the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(request_bytes(method, target, body, headers))
        await writer.drain()
        while chunk := await reader.read(1 << 16):
            yield chunk
    finally:
        writer.close()


def request_bytes(method: str, target: str, body: bytes, headers: Iterable[tuple[bytes, bytes]] = JSON) -> bytes:
    """One whole request as it goes over the wire, its body framed by its length."""
    return _head(method, target, body, list(headers)) + body


def _head(method: str, target: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode(), b"host: gateway.test", b"connection: close"]
    if not any(name == b"authorization" for name, _ in headers):
        lines.append(b"authorization: Bearer " + CALLERS_TOKEN.encode())
    lines += [name + b": " + value for name, value in headers]
    if body or method in ("POST", "PUT"):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n"


class BrokenOff(Exception):
    """The answer had no clean end. Holds what came before."""

    def __init__(self, body: bytes) -> None:
        super().__init__(f"the answer broke off after {len(body)} bytes")
        self.body = body


async def plain_request(
    gateway: Listening,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = JSON,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send one request; its answer's status, headers and de-framed body, with no decoding.

    Raises BrokenOff where the body has no clean end.
    """
    raw = b"".join([chunk async for chunk in raw_request(gateway, method, target, body, headers)])
    head, _, rest = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
    status = int(status_line.split(b" ")[1])
    if fields.get(b"transfer-encoding") == b"chunked":
        return status, fields, dechunked(rest)
    length = fields.get(b"content-length")
    if length is not None and method != "HEAD" and int(length) != len(rest):
        raise BrokenOff(rest)
    return status, fields, rest


def dechunked(rest: bytes) -> bytes:
    """The body in a chunked answer's bytes. Raises BrokenOff where it has no clean end."""
    pieces: list[bytes] = []
    while True:
        size_line, separator, rest = rest.partition(b"\r\n")
        if not separator:
            raise BrokenOff(b"".join(pieces))
        size = int(size_line, 16)
        if size == 0:
            if rest != b"\r\n":
                raise BrokenOff(b"".join(pieces))
            return b"".join(pieces)
        if len(rest) < size + 2:
            raise BrokenOff(b"".join(pieces) + rest[:size])
        pieces.append(rest[:size])
        rest = rest[size + 2 :]


def error_of(body: bytes) -> dict[str, Any]:
    """The error object of an answer in OpenAI's envelope."""
    document = json.loads(body)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = document["error"]
    return error
