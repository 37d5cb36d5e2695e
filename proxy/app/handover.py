"""A new configuration on its way from the supervisor, which reads it, to its workers, which put it in force.

What is handed over is the text of every file that was read for it. So all workers load the same, in the same
environment, whatever stands in the files by then; and what is refused is refused once, before any of them hears of it.
"""

from functools import partial
from pathlib import Path
from typing import Final

from proxy.adapters.shared_bytes import SharedBytes
from proxy.app.prices import load_prices
from proxy.app.providers import Providers
from proxy.app.stores import peppers_of
from proxy.app.until_restart import kept_until_restart
from proxy.core import jsonio
from proxy.pipeline.price_list import PriceList
from proxy.settings.load import ReadFile, ReadSettings
from proxy.settings.model import AuthMode, Settings

BYTES_MAX: Final = 16 * 1_048_576


class Handover:
    """Made before any worker is forked."""

    __slots__ = ("_memory", "_read_settings")

    def __init__(self, read_settings: ReadSettings) -> None:
        self._memory = SharedBytes(BYTES_MAX)
        self._read_settings = read_settings

    def read(self, in_force: Settings) -> Settings:
        """The supervisor's part: read what is to be in force next, try all that a worker will, and leave it to them.

        Raises:
            SettingsError, OSError, ValueError: it is refused, and the workers find what was left before.
        """
        texts: dict[str, str] = {}
        settings = kept_until_restart(self._read_settings(partial(_recording, texts)), in_force)
        try_files(settings)
        if not self._memory.put(jsonio.encode(texts)):
            raise ValueError(f"the configuration and the files that it names are larger than {BYTES_MAX} bytes")
        return settings

    def load(self) -> Settings:
        """A worker's part: what was left last. Raises as `read`."""
        left = self._memory.take()
        if left is None:
            raise ValueError("the supervisor has left none")
        return self._read_settings(partial(_replaying, jsonio.parse(left)))


def try_files(settings: Settings) -> None:
    """Read what a process reads when it puts this in force.

    Raises:
        OSError: a file cannot be read.
        ValueError: what stands in it cannot be used.
    """
    if settings.auth.mode is AuthMode.VIRTUAL_KEYS:
        peppers_of(settings)
    PriceList(settings, load_prices(settings))
    Providers({}).prepare(settings, {})


def _recording(texts: dict[str, str], read: ReadFile) -> ReadFile:
    def read_file(path: Path) -> str:
        text = texts[_name(path)] = read(path)
        return text

    return read_file


def _replaying(texts: dict[str, str], _read: ReadFile) -> ReadFile:
    def read_file(path: Path) -> str:
        try:
            return texts[_name(path)]
        except KeyError:  # it could not be read then, and it was not needed
            raise FileNotFoundError(0, "it was not handed over") from None

    return read_file


def _name(path: Path) -> str:
    return ascii(str(path))  # which may hold bytes that are no text
