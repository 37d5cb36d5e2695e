"""Whose turn it is: in proportion to the weights, nobody is passed over for ever, nothing is left behind."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.admission.turns import Turns


def anybody(_tenant_id: str) -> bool:
    return True


def filled(weights, each=30):
    turns: Turns[int] = Turns()
    for place in range(each):
        for tenant_id, weight in weights.items():
            turns.join(tenant_id, weight, place)
    return turns


def taken(turns, count, is_preferred=anybody):
    found = [turns.next(is_preferred) for _ in range(count)]
    return [one[0] for one in found if one is not None]


def test_in_turn():
    assert taken(filled({"a": 1, "b": 1, "c": 1}), 6) == ["a", "b", "c", "a", "b", "c"]


def test_as_many_at_a_time_as_the_weight_says():
    assert taken(filled({"a": 3, "b": 1}), 8) == ["a", "a", "a", "b", "a", "a", "a", "b"]
    assert Counter(taken(filled({"a": 4, "b": 2, "c": 1}, each=100), 70)) == {"a": 40, "b": 20, "c": 10}


def test_a_tenants_own_are_served_in_their_order():
    turns: Turns[str] = Turns()
    for waiter in "xyz":
        turns.join("a", 1, waiter)
    assert [turns.next(anybody) for _ in range(4)] == [("a", "x"), ("a", "y"), ("a", "z"), None]


def test_those_that_are_preferred_come_first_and_the_others_if_there_are_none():
    turns = filled({"a": 1, "b": 1}, each=2)
    assert taken(turns, 4, lambda tenant_id: tenant_id == "b") == ["b", "b", "a", "a"]


def test_who_leaves_is_not_served():
    turns = filled({"a": 1, "b": 1}, each=1)
    turns.leave("a", 0)
    turns.leave("a", 0)
    turns.leave("nobody", 7)
    assert (turns.waiting, turns.tenants, taken(turns, 2)) == (1, 1, ["b"])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from("abcd"), st.integers(1, 5)),
        st.tuples(st.just("leave"), st.sampled_from("abcd"), st.integers(0, 40)),
        st.tuples(st.just("next"), st.sets(st.sampled_from("abcd")), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
def test_nobody_is_lost_nor_served_twice(steps):
    turns: Turns[int] = Turns()
    waiting: dict[str, list[int]] = {}
    number = 0
    for what, who, detail in steps:
        if what == "join":
            number += 1
            turns.join(who, detail, number)
            waiting.setdefault(who, []).append(number)
        elif what == "leave":
            turns.leave(who, detail)
            if detail in waiting.get(who, []):
                waiting[who].remove(detail)
        else:
            found = turns.next(who.__contains__)
            if found is None:
                assert not any(waiting.values())
            else:
                tenant_id, waiter = found
                assert waiter == waiting[tenant_id].pop(0)
                preferred = [each for each in who if waiting.get(each)]
                assert tenant_id in who or not preferred
        assert turns.waiting == sum(map(len, waiting.values()))
        assert turns.tenants == sum(bool(queue) for queue in waiting.values())


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1))
def test_everybody_is_served_within_one_round(weights):
    turns = filled(weights, each=10)
    assert set(taken(turns, sum(weights.values()))) == set(weights)
