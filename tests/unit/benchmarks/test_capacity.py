import json
import os

import pytest

from benchmarks import capacity, findings, rows, setups
from benchmarks.capacity import PARTS, Plan, parse
from benchmarks.contenders import BareRelay, Given, Nginx, Tollway
from benchmarks.intervals import exactly
from benchmarks.rows import Row

ALL = Tollway(setups.EVERYTHING, "redis")
NOTHING = Tollway(setups.PASSTHROUGH, "sqlite")


def plan(*argv: str) -> Plan:
    return Plan(parse(argv))


def test_everybody_is_measured_and_every_goal_is_about_something_that_is():
    found = plan()
    assert {ALL, NOTHING, BareRelay(), Tollway(setups.MISSES, "redis")} <= set(found.candidates)
    for each in (found, plan("--quick")):
        measured = {
            (workload.table, workload.name, candidate.name)
            for part in PARTS
            for candidate in each.of(part)
            for workload in each.workloads(part, candidate)
        }
        closed = [goal for goal in findings.GOALS if goal.part in (*PARTS[:2], "slow streams")]
        assert {(goal.part, goal.workload, goal.who) for goal in closed} <= measured
    others = [goal for goal in findings.GOALS if goal not in closed]
    assert {goal.part for goal in others} == {"many-streams", "start"}
    assert {goal.workload for goal in others} == {found.crowd.name, "start, and memory"}


def test_tls_is_for_those_who_speak_it_and_where_the_upstream_is_ours():
    assert any(each.tls for each in plan().workloads("plain", ALL))
    assert not any(each.tls for each in plan().workloads("plain", BareRelay()))
    assert not any(each.tls for each in plan("--direct", "http://127.0.0.1:9000/v1").workloads("plain", ALL))


def test_parts_and_others_that_are_named():
    found = plan("--only", "open,plain", "--against", "other=http://127.0.0.1:4000/v1", "--no-floors")
    other = Given("other", "http://127.0.0.1:4000/v1", "sk-benchmark")
    assert found.parts == ["plain", "open"]
    assert other in found.of("open")
    assert not any(isinstance(each, (BareRelay, Nginx)) for each in found.candidates)
    assert other not in found.of("start")  # it is not ours to start


@pytest.mark.parametrize("argv", [["--only", "plane"], ["--store", "disk"], ["--against", "nameless"]])
def test_what_is_unknown_is_refused(argv, capsys):
    with pytest.raises(SystemExit):
        parse(argv)
    assert argv[0] in capsys.readouterr().err


def test_what_is_published(tmp_path, capsys):
    found = [
        Row("start", "start, and memory", ALL.name, {rows.START_S: exactly(0.5)}, 5),
        Row("plain", "1 KB, 32 connections", NOTHING.name, {}, 0, 1, note="nobody there"),
    ]
    facts = {"command": "python -m benchmarks.capacity", "cpu": "some"}
    findings.publish(found, facts, tmp_path / "out", tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text()
    assert text == (tmp_path / "out" / "capacity.md").read_text()
    assert text in capsys.readouterr().out
    assert "yes |" in text
    assert "nobody there" in text
    document = json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert [goal["holds"] for goal in document["goals"] if goal["part"] == "start"] == [None, True]
    assert not (tmp_path / "out" / "capacity.svg").exists()


def test_this_process_is_kept_to_a_core_and_let_go():
    before = os.sched_getaffinity(0)
    with capacity.kept_to(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
