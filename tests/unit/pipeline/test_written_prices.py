"""What the operator writes beside a deployment is what its calls cost."""

from pathlib import Path

from proxy.core.types import Deployment, Usage
from proxy.pipeline.price_list import PriceList
from proxy.pricing.catalog import Catalog
from proxy.pricing.cost import price
from proxy.settings.load import load

TEXT = """
[providers.p]
base_url = "https://x"
[[models.m.deployments]]
provider = "p"
model = "x"
[models.m.deployments.price]
input_usd_per_mtok = 3
output_usd_per_mtok = 15
cached_input_usd_per_mtok = 0.30
cache_write_usd_per_mtok = 3.75
"""
EMPTY = Catalog("none", {}, {})


def facts_of(text):
    prices = PriceList(load(text, path="t.toml", environ={}, read_file=Path.read_text), EMPTY)
    facts = prices.find(Deployment("p", "x"), 0)
    assert facts is not None
    return facts


def test_each_written_rate_is_charged():
    # of a million: 100,000 at $3, 400,000 cached at $0.30, 500,000 written at $3.75; and 100,000 at $15
    usage = Usage(1_000_000, cached_input_tokens=400_000, cache_write_tokens=500_000, output_tokens=100_000)
    assert price(usage, facts_of(TEXT)) == 300_000_000 + 120_000_000 + 1_875_000_000 + 1_500_000_000


def test_writes_that_are_kept_longer_cost_the_same():
    usage = Usage(1_000_000, cache_write_tokens=1_000_000, cache_write_long_tokens=1_000_000)
    assert price(usage, facts_of(TEXT)) == 3_750_000_000


def test_a_rate_that_is_not_written_is_the_input_s():
    text = "\n".join(TEXT.splitlines()[:-2])
    usage = Usage(1_000_000, cached_input_tokens=400_000, cache_write_tokens=500_000)
    assert price(usage, facts_of(text)) == 3_000_000_000
