"""Where files of prices are, and how they are read and replaced.

The shipped ones lie in `config/prices`: inside the package where it was installed, beside it in a
checkout. An operator's own folder has the same shape.
"""

import os
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from proxy.pricing.catalog import file_name

FILE_BYTES_MAX: Final = 16_777_216
_SUFFIX: Final = ".json"


def shipped_folder() -> Path:
    """The prices that came with this release."""
    package = Path(str(files("proxy")))
    installed = package / "config" / "prices"
    return installed if installed.is_dir() else package.parent / "config" / "prices"


def names_in(folder: Path) -> list[str]:
    """The catalogues that a folder has files of.

    Raises:
        OSError: there is no such folder.
    """
    return sorted(path.stem for path in folder.iterdir() if path.suffix == _SUFFIX)


def read_price_files(folder: Path, catalog_names: Iterable[str]) -> dict[str, bytes]:
    """Each catalogue's file, under the catalogue's name; what has no file is left out.

    Raises:
        OSError: a file cannot be read.
        ValueError: it is larger than any file of prices.
    """
    texts = {}
    for name in catalog_names:
        path = folder / f"{file_name(name)}{_SUFFIX}"
        if not path.is_file():
            continue
        # Asked first: to read up to a bound would take the bound's memory.
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"{path} is larger than {FILE_BYTES_MAX} bytes")
        texts[name] = path.read_bytes()
    return texts


def replace_price_files(folder: Path, texts: Mapping[str, bytes]) -> None:
    """Write all of them beside the old ones first, and only then put each in its place.

    Raises:
        OSError: something cannot be written; until the last of them is, the old ones stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[tuple[Path, Path]] = []
    try:
        for name, text in texts.items():
            path = folder / f"{name}{_SUFFIX}"
            beside = path.with_suffix(f"{_SUFFIX}.new")
            written.append((beside, path))
            beside.write_bytes(text)
        for beside, path in written:
            os.replace(beside, path)
    finally:
        for beside, _ in written:
            beside.unlink(missing_ok=True)
