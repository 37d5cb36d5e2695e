import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from proxy.core.clock import Clock
from proxy.simulated.transport import BODY_BYTES_MAX, SimulatedTransport


def request(model: str, *, stream: bool = False, timeout: dict[str, float] | None = None) -> httpx.Request:
    document = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    return httpx.Request(
        "POST",
        "http://simulated.test/v1/chat/completions",
        content=json.dumps(document),
        extensions={} if timeout is None else {"timeout": timeout},
    )


async def read(response: httpx.Response) -> list[bytes]:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return [chunk async for chunk in response.stream]


async def test_a_stream_comes_event_by_event():
    response = await SimulatedTransport().handle_async_request(request("simulated-4chunks", stream=True))
    chunks = await read(response)
    assert len(chunks) == 7
    assert all(chunk.endswith(b"\n\n") for chunk in chunks)


async def test_what_differs_is_handed_in():
    class Fixed(Clock):
        def now_ms(self) -> int:
            return 784_111_777_500

    transport = SimulatedTransport(Fixed(), lambda: "f" * 32)
    response = await transport.handle_async_request(request("simulated"))
    assert response.headers["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
    document = json.loads(b"".join(await read(response)))
    assert (document["id"], document["created"]) == ("chatcmpl-" + "f" * 32, 784_111_777)


@pytest.mark.parametrize(
    ("model", "error"),
    [("simulated-drop", httpx.ReadError), ("simulated-malformed", httpx.RemoteProtocolError)],
)
async def test_faults_before_the_head(model, error):
    with pytest.raises(error):
        await SimulatedTransport().handle_async_request(request(model))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reset_comes_after_a_part_of_the_body(stream):
    response = await SimulatedTransport().handle_async_request(request("simulated-reset", stream=stream))
    assert response.status_code == 200
    assert isinstance(response.stream, httpx.AsyncByteStream)
    size_bytes = 0
    with pytest.raises(httpx.ReadError):
        async for chunk in response.stream:
            size_bytes += len(chunk)
    assert size_bytes > 0


@pytest.mark.parametrize("bound", ["total", "first_byte", "read"])
async def test_a_provider_that_hangs_meets_the_bound(bound):
    with pytest.raises(httpx.ReadTimeout):
        await SimulatedTransport().handle_async_request(request("simulated-hang", timeout={bound: 0.02}))


async def test_a_late_first_byte_meets_the_bound():
    late = request("simulated-first60000ms", stream=True, timeout={"first_byte": 0.02, "total": 600})
    with pytest.raises(httpx.ReadTimeout):
        await SimulatedTransport().handle_async_request(late)


@pytest.mark.parametrize("model", ["simulated-stall", "simulated-every60000ms"])
async def test_a_stream_that_stops_meets_the_idle_bound(model):
    stopping = request(model, stream=True, timeout={"first_byte": 60, "idle": 0.02, "total": 600})
    response = await SimulatedTransport().handle_async_request(stopping)
    with pytest.raises(httpx.ReadTimeout):
        await read(response)


async def test_the_total_bound_holds_over_a_stream_that_goes_on():
    endless = request("simulated-every10ms-500chunks", stream=True, timeout={"idle": 60, "total": 0.5})
    response = await SimulatedTransport().handle_async_request(endless)
    with pytest.raises(httpx.ReadTimeout):
        await read(response)


async def test_a_hanging_call_can_be_cancelled():
    task = asyncio.create_task(SimulatedTransport().handle_async_request(request("simulated-hang")))
    await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_closed_answer_gives_nothing_more():
    response = await SimulatedTransport().handle_async_request(request("simulated", stream=True))
    assert isinstance(response.stream, httpx.AsyncByteStream)
    chunks = aiter(response.stream)
    await anext(chunks)
    await response.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_a_body_that_is_too_large_is_not_kept():
    sent_bytes = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent_bytes
        while True:
            sent_bytes += 1_048_576
            yield bytes(1_048_576)

    endless_request = httpx.Request("POST", "http://simulated.test/v1/chat/completions", content=endless())
    response = await SimulatedTransport().handle_async_request(endless_request)
    assert response.status_code == 413
    assert sent_bytes <= BODY_BYTES_MAX + 1_048_576


async def test_the_sdk_sees_the_headers(openai_client):
    raw = await openai_client.chat.completions.with_raw_response.create(
        model="simulated", messages=[{"role": "user", "content": "Hello"}]
    )
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-ratelimit-limit-requests"] == "10000"
