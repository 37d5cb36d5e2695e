import io
import json
from xml.etree import ElementTree

import pytest

from benchmarks.comparison import Comparison
from benchmarks.intervals import Interval
from benchmarks.machine import describe
from benchmarks.picture import draw
from benchmarks.report import Progress, publish, table

SVG = "{http://www.w3.org/2000/svg}"


def comparison(workload: str = "plain, 1 connection", scale: float = 1.0) -> Comparison:
    added = {pct: Interval(scale * pct / 500, scale * pct / 600, scale * pct / 400) for pct in (50, 90, 99)}
    flat = {pct: Interval(0.25, 0.2, 0.3) for pct in (50, 90, 99)}
    rate = Interval(12_345.6, 12_000, 13_000)
    return Comparison(workload, "to the last byte", 10, flat, flat, added, rate, rate, 0)


def test_the_table_has_a_line_for_each_comparison():
    heading, rule, *lines = table([comparison(), comparison("stream, 32 connections")]).splitlines()
    assert "added p99 [95 % CI]" in heading
    assert set(rule) == {"-", " "}
    assert len(lines) == 2
    assert "0.100 [0.083, 0.125]" in lines[0]
    assert lines[0].endswith("12,346")
    assert lines[1].startswith("stream, 32 connections")


@pytest.mark.parametrize("scale", [1, 1_000, -1, 0])
def test_the_picture_is_an_svg_with_a_dot_for_each_percentile_inside_its_frame(scale):
    root = ElementTree.fromstring(draw("Latency & <more>", [comparison(scale=scale)], {"cpu": "A < B", "cores": "2"}))
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    dots = [(float(dot.get("cx", "-1")), float(dot.get("cy", "-1"))) for dot in root.findall(f"{SVG}g/{SVG}circle")]
    assert len(dots) == 3
    assert all(0 <= x <= width and 0 <= y <= height for x, y in dots)
    assert "Latency & <more>" in [text.text for text in root.iter(f"{SVG}text")]
    if scale > 0:
        assert [x for x, _ in dots] == sorted(x for x, _ in dots)


def test_what_is_published(tmp_path, capsys):
    publish("latency", "Added latency", [comparison()], {"cpu": "some", "failures": "0"}, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "failures: 0" in printed
    document = json.loads((tmp_path / "out" / "latency.json").read_text())
    assert document["facts"] == {"cpu": "some", "failures": "0"}
    (found,) = document["comparisons"]
    assert found["added_ms"]["50"] == [pytest.approx(0.1), pytest.approx(0.0833, abs=1e-4), 0.125]
    assert (tmp_path / "out" / "latency.svg").read_text().startswith("<svg")


def test_progress_is_drawn_on_a_terminal_alone():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_drawn in ((Terminal(), True), (io.StringIO(), False)):
        progress = Progress(2, stream)
        progress.show("plain")
        progress.step()
        assert ("plain" in stream.getvalue()) is is_drawn
        assert ("#" * 15 + "." in stream.getvalue()) is is_drawn


def test_the_machine_is_described():
    facts = describe()
    assert int(facts["cores"]) >= 1
    assert facts["cpu"]
    assert "httptools" in facts["libraries"]
