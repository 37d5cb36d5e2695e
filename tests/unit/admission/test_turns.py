"""Whose turn it is: in proportion to the weights, nobody is passed over for ever, nothing is left behind."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admission.turns import WEIGHT_MAX, Turns

WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9) | st.integers(1, WEIGHT_MAX), min_size=1)


def filled(weights, each=30, *, preferred=()):
    turns: Turns[int] = Turns()
    for place in range(each):
        for tenant_id, weight in weights.items():
            turns.join(tenant_id, weight, place, is_preferred=tenant_id in preferred)
    return turns


def taken(turns, count):
    found = [turns.next() for _ in range(count)]
    return "".join(one[0] for one in found if one is not None)


@pytest.mark.parametrize("preferred", ["", "abc"])  # what is preferred to nobody goes the same way
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 1, "b": 1, "c": 1}, "abcabc"),
        ({"a": 3, "b": 1}, "aaabaaab"),
        ({"a": 1, "b": 3}, "abbbabbb"),
        ({"a": 100, "b": 100}, "ababab"),  # alike, whatever the number
        ({"a": 200, "b": 100}, "aabaab"),
        ({"a": 3, "b": 2}, "abaababaab"),  # one and a half at a time: the half is kept
    ],
)
def test_in_turn_and_in_proportion(weights, expected, preferred):
    assert taken(filled(weights, preferred=preferred), len(expected)) == expected


def test_a_tenants_own_are_served_in_their_order():
    turns: Turns[str] = Turns()
    for waiter in "xyz":
        turns.join("a", 1, waiter, is_preferred=True)
    assert [turns.next() for _ in range(4)] == [("a", "x"), ("a", "y"), ("a", "z"), None]


def test_those_that_are_preferred_come_first_and_the_others_if_there_are_none():
    assert taken(filled({"a": 1, "b": 1}, each=2, preferred="b"), 4) == "bbaa"


def test_a_turn_that_was_cut_short_goes_on():
    turns = filled({"a": 3, "b": 1}, preferred="ab")
    assert taken(turns, 1) == "a"
    turns.prefer("a", False)
    assert taken(turns, 1) == "b"
    turns.prefer("a", True)
    assert taken(turns, 5) == "aabaa"


def test_who_leaves_is_not_served():
    turns = filled({"a": 1, "b": 1}, each=1)
    turns.leave("a", 0)
    turns.leave("a", 0)
    turns.leave("nobody", 7)
    turns.prefer("nobody", True)
    assert (turns.waiting, turns.tenants, taken(turns, 2)) == (1, ("b",), "b")


def test_a_plan_that_changes_is_heeded_from_the_next_turn_on():
    turns = filled({"a": 1, "b": 1})
    turns.join("a", 2, 30, is_preferred=False)
    assert taken(turns, 6) == "aabaab"


@given(WEIGHTS)
def test_in_so_many_places_as_the_weights_sum_to_each_has_its_part_and_one_more_or_less_at_most(weights):
    lightest = min(weights.values())
    rounds = min(40, lightest)
    count = rounds * sum(weights.values()) // lightest
    found = Counter(taken(filled(weights, each=count, preferred=weights), count))
    for tenant_id, weight in weights.items():
        # Within a round that has begun, some have had their turn and others not.
        assert abs(found[tenant_id] - rounds * weight / lightest) <= weight / lightest + 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from("abcd"), st.integers(1, 5)),
        st.tuples(st.just("leave"), st.sampled_from("abcd"), st.integers(0, 40)),
        st.tuples(st.just("prefer"), st.sampled_from("abcd"), st.booleans()),
        st.tuples(st.just("next"), st.just(""), st.just(0)),
    ),
    max_size=120,
)


@given(STEPS)
def test_nobody_is_lost_nor_served_twice_nor_passed_over(steps):
    turns: Turns[int] = Turns()
    waiting: dict[str, list[int]] = {}
    preferred: set[str] = set()
    passed_over: Counter[str] = Counter()
    for number, (what, who, detail) in enumerate(steps):
        if what == "join":
            turns.join(who, detail, number, is_preferred=who in preferred)
            waiting.setdefault(who, []).append(number)
        elif what == "leave":
            turns.leave(who, detail)
            if detail in waiting.get(who, []):
                waiting[who].remove(detail)
        elif what == "prefer":
            turns.prefer(who, detail)
            (preferred.add if detail else preferred.discard)(who)
            passed_over.clear()
        else:
            found = turns.next()
            ready = {tenant_id for tenant_id, queue in waiting.items() if queue}
            if found is None:
                assert not ready
            else:
                tenant_id, waiter = found
                first = ready & preferred or ready
                assert tenant_id in first
                assert waiter == waiting[tenant_id].pop(0)
                passed_over.update(first - {tenant_id})
                del passed_over[tenant_id]
                # Three others of a weight of 5 at most, beside one of 1: one turn each, and what is left of another.
                assert max(passed_over.values(), default=0) <= 3 * (5 + 5)
        for tenant_id in [each for each in passed_over if not waiting[each]]:
            del passed_over[tenant_id]
        assert turns.waiting == sum(map(len, waiting.values()))
        assert set(turns.tenants) == {tenant_id for tenant_id, queue in waiting.items() if queue}


@given(WEIGHTS, st.booleans())
def test_everybody_is_served_within_one_round(weights, is_preferred):
    turns = filled(weights, each=WEIGHT_MAX, preferred=weights if is_preferred else "")
    lightest = min(weights.values())
    assert set(taken(turns, sum(weight // lightest for weight in weights.values()))) == set(weights)
