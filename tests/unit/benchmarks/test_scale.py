"""The benchmark of scale: what its gateways know, what they are asked, and what is made of that."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import scale, scale_picture
from benchmarks.intervals import Interval
from benchmarks.latency import body
from benchmarks.load import Round, request_bytes, requests, run
from benchmarks.scale import SMALLEST, Cost, Line, cells, cost, growth, markdown, publish, table
from benchmarks.scaled_gateway import Reloaded, ScaledGateway, Size, configuration, store_virtual_keys
from benchmarks.simulated_upstream import SimulatedServer
from benchmarks.targets import config_text
from proxy.adapters.redis import RedisDoor
from proxy.adapters.sqlite import SqliteDoor
from proxy.identity.embedded import EmbeddedVirtualKeyStore
from proxy.identity.pepper import load_or_make_pepper, pepper_bytes
from proxy.identity.store import RedisVirtualKeyStore, VirtualKeyStore
from proxy.identity.virtual_key import digest
from proxy.settings.load import load
from proxy.simulated.behaviour import Behaviour, parse_model
from tests.redis_server import RedisServer

FLAT = Interval(1.0, 0.9, 1.1)
COST = Cost(FLAT, FLAT, FLAT, FLAT)


def line(size: Size = SMALLEST, start_rss_mb: float = 60.0, used_rss_mb: float = 66.0, used: int = 1_000) -> Line:
    return Line(size, 500.0, start_rss_mb, used_rss_mb, used, COST, COST, 20.0, 5.0, 9.0, 0, 68.0, 6.0, 1.5)


# ── what a gateway knows ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [Size(3, 7, 2), Size(10_000, 0, 1_000)])
def test_a_configuration_is_read_as_large_as_it_says(tmp_path, size):
    template, upstream = configuration(size), "http://127.0.0.1:9/v1"
    text = config_text(tmp_path, port=8080, admin_port=8081, upstream=upstream, template=template)
    settings = load(text, path="bench.toml", environ={}, read_file=Path.read_text)
    assert (len(settings.tenants), len(settings.models)) == (size.tenants, size.models)
    assert not settings.warnings
    served = {deployment.model for model in settings.models.values() for deployment in model.deployments}
    assert len(served) == size.models  # no two are the same place
    behaviours = [parse_model(model) for model in served]
    # A plain call waits for nothing: only events of a stream come late.
    assert all(each is not None and replace(each, every_ms=0) == Behaviour() for each in behaviours)


SIZE = Size(3, 2_005, 1)  # more than one slice


async def assert_known(store: VirtualKeyStore, tokens: Sequence[str], folder: Path) -> None:
    assert len(set(tokens)) == len(await store.list(None)) == SIZE.virtual_keys
    pepper = pepper_bytes(load_or_make_pepper(folder))
    for number in (0, 1_000, 2_004):
        found = await store.find([digest(tokens[number], pepper)])
        assert found is not None
        assert found.virtual_key.tenant_id == f"tenant-{number % 3:05}"


async def test_every_virtual_key_is_in_sqlite_as_the_store_itself_puts_it(tmp_path):
    tokens = await store_virtual_keys(SIZE, tmp_path, None)
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        await assert_known(EmbeddedVirtualKeyStore(door), tokens, tmp_path)


async def test_every_virtual_key_is_in_redis_as_the_store_itself_puts_it(tmp_path):
    with RedisServer() as server:
        tokens = await store_virtual_keys(SIZE, tmp_path, server.url)
        async with RedisDoor(server.url) as door:
            await assert_known(RedisVirtualKeyStore(door), tokens, tmp_path)


# ── what it is asked ─────────────────────────────────────────────────────────────────────


def test_one_virtual_key_after_the_other_and_at_random_the_same_for_both_sides():
    base = Round("http://gateway.test/v1", b"{1}", "", 1, 1.0, tokens=("a", "b"), bodies=(b"{1}", b"{2}", b"{3}"))
    in_order = list(itertools.islice(requests(base), 6))
    assert in_order[0].endswith(b"Bearer a\r\ncontent-length: 3\r\n\r\n{1}")
    assert len(set(in_order)) == 6
    seeds = [list(itertools.islice(requests(replace(base, seed=seed)), 20)) for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert set(seeds[0]) <= set(in_order)


def test_a_round_of_one_request_repeats_it():
    base = Round("http://gateway.test/v1", b"{}", "sk-1", 1, 1.0)
    assert list(itertools.islice(requests(base), 2)) == [request_bytes(base)] * 2


async def test_a_round_ends_with_the_last_call_that_was_wanted():
    async with SimulatedServer() as server:
        sent = ScaledGateway(Size(1, 2, 3), 0, 0, 0, Path(), "", ("twk_a", "twk_b"), 0.0)
        base = sent.round(2, seconds=30, connections=2, seed=None)
        sample = await run(
            replace(
                base,
                base_url=server.base_url,
                body=body("simulated", stream=False),
                bodies=(),
                warm_up_s=0,
                calls_max=25,
            )
        )
    assert sample.elapsed_ns < 20e9
    assert sample.completed in (25, 26)  # the other connection's was under way


# ── what is made of it ───────────────────────────────────────────────────────────────────


def test_a_cost_is_set_beside_that_of_the_neighbouring_round():
    found = cost([(scale._Round(100, 1.0), scale._Round(110, 1.0)), (scale._Round(200, 2.0), scale._Round(220, 2.0))])
    assert found.cpu_ratio.value == pytest.approx(1.1)  # though the machine was half as fast in the second pair
    assert found.p50_ratio.value == 1.0
    assert found.cpu_us.value == 165


def test_how_much_one_more_of_each_takes():
    lines = [
        line(),
        line(Size(10, 10_000, 10), 60.5),
        line(Size(10_000, 10_000, 10), 70.49, 80.49, used=5_000),
        line(Size(10, 100_000, 10), 60.99),
        line(Size(10, 1_000, 1_000), 61.98),
    ]
    assert growth(lines) == {
        "a tenant in the file": pytest.approx(1.0),
        "a virtual key in the store": pytest.approx(0.01),
        "a model in the file": pytest.approx(2.0),
        "a tenant and its virtual key, once used": pytest.approx(1.0),
    }
    assert growth(lines[:1]) == {}


def test_the_worst_reload_is_shown_beside_the_median():
    reloads = [Reloaded(10, 5, 0), Reloaded(30, 50, 1), Reloaded(20, 6, 2)]
    assert scale._reloaded(reloads) == (20, 6, 50, 3)


def test_both_tables_have_a_line_for_each_size():
    lines = [line(), line(Size(10_000, 100_000, 1_000))]
    assert [row.split("  ")[0].strip() for row in table(lines).splitlines()[2:]][1] == "10,000 / 100,000 / 1,000"
    assert markdown(lines).splitlines()[2].startswith("| 10 / 1,000 / 10 | 500 | 60.0 |")
    assert len(cells(lines[0])) == len(scale.COLUMNS)


def test_it_is_written_three_times(tmp_path, capsys):
    publish([line(), line(Size(10_000, 10_000, 10))], {"cpu": "A & B"}, tmp_path / "out")
    assert "10,000 / 10,000 / 10" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "scale.json").read_text())["lines"][1]["size"] == [10_000, 10_000, 10]
    assert (tmp_path / "out" / "scale.md").read_text().startswith("# Many tenants")
    ElementTree.fromstring((tmp_path / "out" / "scale.svg").read_text())


def test_the_picture_has_a_bar_for_each_size_in_each_panel():
    root = ElementTree.fromstring(scale_picture.draw("A & B", [line(), line()], {}))
    width = float(root.get("width", "0"))
    bars = root.findall("{http://www.w3.org/2000/svg}rect")[1:]
    assert len(bars) == 8
    assert all(float(bar.get("x", "0")) + float(bar.get("width", "9999")) <= width for bar in bars)
