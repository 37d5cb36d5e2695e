"""What a figure was measured on: without that it says nothing."""

import os
import platform
import sys
import sysconfig
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from proxy import __version__

_LIBRARIES: Final = ("uvicorn", "uvloop", "httptools", "httpx", "starlette", "orjson", "hiredis")
_OPTIMISATIONS: Final = {"PGO": "--enable-optimizations", "LTO": "--with-lto"}


def describe() -> dict[str, str]:
    """The machine, the interpreter, the libraries and the date."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python build": _build(),
        "tollway": __version__,
        "libraries": ", ".join(f"{name} {version}" for name in _LIBRARIES if (version := _version(name))),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _build() -> str:
    """How the interpreter was compiled: the one that distributions ship is a tenth faster than a plain `make`."""
    if sys.base_prefix == "/usr":  # built in steps of their own, of which the options tell nothing
        return f"the distribution's, {platform.python_compiler()}"
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    found = (f"{'with' if option in options else 'without'} {name}" for name, option in _OPTIMISATIONS.items())
    return ", ".join(found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
