"""What the counting of steps says of a function that is known to the last one of them."""

import dis
import json
import sys
from pathlib import Path

import pytest

from benchmarks import steps
from benchmarks.counted_gateway import StepCounter
from benchmarks.steps import Counted, Function


def _nothing() -> None:
    return None


def _three_times() -> None:
    _nothing()
    _nothing()
    _nothing()


def _counted(folder: Path, calls: int) -> Counted:
    counter = StepCounter()
    before = sys.gettrace()
    counter.begin()
    try:
        _three_times()  # when it is entered first, CPython 3.12 and later only make a function ready to tell its steps
        counter.begin()
        for _ in range(calls):
            _three_times()
    finally:
        counter.end(folder / "steps.json")
        sys.settrace(before)
    return steps._read(folder / "steps.json", calls)


def test_a_function_is_counted_as_often_as_it_is_entered_and_by_its_instructions(tmp_path: Path) -> None:
    if sys.gettrace() is not None:
        pytest.skip("a debugger or a coverage tool has the trace")
    found = {each.name: each for each in _counted(tmp_path, calls=4).functions}
    straight = [each for each in dis.get_instructions(_nothing) if each.opname not in {"CACHE", "RESUME"}]
    nothing = found["_nothing"]
    assert nothing.entered == 3
    assert nothing.steps / 3 in (len(straight), len(straight) + 1)  # RESUME is one where the version traces it
    assert found["_three_times"].entered == 1
    assert found["_three_times"].steps > 3 * 2


def test_the_greatest_part_comes_first(tmp_path: Path) -> None:
    rows = [("a.py", 1, "small", 2, 6), ("b.py", 9, "large", 4, 40)]
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    counted = steps._read(path, 2)
    assert counted.functions == (Function("large", "b.py:9", 2, 20), Function("small", "a.py:1", 1, 3))
    assert (counted.steps, counted.entered) == (23, 3)
    assert steps.table(counted, 1).splitlines()[1:] == [
        "   20.0   2.00  large  b.py:9",
        "     23      3  in all, for one call",
    ]
