"""What may name a user or a feature."""

import pytest

from proxy.core.label import is_label


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", True),
        ("a b@c", True),
        ("x" * 128, True),
        ("ü" * 64, True),
        ("日本", True),
        ("", False),
        ("x" * 129, False),
        ("ü" * 65, False),  # 130 bytes
        ("a\x00b", False),
        ("a\tb", False),
        ("a\x7f", False),
        ("ü\x85", False),
        ("\ud800", False),
    ],
)
def test_is_label(text, expected):
    assert is_label(text) is expected
