"""Who is to have the next connection."""

import pytest

from proxy.edge.crowd import Crowd

NOW_MS = 1_000_000
LATELY, LONG_AGO = NOW_MS - 200, NOW_MS - 501


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ([(0, LATELY), (0, LATELY)], True),  # nobody has less
        ([(3, LATELY), (4, LATELY)], True),
        ([(4, LATELY), (3, LATELY)], False),
        ([(4, LATELY), (5, LATELY), (3, LATELY)], False),
        ([(4, LATELY), (3, LONG_AGO)], True),  # nothing is left to one that does not turn
        ([(4, LATELY), (3, LONG_AGO), (3, LATELY)], False),
        ([(9, LATELY)], True),
    ],
)
def test_has_most_to_spare(noted, expected):
    crowd = Crowd(len(noted))
    for number, (connections, at_ms) in enumerate(noted, start=1):
        crowd.note(number, connections, at_ms)
    assert crowd.has_most_to_spare(1, NOW_MS) is expected


def test_one_that_has_never_noted_is_left_nothing():
    crowd = Crowd(3)
    crowd.note(1, 7, NOW_MS)
    assert crowd.has_most_to_spare(1, NOW_MS)


def test_turns_are_each_worker_s_own_and_no_note_of_its_connections():
    crowd = Crowd(2)
    crowd.note(1, 7, NOW_MS)
    for _ in range(3):
        crowd.turn(2)
    assert (crowd.turns(1), crowd.turns(2)) == (0, 3)
    assert crowd.has_most_to_spare(1, NOW_MS)  # the second one turns, and takes none
