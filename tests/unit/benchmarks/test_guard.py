import json

import pytest

from benchmarks import guard
from benchmarks.guard import Measured, holds, parse, verdict
from benchmarks.intervals import Interval


def measured(low: float = 9.5, python: str = "CPython 3.11.7") -> Measured:
    return Measured(Interval(low + 0.5, low, low + 1), 130.0, 13.0, python, "without PGO", "some", "2026-11-27", 0.1)


@pytest.mark.parametrize(
    ("low", "good"),
    [
        (9.5, True),
        (12.5, True),  # the margin
        (12.51, False),
        (5.0, True),  # cheaper is no failure
    ],
)
def test_the_lower_bound_decides(low, good):
    assert holds(measured(low).ratio, 10.0, 25.0) is good


def test_a_baseline_is_written_and_held_against(tmp_path, capsys):
    arguments = ["--baseline", str(tmp_path / "baseline.json")]
    assert verdict(measured(), parse(arguments)) == 2  # there is none yet
    assert verdict(measured(), parse([*arguments, "--update"])) == 0
    assert json.loads((tmp_path / "baseline.json").read_text())["ratio"]["value"] == 10.0
    assert verdict(measured(12.0), parse(arguments)) == 0
    assert "note" not in capsys.readouterr().out
    assert verdict(measured(13.0, python="CPython 3.14.1"), parse(arguments)) == 1
    said = capsys.readouterr().out
    assert "note: the baseline is of CPython 3.11.7" in said
    assert "dearer" in said
    assert verdict(measured(13.0), parse([*arguments, "--margin-pct", "40"])) == 0


def test_the_baseline_that_is_kept_can_be_read():
    kept = json.loads(guard.BASELINE.read_text())
    assert kept["ratio"]["low"] <= kept["ratio"]["value"] <= kept["ratio"]["high"]


def test_too_few_rounds_say_nothing():
    with pytest.raises(SystemExit):
        parse(["--pairs", "4"])
