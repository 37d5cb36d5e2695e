"""What several workers say as one."""

import json

import pytest

from proxy.edge.health import whole


def said(*, ready=True, config="abc", checks=None, warnings=None) -> dict:
    return {
        "process": 7,
        "ready": ready,
        "config": config,
        "checks": {"state": "ok", **(checks or {})},
        "warnings": warnings or {},
    }


AWAY = {"state": "away"}


WELL = {"state": "ok", "workers": "ok"}
SILENT = "no answer in time: it hangs, or another is just starting in its place"


@pytest.mark.parametrize(
    ("told", "config", "warnings"),
    [
        ({1: said(), 2: said()}, "abc", {}),
        # One is enough: the others are left no calls, and what is amiss with them must not stop it.
        ({1: said(), 2: None}, "abc", {"worker 2": SILENT}),
        ({1: None, 2: said(), 3: None}, "abc", {"worker 1": SILENT, "worker 3": SILENT}),
        ({1: said(), 2: said(ready=False, checks=AWAY)}, "abc", {"worker 2": "state: away"}),
        (
            {1: said(ready=False, checks={**AWAY, "draining": "it stops"}), 2: said()},
            "abc",
            {"worker 1": "state: away; draining: it stops"},
        ),
        ({1: said(), 2: said(config="def")}, "abc, def", {"workers": "they run 2 configurations"}),
    ],
)
def test_the_whole_is_ready_where_one_is(told, config, warnings):
    report = whole(told)
    assert (report.ready, report.config_version, report.checks, report.warnings) == (True, config, WELL, warnings)


@pytest.mark.parametrize(
    ("told", "checks", "warnings"),
    [
        (
            {1: said(ready=False, checks=AWAY), 2: said(ready=False, checks=AWAY)},
            {"state": "away", "workers": "none of 2 is ready"},
            {},
        ),
        (
            {1: said(ready=False, checks=AWAY), 2: said(ready=False, checks={"draining": "it stops"})},
            {"state": "worker 1: away", "draining": "worker 2: it stops", "workers": "none of 2 is ready"},
            {},
        ),
        (
            {1: said(ready=False, checks=AWAY), 2: None},
            {"state": "away", "workers": "none of 2 is ready"},
            {"worker 2": SILENT},
        ),
    ],
)
def test_it_is_not_where_none_is(told, checks, warnings):
    report = whole(told)
    assert (report.ready, report.checks, report.warnings) == (False, checks, warnings)


def test_each_is_also_shown_alone():
    report = whole({2: None, 1: said(warnings={"keyring": "old"}), 3: said(config="def")})
    document = json.loads(report.encode())
    assert document["workers"] == [
        {"worker": 1, "process": 7, "ready": True, "config": "abc"},
        {"worker": 2, "ready": False},
        {"worker": 3, "process": 7, "ready": True, "config": "def"},
    ]
    assert document["warnings"]["keyring"] == "worker 1: old"
