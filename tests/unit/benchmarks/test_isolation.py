"""The benchmark of isolation: what it sends, what it counts, and what it makes of that."""

import json
from array import array
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import isolation
from benchmarks.intervals import Interval
from benchmarks.isolation import FLOOD, Group, growth_pct, line, rates, together
from benchmarks.latency import body
from benchmarks.load import LoadFailed
from benchmarks.open_loop import Seen, Storm, arrivals, play, request_bytes
from benchmarks.simulated_upstream import SimulatedServer
from benchmarks.targets import config_text, free_port
from proxy.settings.load import load
from proxy.simulated.behaviour import parse_model

MS = 1_000_000


def storm(base_url="http://gateway.test/v1", per_s=None, bodies=(b"{}",), **more):
    return Storm(base_url, bodies, per_s or {"acme": 100.0}, **{"seconds": 0.5, "warm_up_s": 0.1, "seed": 1, **more})


# ── what is sent ─────────────────────────────────────────────────────────────────────────


def test_calls_arrive_at_their_rates_and_in_order_whatever_the_others_do():
    found = list(arrivals({"a": 20.0, "b": 200.0, "c": 0.0}, 50.0, seed=7))
    assert found == sorted(found)
    assert all(0 < at_s < 50 for at_s, _ in found)
    counts = Counter(tenant_id for _, tenant_id in found)
    # Poisson: a standard deviation is the root of the mean, and this seed is one of many.
    assert counts["a"] == pytest.approx(1_000, abs=4 * 1_000**0.5)
    assert counts["b"] == pytest.approx(10_000, abs=4 * 10_000**0.5)
    assert set(counts) == {"a", "b"}


def test_the_same_seed_sends_the_same():
    assert list(arrivals({"a": 50.0}, 2.0, 3)) == list(arrivals({"a": 50.0}, 2.0, 3))
    assert list(arrivals({"a": 50.0}, 2.0, 3)) != list(arrivals({"a": 50.0}, 2.0, 4))


def test_one_tenant_floods_and_an_even_round_is_as_much_in_all():
    calm, flood, even = (rates(kind, places=80, tenants=20, times=50) for kind in ("calm", "flood", "even"))
    assert flood[FLOOD] == pytest.approx(50 * calm[FLOOD])
    assert {flood[each] for each in flood if each != FLOOD} == {calm[FLOOD]}
    assert sum(even.values()) == pytest.approx(sum(flood.values()))
    assert len(set(even.values())) == 1
    room_per_s = 80 / isolation.CALL_S
    assert sum(calm.values()) < room_per_s < sum(flood.values())  # the flood has to wait


def test_the_request_on_the_wire():
    head, _, sent = request_bytes(storm("http://127.0.0.1:8080/v1"), "acme", b"{}").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n")
    assert b"\r\nx-tollway-tenant: acme\r\n" in head
    assert sent == b"{}"


def test_a_caller_with_a_token_and_no_tenant():
    head, _, _ = request_bytes(storm(token="sk-1"), "", b"{}").partition(b"\r\n\r\n")
    assert b"\r\nauthorization: Bearer sk-1\r\n" in head
    assert b"tenant" not in head


def test_the_models_are_the_simulated_providers_and_last_as_long_as_is_said():
    behaviours = [each for model in isolation.MODELS if (each := parse_model(model)) is not None]
    assert len(behaviours) == len(isolation.MODELS)
    # A chunk each, and the role, the finish and [DONE]: the first comes after first_ms.
    lengths_ms = [each.first_ms + each.every_ms * ((each.chunks or 0) + 2) for each in behaviours]
    assert sum(lengths_ms) / len(lengths_ms) == pytest.approx(1_000 * isolation.CALL_S)


def test_the_gateway_is_configured_so(tmp_path: Path):
    template = isolation.CONFIGURATION.replace("PLACES", "80")
    text = config_text(tmp_path, port=1, admin_port=2, upstream="http://127.0.0.1:3/v1", template=template)
    settings = load(text, path="bench.toml", environ={}, read_file=Path.read_text)
    assert settings.server.in_flight_max == 80
    assert not settings.warnings


# ── what is counted ──────────────────────────────────────────────────────────────────────


async def test_answers_are_timed_from_when_they_were_due_and_refusals_counted_apart():
    bodies = [body(f"simulated-first30ms{fault}", stream=True) for fault in ("", "-429")]
    async with SimulatedServer() as server:
        seen = await play(storm(server.base_url, {"a": 200.0, "b": 100.0}, bodies))
        assert sum(each.sent for each in seen.values()) < server.requests_count  # the warm-up is not counted
    for each in seen.values():
        assert set(each.statuses) == {200, 429}
        assert len(each.first_bytes_ns) == each.statuses[200]
        assert min(each.first_bytes_ns) >= 29 * MS
        firsts_and_lasts = zip(each.first_bytes_ns, each.latencies_ns, strict=True)
        assert all(first <= last for first, last in firsts_and_lasts)
        assert min(each.lates_ns) >= 0  # no call leaves before it is due
    assert seen["a"].sent > seen["b"].sent > 0


async def test_no_call_waits_for_another():
    async with SimulatedServer() as server:
        seen = await play(storm(server.base_url, bodies=[body("simulated-first400ms", stream=True)]))
    assert seen["acme"].sent == pytest.approx(50, abs=30)  # a closed loop would have sent one on each connection
    assert max(seen["acme"].first_bytes_ns) < 600 * MS


async def test_what_breaks_is_a_failure():
    async with SimulatedServer() as server:
        seen = await play(storm(server.base_url, bodies=[body("simulated-drop", stream=True)]))
    assert set(seen["acme"].statuses) == {0}
    seen = await play(storm(f"http://127.0.0.1:{free_port()}/v1", seconds=0.2))
    assert set(seen["acme"].statuses) == {0}


# ── what is made of it ───────────────────────────────────────────────────────────────────


def seen_of(statuses, *first_bytes_ms):
    return Seen(Counter(statuses), array("q", [each * MS for each in first_bytes_ms]))


def group(p99_ms, statuses=None):
    return Group(statuses or {200: 1}, [p99_ms * MS])


def test_the_others_are_taken_together_without_the_one_that_floods():
    seen = {FLOOD: seen_of({429: 9}), "a": seen_of({200: 2, 429: 1}, 30, 10), "b": seen_of({200: 1}, 20)}
    assert together(seen, flood=False) == Group({200: 3, 429: 1}, [10 * MS, 20 * MS, 30 * MS])
    assert together(seen, flood=True) == Group({429: 9}, [])
    with pytest.raises(LoadFailed):
        together(seen, flood=True).first_byte_ms(99)


def test_a_line_sums_what_was_refused_and_what_failed():
    rounds = [group(10, {200: 6, 429: 2, 503: 1, 0: 1}), group(30, {200: 10})]
    found = line("flood", "the one", rounds, seconds=2.0)
    assert (found.per_s, found.answered_pct, found.refused, found.failed) == (5.0, 80.0, 3, 1)
    assert found.first_byte_ms[99].value == 20.0


def test_growth_is_of_neighbouring_rounds():
    flooded, calm = [group(110), group(240), group(50)], [group(100), group(200), group(100)]
    assert growth_pct(flooded, calm).value == pytest.approx(10.0)  # of +10, +20 and −50


@pytest.mark.parametrize(
    ("growth", "statuses", "code"),
    [
        (19.9, {200: 5}, 0),
        (20.1, {200: 5}, 1),
        (-5.0, {200: 5, 429: 1}, 1),
        (-5.0, {200: 5, 0: 1}, 1),
    ],
)
def test_the_promise(growth, statuses, code, tmp_path, capsys):
    arguments = isolation.parse(["--out", str(tmp_path)])
    lines = [
        line("calm", "the others", [group(10)], 1.0),
        line("flood", "the others", [group(10, statuses)], 1.0),
        line("flood", "the one", [group(10, {200: 1, 429: 50})], 1.0),  # its own may be refused
    ]
    growths = {"calm": Interval(growth, growth, growth), "even": Interval(-80.0, -80.0, -80.0)}
    assert isolation.publish(arguments, lines, growths, {"cpu": "one"}) == code
    written = json.loads((tmp_path / "isolation.json").read_text())
    assert written["holds"] is (code == 0)
    assert written["p99_growth_pct"]["calm"]["value"] == growth
    assert f"{growth:+.1f} %" in capsys.readouterr().out
