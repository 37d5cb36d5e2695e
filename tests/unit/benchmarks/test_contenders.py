import time

import pytest

from benchmarks import contenders, setups
from benchmarks.contenders import BareRelay, Contender, Given, Tollway
from benchmarks.latency import body
from benchmarks.load import Round
from benchmarks.load_process import LoadProcess
from benchmarks.many_streams import Crowd, allow_files, measure
from benchmarks.rows import EVENT_P99, EVENTS_S, STREAM_KB
from benchmarks.targets import StartFailed, free_port


@pytest.fixture
def field(tmp_path):
    with contenders.field(tmp_path, (None, None), direct=None, upstream_port=None, redis=False, tls=True) as found:
        yield found


def test_a_bare_relay_passes_bodies_and_streams_on(field):
    with BareRelay().started(field) as relay, LoadProcess() as load:
        for sent in (body("simulated", stream=False, size_bytes=200_000), body("simulated-18chunks", stream=True)):
            sample = load.run(Round(relay.base_url, sent, relay.token, 4, 0.3))
            assert sample.failures == 0
            assert sample.completed > 4


@pytest.mark.parametrize("tls", [False, True])
def test_everything_answers_to_its_virtual_key_and_keeps_books(field, tls):
    candidate = Tollway(setups.EVERYTHING, "sqlite")
    with candidate.started(field, tls=tls) as contender, LoadProcess() as load:
        sample = load.run(Round(contender.base_url, body("simulated", stream=False), contender.token, 2, 0.3))
    assert sample.failures == 0
    ledger_rows, cost_usd = candidate.runs(field)
    assert ledger_rows == sample.completed + 1
    assert cost_usd > 0


def test_streams_that_are_open_are_counted_and_their_events_timed(field):
    allow_files(50)
    with BareRelay().started(field) as relay, LoadProcess() as load:
        began_s = time.monotonic()
        row = measure(load, relay, Crowd(50, 0.5, 2.0), lambda: None)
    assert row.failures == 0
    assert row.figures[EVENTS_S].value == pytest.approx(50, rel=0.3)
    assert 0 < row.figures[EVENT_P99].value < 1_000
    assert STREAM_KB in row.figures
    assert time.monotonic() - began_s < 20  # a minute's streams are hung up


def test_who_does_not_answer_is_told(field):
    other = Given("other", f"http://127.0.0.1:{free_port()}/v1", "sk-1")
    with pytest.raises(StartFailed, match="other does not answer"):
        contenders.wait_for_answer(Contender(other.name, other.base_url, other.token), 0.1)
