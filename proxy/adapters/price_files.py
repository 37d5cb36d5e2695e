"""The door to the files of prices: the ones that came with this release, or an operator's own folder."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 16_777_216
_BESIDE: Final = Path("config", "prices")


def shipped_folder() -> Path:
    """Where this release's prices are: in the package, or beside it in a checkout."""
    packaged = Path(str(files("proxy").joinpath(_BESIDE)))
    return packaged if packaged.is_dir() else Path(str(files("proxy"))).parent / _BESIDE


def available(folder: Path) -> frozenset[str]:
    """The names of the catalogues that a folder has files of.

    Raises:
        OSError: it cannot be read.
    """
    return frozenset(path.stem for path in folder.iterdir() if path.suffix == ".json")


def read(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files of these catalogues, by name.

    Raises:
        OSError: one is not there, or cannot be read.
        ValueError: one is larger than 16 MiB.
    """
    texts: dict[str, bytes] = {}
    for name in sorted(set(names)):
        with (folder / f"{name}.json").open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
        if len(text) > FILE_BYTES_MAX:
            raise ValueError(f"the prices of {name} are larger than {FILE_BYTES_MAX} bytes")
        texts[name] = text
    return texts
