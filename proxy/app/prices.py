"""The prices that a configuration needs, read whole or not at all."""

from pathlib import Path

from proxy.adapters.price_files import names_in, read_price_files, shipped_folder
from proxy.pipeline.price_list import catalog_name
from proxy.pricing.catalog import Catalog, parse_catalog
from proxy.settings.model import Settings


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
