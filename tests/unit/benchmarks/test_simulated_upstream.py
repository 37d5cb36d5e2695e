import asyncio
import json
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest

from benchmarks.simulated_upstream import COUNT_PATH, SENT_NS, SimulatedServer
from tests.authority import found

PATH = "/chat/completions"


def call(model: str = "simulated", *, stream: bool = False) -> dict[str, object]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def server() -> AsyncIterator[SimulatedServer]:
    async with SimulatedServer() as server:
        yield server


@pytest.fixture
async def client(server: SimulatedServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False, timeout=10) as client:
        yield client


async def raw(server: SimulatedServer, sent: bytes) -> bytes:
    """Everything that comes back before the server closes."""
    url = httpx.URL(server.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received


def wire(document: dict[str, object], *, close: bool = False) -> bytes:
    body = json.dumps(document).encode()
    connection = b"connection: close\r\n" if close else b""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (connection, len(body))
    return head + body


async def test_plain_and_streamed_on_one_connection(server, client):
    plain = await client.post(PATH, json=call())
    assert plain.status_code == 200
    streamed = await client.post(PATH, json=call("simulated-3chunks", stream=True))
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert streamed.text.count("\n\n") == 6
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert server.requests_count == 2
    assert (await client.get(server.base_url.removesuffix("/v1") + COUNT_PATH)).text == "2"
    assert len(server.connections) == 1


async def test_an_event_arrives_when_it_is_due_and_not_at_the_end(client):
    arrived = 0
    model = "simulated-every60000ms-3chunks"
    async with client.stream("POST", PATH, json=call(model, stream=True)) as response:
        async for _ in response.aiter_bytes():
            arrived += 1
            break
    assert arrived == 1


async def test_who_hangs_up_is_noticed(server, client):
    async with client.stream("POST", PATH, json=call("simulated-every60000ms", stream=True)) as response:
        await anext(response.aiter_raw())
        assert len(server.connections) == 1
    async with asyncio.timeout(10):
        await server.all_gone.wait()


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("simulated-drop", httpx.ReadError),
        ("simulated-reset", httpx.ReadError),
        ("simulated-malformed", httpx.RemoteProtocolError),
        ("simulated-hang", httpx.ReadTimeout),
        ("simulated-stall", httpx.ReadTimeout),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_faults(client, model, error, stream):
    with pytest.raises(error):
        await client.post(PATH, json=call(model, stream=stream), timeout=0.3)


@pytest.mark.parametrize(("model", "status"), [("simulated-429", 429), ("simulated-529", 529), ("unheard-of", 404)])
async def test_errors(client, model, status):
    response = await client.post(PATH, json=call(model))
    assert response.status_code == status
    assert response.json()["error"]["message"]


async def test_pipelined_requests_are_answered_in_their_order(server):
    documents = [call("simulated-every5ms-2chunks", stream=True), call("simulated-1chunks"), call("simulated-429")]
    sent = b"".join(map(wire, documents)) + wire(call("simulated-503"), close=True)
    received = await raw(server, sent)
    assert [received[at + 9 : at + 12] for at in _heads(received)] == [b"200", b"200", b"429", b"503"]


def _heads(received: bytes) -> list[int]:
    starts = [0]
    while (at := received.find(b"HTTP/1.1 ", starts[-1] + 1)) > 0:
        starts.append(at)
    return starts


async def test_what_is_not_http_is_not_answered(server):
    assert await raw(server, b"\x16\x03\x01 what?\r\n\r\n") == b""


async def test_a_large_answer_waits_for_a_slow_reader(server):
    url = httpx.URL(server.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1_024)
    writer.write(wire(call("simulated-10000chunks", stream=True), close=True))
    await asyncio.sleep(0.2)  # nothing is read meanwhile: the server has to stop writing
    size_bytes = 0
    async with asyncio.timeout(20):
        while chunk := await reader.read(65_536):
            size_bytes += len(chunk)
            last = chunk
    writer.close()
    await writer.wait_closed()
    assert size_bytes > 2_000_000
    assert last.endswith(b"0\r\n\r\n")


async def test_remembered_answers_are_the_same_bytes():
    async with SimulatedServer(remembers=True) as server:
        for stream in (False, True):
            sent = wire(call(stream=stream), close=True)
            first, second = await raw(server, sent), await raw(server, sent)
            # A second may have begun between the two; then they differ in when they were made alone.
            assert len(first) == len(second)
            assert first.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
        assert server.requests_count == 4


async def test_stamped_events_are_still_events():
    async with SimulatedServer(stamps_events=True, remembers=True) as server, httpx.AsyncClient() as client:
        response = await client.post(server.base_url + PATH, json=call("simulated-3chunks", stream=True))
    events = response.content.removesuffix(b"\n\n").split(b"\n\n")
    assert len(events) == 6
    assert all(event.startswith(SENT_NS) and b"\ndata: " in event for event in events)


async def test_slow_events_alone_are_stamped_where_that_is_asked():
    async with SimulatedServer(stamps_slow_events=True, remembers=True) as server, httpx.AsyncClient() as client:
        for model, is_stamped in (("simulated-3chunks", False), ("simulated-every5ms-3chunks", True)):
            response = await client.post(server.base_url + PATH, json=call(model, stream=True))
            assert (SENT_NS in response.content) is is_stamped


async def test_bodies_that_begin_alike_get_the_same_answer_where_that_is_asked():
    async with SimulatedServer(by_head=True, remembers=True) as server, httpx.AsyncClient() as client:
        sent = [json.dumps({**call(), "user": end}).encode() for end in ("x" * 200 + "a", "x" * 200 + "b", "")]
        answers = [(await client.post(server.base_url + PATH, content=each)).content for each in sent]
    assert answers[0] == answers[1] or json.loads(answers[0])["created"] != json.loads(answers[1])["created"]
    assert answers[2] != answers[0]


async def test_tls(tmp_path):
    authority = found(tmp_path)
    async with SimulatedServer(certificate=tmp_path / "good.pem") as server:
        assert server.base_url.startswith("https://")
        verify = ssl.create_default_context(cafile=authority.ca_file)
        async with httpx.AsyncClient(verify=verify) as client:
            response = await client.post(server.base_url + PATH, json=call("simulated"))
        assert response.status_code == 200
