"""Which names a reader that knows no case takes for another."""

import pytest

from proxy.dialects.letter_case import misread_name

NAMES = frozenset({"type", "tasks"})


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({}, None),
        ({"type": 1, "tasks": 2, "more": 3}, None),
        ({"More": 1, "type": 2}, None),
        ({"größe": 1}, None),
        ({"type": 1, "Type": 2}, "Type"),
        ({"x": 1, "TYPE": 2}, "TYPE"),
        ({"ta\u017fks": 1}, "ta\u017fks"),
        ({"tas\u212as": 1}, "tas\u212as"),
    ],
)
def test_a_name_in_other_letters(node, expected):
    assert misread_name(node, NAMES) == expected
