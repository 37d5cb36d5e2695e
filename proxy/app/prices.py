"""The prices that a configuration needs, read whole or not at all."""

from functools import partial
from pathlib import Path
from typing import Final

from proxy.adapters.price_files import names_in, read_price_files, shipped_folder
from proxy.core.types import Deployment
from proxy.pipeline.price_list import PriceList, catalog_name
from proxy.pricing.catalog import Catalog, parse_catalog
from proxy.settings.model import Settings
from proxy.settings.routing import DeploymentSettings
from proxy.settings.spending import advise_prices

_TOKENS_PER_MTOK: Final = 1_000_000


def load_prices(settings: Settings, folder: Path | None = None) -> Catalog:
    """The catalogues of the configured providers; one that nobody calls is not read.

    Raises:
        OSError: a file cannot be read.
        PriceError: a file's prices cannot be; with every problem of all of them.
    """
    folder = folder or shipped_folder()
    available = names_in(folder)
    names = {catalog_name(provider, available) for provider in settings.providers.values()}
    return parse_catalog(read_price_files(folder, names))


def price_warnings(settings: Settings, now_ms: int) -> tuple[str, ...]:
    """What is unwise about caps at these prices: calls that they will refuse. Raises as `load_prices`."""
    prices = PriceList(settings, load_prices(settings))
    return tuple(advise_prices(settings, partial(_longest_answer_nusd, prices, now_ms)))


def _longest_answer_nusd(prices: PriceList, now_ms: int, deployment: DeploymentSettings) -> int | None:
    facts = prices.find(Deployment(deployment.provider, deployment.model), now_ms)
    if facts is None:
        return None
    rate = max(band.rates.output_nusd_per_mtok for bands in facts.price.tiers.values() for band in bands)
    return (facts.max_output_tokens or 0) * rate // _TOKENS_PER_MTOK
