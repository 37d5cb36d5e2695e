"""What every store of switches promises."""

from typing import cast

from proxy.routing.switches import NO_SWITCHES, Switch, Switches, SwitchKind, in_force

DRAINED = Switch(SwitchKind.DEPLOYMENT, "openai/org/gpt-5:x", None, "ci", 1_795_000_000_000)
SWITCHED = Switch(SwitchKind.MODEL, "gpt-5", "gpt-5-mini", "cli:ops", 9_007_199_254_740_991)


async def test_nothing_is_out_of_service_at_first(switches):
    assert list(await switches.read()) == []
    assert in_force([]) is NO_SWITCHES


async def test_what_was_put_is_read_whole(switches):
    for _ in range(2):
        await switches.put(SWITCHED)
        await switches.put(DRAINED)
    assert list(await switches.read()) == [DRAINED, SWITCHED]
    assert in_force([DRAINED, SWITCHED]) == Switches(frozenset({DRAINED.name}), {"gpt-5": "gpt-5-mini"})


async def test_putting_again_changes_it(switches):
    await switches.put(SWITCHED)
    again = SWITCHED._replace(to="other", by="ci")
    await switches.put(again)
    assert list(await switches.read()) == [again]


async def test_what_is_taken_back_is_gone(switches):
    await switches.put(DRAINED)
    await switches.put(SWITCHED)
    assert await switches.remove(SwitchKind.DEPLOYMENT, DRAINED.name) is True
    assert await switches.remove(SwitchKind.DEPLOYMENT, DRAINED.name) is False
    assert await switches.remove(SwitchKind.DEPLOYMENT, SWITCHED.name) is False
    assert list(await switches.read()) == [SWITCHED]


async def test_a_kind_of_a_later_release_keeps_nobody_from_the_rest(switches):
    await switches.put(Switch(cast(SwitchKind, "region"), "eu", None, "ci", 0))
    await switches.put(DRAINED)
    assert list(await switches.read()) == [DRAINED]
