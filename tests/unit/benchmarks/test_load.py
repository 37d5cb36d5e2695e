import json

import pytest

from benchmarks.latency import body, pairs_of
from benchmarks.load import NUMBER, LoadFailed, Round, request_bytes, run
from benchmarks.simulated_upstream import SimulatedServer


def round_(server: SimulatedServer, model: str = "simulated", **more) -> Round:
    sent = body(model, stream=more.pop("stream", False))
    return Round(server.base_url, sent, "sk-test", **{"connections": 2, "seconds": 0.3, "warm_up_s": 0.05, **more})


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_has_its_size(stream):
    sent = body("simulated", stream=stream)
    assert len(sent) == 1_024
    assert json.loads(sent)["stream"] is stream


@pytest.mark.parametrize(("seconds", "pairs"), [(8, 10), (2.4, 3), (0.1, 3)])
def test_how_many_rounds(seconds, pairs):
    assert pairs_of(seconds) == pairs


def test_the_request_on_the_wire():
    sent = request_bytes(Round("https://gateway.test:8443/v1/", b"{}", "sk-1", 1, 1.0))
    head, _, rest = sent.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert {b"host: gateway.test:8443", b"authorization: Bearer sk-1", b"content-length: 2"} <= set(lines)
    assert rest == b"{}"


async def test_plain_calls_are_counted_and_timed():
    async with SimulatedServer(remembers=True) as server:
        sample = await run(round_(server))
        assert sample.failures == 0
        assert 0 < len(sample.latencies_ns) < server.requests_count  # the warm-up is not counted
        assert len(sample.latencies_ns) < sample.completed <= server.requests_count
    assert len(sample.first_bytes_ns) == len(sample.latencies_ns)
    assert all(0 < first <= whole for first, whole in zip(sample.first_bytes_ns, sample.latencies_ns, strict=True))
    assert sample.per_s == pytest.approx(len(sample.latencies_ns) / (sample.elapsed_ns / 1e9))


async def test_no_two_numbered_calls_are_the_same():
    bodies = []

    class Reading(SimulatedServer):
        def answer(self, request):
            bodies.append(request.body)
            return super().answer(request)

    sent = json.dumps({"model": "simulated", "messages": [{"role": "user", "content": NUMBER.decode()}]}).encode()
    async with Reading() as server:
        sample = await run(Round(server.base_url, sent, "sk-test", 1, 0.1, warm_up_s=0.0, is_numbered=True))
    assert sample.failures == 0
    assert len(set(bodies)) == len(bodies) > 1
    assert NUMBER not in b"".join(bodies)
    assert {len(each) for each in bodies} == {len(sent)}


async def test_a_stream_is_timed_to_its_first_byte_to_its_end_and_between():
    async with SimulatedServer(stamps_events=True) as server:
        model = "simulated-first30ms-every10ms-4chunks"
        sample = await run(round_(server, model, stream=True, seconds=0.6, watches_events=True, spread_s=0.02))
    assert sample.failures == 0
    # The upstream's clock may be a millisecond coarse. Seven events: six gaps of 10 ms after 30 ms.
    assert all(first >= 29e6 for first in sample.first_bytes_ns)
    assert all(whole >= 88e6 for whole in sample.latencies_ns)
    assert len(sample.gaps_ns) >= 6 * len(sample.latencies_ns)
    assert sorted(sample.gaps_ns)[len(sample.gaps_ns) // 2] == pytest.approx(10e6, rel=0.5)
    assert len(sample.hops_ns) >= len(sample.gaps_ns)
    assert all(0 < hop < 10e9 for hop in sample.hops_ns)


async def test_a_refusal_is_no_sample_and_says_what_it_was():
    async with SimulatedServer() as server:
        with pytest.raises(LoadFailed, match=r"status 429.*Rate limit reached"):
            await run(round_(server, "simulated-429"))


async def test_streams_that_outlast_the_round_are_hung_up():
    async with SimulatedServer(stamps_slow_events=True) as server:
        sent = body("simulated-every50ms-99chunks", stream=True)
        round_ = Round(server.base_url, sent, "sk-test", 100, 0.3, 0.1, 0.1, watches_events=True, abandons=True)
        sample = await run(round_)
    assert sample.failures == 0
    assert not sample.latencies_ns
    assert len(sample.hops_ns) > 100


@pytest.mark.parametrize("model", ["simulated-reset", "simulated-malformed"])
async def test_a_broken_answer_is_no_sample(model):
    async with SimulatedServer() as server:
        with pytest.raises(LoadFailed, match=r"broke|not HTTP"):
            await run(round_(server, model, seconds=0.1))


async def test_nobody_there():
    async with SimulatedServer() as server:
        gone = round_(server)
    with pytest.raises(LoadFailed, match="cannot be connected to"):
        await run(gone)
