"""What operators have taken out of service: what it comes to, and how it is kept."""

import pytest

from proxy.core import jsonio
from proxy.routing.switches import NO_SWITCHES, Switch, Switches, SwitchKind, SwitchSlot, decode_all, encode, in_force

DRAINED = Switch(SwitchKind.DEPLOYMENT, "openai/org/gpt-5:x", None, "ci", 1_795_000_000_000)
SWITCHED = Switch(SwitchKind.MODEL, "gpt-5", "gpt-5-mini", "cli:ops", 1_795_000_000_001)


@pytest.mark.parametrize(
    ("listed", "drained", "switched"),
    [
        ([], set(), {}),
        ([DRAINED], {"openai/org/gpt-5:x"}, {}),
        ([SWITCHED], set(), {"gpt-5": "gpt-5-mini"}),
        ([DRAINED, SWITCHED], {"openai/org/gpt-5:x"}, {"gpt-5": "gpt-5-mini"}),
        ([SWITCHED._replace(to=None)], set(), {}),  # a model that leads nowhere serves itself
    ],
)
def test_what_they_come_to(listed, drained, switched):
    assert in_force(listed) == Switches(frozenset(drained), switched)


def test_what_is_in_force_cannot_be_changed_in_place():
    with pytest.raises(TypeError):
        in_force([SWITCHED]).switched["gpt-5"] = "other"  # type: ignore[index]


def test_a_slot_begins_with_everything_in_service():
    assert SwitchSlot().current is NO_SWITCHES


@pytest.mark.parametrize("switch", [DRAINED, SWITCHED])
def test_what_is_kept_comes_back(switch):
    assert decode_all([(str(switch.kind), switch.name, encode(switch))]) == [switch]


def test_rows_come_back_by_kind_and_name():
    other = DRAINED._replace(name="azure/gpt-5")
    rows = [(str(each.kind), each.name, encode(each)) for each in (SWITCHED, DRAINED, other)]
    assert decode_all(rows) == [other, DRAINED, SWITCHED]


def test_what_a_later_release_added_is_passed_over():
    later = jsonio.encode({"to": None, "by": "ci", "at_ms": 1_795_000_000_000, "until_ms": 1})
    rows = [("region", "eu", b"\x00 another form"), ("deployment", "openai/org/gpt-5:x", later)]
    assert decode_all(rows) == [DRAINED]
