"""Promise: mounted in a host's own Starlette application, behind a stock server, the gateway keeps its
promises of bytes, errors, hang-ups and rows. What its own HTTP front does is then the host's business."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from proxy.app import App, create_app
from proxy.settings.load import load
from tests.forms import form, form_headers
from tests.gateway import JSON, BrokenOff, error_of, passthrough_to, plain_request, raw_request, request_bytes
from tests.scripted_upstream import Do, ScriptedUpstream, answer, scripted_upstream, stream, until

CHAT = "/gateway/v1/chat/completions"
PLAIN = b'{"model":"alias","messages":[]}'
STREAM = b'{"model":"alias","stream":true,"messages":[]}'
COMPLETION = b'{"id":"c", "model":"m-2026","usage":{"prompt_tokens":3,"completion_tokens":4}}'
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
BODY_BYTES_MAX = 20_000


@dataclass
class Host:
    """A running host application, and the gateway in it."""

    app: App
    port: int
    log_sink: io.BytesIO

    async def ending(self, count: int = 1) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """The log lines, once there are so many, each with its row, where it has one."""
        await until(lambda: self.log_sink.getvalue().count(b"\n") >= count)
        await self.app.settlement.drain(5.0)
        rows = {
            run["run_id"]: run for run in [json.loads(row) for _, row in await self.app.stores.ledger.read("default")]
        }
        lines = [json.loads(line) for line in self.log_sink.getvalue().splitlines()]
        assert len(lines) == count
        return [(line, rows.get(line["run_id"])) for line in lines]


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("the host's own")


@asynccontextmanager
async def hosted(upstream: ScriptedUpstream, folder: Path, http: str, root_path: str = "") -> AsyncIterator[Host]:
    """A service with a route of its own and the gateway under a path, as its makers would write it."""
    text = passthrough_to(
        upstream.base_url,
        f'[server]\nbody_bytes_max = {BODY_BYTES_MAX}\n[state]\nfolder = "{folder}"\n'
        '[ledger]\nsink = "none"\n',  # an exporter takes rows out of the store as soon as it has them
    )
    sink = io.BytesIO()
    gateway = create_app(load(text, path="test.toml", environ={}, read_file=Path.read_text), access_log_sink=sink)

    @asynccontextmanager
    async def lifespan(_host: Starlette) -> AsyncIterator[None]:
        await gateway.startup()
        yield
        await gateway.shutdown()

    service = Starlette(routes=[Route("/hello", hello), Mount("/gateway", gateway)], lifespan=lifespan)
    config = uvicorn.Config(service, port=0, http=http, ws="none", log_config=None, lifespan="on", root_path=root_path)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        await until(lambda: server.started)
        yield Host(gateway, server.servers[0].sockets[0].getsockname()[1], sink)
    finally:
        server.should_exit = True
        await serving


@pytest.fixture(params=["httptools", "h11"])
def http(request: pytest.FixtureRequest) -> str:
    """uvicorn's own two protocols."""
    name: str = request.param
    return name


async def test_a_plain_call_and_a_stream(tmp_path, http):
    async with scripted_upstream(answer(COMPLETION, headers=[(b"x-request-id", b"req_1")])) as upstream:
        async with hosted(upstream, tmp_path, http) as host:
            status, head, got = await plain_request(host, "POST", CHAT + "?a=%20b", PLAIN)
            assert (status, got, head[b"x-request-id"]) == (200, COMPLETION, b"req_1")
            upstream.script = lambda _request: stream(EVENT, 0.01, EVENT, DONE)
            status, head, got = await plain_request(host, "POST", CHAT, STREAM)
            assert (status, got, head[b"content-type"]) == (200, EVENT + EVENT + DONE, b"text/event-stream")
            # Less the mount's path: the provider never hears of it.
            assert [each.target for each in upstream.received] == [
                "/v1/chat/completions?a=%20b",
                "/v1/chat/completions",
            ]
            (plain_line, plain_row), (stream_line, stream_row) = await host.ending(2)
            assert plain_line["path"] == stream_line["path"] == "/v1/chat/completions"
            assert plain_line["peer"] == "127.0.0.1"
            assert plain_row is not None
            assert stream_row is not None
            assert (plain_row["status"], plain_row["output_tokens"], plain_row["stream"]) == (200, 4, False)
            assert (stream_row["status"], stream_row["error_source"], stream_row["stream"]) == (200, None, True)


async def test_events_arrive_one_by_one(tmp_path, http):
    pieces = [step for _ in range(5) for step in (EVENT, 0.05)]
    async with scripted_upstream(stream(*pieces, DONE)) as upstream, hosted(upstream, tmp_path, http) as host:
        arrived = [chunk async for chunk in raw_request(host, "POST", CHAT, STREAM)]
        assert len([chunk for chunk in arrived if EVENT in chunk]) == 5


async def test_the_hosts_own_routes_are_its_own(tmp_path, http):
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        assert (await plain_request(host, "GET", "/hello"))[2] == b"the host's own"
        assert (await plain_request(host, "POST", "/v1/chat/completions", PLAIN))[0] == 404
        assert upstream.received == []


async def test_behind_a_root_path_of_the_hosts_own(tmp_path, http):
    """A reverse proxy has taken `/api` away, and the server was told so."""
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with hosted(upstream, tmp_path, http, root_path="/api") as host:
            assert (await plain_request(host, "POST", CHAT, PLAIN))[0] == 200
            assert upstream.received[0].target == "/v1/chat/completions"


async def test_models_and_a_base_url_without_v1(tmp_path, http):
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        _, _, got = await plain_request(host, "GET", "/gateway/v1/models")
        assert [model["id"] for model in json.loads(got)["data"]] == ["alias"]
        assert (await plain_request(host, "POST", "/gateway/chat/completions", PLAIN))[0] == 200


REFUSALS = {
    "not JSON": ("POST", CHAT, b"{", 400, "invalid_json"),
    "too large": ("POST", CHAT, b'{"model":"m","x":"' + b"x" * BODY_BYTES_MAX + b'"}', 413, "request_too_large"),
    "dot segments": ("POST", "/gateway/v1/%2e%2e/admin", b"{}", 400, "invalid_path"),
    "an admin's path": ("GET", "/gateway/v1/organization/users", b"", 404, "unknown_url"),
    "nobody's path": ("POST", "/gateway/unheard/of", b"{}", 404, "unknown_url"),
}


@pytest.mark.parametrize(("method", "target", "body", "status", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_errors_have_the_same_envelope(tmp_path, http, method, target, body, status, code):
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        got_status, head, got = await plain_request(host, method, target, body)
        assert (got_status, error_of(got)["code"]) == (status, code)
        assert head[b"x-tollway-run-id"].startswith(b"run_")
        ((line, row),) = await host.ending()
        assert (line["status"], line["error"], row) == (status, code, None)
        assert upstream.received == []


async def test_the_bodys_limit_holds_where_no_length_is_told(tmp_path, http):
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer x\r\n".encode())
        writer.write(b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(BODY_BYTES_MAX // 1_000 + 1):
            writer.write(b"3e8\r\n" + b" " * 1_000 + b"\r\n")
        await writer.drain()
        # Told before the body's end, which does not come.
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
        writer.close()
        assert upstream.received == []


CUTS = {
    "without its last event": stream(EVENT),
    "closed": stream(EVENT, Do.CLOSE),
    "reset": stream(EVENT, 0.05, Do.RESET),
    "malformed": [*stream(EVENT, Do.HANG)[:2], 0.05, b"zz\r\n"],
    "a plain body": [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n" + EVENT,
        Do.CLOSE,
    ],
}


@pytest.mark.parametrize("script", CUTS.values(), ids=CUTS)
async def test_an_answer_that_breaks_off_has_no_clean_end(tmp_path, http, script):
    async with scripted_upstream(script) as upstream, hosted(upstream, tmp_path, http) as host:
        with pytest.raises(BrokenOff) as broken:
            await plain_request(host, "POST", CHAT, STREAM)
        assert broken.value.body == EVENT
        ((line, row),) = await host.ending()
        assert line["error"] in ("upstream_truncated", "upstream_malformed")
        assert row is not None
        assert (row["status"], row["error_source"]) == (200, "upstream")


HANGS = {"before the head": (PLAIN, [Do.HANG], b""), "between events": (STREAM, stream(EVENT, Do.HANG), EVENT)}


@pytest.mark.parametrize(("body", "script", "seen"), HANGS.values(), ids=HANGS)
async def test_a_hang_up_reaches_the_provider(tmp_path, http, body, script, seen):
    async with scripted_upstream(script) as upstream, hosted(upstream, tmp_path, http) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
        writer.write(request_bytes("POST", CHAT, body))
        await until(lambda: len(upstream.received) == 1)
        if seen:
            await reader.readuntil(seen)
        writer.close()
        await until(lambda: upstream.open_connections == 0)
        ((line, row),) = await host.ending()
        assert (line["error"], line["body_bytes"]) == ("caller_gone", len(seen))
        assert row is not None
        assert (row["status"], row["error_source"]) == (200 if seen else 499, "caller")


async def test_a_hang_up_within_the_body(tmp_path, http):
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        _, writer = await asyncio.open_connection("127.0.0.1", host.port)
        writer.write(request_bytes("POST", CHAT, PLAIN)[:-3])
        await writer.drain()
        writer.close()
        ((line, row),) = await host.ending()
        assert (line["status"], line["error"], row) == (499, "caller_gone", None)
        assert upstream.received == []


async def test_an_upload_is_streamed_through(tmp_path, http):
    body = bytes(range(256)) * 4_000
    headers = [(b"content-type", b"application/octet-stream")]
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        status, _, _ = await plain_request(host, "POST", "/gateway/v1/audio/transcriptions", body, headers)
        assert status == 200
        assert upstream.received[0].body == body


async def test_a_form_is_read_and_what_it_names_is_routed(tmp_path, http):
    small = form([(b"file", b"f", bytes(10)), (b"model", b"alias")])
    large = form([(b"model", b"alias"), (b"file", b"f", bytes(3_000_000))])
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, http) as host:
        for body in (small, large):
            path = "/gateway/v1/audio/transcriptions"
            assert (await plain_request(host, "POST", path, body, form_headers()))[0] == 200
            assert upstream.received[-1].body == body.replace(b"alias", b"m-2026")
        status, _, _ = await plain_request(host, "POST", "/gateway/v1/audio/transcriptions", small[:-9], form_headers())
        assert status == 400


async def test_rows_that_are_not_written_yet_are_written_by_shutdown(tmp_path, http):
    async with scripted_upstream(answer(COMPLETION)) as upstream:
        async with hosted(upstream, tmp_path, http) as host:
            for _ in range(3):
                assert (await plain_request(host, "POST", CHAT, PLAIN, JSON))[0] == 200
        async with hosted(upstream, tmp_path, http) as again:
            assert len(await again.app.stores.ledger.read("default")) == 3


async def test_a_websocket_is_turned_away(tmp_path):
    async with scripted_upstream(answer(COMPLETION)) as upstream, hosted(upstream, tmp_path, "h11") as host:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "path": "/gateway/v1/realtime", "root_path": "/gateway", "headers": []}
        await host.app(scope, receive, send)
        assert [message["type"] for message in said] == ["websocket.close"]
