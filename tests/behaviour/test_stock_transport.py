"""A provider with `transport = "httpx"` is reached by HTTP/2 where it speaks that, by HTTP/1.1 where
it does not, and through a proxy where one is set; the other providers never notice it."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import pytest

from tests.authority import Authority, found
from tests.gateway import dechunked, error_of, plain_request, running_gateway
from tests.scripted_upstream import answer, scripted_upstream

ANSWER = b'{"id":"x","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}'
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return found(tmp_path_factory.mktemp("ca"))


class TlsUpstream:
    """Answers every request, in the protocol that was agreed on; notes which, and what was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.agreed: list[str | None] = []
        self.asked: list[tuple[dict[bytes, bytes], bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        self.agreed.append(agreed)
        try:
            await (self._serve_2(reader, writer) if agreed == "h2" else self._serve_1(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            writer.close()

    async def _serve_1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
            if fields.get(b"transfer-encoding") == b"chunked":
                body = dechunked(await reader.readuntil(b"0\r\n\r\n"))
            else:
                body = await reader.readexactly(int(fields[b"content-length"]))
            self.asked.append((fields, body))
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
            writer.write(head + ANSWER)

    async def _serve_2(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        wire.initiate_connection()
        writer.write(wire.data_to_send())
        heads, bodies = {}, {}
        while data := await reader.read(65_536):
            for event in wire.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    heads[event.stream_id], bodies[event.stream_id] = dict(event.headers), b""
                elif isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    self.asked.append((heads[event.stream_id], bodies[event.stream_id]))
                    wire.send_headers(event.stream_id, [(b":status", b"200"), (b"content-type", b"application/json")])
                    wire.send_data(event.stream_id, ANSWER, end_stream=True)
            writer.write(wire.data_to_send())


@asynccontextmanager
async def tls_upstream(context: ssl.SSLContext) -> AsyncIterator[TlsUpstream]:
    upstream = TlsUpstream()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await upstream.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def configuration(upstream: TlsUpstream, authority: Authority) -> str:
    """One provider, reached by either transport."""

    def provider(name: str, transport: str) -> str:
        return f"""
[providers.{name}]
base_url = "https://localhost:{upstream.port}/v1"
provider_key = "file:{authority.folder / "key"}"
transport = "{transport}"
ca_file = "{authority.ca_file}"
[models.{name}]
deployments = [{{ provider = "{name}", model = "m" }}]
"""

    return '[auth]\nmode = "trusted-headers"\n' + provider("stock", "httpx") + provider("own", "tollway")


async def call(gateway, model: str) -> tuple[int, dict[bytes, bytes], bytes]:
    headers = [(b"content-type", b"application/json"), (b"x-tollway-tenant", b"acme")]
    body = b'{"model":"%b","messages":[]}' % model.encode()
    return await plain_request(gateway, "POST", CHAT, body, headers)


@pytest.mark.parametrize("spoken", ["h2", "http/1.1"])
async def test_it_speaks_what_the_provider_speaks_and_ours_speaks_one(authority, spoken):
    (authority.folder / "key").write_text("sk-gateways")
    context = authority.server_context("good")
    context.set_alpn_protocols([spoken, "http/1.1"])
    async with tls_upstream(context) as upstream, running_gateway(configuration(upstream, authority)) as gateway:
        for model in ("stock", "own", "stock"):
            status, head, body = await call(gateway, model)
            assert (status, head.get(b"x-tollway-error-source"), body) == (200, None, ANSWER)
        # One connection each, kept alive: what httpx agrees on is not what ours is made to offer.
        assert upstream.agreed == [spoken, "http/1.1"]
        for fields, body in upstream.asked:
            assert fields[b"authorization"] == b"Bearer sk-gateways"
            assert body == b'{"model":"m","messages":[]}'
        rows = await gateway.rows("acme")
        assert [(row["deployment"], row["status"], row["input_tokens"]) for row in rows] == [
            ("stock/m", 200, 3),
            ("own/m", 200, 3),
            ("stock/m", 200, 3),
        ]


async def test_a_certificate_for_another_host_is_refused(authority):
    (authority.folder / "key").write_text("sk-gateways")
    async with (
        tls_upstream(authority.server_context("other")) as upstream,
        running_gateway(configuration(upstream, authority)) as gateway,
    ):
        status, _, body = await call(gateway, "stock")
        assert (status, error_of(body)["code"]) == (502, "upstream_unreachable")
        assert upstream.asked == []


@pytest.mark.parametrize("spoken", ["h2", "http/1.1"])
async def test_an_upload_of_unknown_length_arrives_whole(authority, spoken):
    (authority.folder / "key").write_text("sk-gateways")
    context = authority.server_context("good")
    context.set_alpn_protocols([spoken])
    async with tls_upstream(context) as upstream:
        text = configuration(upstream, authority).replace("[auth]", '[auth]\ndefault_provider = "stock"')
        async with running_gateway(text) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(
                b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n"
                b"x-tollway-tenant: acme\r\ncontent-type: application/octet-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n7\r\n--x one\r\n8\r\n and two\r\n0\r\n\r\n"
            )
            raw = await asyncio.wait_for(reader.read(), 10.0)
            writer.close()
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert [body for _, body in upstream.asked] == [b"--x one and two"]


async def test_a_provider_behind_a_proxy_is_reached_through_it_and_its_password_is_never_shown():
    async with scripted_upstream(answer(ANSWER)) as proxy:  # it answers for whom it is asked for
        text = """
[auth]
mode = "passthrough"
default_provider = "away"
[providers.away]
base_url = "http://127.0.0.1:9/v1"
transport = "httpx"
proxy_url = "env:PROXY"
"""
        environ = {"PROXY": f"http://us:pw-canary@127.0.0.1:{proxy.port}"}
        async with running_gateway(text, environ=environ) as gateway:
            status, _, body = await plain_request(gateway, "POST", CHAT, b'{"model":"m","messages":[]}')
            assert (status, body) == (200, ANSWER)
            assert "pw-canary" not in repr(gateway.app.snapshots.current.settings)
        (asked,) = proxy.received
        assert asked.target == "http://127.0.0.1:9/v1/chat/completions"
        assert asked.header(b"proxy-authorization") == b"Basic " + base64.b64encode(b"us:pw-canary")
