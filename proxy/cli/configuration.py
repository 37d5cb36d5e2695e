"""Finds the configuration's file, reads it, and loads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from proxy.cli.terminal import CommandFailed
from proxy.settings.load import ReadFile, load
from proxy.settings.model import Settings

CONFIG_VARIABLE = "TOLLWAY_CONFIG"
QUICKSTART = Path("config", "quickstart.toml")
FILE_BYTES_MAX = 4_194_304


class ConfigurationUnreadable(OSError):
    """The configuration's file is not there, or its bytes are no text. The message names it."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings, and the file that they came from."""

    path: Path
    settings: Settings


def read_configuration(
    named: str | None, environ: Mapping[str, str], through: Callable[[ReadFile], ReadFile] | None = None
) -> Configuration:
    """The configuration that `--config` names, else TOLLWAY_CONFIG, else the quickstart.

    Args:
        through: makes what reads a file of `read_text`; None reads it as it is.

    Raises:
        CommandFailed: none is named, and there is no quickstart.
        ConfigurationUnreadable: there is no such file, or it cannot be read.
        SettingsError: what it says cannot be.
    """
    path = _locate(named, environ)
    read_file = read_text if through is None else through(read_text)
    try:
        text = read_file(path)
    except OSError as error:
        raise ConfigurationUnreadable(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigurationUnreadable(f"cannot read {path}: {error}") from None
    return Configuration(path, load(text, path=str(path), environ=environ, read_file=read_file))


def read_text(path: Path) -> str:
    """A file's text, UTF-8, up to 4 MiB.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or not UTF-8.
    """
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ValueError(f"it is larger than {FILE_BYTES_MAX} bytes")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None


def _locate(named: str | None, environ: Mapping[str, str]) -> Path:
    if named is None:
        named = environ.get(CONFIG_VARIABLE) or None
    if named is not None:
        return Path(named)
    if QUICKSTART.is_file():
        return QUICKSTART
    shipped = Path(str(files("proxy").joinpath("config", "quickstart.toml")))
    if shipped.is_file():
        return shipped
    raise CommandFailed(f"no configuration: name a file with --config PATH or {CONFIG_VARIABLE}")
