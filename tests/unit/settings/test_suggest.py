"""The nearest known name."""

import pytest

from proxy.settings.suggest import nearest

KNOWN = ("base_url", "provider_key", "timeouts_s", "transport")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base_uri", "base_url"),
        ("baseUrl", "base_url"),
        ("BASE-URL", "base_url"),
        ("provder_key", "provider_key"),
        ("timeout", "timeouts_s"),
        ("zzz", None),
        ("", None),
        ("base_url" * 100, None),
    ],
)
def test_nearest(name, expected):
    assert nearest(name, KNOWN) == expected


def test_nothing_is_near_nothing():
    assert nearest("x", ()) is None
