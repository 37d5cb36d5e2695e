"""What a scrape reads is collected at once; the text is written beside the calls, and says the same."""

import threading

from proxy.telemetry.merging import render
from proxy.telemetry.metrics import DeploymentFigures, Metrics


async def test_a_scrape_says_what_rendering_says_and_writes_it_in_a_thread(monkeypatch):
    metrics, threads = Metrics(), []

    def slowly(collected):
        threads.append(threading.current_thread())
        metrics.attempt_ended("openai/gpt-5", "answered")  # while it is written, calls go on: the next scrape's
        return render(collected)

    metrics.before_scrape(lambda: metrics.attempt_ended("openai/gpt-5", "answered"))
    metrics.read_deployments(lambda: [DeploymentFigures("openai/gpt-5", 0.5, 2, 1)])
    metrics.attempt_ended("openai/gpt-5", "answered")
    monkeypatch.setattr("proxy.telemetry.metrics.render_families", slowly)
    text, content_type = await metrics.scrape()
    assert b'tollway_attempts_total{deployment="openai/gpt-5",outcome="answered"} 2.0' in text
    assert b'tollway_breaker_state{deployment="openai/gpt-5"} 2.0' in text
    assert threads[0] is not threading.main_thread()

    monkeypatch.undo()
    metrics.before_scrape(lambda: None)
    assert await metrics.scrape() == metrics.render()
    assert content_type == metrics.render()[1]
