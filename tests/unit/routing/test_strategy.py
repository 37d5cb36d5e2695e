"""Lots fall as the weights are, the same for the same caller, and a changed weight moves few."""

from collections import Counter
from math import inf

import pytest

from proxy.core.types import Deployment
from proxy.routing.resolve import Candidate
from proxy.routing.strategy import as_fast_us, digest, draw, lot, lots, speeds

CALLERS = [digest(f"user-{number}".encode()) for number in range(20_000)]


def candidates(**weights):
    return [Candidate(Deployment("p", name), f"p/{name}", weight=weight) for name, weight in weights.items()]


def winner(among, who, salt="m"):
    return min(among, key=lambda each: draw(each, who, salt)).deployment.model


def test_lots_fall_as_the_weights_are():
    counted = Counter(winner(candidates(a=90, b=10), who) for who in CALLERS)
    # 20,000 draws of 0.1: the standard deviation is 42, and five of them are 212.
    assert abs(counted["b"] - 2_000) < 212


def test_nobody_draws_a_weight_of_0():
    assert {winner(candidates(a=1, b=0), who) for who in CALLERS[:1_000]} == {"a"}
    assert draw(candidates(b=0)[0], digest(b"x"), "m") == inf


def test_the_same_caller_draws_the_same_lot_and_another_model_deals_anew():
    among = candidates(a=1, b=1)
    for who in CALLERS[:200]:
        assert winner(among, who) == winner(list(reversed(among)), who)
    assert any(winner(among, who, "m") != winner(among, who, "n") for who in CALLERS[:50])


def test_a_changed_weight_moves_only_those_that_it_has_to_move():
    before = {who: winner(candidates(a=90, b=10), who) for who in CALLERS}
    after = {who: winner(candidates(a=80, b=20), who) for who in CALLERS}
    assert not [who for who in CALLERS if before[who] == "b" and after[who] == "a"]
    moved = sum(before[who] != after[who] for who in CALLERS)
    # From 10 of 100 to 20 of 100: a tenth of all callers moves.
    assert 0.08 < moved / len(CALLERS) < 0.12


@pytest.mark.parametrize(
    ("times_us", "lots", "expected"),
    [
        ({"a": 100.0, "b": 200.0}, {"a": 9.0, "b": 1.0}, "a"),  # the faster one, whatever the lot
        ({"a": 100.0, "b": 119.0}, {"a": 9.0, "b": 1.0}, "b"),  # as fast: the lot
        ({"a": 100.0, "b": 121.0}, {"a": 9.0, "b": 1.0}, "a"),
        ({"a": 100.0, "b": 0.0}, {"a": 1.0, "b": 9.0}, "b"),  # to be measured
    ],
)
def test_speed(times_us, lots, expected):
    names = list(times_us)
    by_name = dict(
        zip(
            names,
            speeds(list(times_us.values()), [lots[name] for name in names], as_fast_us(list(times_us.values()))),
            strict=True,
        )
    )
    assert min(names, key=by_name.__getitem__) == expected


def test_lots_are_each_candidates_own():
    candidates = [
        Candidate(Deployment("p", name), name, weight=weight) for name, weight in (("a", 1), ("b", 9), ("c", 0))
    ]
    drawn = iter((0.0, 0.25, 0.5))
    assert lots(candidates, lambda: next(drawn)) == [lot(1.0, 1), lot(0.75, 9), lot(0.5, 0)]
