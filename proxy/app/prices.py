"""The prices that a configuration needs, read whole or not at all."""

from pathlib import Path

from proxy.adapters import price_files
from proxy.pipeline.price_list import catalog_name
from proxy.pricing.catalog import Catalog, file_name, parse_catalog
from proxy.settings.model import Settings


def load_prices(settings: Settings, folder: Path | None = None) -> Catalog:
    """The catalogues of the configured providers; one that nobody calls is not read.

    Raises:
        OSError: a file that the configuration names is not there.
        PriceError: a file's prices cannot be; with every problem of all of them.
    """
    folder = folder or price_files.shipped_folder()
    available = price_files.available(folder)
    names = {catalog_name(provider, available) for provider in settings.providers.values()}
    texts = price_files.read(folder, {file_name(name) for name in names} & available)
    return parse_catalog({name: texts[file_name(name)] for name in names if file_name(name) in texts})
