"""What is taken out of service and put back: what is refused, what is said of it, and the row that each change has."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.administration.changes import Changes
from proxy.administration.refusals import DeploymentUnknown, ModelUnknown, SwitchInCircle
from proxy.administration.routing import RoutingAdministration
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.routing.embedded import EmbeddedSwitchStore
from proxy.routing.switches import Switch, SwitchKind, in_force
from proxy.settings.model import Settings
from proxy.settings.routing import DeploymentSettings, ModelSettings, RuleSettings, When


def served(alias: str, *labels: str, drained: str | None = None, switched_to: str | None = None) -> ModelSettings:
    places = []
    for label in labels:
        provider, model = label.split("/", 1)
        places.append(DeploymentSettings(provider, model, drained=label == drained))
    return ModelSettings(alias, tuple(places), switched_to=switched_to)


SETTINGS = Settings(
    models={
        "big": served("big", "one/org/big", "two/big"),
        "small": served("small", "one/small", "two/small", drained="two/small"),
        "moved": served("moved", "one/big", switched_to="big"),
        "auto": ModelSettings("auto", (), rules=(RuleSettings("big", When(images=True)),), default="small"),
    }
)


class Bench(NamedTuple):
    """The use cases over a real store, and what they told this process."""

    switches: EmbeddedSwitchStore
    ledger: EmbeddedLedgerStore
    heard: list[Any]

    def routing(
        self, settings: Settings = SETTINGS, status_of: Any = dict, ledger: Any = None
    ) -> RoutingAdministration:
        changes = Changes(ledger or self.ledger, Clock(), "v", "ci")
        return RoutingAdministration(
            settings,
            self.switches,
            changes,
            Clock(),
            "ci",
            lambda switches: self.heard.append(in_force(switches)),
            status_of,
        )

    async def told(self) -> list[tuple[str, str, dict[str, object]]]:
        rows = [json.loads(data) for _, data in await self.ledger.read(SETTINGS.auth.default_tenant)]
        return [(row["actor"], row["action"], row["details"]) for row in rows]


@pytest.fixture
async def bench(tmp_path) -> AsyncIterator[Bench]:
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        yield Bench(EmbeddedSwitchStore(door), EmbeddedLedgerStore(door), [])


async def put(bench, kind, name, to=None):
    await bench.switches.put(Switch(kind, name, to, "cli:ops", 0))


# ── deployments ──────────────────────────────────────────────────────────────────────────


async def test_deployments_are_listed_with_what_they_serve_and_how_they_do(bench):
    await put(bench, SwitchKind.DEPLOYMENT, "two/big")
    listed = await bench.routing(status_of=lambda: {"two/big": {"health": 0.5}}).deployments()
    assert [(each.label, each.models, each.is_drained) for each in listed] == [
        ("one/big", ("moved",), False),
        ("one/org/big", ("big",), False),
        ("one/small", ("small",), False),
        ("two/big", ("big",), True),
        ("two/small", ("small",), True),
    ]
    assert [(each.is_drained_in_file, each.switch is not None, each.status) for each in listed[3:]] == [
        (False, True, {"health": 0.5}),
        (True, False, {}),
    ]


async def test_a_drain_and_its_restore_each_have_a_row_and_hold_here_at_once(bench):
    drained, notes = await bench.routing().drain("one/org/big", drained=True)
    assert (drained.is_drained, drained.switch.by, notes) == (True, "ci", ())
    restored, notes = await bench.routing().drain("one/org/big", drained=False)
    assert (restored.is_drained, restored.switch, notes) == (False, None, ())
    assert await bench.told() == [
        ("ci", "deployment.drain", {"deployment": "one/org/big"}),
        ("ci", "deployment.restore", {"deployment": "one/org/big"}),
    ]
    assert [each.drained for each in bench.heard] == [{"one/org/big"}, set()]


async def test_what_is_so_already_stays_as_it_was_and_has_no_row(bench):
    await bench.routing().drain("one/small", drained=False)
    await bench.routing().switch("big", None)
    await put(bench, SwitchKind.DEPLOYMENT, "one/small")
    await put(bench, SwitchKind.MODEL, "big", "small")
    drained, notes = await bench.routing().drain("one/small", drained=True)
    switched, _ = await bench.routing().switch("big", "small")
    assert (drained.switch.by, switched.switch.by) == ("cli:ops", "cli:ops")
    assert "last deployment in service of small" in notes[0]
    assert await bench.told() == []
    assert bench.heard[-1] == in_force(await bench.switches.read())  # what others did is seen here, too


@pytest.mark.parametrize(
    ("label", "drained", "noted"),
    [
        ("two/big", True, []),
        ("one/small", True, ["last deployment in service of small"]),  # the other is drained in the file
        ("one/big", True, ["last deployment in service of moved"]),
        ("two/small", False, ["file still drains two/small"]),
    ],
)
async def test_what_is_to_be_said_of_it(bench, label, drained, noted):
    _, notes = await bench.routing().drain(label, drained=drained)
    assert len(notes) == len(noted)
    assert all(part in note for part, note in zip(noted, notes, strict=True))


@pytest.mark.parametrize(("label", "suggestion"), [("one/smal", 'Did you mean "one/small"?'), ("xyzzy", None)])
@pytest.mark.parametrize("drained", [True, False])
async def test_a_deployment_that_no_model_has_is_refused(bench, label, suggestion, drained):
    with pytest.raises(DeploymentUnknown) as refused:
        await bench.routing().drain(label, drained=drained)
    assert refused.value.suggestion == suggestion
    assert await bench.told() == []


async def test_a_drain_that_the_configuration_outlived_is_listed_and_can_be_taken_back(bench):
    await put(bench, SwitchKind.DEPLOYMENT, "gone/big")
    listed = {each.label: each for each in await bench.routing().deployments()}
    assert (listed["gone/big"].models, listed["gone/big"].is_drained) == ((), True)
    restored, notes = await bench.routing().drain("gone/big", drained=False)
    assert (restored.label, restored.is_drained, notes) == ("gone/big", False, ())
    assert list(await bench.switches.read()) == []
    with pytest.raises(DeploymentUnknown):
        await bench.routing().drain("gone/big", drained=True)


# ── models ───────────────────────────────────────────────────────────────────────────────


async def test_models_are_listed_with_what_serves_them(bench):
    await put(bench, SwitchKind.MODEL, "small", "big")
    listed = await bench.routing().models()
    assert [(each.alias, each.switched_to, each.switched_to_in_file) for each in listed] == [
        ("big", None, None),
        ("small", "big", None),
        ("moved", "big", "big"),
        ("auto", None, None),
    ]


async def test_a_switch_and_its_restore_each_have_a_row_and_hold_here_at_once(bench):
    switched, notes = await bench.routing().switch("auto", "small")
    assert (switched.switched_to, switched.switch.by, notes) == ("small", "ci", ())
    switched, _ = await bench.routing().switch("auto", "moved")
    assert switched.switched_to == "moved"
    restored, notes = await bench.routing().switch("auto", None)
    assert (restored.switched_to, restored.switch, notes) == (None, None, ())
    assert await bench.told() == [
        ("ci", "model.switch", {"model": "auto", "to": "small"}),
        ("ci", "model.switch", {"model": "auto", "to": "moved"}),
        ("ci", "model.restore", {"model": "auto"}),
    ]
    assert [each.switched for each in bench.heard] == [{"auto": "small"}, {"auto": "moved"}, {}]


async def test_what_the_file_still_switches_is_said(bench):
    restored, (note,) = await bench.routing().switch("moved", None)
    assert restored.switched_to == "big"
    assert "file still switches moved to big" in note


@pytest.mark.parametrize(
    ("alias", "to", "named", "suggestion"),
    [
        ("bgi", "small", "bgi", 'Did you mean "big"?'),
        ("bgi", None, "bgi", 'Did you mean "big"?'),
        ("big", "smal", "smal", 'Did you mean "small"?'),
        ("big", "one/small", "one/small", 'Did you mean "small"?'),
        ("big", "xyzzy", "xyzzy", None),
    ],
)
async def test_a_model_that_the_configuration_does_not_have_is_refused(bench, alias, to, named, suggestion):
    with pytest.raises(ModelUnknown) as refused:
        await bench.routing().switch(alias, to)
    assert (refused.value.alias, refused.value.suggestion) == (named, suggestion)
    assert await bench.told() == []


@pytest.mark.parametrize(
    ("held", "alias", "to", "is_circle"),
    [
        ({}, "big", "big", True),
        ({}, "big", "moved", True),  # the file switches that back
        ({}, "big", "auto", True),  # one of its rules
        ({}, "small", "auto", True),  # its default
        ({}, "moved", "small", False),  # in the place of what the file says
        ({}, "auto", "big", False),
        ({"small": "big"}, "big", "small", True),
        ({"auto": "small", "small": "moved"}, "big", "auto", True),  # through three
        ({"auto": "small"}, "big", "auto", False),  # the rule that led back is out of force
        ({"moved": "small"}, "big", "moved", False),
        ({"big": "small"}, "big", "moved", True),  # its own earlier switch counts for nothing
        ({"small": "gone"}, "big", "small", False),  # to what has left the configuration
        ({"small": "gone", "gone": "big"}, "big", "small", True),
    ],
)
async def test_a_switch_that_leads_back_to_itself_is_refused(bench, held, alias, to, is_circle):
    for name, target in held.items():
        await put(bench, SwitchKind.MODEL, name, target)
    if is_circle:
        with pytest.raises(SwitchInCircle):
            await bench.routing().switch(alias, to)
        assert await bench.told() == []
        assert in_force(await bench.switches.read()).switched == held
    else:
        switched, _ = await bench.routing().switch(alias, to)
        assert switched.switched_to == to


async def test_a_switch_that_the_configuration_outlived_is_listed_and_can_be_taken_back(bench):
    await put(bench, SwitchKind.MODEL, "gone", "big")
    assert [each.alias for each in await bench.routing().models()] == ["big", "small", "moved", "auto", "gone"]
    with pytest.raises(ModelUnknown):
        await bench.routing().switch("gone", "small")
    restored, notes = await bench.routing().switch("gone", None)
    assert (restored.alias, restored.switched_to, notes) == ("gone", None, ())
    assert list(await bench.switches.read()) == []


# ── a store that is away ─────────────────────────────────────────────────────────────────


class AwayLedger:
    """A ledger that cannot be written."""

    async def append(self, _rows):
        raise StateUnavailable("away")


async def test_a_change_whose_row_cannot_be_written_is_not_made(bench):
    routing = bench.routing(ledger=AwayLedger())
    for change in (routing.drain("two/big", drained=True), routing.switch("big", "small")):
        with pytest.raises(StateUnavailable):
            await change
    assert list(await bench.switches.read()) == []
    assert bench.heard == []
