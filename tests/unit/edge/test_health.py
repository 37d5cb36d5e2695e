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


@pytest.mark.parametrize(
    ("told", "ready", "config", "checks"),
    [
        ({1: said(), 2: said()}, True, "abc", {"state": "ok", "workers": "ok"}),
        ({1: said(), 2: None}, False, "abc", {"state": "ok", "workers": "no answer in time: worker 2"}),
        (
            {1: said(), 2: said(config="def")},
            False,
            "abc, def",
            {"state": "ok", "workers": "they run 2 configurations"},
        ),
        (
            {1: said(), 2: said(ready=False, checks=AWAY)},
            False,
            "abc",
            {"state": "worker 2: away", "workers": "ok"},
        ),
        (
            {1: said(ready=False, checks=AWAY), 2: said(ready=False, checks=AWAY)},
            False,
            "abc",
            {"state": "away", "workers": "ok"},
        ),
        (
            {1: said(ready=False, checks={"draining": "it stops"}), 2: said()},
            False,
            "abc",
            {"state": "ok", "draining": "worker 1: it stops", "workers": "ok"},
        ),
    ],
)
def test_whole(told, ready, config, checks):
    report = whole(told)
    assert (report.ready, report.config_version, report.checks) == (ready, config, checks)


def test_each_is_also_shown_alone():
    report = whole({2: None, 1: said(warnings={"keyring": "old"}), 3: said(config="def")})
    document = json.loads(report.encode())
    assert document["workers"] == [
        {"worker": 1, "process": 7, "ready": True, "config": "abc"},
        {"worker": 2, "ready": False},
        {"worker": 3, "process": 7, "ready": True, "config": "def"},
    ]
    assert document["warnings"] == {"keyring": "worker 1: old"}
