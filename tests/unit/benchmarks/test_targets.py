import os
import time
from pathlib import Path

import pytest

from benchmarks import latency, targets
from benchmarks.load import LoadFailed, Round
from benchmarks.load_process import LoadProcess
from benchmarks.targets import StartFailed, free_port, running
from proxy.settings.load import load


def test_both_addresses_or_neither():
    with pytest.raises(StartFailed, match="both"), targets.targets(latency.parse(["--direct", "http://a/v1"])):
        pass


def test_addresses_that_are_given_are_used_as_they_are():
    arguments = latency.parse(["--direct", "http://a/v1", "--gateway", "http://b/v1", "--connections", "4,8"])
    with targets.targets(arguments) as at:
        assert (at.direct, at.gateway) == ("http://a/v1", "http://b/v1")
        assert (at.gateway_rss_mb(), at.gateway_cpu_s()) == (None, None)
    assert arguments.connections == [4, 8]


def test_a_gateway_of_our_own_is_seen_at_work():
    at = targets.Targets("", "", None, "", 0.0, os.getpid())
    before_s, until_s = at.gateway_cpu_s(), time.process_time() + 0.1
    while time.process_time() < until_s:  # a tenth of a second of work
        pass
    after_s, rss_mb = at.gateway_cpu_s(), at.gateway_rss_mb()
    assert before_s is not None
    assert after_s is not None
    assert after_s - before_s == pytest.approx(0.1, abs=0.05)
    assert rss_mb is not None
    assert rss_mb > 5


def test_a_process_that_ends_shows_what_it_said(tmp_path):
    with (
        pytest.raises(StartFailed, match="no such luck"),
        running("gateway", ["-c", "raise SystemExit('no such luck')"], tmp_path, None, free_port()),
    ):
        pass


def test_the_load_generator_drives_the_upstream_from_processes_of_their_own(tmp_path):
    port, cpu = free_port(), max(os.sched_getaffinity(0))
    command = ["-m", "benchmarks.simulated_upstream", "--port", str(port)]
    with running("upstream", command, tmp_path, cpu, port) as pid, LoadProcess(cpu) as load:
        assert os.sched_getaffinity(pid) == {cpu}
        sent = latency.body("simulated-18chunks", stream=True)
        good = Round(f"http://127.0.0.1:{port}/v1", sent, "sk-test", 4, 1.0)
        sample = load.run(good)
        assert sample.failures == 0
        assert len(sample.latencies_ns) > 100
        assert 0 < sample.busy_ns <= 1.1 * sample.elapsed_ns
        with pytest.raises(LoadFailed):  # and it goes on after a failure
            load.run(Round(f"http://127.0.0.1:{port}/v2", sent, "sk-test", 1, 0.1))
        assert load.run(good).failures == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_gateway_takes_its_configuration(tmp_path):
    text = targets.config_text(tmp_path, port=18080, admin_port=18081, upstream="http://127.0.0.1:19000/v1")
    settings = load(text, path="bench.toml", environ={}, read_file=Path.read_text)
    assert settings.auth.mode == "passthrough"
    assert settings.auth.default_provider == "bench"
    assert settings.server.bind.port == 18080
    assert settings.providers["bench"].base_url == "http://127.0.0.1:19000/v1"
