"""Which prices a configuration reads, and what it warns of at those prices."""

from pathlib import Path

import pytest

from proxy.app.prices import load_prices, price_warnings
from proxy.pricing.problem import PriceError
from proxy.settings.load import load
from proxy.settings.model import Settings

NOW_MS = 1_764_072_000_000


def settings(extra: str = "", model: str = "simulated", provider: str = "") -> Settings:
    text = f"""
[providers.simulated]
transport = "simulated"
{provider}
[models.alias]
deployments = [{{ provider = "simulated", model = "{model}" }}]
{extra}
"""
    return load(text, path="test.toml", environ={}, read_file=Path.read_text)


@pytest.mark.parametrize(
    ("cap", "warned"),
    [
        # The shipped file: 16,384 tokens at $4 a million are $0.065536.
        ("usd_per_day = 0.065536", None),
        ("usd_per_day = 0.065535", "$0.065536"),
        ("requests_per_minute = 1", None),
    ],
)
def test_a_cap_that_the_longest_answer_never_fits_is_warned_of(cap: str, warned: str | None) -> None:
    # Written for the user too: else its share would be the tighter one.
    both = f"[plans.default.tenant]\n{cap}\n[plans.default.user]\n{cap}\n"
    warnings = price_warnings(settings(both), NOW_MS)
    assert [warned is not None and warned in each for each in warnings] == ([] if warned is None else [True])


def test_a_model_without_a_price_is_warned_of_under_a_cap_alone() -> None:
    assert price_warnings(settings(model="nobody-knows"), NOW_MS) == ()
    (warning,) = price_warnings(settings("[plans.default.tenant]\nusd_per_day = 1", model="nobody-knows"), NOW_MS)
    assert "unpriced_model" in warning


def test_only_what_somebody_calls_is_read_and_that_whole(tmp_path: Path) -> None:
    (tmp_path / "openai.json").write_text("{")
    assert load_prices(settings(), tmp_path).names == frozenset()
    with pytest.raises(PriceError, match="openai"):
        load_prices(settings(provider='catalog = "openai"'), tmp_path)
